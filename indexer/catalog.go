package indexer

import (
	"maps"
	"sync"

	"tidemark/mapping"
)

// A Catalog is what is known of the tables that documents are made of, as the database's
// catalog described them last. It is safe for concurrent use.
type Catalog struct {
	mu     sync.Mutex
	tables mapping.Tables // replaced, not changed
}

// NewCatalog returns a Catalog of tables.
func NewCatalog(tables mapping.Tables) *Catalog { return &Catalog{tables: maps.Clone(tables)} }

// Tables returns what is known now. It is not to be changed.
func (c *Catalog) Tables() mapping.Tables {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tables
}

// Set takes up what a table is now.
func (c *Catalog) Set(t *mapping.Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables = maps.Clone(c.tables)
	c.tables[t.TableName()] = t
}
