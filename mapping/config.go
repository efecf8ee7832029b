package mapping

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidemark/mapping/catalog"
)

// A Config is a mapping file, read, filled in and found to be right by itself.
// Whether it fits the database is what [Config.Check] finds out.
type Config struct {
	File       string // as it was named to [Read]; problems begin with it
	Postgres   Postgres
	Search     Search
	Kafka      *Kafka // nil: the file has no kafka, and operations go to the cluster directly
	Admin      Admin
	OnError    OnError
	OnSlotLost OnSlotLost
	Indexer    Indexer
	Verify     Verify
	Indices    []*Index // in the order of the file; at least one

	// Group names the one of Kafka.Groups that all of this is for: see [Config.OfGroup]. "": the cluster of search.
	Group string

	// Left is what patterns and columns in names stand for and is left out, and why. There is none before
	// [Config.InSchemas] and [Config.ByValues].
	Left Problems

	whole     *Config // of a group: that of the file
	searchKey string  // of a group: under which key the file has what Search says; "": search

	places  places
	written *Config                 // with patterns, and columns in names; nil: as it is
	found   map[ValueColumn][]Value // see [Config.Values]
}

// Problem makes a problem of what turned out about a key only in use, such as
// postgres.url or indices.products.table. Its line is that of the key, or of the
// closest one around it that the file has.
func (c *Config) Problem(key, hint, format string, args ...any) Problem {
	key = c.keyOf(key)
	return Problem{File: c.File, Line: c.places.line(key), Text: key + ": " + fmt.Sprintf(format, args...), Hint: hint}
}

// Has reports whether the file has the key, such as postgres.url.
func (c *Config) Has(key string) bool { return c.places.has(c.keyOf(key)) }

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

// PublishColumns says of which tables the publication names the columns that documents use, and leaves
// out the others. Such a list binds the owner of the table, see docs/publication.md.
type PublishColumns string

const (
	PublishColumnsAuto PublishColumns = "auto" // of those with a column of type bytea that no document uses (default)
	PublishColumnsAll  PublishColumns = "all"  // of none: every column is published
	PublishColumnsUsed PublishColumns = "used" // of all
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

	// ReplicationURL is that of a standby which has the slot, zero where the primary has it.
	ReplicationURL Secret

	Slot          string // default dbsync_replslot
	Publication   string // default dbsync_mypub
	ControlSchema string // default dbsync_ctrl
	EventTriggers bool   // have the database announce each change of its catalog in the stream
	Failover      bool   // have standbys copy the slot, where the server can; default true

	PublishColumns PublishColumns // default auto
}

// SlotConnString returns what pgx connects by to the server that has the slot. It holds the password, as ConnString.
func (p Postgres) SlotConnString() string {
	if !p.ReplicationURL.IsZero() {
		return p.ReplicationURL.Reveal()
	}
	return p.ConnString()
}

// ConnString returns what pgx connects by: the URL, or the other keys as
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

// Search says which cluster is written to. Who asks is said by User and Password, or by one of APIKey,
// Token and AWS, or by none of them.
type Search struct {
	URLs     []string // http or https, without user, query and trailing slash; at least one: those of urls, or the one of cloud_id
	User     string
	Password Secret
	APIKey   Secret // as the server gave it out in "encoded"
	Token    Secret // sent as Authorization: Bearer
	AWS      *AWS   // requests are signed; nil: they are not

	CAFile   string // PEM certificates to trust instead of the system's; a relative path was taken from the folder of the file
	CertFile string // PEM certificate to show to the cluster, with KeyFile, likewise
	KeyFile  string

	ProxyURL Secret   // http, https or socks5; a secret as a whole, a password may be in it; empty: as HTTPS_PROXY and NO_PROXY say
	Headers  []Header // sent with each request, in the order of the file

	Bulk Bulk

	// MaxDocumentBytes bounds one document, 64 KiB to 500 MiB; default 50 MiB. A larger one becomes a
	// dead letter. The indices have it, too.
	MaxDocumentBytes int
}

// AWS says how requests are signed for Amazon OpenSearch Service. The credentials are those that the
// AWS SDK finds.
type AWS struct {
	Region  string // such as eu-west-1
	Service AWSService
	Role    string // ARN of a role to assume with the credentials that were found; empty: none
}

// AWSService is what requests are signed for.
type AWSService string

const (
	AWSServiceES   AWSService = "es"   // a domain of Amazon OpenSearch Service (default)
	AWSServiceAOSS AWSService = "aoss" // a collection of OpenSearch Serverless
)

// A Header is sent with each request to the cluster.
type Header struct {
	Name  string // as HTTP writes it: X-Tenant
	Value Secret
}

// Bulk bounds the requests that write documents. Within the bounds the number and the size of them follow the
// cluster's answers.
type Bulk struct {
	Requests  int // at the same time, 1 to 64; default 16
	Bytes     int // of one request before compression, 64 KiB to 90 MiB; default 8 MiB. A larger document goes alone
	Documents int // of one request, 1 to 100,000; default 5,000

	// PoisonAfter is how long a document is tried that the cluster answers with 5xx, or not at all,
	// while it takes others, before it is a dead letter: 1 s to 24 h; default 10 min. 0: without end.
	PoisonAfter time.Duration
}

// Indexer says how changes become documents.
type Indexer struct {
	// FanOut is how many documents the changes of related rows may concern so that the stream waits
	// for them, 1 to 100,000; default 10,000. What concerns more is noted, and worked off beside it.
	FanOut int
}

// Admin is the server of the status page, metrics and health.
type Admin struct {
	Listen string // host:port; default 127.0.0.1:9630

	// Token is what somebody has to know who asks for something at the server: a rebuild, a
	// comparison, dead letters. MinTokenLength characters at least; nothing: nobody may.
	Token Secret

	// Hosts are names that the page is asked for by, beside addresses, localhost, the host of Listen
	// and names that no site on the internet can have; see docs/status-page.md. In small letters.
	Hosts []string
}

// MinTokenLength is how many characters admin.token has at least.
const MinTokenLength = 16

// Verify says how a running instance compares its indices with their tables, again and again.
type Verify struct {
	// Every is how long after the begin of one comparison of an index the next one begins, 1 s to
	// 8760 h; default 24 h. 0: they are compared only when something happened that the stream does
	// not show.
	Every time.Duration

	RowsPerSecond int          // rows and documents that are looked at in a second, 1 to 1,000,000; default 2,000
	OnDifference  OnDifference // default repair

	// ReadyWhileUnproven has an index that may differ from its tables, and is being compared for
	// that, be no reason against being ready; default true.
	ReadyWhileUnproven bool
}

// OnDifference says what becomes of a document that differs from its row.
type OnDifference string

const (
	OnDifferenceRepair OnDifference = "repair" // it is made anew (default)
	OnDifferenceReport OnDifference = "report" // it is said and counted, and stays
)

// An Index is what is searched under one name: the documents of one table, or of
// several.
type Index struct {
	Key      string    // of the file; zero for one that was not read from a file
	Name     string    // the alias searchers use; with {schema} or a column in braces until [Config.InSchemas] and [Config.ByValues]
	Sources  []*Source // in the order of the file; at least one
	Settings map[string]any
	Mappings map[string]any
	Reindex  Reindex

	template string // the name with a column in braces that Name stands in the place of; "": there is none

	// MaxIndices bounds how many indices a Name with braces stands for, 1 to 1,000; default 100.
	MaxIndices int

	// MaxDocumentBytes is that of [Search]: of rows whose documents are larger the values are not
	// read. No document is another one for it, so fingerprints and stored mappings know nothing
	// of it. 0: no bound.
	MaxDocumentBytes int
}

// A Source is a root table: each of its rows is a document of an index.
type Source struct {
	Index    *Index            `json:"-"` // that it is a part of
	Table    catalog.TableName // whose schema is a pattern until [Config.InSchemas]
	Pattern  catalog.TableName // that Table stands in the place of; zero: the file names Table
	open     bool              // Table is a pattern, until [Config.InSchemas]
	Children bool              // the rows of tables that inherit from it count as its own
	ID       []string          // key columns; empty: the primary key
	Routing  string            // the column whose value routes; empty: none
	Where    string            // an expression: only rows for which it is true are documents; empty: all
	Only     *Only             // only rows with these values in a column are documents; nil: all
	Shape

	// Literals stand around the columns of ID when id is a text such as "product-{id}":
	// one more than there are columns. Without them the columns are joined, see id.go.
	Literals []string
	path     string // of its keys: indices.products, or indices.products.tables[1]
}

// Prefix returns what the _id of every document of the source begins with, and of no other
// source of the index.
func (s *Source) Prefix() string {
	if len(s.Literals) == 0 {
		return ""
	}
	return s.Literals[0]
}

// Name returns the sources of an index apart in messages: the index, and where it has
// several sources the table.
func (s *Source) Name() string {
	if len(s.Index.Sources) == 1 {
		return s.Index.Name
	}
	return s.Index.Name + " (" + s.Table.String() + ")"
}

// A Shape says what of a row is in an object: in the document of a root row, or in that of
// a related row inside of it.
type Shape struct {
	Fields  []Field // what differs from "all columns under their own names", in the order of the file
	Listed  bool    // only what Fields names is taken: fields is a list, or has "*": false
	Include []*Include
}

// A Field is one entry of fields.
type Field struct {
	Name   string         // in the object
	Omit   bool           // false was given: this field is left out
	Column string         // the column it is read from: Name unless column was given; empty for those below, but for an Expr that stands for a column
	As     string         // the JSON form of the column's values; empty: the usual one of their type
	Params map[string]any // parameters of the index field as the server takes them: type, analyzer, …; nil: derived from the column

	Expr     string    // an expression over columns
	Constant *Constant // a value that is the same in every object
	Schema   bool      // the name of the schema of the root table; a Constant from [Config.InSchemas] on
	Group    []Field   // an object of its own, of columns of the same row; not nil

	path string // of its entry in the file: indices.products.fields.title; empty: it has none
}

// A Constant is the value of a field as JSON has it.
type Constant struct{ Value any }

// MaxReaders bounds how many chunks of a table are read at a time.
const MaxReaders = 8

// Reindex says how an index is filled and rebuilt.
type Reindex struct {
	Chunk   int // rows read by one select, 1 to 1,000,000; default 10,000
	KeepOld int // physical indices kept behind the one in use, 0 to 100; default 0

	// MaxRowsPerSecond bounds how fast rows are read, to spare the database; 0: no bound.
	MaxRowsPerSecond int

	// Readers is how many chunks of a table are read at a time, 1 to [MaxReaders]; 0, the default: as
	// many as this machine has cores, but 2 at least and 4 at the most. With MaxRowsPerSecond it is one.
	Readers int
}
