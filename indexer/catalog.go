package indexer

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// A Catalog is what is known of the tables that documents are made of, as the database's
// catalog described them last. It is safe for concurrent use.
type Catalog struct {
	publication string // that has the tables

	mu      sync.Mutex
	tables  catalog.Tables             // replaced, not changed
	gone    map[catalog.TableName]bool // names that were no table's when they were looked for last
	plans   map[*root]*RowPlan         // for these tables, see plan
	version atomic.Uint64              // see Version
}

// NewCatalog returns a Catalog of tables, which a publication has.
func NewCatalog(tables catalog.Tables, publication string) *Catalog {
	return &Catalog{publication: publication, tables: maps.Clone(tables), gone: make(map[catalog.TableName]bool), plans: make(map[*root]*RowPlan)}
}

// Tables returns what is known now; of a table that is gone, what it was. It is not to be changed.
func (c *Catalog) Tables() catalog.Tables {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tables
}

// Present returns what is known now, without tables that are gone.
func (c *Catalog) Present() catalog.Tables {
	c.mu.Lock()
	defer c.mu.Unlock()
	present := maps.Clone(c.tables)
	for name := range c.gone {
		delete(present, name)
	}
	return present
}

// Version is a number that grows whenever something is different about the tables: what was made
// of them is to be made anew then.
func (c *Catalog) Version() uint64 { return c.version.Load() }

// Set takes up what a table is now.
func (c *Catalog) Set(t *catalog.Table) { c.SetAll(catalog.Tables{t.TableName(): t}) }

// SetAll takes up what tables are now, all as one snapshot has them; nil says that a table is gone.
// Where nothing is different what was made of the tables stays good.
func (c *Catalog) SetAll(now catalog.Tables) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables = maps.Clone(c.tables)
	differs := false
	for name, t := range now {
		if t == nil {
			differs = differs || !c.gone[name]
			c.gone[name] = true
			continue
		}
		before := c.tables[name]
		differs = differs || c.gone[name] || before == nil || before.WithChildren != t.WithChildren || !t.Same(before)
		delete(c.gone, name)
		c.tables[name] = t
	}
	if differs {
		clear(c.plans)
		c.version.Add(1)
	}
}

// names returns under which names of the mapping the rows of a table are known: its own, and those
// of tables that it inherits from, where the rows of children count.
func (c *Catalog) names(oid uint32) (names []catalog.TableName) {
	for name, t := range c.Tables() {
		if t.Has(oid) {
			names = append(names, name)
		}
	}
	return names
}

// plan returns the plan for rows that are read again, without targets. It is made once for
// what the tables are: a batch has no time to compile statement and expressions each time. Its
// error is an [*UnfitError].
func (c *Catalog) plan(r *root) (*RowPlan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.plans[r]; p != nil {
		return p, nil
	}
	p, err := NewRowPlan(r.documents, r.source, c.tables)
	if err != nil {
		return nil, &UnfitError{Index: r.documents.Index.Name, Err: err}
	}
	c.plans[r] = p
	return p, nil
}

// Load reads what tables are now, all in one snapshot, see [catalog.LoadTables]. It does not take
// that up.
func (c *Catalog) Load(ctx context.Context, q catalog.Querier, names []catalog.TableName) (catalog.Tables, error) {
	return catalog.LoadTables(ctx, q, names, c.publication)
}

// load reads what a table is now and takes it up; nil: there is none of this name.
func (c *Catalog) load(ctx context.Context, q catalog.Querier, name catalog.TableName) (*catalog.Table, error) {
	tables, err := c.Load(ctx, q, []catalog.TableName{name})
	if err != nil {
		return nil, err
	}
	if before := c.Tables()[name]; before != nil && before.WithChildren {
		tables.Follow([]catalog.TableName{name})
	}
	c.SetAll(tables)
	return tables[name], nil
}

// HasLeft reports whether the source is of a table that stood in the place of a pattern and is gone, as the
// catalog was loaded last: its rows are none any more, and nothing waits for it to come back.
func (c *Catalog) HasLeft(s *mapping.Source) bool {
	return s.IsMatched() && c.Present()[s.Table] == nil
}

// An UnfitError reports that no documents of an index can be made of the tables as they are now:
// one is gone, or lacks what the mapping needs to find rows. It concerns that index alone.
type UnfitError struct {
	Index string
	Err   error
}

func (e *UnfitError) Error() string {
	return fmt.Sprintf("index %s: no documents can be made of the tables as they are now: %v", e.Index, e.Err)
}

func (e *UnfitError) Unwrap() error { return e.Err }

// Permanent marks it for dbsync.IsPermanent.
func (e *UnfitError) Permanent() bool { return true }

// gone reports that a table is not there under its name; what says what became of it.
func gone(name catalog.TableName, what string) error {
	return fmt.Errorf("table %s %s; hint: give it its name back, or change the mapping and start again", name, what)
}

// taken reports that another table has the name.
func taken(name catalog.TableName) error {
	return fmt.Errorf("another table has the name %s", name)
}

const goneOrRenamed = "is gone or was renamed"
