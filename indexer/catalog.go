package indexer

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"tidemark/dbsync"
	"tidemark/mapping/catalog"
)

// A Catalog is what is known of the tables that documents are made of, as the database's
// catalog described them last. It is safe for concurrent use.
type Catalog struct {
	mu     sync.Mutex
	tables catalog.Tables     // replaced, not changed
	plans  map[*root]*RowPlan // for these tables, see plan
}

// NewCatalog returns a Catalog of tables.
func NewCatalog(tables catalog.Tables) *Catalog {
	return &Catalog{tables: maps.Clone(tables), plans: make(map[*root]*RowPlan)}
}

// Tables returns what is known now. It is not to be changed.
func (c *Catalog) Tables() catalog.Tables {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tables
}

// Set takes up what a table is now.
func (c *Catalog) Set(t *catalog.Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables = maps.Clone(c.tables)
	c.tables[t.TableName()] = t
	clear(c.plans)
}

// plan returns the plan for rows that are read again, without targets. It is made once for
// what the tables are: a batch has no time to compile statement and expressions each time.
func (c *Catalog) plan(r *root) (*RowPlan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.plans[r]; p != nil {
		return p, nil
	}
	p, err := NewRowPlan(r.documents, r.source, c.tables)
	if err == nil {
		c.plans[r] = p
	}
	return p, err
}

// load reads what a table is now and takes it up. Its error is that of [catalog.LoadTable].
func (c *Catalog) load(ctx context.Context, q catalog.Querier, name catalog.TableName) (*catalog.Table, error) {
	table, err := catalog.LoadTable(ctx, q, name.Schema, name.Name)
	if err == nil {
		c.Set(table)
	}
	return table, err
}

// gone reports that a table is not there under its name; what says what became of it.
func gone(name catalog.TableName, what string) error {
	return &dbsync.PermanentError{Err: fmt.Errorf("table %s %s; hint: change the mapping and start again", name, what)}
}

const goneOrRenamed = "is gone or was renamed"
