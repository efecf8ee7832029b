package mapping

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"tidemark/indexer/search/limit"
	"tidemark/mapping/catalog"
)

// Defaults of the keys that have one. Sizes are in bytes.
const (
	DefaultSlot          = "dbsync_replslot"
	DefaultPublication   = "dbsync_mypub"
	DefaultControlSchema = "dbsync_ctrl"
	DefaultListen        = "127.0.0.1:9630"
	DefaultChunk         = 10000
)

const maxCAFile = 1 << 20

// Read is [Parse] of a file, with the environment of the process. An error is
// always of type [Problems].
func Read(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, Problems{{File: path, Text: fmt.Sprintf("cannot be read: %v", withoutPath(err)), Hint: "name a mapping file that is there and can be read; tidemark init drafts one"}}
	}
	return Parse(path, text, os.LookupEnv)
}

// Parse reads the text of the mapping file called name, fills in defaults and
// checks everything that needs no database. ${NAME} is asked of lookupEnv; files
// that it names are read, relative ones from the folder of name. An error is
// always of type [Problems] and holds all there are.
func Parse(name string, text []byte, lookupEnv func(string) (string, bool)) (*Config, error) {
	r := &reader{
		file:     name,
		expander: expander{dir: filepath.Dir(name), lookupEnv: lookupEnv},
		expanded: make(map[*yaml.Node]string),
		broken:   make(map[*yaml.Node]bool),
		places:   make(places),
	}
	c := &Config{
		File:       name,
		Postgres:   Postgres{Slot: DefaultSlot, Publication: DefaultPublication, ControlSchema: DefaultControlSchema},
		Search:     Search{Bulk: Bulk{Requests: limit.DefaultRequests, Bytes: limit.DefaultBytes, Documents: limit.DefaultDocuments}},
		Admin:      Admin{Listen: DefaultListen},
		OnError:    OnErrorDeadLetter,
		OnSlotLost: OnSlotLostStop,
	}
	if root := r.tree(text); root != nil {
		r.config(root, c)
	}
	if len(r.problems) > 0 {
		r.problems.Sort()
		return nil, r.problems
	}
	c.places = r.places
	return c, nil
}

func (r *reader) config(root *yaml.Node, c *Config) {
	given := r.object(root, "", map[string]keyReader{
		"postgres":     func(n *yaml.Node, path string) { r.postgres(n, path, &c.Postgres) },
		"search":       func(n *yaml.Node, path string) { r.search(n, path, &c.Search) },
		"admin":        func(n *yaml.Node, path string) { r.admin(n, path, &c.Admin) },
		"on_error":     choice(r, &c.OnError, OnErrorDeadLetter, OnErrorStop),
		"on_slot_lost": choice(r, &c.OnSlotLost, OnSlotLostStop, OnSlotLostReindex),
		"indices":      func(n *yaml.Node, path string) { r.indices(n, path, c) },
	})
	if root.Kind != yaml.MappingNode && !isNull(root) {
		return // reported as such
	}
	if given["search"] == nil {
		r.problem(root, "search: {urls: [https://localhost:9200]}", "search is missing: the cluster to write to")
	}
	if given["indices"] == nil {
		r.problem(root, "indices: {products: {table: public.products}}", "indices is missing: the tables to index")
	}
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			for _, name := range s.Tables() {
				if name.Schema == c.Postgres.ControlSchema {
					r.problemAt(s.Key("table"), "name a table of another schema, or another control_schema", "%s: the schema of table %s is where Tidemark keeps its own state", s.path, name)
				}
			}
		}
	}
}

func (r *reader) postgres(n *yaml.Node, path string, p *Postgres) {
	given := r.object(n, path, map[string]keyReader{
		"url":            func(n *yaml.Node, path string) { r.postgresURL(n, path, &p.URL) },
		"host":           r.text(&p.Host),
		"port":           r.integer(&p.Port, 1, 65535),
		"database":       r.text(&p.Database),
		"user":           r.text(&p.User),
		"password":       r.secret(&p.Password),
		"sslmode":        r.checked(&p.SSLMode, checkSSLMode, "sslmode: verify-full"),
		"slot":           r.checked(&p.Slot, checkSlotName, "slot: "+DefaultSlot),
		"publication":    r.checked(&p.Publication, catalog.CheckIdent, "publication: "+DefaultPublication),
		"control_schema": r.checked(&p.ControlSchema, checkSchema, "control_schema: "+DefaultControlSchema),
	})
	for _, key := range []string{"host", "port", "database", "user", "password", "sslmode"} {
		if given["url"] != nil && given[key] != nil {
			r.problem(given[key], "put it into url, or leave url out", "%s: url is given as well", join(path, key))
		}
	}
}

// postgresURL reads what pgx connects by. No problem here repeats any of it: in
// a malformed URL, the password may be anywhere.
func (r *reader) postgresURL(n *yaml.Node, path string, into *Secret) {
	var s Secret
	if r.secret(&s)(n, path); s.IsZero() {
		return
	}
	const form = "postgres://USER:PASSWORD@HOST:PORT/DATABASE"
	text := s.Reveal()
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		if strings.Contains(text, "://") || !strings.Contains(text, "=") {
			r.problem(n, form+"\nor host=HOST dbname=DATABASE user=USER", "%s: want the URL of a Postgres database", path)
			return
		}
		*into = s // keywords and values, which pgx reads
		return
	}
	u, err := url.Parse(text)
	if err != nil {
		r.problem(n, form+"\nin user and password, write @ : / ? # % as %40 %3A %2F %3F %23 %25", "%s: this is not a URL (its text is not shown, a password may be in it)", path)
		return
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		r.problem(n, form+"?sslmode=verify-full", "%s: what follows the ? cannot be read", path)
		return
	}
	if mode := query.Get("sslmode"); mode != "" && checkSSLMode(mode) != nil {
		r.problem(n, "", "%s: in sslmode: %v", path, checkSSLMode(mode))
		return
	}
	*into = s
}

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

func checkSSLMode(mode string) error {
	if !slices.Contains(sslModes, mode) {
		return errors.New("want " + strings.Join(sslModes, ", "))
	}
	return nil
}

func (r *reader) search(n *yaml.Node, path string, s *Search) {
	given := r.object(n, path, map[string]keyReader{
		"urls": func(n *yaml.Node, path string) {
			r.list(n, path, "a list of URLs", func(item *yaml.Node, path string) { r.searchURL(item, path, &s.URLs) })
		},
		"user":     r.text(&s.User),
		"password": r.secret(&s.Password),
		"api_key":  r.secret(&s.APIKey),
		"aws":      nil,
		"ca_file":  func(n *yaml.Node, path string) { r.caFile(n, path, &s.CAFile) },
		"bulk":     func(n *yaml.Node, path string) { r.bulk(n, path, &s.Bulk) },
	})
	if given["urls"] == nil && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(n, "urls: [https://localhost:9200]", "%s.urls is missing: the cluster to write to", path)
	}
	user, password, key := given["user"], given["password"], given["api_key"]
	switch {
	case key != nil && user != nil:
		r.problem(key, "keep one of them", "%s.api_key: user is given as well", path)
	case key != nil && password != nil:
		r.problem(key, "keep one of them", "%s.api_key: password is given as well", path)
	case user != nil && password == nil:
		r.problem(user, "password: ${file:/run/secrets/search}", "%s.user: password is missing", path)
	case password != nil && user == nil:
		r.problem(password, "user: elastic", "%s.password: user is missing", path)
	}
}

// searchURL reads one address of the cluster. It is not repeated in problems,
// since people put passwords into URLs.
func (r *reader) searchURL(n *yaml.Node, path string, into *[]string) {
	var text string
	if r.text(&text)(n, path); text == "" {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		r.problem(n, "https://HOST:9200", "%s: want a URL with http or https and a host", path)
	case u.User != nil:
		r.problem(n, "put them into user and password", "%s: a URL of the cluster holds no user and password", path)
	case u.Port() != "" && !validPort(u.Port()):
		r.problem(n, "https://HOST:9200", "%s: a port is a number from 1 to 65535", path)
	case u.RawQuery != "" || u.Fragment != "":
		r.problem(n, "https://HOST:9200", "%s: a URL of the cluster ends with its path", path)
	default:
		*into = append(*into, strings.TrimRight(u.String(), "/"))
	}
}

func validPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

func (r *reader) caFile(n *yaml.Node, path string, into *string) {
	var name string
	if r.text(&name)(n, path); name == "" {
		return
	}
	file := r.expander.resolve(name)
	text, err := readBounded(file, maxCAFile)
	switch {
	case err != nil:
		r.problem(n, "a relative path begins at the folder of this file", "%s: %s: %v", path, r.show(n), err)
	case !x509.NewCertPool().AppendCertsFromPEM(text):
		r.problem(n, "want -----BEGIN CERTIFICATE-----", "%s: %s holds no certificate", path, r.show(n))
	default:
		*into = file
	}
}

func (r *reader) bulk(n *yaml.Node, path string, b *Bulk) {
	r.object(n, path, map[string]keyReader{
		"requests":  r.integer(&b.Requests, 1, limit.MaxRequests),
		"bytes":     r.size(&b.Bytes, limit.MinBytes, limit.MaxBytes, "search servers take requests of 100 MiB (http.max_content_length) at the most"),
		"documents": r.integer(&b.Documents, 1, limit.MaxDocuments),
	})
}

func (r *reader) admin(n *yaml.Node, path string, a *Admin) {
	r.object(n, path, map[string]keyReader{
		"listen": r.checked(&a.Listen, func(text string) error {
			if _, port, err := net.SplitHostPort(text); err != nil || port != "0" && !validPort(port) {
				return errors.New("want HOST:PORT, or :PORT for all addresses")
			}
			return nil
		}, "listen: "+DefaultListen),
	})
}

func (r *reader) indices(n *yaml.Node, path string, c *Config) {
	r.entries(n, path, func(key, value *yaml.Node) {
		if err := checkIndexName(key.Value); err != nil {
			r.problem(key, "a name such as products", "%s: %v", join(path, key.Value), err)
		}
		c.Indices = append(c.Indices, r.index(key, value, join(path, key.Value)))
	})
	if len(n.Content) == 0 && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(n, "indices: {products: {table: public.products}}", "%s is empty: no table to index", path)
	}
}

// index reads one index: a table, or several in a list, and what the server is to know.
func (r *reader) index(key, n *yaml.Node, path string) *Index {
	ix := &Index{Name: key.Value, Reindex: Reindex{Chunk: DefaultChunk}}
	var properties map[string]*yaml.Node // of mappings
	own := &Source{Index: ix, path: path}
	keys := r.sourceKeys(own)
	of := slices.Sorted(maps.Keys(keys)) // that belong to a table
	keys["tables"] = func(n *yaml.Node, path string) {
		r.list(n, path, "a list of tables, each with what belongs to it", func(item *yaml.Node, path string) {
			s := &Source{Index: ix, path: path}
			if given := r.object(item, path, r.sourceKeys(s)); given["table"] == nil && item.Kind == yaml.MappingNode {
				r.problem(item, "table: public.products", "%s.table is missing", path)
			}
			ix.Sources = append(ix.Sources, s)
		})
	}
	keys["settings"] = r.free(&ix.Settings)
	keys["mappings"] = func(n *yaml.Node, path string) {
		r.free(&ix.Mappings)(n, path)
		properties = entriesOf(n, "properties")
	}
	keys["reindex"] = func(n *yaml.Node, path string) {
		r.object(n, path, map[string]keyReader{
			"chunk":    r.integer(&ix.Reindex.Chunk, 1, 1000000),
			"keep_old": r.integer(&ix.Reindex.KeepOld, 0, 100),

			"max_rows_per_second": r.integer(&ix.Reindex.MaxRowsPerSecond, 0, 1000000000),
		})
	}
	given := r.object(n, path, keys)
	switch {
	case given["tables"] == nil:
		ix.Sources = []*Source{own}
		if given["table"] == nil && (n.Kind == yaml.MappingNode || isNull(n)) {
			r.problem(key, "table: public."+ix.Name, "%s.table is missing", path)
		}
	default:
		for _, name := range of {
			if given[name] != nil {
				r.problem(given[name], "put it into an entry of tables", "%s.%s: tables is given as well", path, name)
			}
		}
		r.prefixes(ix)
	}
	for _, s := range ix.Sources {
		for _, f := range s.Fields {
			if p := properties[f.Name]; p != nil && len(f.Params) > 0 {
				r.problem(p, "keep one of them", "%s.mappings.properties.%s: fields describes this field as well, in line %d", path, f.Name, r.places.line(f.path))
			}
		}
	}
	return ix
}

// sourceKeys reads what belongs to one table of an index.
func (r *reader) sourceKeys(s *Source) map[string]keyReader {
	return map[string]keyReader{
		"table":   r.table(&s.Table),
		"id":      func(n *yaml.Node, path string) { r.id(n, path, s) },
		"routing": r.checked(&s.Routing, catalog.CheckIdent, ""),
		"where":   r.text(&s.Where),
		"fields":  func(n *yaml.Node, path string) { r.fields(n, path, &s.Shape) },
		"include": func(n *yaml.Node, path string) { r.includes(n, path, &s.Shape, 1) },
	}
}

// prefixes makes sure that the documents of several tables cannot have the same _id: what
// each of them begins with is the beginning of no other.
func (r *reader) prefixes(ix *Index) {
	for i, a := range ix.Sources {
		for _, b := range ix.Sources[:i] {
			if a.Table.Name == "" || b.Table.Name == "" {
				continue // reported
			}
			if strings.HasPrefix(a.Prefix(), b.Prefix()) || strings.HasPrefix(b.Prefix(), a.Prefix()) {
				r.problemAt(a.path, fmt.Sprintf("an id of its own for each table, such as id: %q", a.Table.Name+"-{id}"),
					"%s: documents of table %s could have the _id of one of table %s", a.path, a.Table, b.Table)
				break
			}
		}
	}
}

// entriesOf returns the keys of the mapping below key in n.
func entriesOf(n *yaml.Node, key string) map[string]*yaml.Node {
	keys := make(map[string]*yaml.Node)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if below := n.Content[i+1]; n.Content[i].Value == key && below.Kind == yaml.MappingNode {
			for j := 0; j+1 < len(below.Content); j += 2 {
				keys[below.Content[j].Value] = below.Content[j]
			}
		}
	}
	return keys
}

// table reads the name of a table.
func (r *reader) table(into *catalog.TableName) keyReader {
	return func(n *yaml.Node, path string) {
		var text string
		if r.text(&text)(n, path); text == "" {
			return
		}
		name, err := catalog.ParseTableName(text)
		if err != nil {
			r.problem(n, `public.products, or 'public."Weird.Name"'`, "%s: %s: %v", path, r.show(n), err)
			return
		}
		if strings.HasPrefix(name.Schema, "pg_") || name.Schema == "information_schema" {
			r.problem(n, "", "%s: %s: Postgres does not log changes of its catalog for others", path, r.show(n))
			return
		}
		*into = name
	}
}

// id reads the columns of the _id, or a text that has them in braces.
func (r *reader) id(n *yaml.Node, path string, s *Source) {
	if n.Kind == yaml.ScalarNode && strings.ContainsAny(n.Value, "{}") {
		r.checked(new(string), func(text string) error {
			var err error
			s.Literals, s.ID, err = parseTemplate(text)
			return err
		}, `id: "product-{id}"`)(n, path)
		return
	}
	r.list(n, path, "a list of columns", func(item *yaml.Node, path string) {
		var column string
		if r.checked(&column, catalog.CheckIdent, "")(item, path); column == "" {
			return
		}
		if slices.Contains(s.ID, column) {
			r.problem(item, "keep one of them", "%s: %s stands twice", path, r.show(item))
			return
		}
		s.ID = append(s.ID, column)
	})
}

// fields reads what differs from all columns under their own names, or a list of the only
// ones.
func (r *reader) fields(n *yaml.Node, path string, s *Shape) {
	if n.Kind == yaml.SequenceNode {
		s.Listed = true
		list := path
		r.list(n, path, "a list of columns", func(item *yaml.Node, path string) {
			var column string
			if r.checked(&column, catalog.CheckIdent, "")(item, path); column != "" {
				below := join(list, column)
				if !r.places.has(below) { // else it stands twice
					r.places[below] = item.Line
				}
				r.add(item, path, &s.Fields, Field{Name: column, Column: column, path: below})
			}
		})
		return
	}
	r.entries(n, path, func(key, value *yaml.Node) {
		below := join(path, key.Value)
		var yes bool
		isBool := value.Kind == yaml.ScalarNode && value.Tag == "!!bool" && value.Decode(&yes) == nil
		switch {
		case key.Value != "*":
			r.field(key, value, below, &s.Fields)
		case isBool:
			s.Listed = !yes
		default:
			r.problem(value, "", "%s: want false (only the columns listed here) or true (all of them), found %s", below, kindOf(value))
		}
	})
}

// field reads one entry of fields: false, true, or a mapping that says what the field is
// made of, with parameters of the index field.
func (r *reader) field(key, n *yaml.Node, path string, into *[]Field) {
	f := Field{Name: key.Value, Column: key.Value, path: path}
	var yes bool
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!bool" && n.Decode(&yes) == nil:
		f.Omit = !yes
	case n.Kind == yaml.MappingNode:
		f.Params = make(map[string]any)
		made := make(map[string]*yaml.Node) // what the field is made of
		r.entries(n, path, func(key, value *yaml.Node) {
			below := join(path, key.Value)
			switch key.Value {
			case "column":
				made["column"] = key
				r.checked(&f.Column, catalog.CheckIdent, "")(value, below)
			case "as":
				r.text(&f.As)(value, below)
			case "expr":
				made["expr"] = key
				r.text(&f.Expr)(value, below)
			case "constant":
				made["constant"] = key
				f.Constant = &Constant{r.value(value, below)}
			case "fields":
				if isMultiField(value) {
					f.Params["fields"] = r.value(value, below)
					return
				}
				made["fields"] = key
				r.group(value, below, &f)
			case "type":
				var name string
				if r.text(&name)(value, below); name != "" {
					f.Params["type"] = name
				}
			default:
				f.Params[key.Value] = r.value(value, below)
			}
		})
		if len(f.Params) == 0 {
			f.Params = nil
		}
		column := made["column"]
		delete(made, "column")
		if f.Expr != "" || f.Constant != nil || f.Group != nil {
			if column != nil && f.Expr == "" || len(made) > 1 || f.As != "" {
				r.problem(key, "keep one of column (with as, or expr), expr, constant and fields", "%s: this field is made of several things", path)
			}
			if column == nil || f.Expr == "" { // with expr, it is the column that this field stands for
				f.Column = ""
			}
		}
	case !r.broken[n]:
		r.problem(n, "", "%s: want true, false or {type: …, column: …}, found %s", path, kindOf(n))
		return
	}
	r.add(key, path, into, f)
}

// isMultiField returns the subfields that an index field has, as the server takes them, from
// the fields of a group: each of them has a type and no column.
func isMultiField(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return false
	}
	for i := 1; i < len(n.Content); i += 2 {
		keys := make(map[string]bool)
		for j := 0; n.Content[i].Kind == yaml.MappingNode && j < len(n.Content[i].Content); j += 2 {
			keys[n.Content[i].Content[j].Value] = true
		}
		if !keys["type"] || keys["column"] || keys["expr"] || keys["constant"] || keys["as"] {
			return false
		}
	}
	return true
}

// group reads the fields of an object that is made of columns of the same row.
func (r *reader) group(n *yaml.Node, path string, f *Field) {
	f.Group = []Field{}
	if n.Kind == yaml.SequenceNode {
		var s Shape
		r.fields(n, path, &s)
		f.Group = s.Fields
	} else {
		r.entries(n, path, func(key, value *yaml.Node) { r.field(key, value, join(path, key.Value), &f.Group) })
	}
	if len(n.Content) == 0 && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(n, "fields: {street: true, city: true}", "%s is empty", path)
	}
}

// add adds a field to the others, unless its name cannot be.
func (r *reader) add(at *yaml.Node, path string, into *[]Field, f Field) {
	if err := checkFieldName(f); err != nil {
		r.problem(at, otherName(f.Column), "%s: %v", path, err)
		return
	}
	if slices.ContainsFunc(*into, func(g Field) bool { return g.Name == f.Name }) {
		r.problem(at, "keep one of them", "%s: field %s stands twice", path, f.Name)
		return
	}
	*into = append(*into, f)
}

// otherName is the hint of a field whose name cannot be.
func otherName(column string) string {
	if column == "" {
		return "another name"
	}
	return fmt.Sprintf("fields: {other_name: {column: %q}}", column)
}

// metadataFields are refused inside documents by the search servers.
var metadataFields = []string{"_id", "_index", "_source", "_routing", "_field_names", "_ignored", "_nested_path", "_seq_no", "_version"}

// checkFieldName holds the name of a field against what the search servers take.
// A dot would make an object of it. That is left to columns that are called so.
func checkFieldName(f Field) error {
	switch {
	case f.Omit:
		return nil
	case strings.Contains(f.Name, ".") && f.Column != f.Name:
		return errors.New("a field name holds no dot")
	case slices.Contains(strings.Split(f.Name, "."), ""):
		return errors.New("the search server takes no name with an empty part")
	case slices.Contains(metadataFields, f.Name):
		return errors.New("the search server keeps this name for itself")
	}
	return nil
}
