package indexer

import (
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// With returns the plan for rows that have more columns after those of their documents.
func (p *RowPlan) With(expressions ...string) *RowPlan {
	with := *p
	with.Selection = p.Selection.With(p.Table, expressions...)
	return &with
}

// OfColumns returns the plan for rows that have the columns of their own table alone: those
// that their ids, routings and where need. Documents are not made by it.
func (p *RowPlan) OfColumns() *RowPlan {
	selection := &mapping.Selection{Names: slices.Clone(p.Selection.Names), Locks: p.Selection.Locks}
	key := p.Source.KeyColumns(p.Table)
	list := make([]string, len(selection.Names))
	for i, name := range selection.Names {
		// The columns stand where they stand in whole rows, so that the plan is the same.
		list[i] = "NULL"
		if p.Table.Column(name) != nil && (p.Source.Where != "" || name == p.Source.Routing || slices.Contains(key, name)) {
			list[i] = mapping.Root + "." + catalog.QuoteIdent(name)
		}
	}
	selection.List = strings.Join(list, ", ")
	of := *p
	of.Selection = selection
	return &of
}

// Refusing returns the plan for rows of which no document can be made, because of why. They
// become dead letters.
func (p *RowPlan) Refusing(why error) *RowPlan {
	refusing := p.OfColumns()
	refusing.refuse = why
	return refusing
}

// RowOf puts the values of a result's row, in text form, into a tuple. It is valid as long
// as they are.
func RowOf(values [][]byte) *pglogrepl.TupleData {
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
