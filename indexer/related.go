package indexer

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// link is a table whose rows are in documents of other rows.
type link struct {
	documents *Documents
	path      *mapping.Path
}

// linkPlan finds in rows of the stream what leads to the root rows that they belong to.
type linkPlan struct {
	link
	n       int   // of the links of its table
	columns []int // positions of the path's columns
	uses    []int // positions of the columns that documents are made of
	blind   error // why old rows do not tell where they belonged, nil if they do
}

func newLinkPlan(n int, l link, msg *pglogrepl.RelationMessage, table *catalog.Table) *linkPlan {
	p := &linkPlan{link: l, n: n, blind: checkIdentity(msg, l.documents.Index.Name, l.path.Columns(), table)}
	uses := l.path.Uses(table)
	for _, name := range l.path.Columns() {
		p.columns = append(p.columns, slices.IndexFunc(msg.Columns, func(c *pglogrepl.RelationMessageColumn) bool { return c.Name == name }))
	}
	for i, c := range msg.Columns {
		if uses[c.Name] {
			p.uses = append(p.uses, i)
		}
	}
	return p
}

// relatedKey is the Tag of an operation on a related row.
type relatedKey struct {
	link
	targets []string // write aliases that the documents go to
	values  [][]byte // of the path's columns; nil: every row may be concerned
}

// A change is what the stream says of one row of a table.
type change struct {
	old  *pglogrepl.TupleData // the row before, or its replica identity; nil: there was none, or its identity did not change
	row  *pglogrepl.TupleData // the row now; nil: it is gone
	full bool                 // old is the whole row
	made bool                 // the row is new
}

// relate has the documents read again that a row was in, and those that it is in now.
func (h *Handler) relate(relation uint32, c change) error {
	for _, p := range h.links[relation] {
		if p.blind != nil && !c.made {
			return p.blind
		}
		if c.full && c.row != nil && same(c.old, c.row, p.uses) {
			continue
		}
		if c.old != nil {
			if err := h.relateRow(p, c.old); err != nil {
				return err
			}
		}
		if c.row != nil && (c.old == nil || !same(c.old, c.row, p.columns)) {
			if err := h.relateRow(p, c.row); err != nil {
				return err
			}
		}
	}
	return nil
}

// same reports whether two rows of the stream have the same values at some positions, all of
// which both have.
func same(old, row *pglogrepl.TupleData, positions []int) bool {
	for _, i := range positions {
		if i < 0 || i >= len(old.Columns) || i >= len(row.Columns) {
			return false
		}
		a, b := old.Columns[i], row.Columns[i]
		if a.DataType != b.DataType || !bytes.Equal(a.Data, b.Data) || a.DataType == pglogrepl.TupleDataTypeToast {
			return false
		}
	}
	return true
}

// relateRow has the documents read again that a row leads to.
func (h *Handler) relateRow(p *linkPlan, row *pglogrepl.TupleData) error {
	values := make([][]byte, len(p.columns))
	for i, at := range p.columns {
		if at < 0 || at >= len(row.Columns) || unchanged(row.Columns[at]) {
			return &dbsync.PermanentError{Err: fmt.Errorf("index %s: a change of %s does not carry the value of %s, by which the documents are found that the row is in",
				p.documents.Index.Name, p.path.Table(), p.path.Columns()[i])}
		}
		if row.Columns[at].DataType != pglogrepl.TupleDataTypeText {
			return nil // NULL is equal to nothing
		}
		values[i] = append([]byte{}, row.Columns[at].Data...)
	}
	h.markRelated(p, values)
	return nil
}

// markRelated has the documents read again that some values lead to; all of them where
// values is nil. Which ones these are is found when the batch is written, for all of its
// operations at once. Each transaction has operations of its own: what is read must show
// all of them, also one that touched another row with the same values.
func (h *Handler) markRelated(p *linkPlan, values [][]byte) {
	id := strconv.AppendUint(nil, uint64(h.xid), 10)
	id = append(strconv.AppendInt(append(id, '/'), int64(p.n), 10), '/')
	id = append(id, p.path.Table().String()...)
	for _, v := range values {
		id = append(strconv.AppendInt(append(id, '/'), int64(len(v)), 10), ':')
		id = append(id, v...)
	}
	h.o.Syncer.MarkOperation(dbsync.Operation{
		Index: p.documents.relatedIndex(), ID: string(id), Reread: true,
		Tag: &relatedKey{link: p.link, targets: p.documents.Targets(), values: values},
	})
}
