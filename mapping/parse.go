package mapping

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"tidemark/mapping/limit"
)

// Defaults of the keys that have one. Sizes are in bytes.
const (
	DefaultSlot          = "dbsync_replslot"
	DefaultPublication   = "dbsync_mypub"
	DefaultControlSchema = "dbsync_ctrl"
	DefaultListen        = "127.0.0.1:9630"
	DefaultChunk         = 10000
	DefaultMaxIndices    = 100

	DefaultVerifyEvery         = 24 * time.Hour
	DefaultVerifyRowsPerSecond = 2000
)

// Read is [Parse] of a file, with the environment of the process. An error is
// always of type [Problems].
func Read(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	return Parse(path, text, os.LookupEnv)
}

// unreadable says that there is no such file.
func unreadable(path string, err error) Problems {
	return Problems{{File: path, Text: fmt.Sprintf("cannot be read: %v", withoutPath(err)), Hint: "name a mapping file that is there and can be read; tidemark init drafts one"}}
}

// Parse reads the text of the mapping file called name, fills in defaults and
// checks everything that needs no database. ${NAME} is asked of lookupEnv; files
// that it names are read, relative ones from the folder of name. An error is
// always of type [Problems] and holds all there are.
func Parse(name string, text []byte, lookupEnv func(string) (string, bool)) (*Config, error) {
	c, _, _, err := parse(name, text, lookupEnv)
	return c, err
}

// ReadApply reads of a mapping file what a worker (tidemark apply) needs: kafka, search and admin, the first two of which
// have to be there. Everything else in the returned Config is at its default, and Indices is nil.
// What else there is in the file is not looked at, so that a worker may have the file of run, without the variables and
// files that its other keys name. Keys that no mapping file has are refused. An error is always of type [Problems].
//
// group is the group of the worker, a name that [CheckGroup] takes; "": it writes to the cluster of search. What is
// returned is for it, as by [Config.OfGroup]. A file with indices or kafka.groups is that of run, and has the group;
// any other one is the worker's own, whose search is the cluster of the group.
func ReadApply(path, group string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	return ParseApply(path, text, os.LookupEnv, group)
}

// ParseApply is to [ReadApply] what [Parse] is to [Read].
func ParseApply(name string, text []byte, lookupEnv func(string) (string, bool), group string) (*Config, error) {
	r := newReader(name, lookupEnv)
	c := defaults()
	c.File = name
	c.places = r.places
	if root := r.tree(text); root != nil {
		c = r.apply(root, c, group)
	}
	if len(r.problems) > 0 {
		r.problems.Sort()
		return nil, r.problems
	}
	return c, nil
}

// parse is Parse, and returns what the file is made of as well.
func parse(name string, text []byte, lookupEnv func(string) (string, bool)) (*Config, *reader, *yaml.Node, error) {
	r := newReader(name, lookupEnv)
	c := defaults()
	c.File = name
	root := r.tree(text)
	if root != nil {
		r.expand(root)
		r.config(root, c)
	}
	c.places = r.places
	if root != nil {
		r.problems = append(r.problems, c.sameNames()...)
	}
	if len(r.problems) > 0 {
		r.problems.Sort()
		return nil, nil, nil, r.problems
	}
	c.Indices = mapAll(c.Indices, (*Index).resolved)
	for _, ix := range c.Indices {
		ix.MaxDocumentBytes = c.Search.MaxDocumentBytes
	}
	return c, r, root, nil
}

func newReader(name string, lookupEnv func(string) (string, bool)) *reader {
	return &reader{
		file:     name,
		expander: expander{dir: filepath.Dir(name), lookupEnv: lookupEnv},
		expanded: make(map[*yaml.Node]string),
		broken:   make(map[*yaml.Node]bool),
		secrets:  make(map[*yaml.Node]bool),
		literals: make(map[*yaml.Node]bool),
		places:   make(places),
	}
}

// defaults is what a file says that says nothing.
func defaults() *Config {
	return &Config{
		Postgres:   Postgres{Slot: DefaultSlot, Publication: DefaultPublication, ControlSchema: DefaultControlSchema, PublishColumns: PublishColumnsAuto, Failover: true},
		Search:     Search{Bulk: Bulk{Requests: limit.DefaultRequests, Bytes: limit.DefaultBytes, Documents: limit.DefaultDocuments, PoisonAfter: limit.DefaultPoisonAfter}, MaxDocumentBytes: limit.DefaultDocumentBytes},
		Admin:      Admin{Listen: DefaultListen},
		OnError:    OnErrorDeadLetter,
		OnSlotLost: OnSlotLostStop,
		Indexer:    Indexer{FanOut: limit.DefaultFanOut},
		Verify:     Verify{Every: DefaultVerifyEvery, RowsPerSecond: DefaultVerifyRowsPerSecond, OnDifference: OnDifferenceRepair, ReadyWhileUnproven: true},
	}
}

func (r *reader) config(root *yaml.Node, c *Config) {
	given := r.object(root, "", r.sections(c))
	r.require("search", "indices")
	if root.Kind != yaml.MappingNode && !isNull(root) {
		return // reported as such
	}
	r.wantSearch(root, given)
	if given["indices"] == nil {
		r.problem(root, "indices: {products: {table: public.products}}", "indices is missing: the tables to index")
	}
	r.groups(c)
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			for _, name := range s.Tables() {
				if c.keepsState(name.Schema) {
					r.problemAt(s.Key("table"), "name a table of another schema, or another control_schema", "%s: the schema of table %s is where Tidemark keeps its own state", s.path, name)
				}
			}
		}
	}
}

// apply reads the sections that a worker needs, and fills in their ${…} alone. It returns c, or what of it is for
// the group of the worker.
func (r *reader) apply(root *yaml.Node, c *Config, group string) *Config {
	var search, groups *yaml.Node
	keys := r.sections(c)
	for name, read := range keys {
		keys[name] = func(n *yaml.Node, path string) {
			switch name {
			case "search":
				search = n // it may not be what is written to
			case "kafka":
				n, groups = without(n, "groups") // which may be others
				r.expand(n)
				read(n, path)
			case "admin":
				r.expand(n)
				read(n, path)
			}
		}
	}
	given := r.object(root, "", keys)
	if root.Kind != yaml.MappingNode && !isNull(root) {
		return c // reported as such
	}
	ofRun := group != "" && (groups != nil || given["indices"] != nil) // and so search is of another cluster
	if !ofRun {
		r.wantSearch(root, given)
	}
	if given["kafka"] == nil {
		r.problem(root, "kafka: {brokers: [localhost:9092]}", "kafka is missing: where operations to write come from")
	}
	if ofRun {
		return r.applyGroup(c, group, search, groups)
	}
	if search != nil {
		r.expand(search)
		r.search(search, "search", &c.Search)
	}
	if group != "" && c.Kafka != nil {
		c.Group, c.Kafka = group, c.Kafka.of(group)
		r.checkNames("kafka", c.Kafka)
	}
	return c
}

// wantSearch reports that there is no cluster.
func (r *reader) wantSearch(root *yaml.Node, given map[string]*yaml.Node) {
	if given["search"] == nil {
		r.problem(root, "search: {urls: [https://localhost:9200]}", "search is missing: the cluster to write to")
	}
}

// sections are the keys at the top of a mapping file, each with what reads it into c.
func (r *reader) sections(c *Config) map[string]keyReader {
	return map[string]keyReader{
		"postgres":     func(n *yaml.Node, path string) { r.postgres(n, path, &c.Postgres) },
		"search":       func(n *yaml.Node, path string) { r.search(n, path, &c.Search) },
		"kafka":        func(n *yaml.Node, path string) { c.Kafka = r.kafka(n, path) },
		"admin":        func(n *yaml.Node, path string) { r.admin(n, path, &c.Admin) },
		"on_error":     choice(r, &c.OnError, OnErrorDeadLetter, OnErrorStop),
		"on_slot_lost": choice(r, &c.OnSlotLost, OnSlotLostStop, OnSlotLostReindex),
		"indexer":      func(n *yaml.Node, path string) { r.indexer(n, path, &c.Indexer) },
		"verify":       func(n *yaml.Node, path string) { r.verify(n, path, &c.Verify) },
		"indices":      func(n *yaml.Node, path string) { r.indices(n, path, c) },
	}
}
