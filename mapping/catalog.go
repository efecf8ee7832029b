package mapping

import (
	"context"
	"database/sql"
	"errors"
)

// ErrNoTable is what [LoadTable] returns for a name that is no table, or that
// is a view, a foreign table or anything else without a log of its changes.
var ErrNoTable = errors.New("no such table")

// A Querier is the part of [*sql.DB], [*sql.Conn] and [*sql.Tx] that reads.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// A TableName names a table of the database by schema and name, both as the
// catalog spells them, unquoted.
type TableName struct {
	Schema, Name string
}

// String gives the name as SQL takes it, quoted where it must be.
func (n TableName) String() string {
	return quoteIfNeeded(n.Schema) + "." + quoteIfNeeded(n.Name)
}

// A Table is what the catalog says about one table. It is not changed after
// [LoadTable] made it, so several goroutines may read it.
type Table struct {
	OID           uint32
	Schema, Name  string
	Columns       []Column // in the order of the table, dropped ones left out
	PrimaryKey    []string // column names in the order of the key; empty: none
	Identity      Identity
	Unique        [][]string // other valid, immediate unique indexes that cover every row and have no expressions
	RowSecurity   bool       // policies are in force for somebody
	ForceSecurity bool       // policies are in force for the owner, too
	Partitioned   bool       // the table is the root of partitions and has no rows of its own
	EstimatedRows int64      // pg_class.reltuples, of all partitions; -1: never analyzed
}

// TableName gives the name under which a mapping asks for the table.
func (t *Table) TableName() TableName { return TableName{t.Schema, t.Name} }

// Column gives the column called name, or nil.
func (t *Table) Column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// A Column is one column of a [Table].
type Column struct {
	Name      string
	Type      *Type
	NotNull   bool
	Generated bool // computed from other columns; the log does not carry it, a select does
}

// An IdentityKind says what the log tells about the old row of an update or a
// delete: the letter of pg_class.relreplident.
type IdentityKind byte

const (
	IdentityDefault IdentityKind = 'd' // the primary key; nothing if there is none
	IdentityIndex   IdentityKind = 'i' // the columns of a unique index
	IdentityFull    IdentityKind = 'f' // the whole row
	IdentityNothing IdentityKind = 'n'
)

// An Identity is the replica identity of a table. On a partitioned table it is
// what all partitions have in common: rows are logged with the identity of
// their partition.
type Identity struct {
	Kind    IdentityKind
	Columns []string // the columns that old rows carry; for IdentityFull all that the log carries
}

// Usable reports whether updates and deletes can be replicated at all.
func (i Identity) Usable() bool { return len(i.Columns) > 0 }

// Covers reports whether an old row carries all of columns.
func (i Identity) Covers(columns []string) bool {
	for _, want := range columns {
		found := false
		for _, have := range i.Columns {
			found = found || have == want
		}
		if !found {
			return false
		}
	}
	return true
}
