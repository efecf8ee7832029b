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
	return p.ofColumns(func(name string) bool {
		return p.Source.Where != "" || p.identifies(name) || p.Source.Only != nil && name == p.Source.Only.Column
	})
}

// Refusing returns the plan for rows of which no document can be made, because of why. They
// become dead letters. Of their columns they have those alone that tell which they are: any other
// one may be what cannot be read.
func (p *RowPlan) Refusing(why error) *RowPlan {
	refusing := p.ofColumns(p.identifies)
	refusing.refuse = why
	return refusing
}

// identifies reports whether ids or routings are made of a column.
func (p *RowPlan) identifies(column string) bool {
	return column == p.Source.Routing || slices.Contains(p.Source.KeyColumns(p.Table), column)
}

// ofColumns returns the plan for rows that have some columns of their own table alone.
func (p *RowPlan) ofColumns(wanted func(name string) bool) *RowPlan {
	selection := &mapping.Selection{Names: slices.Clone(p.Selection.Names), Locks: p.Selection.Locks}
	list := make([]string, len(selection.Names))
	for i, name := range selection.Names {
		// The columns stand where they stand in whole rows, so that the plan is the same.
		list[i] = "NULL"
		if p.Table.Column(name) != nil && wanted(name) {
			list[i] = mapping.Root + "." + catalog.QuoteIdent(name)
		}
	}
	selection.List = strings.Join(list, ", ")
	of := *p
	of.Selection = selection
	return &of
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
