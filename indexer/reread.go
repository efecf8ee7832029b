package indexer

import (
	"context"
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
	// The rows of one query are bounded by number, and by what the rows before them let
	// expect of their size: the documents are held until the query's transaction has ended.
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
		return err
	}
	n := firstRereadKeys
	for len(ops) > 0 {
		n = min(n, len(ops))
		made, err := h.readAgain(ctx, rows, ops[:n])
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
		ops = ops[n:]
		n = max(1, min(maxRereadKeys, rereadBytes*n/max(bytes, 1)))
	}
	return nil
}

// readAgain returns the operations with the documents of their rows as they are now.
func (h *Handler) readAgain(ctx context.Context, p *RowPlan, ops []dbsync.Operation) (made []dbsync.Operation, err error) {
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
		for result.NextRow() {
			row := tupleOf(result.Values())
			read, err := p.operation(row, p.Plan.AppendDocument(nil, row))
			if err != nil {
				failed = err
			}
			for _, op := range wanted[read.ID] {
				add(*op, read.Body)
			}
			delete(wanted, read.ID)
		}
		if _, err := result.Close(); err != nil {
			return err
		}
		return failed
	})
	if err != nil {
		return nil, err
	}
	for _, gone := range wanted {
		for _, op := range gone {
			add(*op, nil)
		}
	}
	return made, nil
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
		fmt.Fprintf(&on, "t.%s = k.%s::%s", mapping.QuoteIdent(name), k, p.Table.Column(name).Type.Name)
		column := make([][]byte, len(keys))
		for j := range keys {
			column[j] = keys[j][i]
		}
		args = append(args, textArray(column))
	}
	return fmt.Sprintf("SELECT %s FROM ROWS FROM (%s) AS k(%s) JOIN %s t ON %s",
		&list, &from, strings.Join(names, ", "), From(p.Table), &on), args
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
