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

// parse is Parse, and returns what the file is made of as well.
func parse(name string, text []byte, lookupEnv func(string) (string, bool)) (*Config, *reader, *yaml.Node, error) {
	r := &reader{
		file:     name,
		expander: expander{dir: filepath.Dir(name), lookupEnv: lookupEnv},
		expanded: make(map[*yaml.Node]string),
		broken:   make(map[*yaml.Node]bool),
		secrets:  make(map[*yaml.Node]bool),
		literals: make(map[*yaml.Node]bool),
		places:   make(places),
	}
	c := defaults()
	c.File = name
	root := r.tree(text)
	if root != nil {
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
	given := r.object(root, "", map[string]keyReader{
		"postgres":     func(n *yaml.Node, path string) { r.postgres(n, path, &c.Postgres) },
		"search":       func(n *yaml.Node, path string) { r.search(n, path, &c.Search) },
		"admin":        func(n *yaml.Node, path string) { r.admin(n, path, &c.Admin) },
		"on_error":     choice(r, &c.OnError, OnErrorDeadLetter, OnErrorStop),
		"on_slot_lost": choice(r, &c.OnSlotLost, OnSlotLostStop, OnSlotLostReindex),
		"indexer":      func(n *yaml.Node, path string) { r.indexer(n, path, &c.Indexer) },
		"verify":       func(n *yaml.Node, path string) { r.verify(n, path, &c.Verify) },
		"indices":      func(n *yaml.Node, path string) { r.indices(n, path, c) },
	})
	r.require("search", "indices")
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
