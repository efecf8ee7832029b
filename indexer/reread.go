package indexer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/mapping"
)

const (
	// The documents of one query are held until its transaction has ended, so they are
	// bounded by number and in bytes. How many rows it asks for follows from the size of
	// those before, so that few are sent for nothing.
	firstRereadKeys = 64
	maxRereadKeys   = 2000
	rereadBytes     = 4 << 20
)

// rereadKey is the Tag of an operation whose row has to be read again.
type rereadKey struct {
	plan   *streamPlan
	values [][]byte // text of the key columns, nil for NULL
}

// reread reads rows again by their keys and writes their documents. A key that gives no
// row any more is a deletion; if the row is there under another key, that change is in
// the stream.
//
// The rows may be newer than the operations' versions say. That does no harm: what made
// them newer comes with a later version.
func (h *Handler) reread(ctx context.Context, p *streamPlan, ops []dbsync.Operation) error {
	rows, err := NewRowPlan(p.documents, p.table)
	if err != nil {
		return &dbsync.PermanentError{Err: err}
	}
	loaded := false
	n := firstRereadKeys
	for len(ops) > 0 {
		n = min(n, len(ops))
		made, left, err := h.readAgain(ctx, rows, ops[:n])
		if isRefusedStatement(err) && !loaded {
			// The table was altered since the stream described it.
			loaded = true
			if rows, err = h.loadRowPlan(ctx, p); err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("read %d rows of %s again: %w", n, p.table.TableName(), err)
		}
		if err := h.o.Bulk.Write(ctx, made); err != nil {
			return err
		}
		bytes := 0
		for i := range made {
			bytes += len(made[i].Body)
		}
		ops = append(left, ops[n:]...)
		n = max(1, min(maxRereadKeys, rereadBytes*len(made)/max(bytes, 1)))
	}
	return nil
}

// loadRowPlan makes the plan for the table as it is now.
func (h *Handler) loadRowPlan(ctx context.Context, p *streamPlan) (*RowPlan, error) {
	table, err := mapping.LoadTable(ctx, h.o.Syncer.DB(), p.table.Schema, p.table.Name)
	if err != nil {
		return nil, err
	}
	rows, err := NewRowPlan(p.documents, table)
	if err != nil {
		return nil, &dbsync.PermanentError{Err: err}
	}
	return rows, nil
}

// isRefusedStatement tells whether Postgres takes exception to what a statement says, and
// not to the moment.
func isRefusedStatement(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(pg.Code, "42") || strings.HasPrefix(pg.Code, "22"))
}

// readAgain returns the operations with the documents of their rows as they are now. The
// rows that go beyond rereadBytes are left: their operations come back as they are.
func (h *Handler) readAgain(ctx context.Context, p *RowPlan, ops []dbsync.Operation) (made, left []dbsync.Operation, err error) {
	// A batch may hold the same document for two indices: they get the same row.
	wanted := make(map[string][]*dbsync.Operation, len(ops))
	xids := make(map[uint32]bool)
	keys := make([][][]byte, 0, len(ops))
	for i := range ops {
		op := &ops[i]
		if wanted[op.ID] == nil {
			keys = append(keys, op.Tag.(*rereadKey).values)
		}
		wanted[op.ID] = append(wanted[op.ID], op)
		xids[op.Xid] = true
	}
	// What the row is routed by may have changed since. That change is in the stream, too,
	// and these documents go where they would have gone.
	add := func(op dbsync.Operation, body []byte) {
		op.Reread, op.Tag, op.Body, op.Delete = false, nil, body, body == nil
		made = append(made, op)
	}
	query, args := rereadQuery(p, keys)
	err = h.o.Syncer.ReadVisible(ctx, slices.Collect(maps.Keys(xids)), []string{From(p.Table)}, func(conn *pgconn.PgConn) error {
		result := conn.ExecParams(ctx, query, args, nil, nil, nil)
		var failed error
		bytes := 0
		for result.NextRow() {
			row := tupleOf(result.Values())
			read, err := p.operation(row, nil)
			if err != nil {
				failed = err
				continue
			}
			if bytes < rereadBytes {
				read.Body = p.Plan.AppendDocument(nil, row)
				bytes += len(read.Body)
			}
			for _, op := range wanted[read.ID] {
				if read.Body != nil {
					add(*op, read.Body)
				} else {
					left = append(left, *op)
				}
			}
			delete(wanted, read.ID)
		}
		if _, err := result.Close(); err != nil {
			return err
		}
		return failed
	})
	if err != nil {
		return nil, nil, err
	}
	for _, gone := range wanted {
		for _, op := range gone {
			add(*op, nil)
		}
	}
	return made, left, nil
}

// rereadQuery returns the statement that selects rows by key, and its parameters: one
// array of text for each key column.
func rereadQuery(p *RowPlan, keys [][][]byte) (query string, args [][]byte) {
	var list, from, on strings.Builder
	for i, c := range p.Columns {
		if i > 0 {
			list.WriteString(", ")
		}
		list.WriteString("t." + mapping.QuoteIdent(c))
	}
	var names []string
	for i, name := range p.Documents.Index.KeyColumns(p.Table) {
		if i > 0 {
			from.WriteString(", ")
			on.WriteString(" AND ")
		}
		k := fmt.Sprintf("k%d", i)
		names = append(names, k)
		fmt.Fprintf(&from, "pg_catalog.unnest($%d::pg_catalog.text[])", i+1)
		typ := p.Table.Column(name).Type
		fmt.Fprintf(&on, "t.%s %s k.%s::%s", mapping.QuoteIdent(name), Operator("=", typ), k, typ.Name)
		column := make([][]byte, len(keys))
		for j := range keys {
			column[j] = keys[j][i]
		}
		args = append(args, textArray(column))
	}
	return fmt.Sprintf("SELECT %s FROM ROWS FROM (%s) AS k(%s) JOIN %s t ON %s",
		&list, &from, strings.Join(names, ", "), From(p.Table), &on), args
}

// firstUserOID is the first one that Postgres gives to what is not its own.
const firstUserOID = 16384

// Operator returns how two values of a type are compared in SQL: by the operator that the
// type's indices go by. Of a type of an extension that is one of the extension's schema,
// which need not be in the session's search_path; Postgres would then take the operator of
// a type that it can be cast to, citext to text, which orders rows in another way.
func Operator(name string, t *mapping.Type) string {
	root := t.Root()
	if root.Kind != mapping.KindBase || root.OID < firstUserOID {
		return name // all others compare by operators for any of their kind
	}
	return "OPERATOR(" + schemaOf(root.Name) + "." + name + ")"
}

// schemaOf returns the schema of a qualified name, quoted as it is there.
func schemaOf(name string) string {
	quoted := false
	for i := range len(name) {
		switch {
		case name[i] == '"':
			quoted = !quoted
		case name[i] == '.' && !quoted:
			return name[:i]
		}
	}
	return "pg_catalog"
}

// From returns what a select takes rows of a table from: a table with inheritance
// children has not their rows, as the stream names those by the child; a partitioned one
// has those of its partitions.
func From(t *mapping.Table) string {
	name := mapping.QuoteIdent(t.Schema) + "." + mapping.QuoteIdent(t.Name)
	if t.Partitioned {
		return name
	}
	return "ONLY " + name
}

// textArray writes values in the text form of an array of text.
func textArray(values [][]byte) []byte {
	dst := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		if v == nil {
			dst = append(dst, "NULL"...)
			continue
		}
		dst = append(dst, '"')
		for _, b := range v {
			if b == '"' || b == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, b)
		}
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

// tupleOf puts the values of a result's row, in text form, into a tuple.
func tupleOf(values [][]byte) *pglogrepl.TupleData {
	columns := make([]pglogrepl.TupleDataColumn, len(values))
	row := &pglogrepl.TupleData{ColumnNum: uint16(len(values)), Columns: make([]*pglogrepl.TupleDataColumn, len(values))}
	for i, v := range values {
		c := &columns[i]
		c.DataType = pglogrepl.TupleDataTypeNull
		if v != nil {
			c.DataType, c.Length, c.Data = pglogrepl.TupleDataTypeText, uint32(len(v)), v
		}
		row.Columns[i] = c
	}
	return row
}
