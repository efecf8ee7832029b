package mapping

import (
	"fmt"
	"strconv"
	"strings"
)

// A Config is a mapping file, read, filled in and found to be right by itself.
// Whether it fits the database is what [Config.Check] finds out.
type Config struct {
	File       string // as it was named to [Read]; problems begin with it
	Postgres   Postgres
	Search     Search
	Admin      Admin
	OnError    OnError
	OnSlotLost OnSlotLost
	Indices    []*Index // in the order of the file; at least one

	lines map[string]int // of the keys, by path
}

// Problem makes a problem of what turned out about a key only in use, such as
// postgres.url or indices.products.table. Its line is that of the key, or of the
// closest one around it that the file has.
func (c *Config) Problem(key, mend, format string, args ...any) Problem {
	p := Problem{File: c.File, Text: key + ": " + fmt.Sprintf(format, args...), Mend: mend}
	for path := key; ; {
		if line, ok := c.lines[path]; ok {
			p.Line = line
			return p
		}
		dot := strings.LastIndexByte(path, '.')
		if dot < 0 {
			return p
		}
		path = path[:dot]
	}
}

// Has reports whether the file has the key, such as postgres.url.
func (c *Config) Has(key string) bool {
	_, ok := c.lines[key]
	return ok
}

// OnError says what becomes of an operation that the search server refuses for good.
type OnError string

const (
	OnErrorDeadLetter OnError = "dead_letter" // keep it as a dead letter, go on (default)
	OnErrorStop       OnError = "stop"        // stop with an error, the position stays before it
)

// OnSlotLost says what is done when the slot was lost, so that changes are missing.
type OnSlotLost string

const (
	OnSlotLostStop    OnSlotLost = "stop"    // stop with an error (default)
	OnSlotLostReindex OnSlotLost = "reindex" // rebuild every index
)

// Postgres says which database is read, and by what names Tidemark is known in it.
// Either URL is set, or any of Host to SSLMode, or nothing at all.
type Postgres struct {
	URL      Secret // postgres://… or "host=… dbname=…"; a secret as a whole, a password may be in it
	Host     string // a name, an address, or the folder of a Unix socket
	Port     int    // 0: not given
	Database string
	User     string
	Password Secret
	SSLMode  string // disable, allow, prefer, require, verify-ca or verify-full

	Slot          string // default dbsync_replslot
	Publication   string // default dbsync_mypub
	ControlSchema string // default dbsync_ctrl
}

// ConnString gives what pgx connects by: the URL, or the other keys as
// "host='…' port='…' …". It holds the password: it is not for logs.
//
// What the file leaves out comes from where libpq takes it: PGHOST, PGPORT,
// PGDATABASE, PGUSER, PGPASSWORD, PGSSLMODE, PGSSLROOTCERT, the password file.
// There is no other default for the password.
func (p Postgres) ConnString() string {
	if !p.URL.IsZero() {
		return p.URL.Reveal()
	}
	var parts []string
	add := func(key, value string) {
		if value != "" {
			parts = append(parts, key+"='"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)+"'")
		}
	}
	add("host", p.Host)
	if p.Port != 0 {
		add("port", strconv.Itoa(p.Port))
	}
	add("dbname", p.Database)
	add("user", p.User)
	add("password", p.Password.Reveal())
	add("sslmode", p.SSLMode)
	return strings.Join(parts, " ")
}

// Search says which cluster is written to. Either User and Password are set, or
// APIKey, or none of them.
type Search struct {
	URLs     []string // http or https, without user, query and trailing slash; at least one
	User     string
	Password Secret
	APIKey   Secret // as the server gave it out in "encoded"
	CAFile   string // PEM certificates to trust instead of the system's; a relative path was taken from the folder of the file
	Bulk     Bulk
}

// Bulk bounds the requests that write documents.
type Bulk struct {
	Requests  int // at the same time, 1 to 64; default 4
	Bytes     int // of one request before compression, 64 KiB to 100 MiB; default 8 MiB. A larger document goes alone
	Documents int // of one request, 1 to 100,000; default 5,000
}

// Admin is the server of the status page, metrics and health.
type Admin struct {
	Listen string // host:port; default 127.0.0.1:9630
}

// An Index maps one table to one index.
type Index struct {
	Name     string // the alias searchers use
	Table    TableName
	ID       []string // key columns; empty: the primary key
	Routing  string   // the column whose value routes; empty: none
	Fields   []Field  // what differs from "all columns under their own names", in the order of the file
	Listed   bool     // fields has "*": false: only what Fields names is taken
	Settings map[string]any
	Mappings map[string]any
	Reindex  Reindex

	lines lines
}

// lines are the places of an index in its file, for what [Config.Check] finds.
type lines struct {
	index, table, fields, routing int
	id                            []int // of each entry of ID; nil without id
}

// A Field is one entry of fields.
type Field struct {
	Name   string         // in the document
	Omit   bool           // false was given: this field is left out
	Column string         // the column it is read from: Name unless column was given
	Params map[string]any // parameters of the index field as the server takes them: type, analyzer, …; nil: derived from the column

	line int
}

// Reindex says how an index is filled and rebuilt.
type Reindex struct {
	Chunk   int // rows read by one select, 1 to 1,000,000; default 10,000
	KeepOld int // physical indices kept behind the one in use, 0 to 100; default 0
}

// DocumentFields gives the fields that the documents of t have, in the order of
// its columns: each column under its own name, but for what ix.Fields says.
//
//   - A column that an entry reads under another name is not also taken under its
//     own, unless an entry says so (price_cents: true).
//   - An entry takes the name from the column that is called like it.
//   - Entries whose column is not in t are left out; [Config.Check] reports them.
func (ix *Index) DocumentFields(t *Table) []Field {
	named := make(map[string]bool, len(ix.Fields))   // names that an entry decides about
	read := make(map[string][]Field, len(ix.Fields)) // column -> entries that read it
	for _, f := range ix.Fields {
		named[f.Name] = true
		if !f.Omit {
			read[f.Column] = append(read[f.Column], f)
		}
	}
	var fields []Field
	for _, c := range t.Columns {
		switch entries := read[c.Name]; {
		case len(entries) > 0:
			fields = append(fields, entries...)
		case !ix.Listed && !named[c.Name]:
			fields = append(fields, Field{Name: c.Name, Column: c.Name, line: ix.lines.table})
		}
	}
	return fields
}
