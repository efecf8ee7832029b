package indexer

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// link is a table whose rows are in documents of other rows, root's. It is the Origin of the
// operations that such rows lead to.
type link struct {
	root *root
	path *mapping.Path
}

func (l *link) String() string { return l.root.String() + " from " + l.path.Table().String() }

// linkPlan finds in rows of the stream what leads to the root rows that they belong to.
type linkPlan struct {
	*link
	columns []int // positions of the path's columns
	uses    []int // positions of the columns that documents are made of, -1: the stream does not carry it
	blind   error // why old rows do not tell where they belonged, nil if they do
}

func newLinkPlan(l *link, msg *pglogrepl.RelationMessage, table *catalog.Table) *linkPlan {
	p := &linkPlan{link: l, blind: checkIdentity(msg, l.root.documents.Index.Name, l.path.Columns(), table)}
	uses := l.path.Uses(table)
	position := func(name string) int {
		return slices.IndexFunc(msg.Columns, func(c *pglogrepl.RelationMessageColumn) bool { return c.Name == name })
	}
	for _, name := range l.path.Columns() {
		p.columns = append(p.columns, position(name))
	}
	for _, c := range table.Columns {
		if uses[c.Name] {
			p.uses = append(p.uses, position(c.Name)) // a generated one is mostly not there
		}
	}
	return p
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

// same reports whether two rows of the stream are known to have the same values at some
// positions. What they do not carry may have changed.
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
				p.root.documents.Index.Name, p.path.Table(), p.path.Columns()[i])}
		}
		if row.Columns[at].DataType != pglogrepl.TupleDataTypeText {
			return nil // NULL is equal to nothing
		}
		values[i] = append([]byte{}, row.Columns[at].Data...)
	}
	h.markRelated(p, values)
	return nil
}

// markRelated has the documents read again that some values lead to, in each index that is
// written to; all of them where values is nil.
func (h *Handler) markRelated(p *linkPlan, values [][]byte) {
	for _, target := range p.root.documents.Targets() {
		h.o.Syncer.MarkOperation(dbsync.Operation{Kind: dbsync.Related, Index: target.Alias, Base: target.Base, Origin: p.link, Key: values, AwaitVisible: true})
	}
}
