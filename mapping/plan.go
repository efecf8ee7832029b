package mapping

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
)

// A Plan turns rows of one relation into documents of one index. It is not
// changed once it is compiled, so several goroutines may use it.
//
// Rows hold values in text form, as the output functions of the types write
// them. A select must ask for that form; a cast to text is something else: it
// strips char(n) of its blanks, and adds a mask to inet.
type Plan struct {
	fields   []planField
	id       []int // positions in the row; -1: the row does not have the column
	routing  int   // position in the row; -1: not in it; noRouting: documents have none
	needs    []int // positions of all columns that the document, its id and routing need
	complete bool  // all needed columns are in the row
}

// A planField is one field of the document.
type planField struct {
	lead   []byte // from the end of the field before: `,"name":`
	column int    // position in the row; -1: the row does not have the column
	encode encoder
}

const noRouting = -2

// Compile makes the plan for rows of t whose values come in the order of
// columns: those of a relation message, or of a select list. Fields whose
// column t does not have are left out; a field whose column is in t but not in
// columns makes every row incomplete (see [Plan.Complete]).
func Compile(ix *Index, t *Table, columns []string) (*Plan, error) {
	position := make(map[string]int, len(columns))
	for i, name := range columns {
		position[name] = i
	}
	find := func(name string) int {
		if i, ok := position[name]; ok {
			return i
		}
		return -1
	}
	p := &Plan{routing: noRouting}
	key := ix.KeyColumns(t)
	if len(key) == 0 {
		return nil, fmt.Errorf("index %s: table %s has no primary key, and no id columns are given", ix.Name, t.TableName())
	}
	for _, name := range key {
		if t.Column(name) == nil {
			return nil, fmt.Errorf("index %s: table %s has no column %s to make the id of", ix.Name, t.TableName(), QuoteIdent(name))
		}
		p.id = append(p.id, find(name))
	}
	p.needs = append(p.needs, p.id...)
	if ix.Routing != "" {
		if t.Column(ix.Routing) == nil {
			return nil, fmt.Errorf("index %s: table %s has no column %s to route by", ix.Name, t.TableName(), QuoteIdent(ix.Routing))
		}
		p.routing = find(ix.Routing)
		p.needs = append(p.needs, p.routing)
	}
	for i, f := range ix.DocumentFields(t) {
		column := t.Column(f.Column)
		lead := []byte{','}
		if i == 0 {
			lead[0] = '{'
		}
		lead = append(appendString(lead, []byte(f.Name)), ':')
		at := find(f.Column)
		p.fields = append(p.fields, planField{slices.Clip(lead), at, formOf(column.Type).encode})
		p.needs = append(p.needs, at)
	}
	slices.Sort(p.needs)
	p.needs = slices.Compact(p.needs)
	p.complete = p.needs[0] >= 0
	return p, nil
}

// AppendDocument appends the document of a row to dst: a JSON object on one
// line. It needs no memory but dst's. Values that the row does not have are
// null: ask [Plan.Complete] first.
func (p *Plan) AppendDocument(dst []byte, row *pglogrepl.TupleData) []byte {
	if len(p.fields) == 0 {
		return append(dst, "{}"...)
	}
	for i := range p.fields {
		f := &p.fields[i]
		dst = append(dst, f.lead...)
		if text, ok := value(row, f.column); ok && text != nil {
			dst = f.encode(dst, text)
		} else {
			dst = append(dst, "null"...)
		}
	}
	return append(dst, '}')
}

// ID gives the _id of a row's document. It is not ok if the row does not have
// a column of the key, or not its value. That an old row has null for columns
// that are not in the replica identity cannot be seen here: the key must be in
// the identity, as [Config.Check] demands.
func (p *Plan) ID(row *pglogrepl.TupleData) (id string, ok bool) {
	var room [4][]byte
	values := room[:0]
	for _, at := range p.id {
		text, ok := value(row, at)
		if !ok {
			return "", false
		}
		values = append(values, text)
	}
	var buf [maxID]byte
	return string(joinID(buf[:0], values...)), true
}

// Routing gives the routing of a row's document: the text of the routing
// column, "" if that is NULL or if the index has none. It is not ok if the row
// does not have the value. As for [Plan.ID], the column must be in the replica
// identity for old rows.
func (p *Plan) Routing(row *pglogrepl.TupleData) (string, bool) {
	if p.routing == noRouting {
		return "", true
	}
	text, ok := value(row, p.routing)
	return strings.ToValidUTF8(string(text), "\uFFFD"), ok
}

// Complete reports whether the row has all that its document, id and routing
// need. It does not if a value is unchanged and was too large to be logged
// again, or if the log does not carry the column at all (generated, or not in
// the publication's column list): then the row must be read by its key.
func (p *Plan) Complete(row *pglogrepl.TupleData) bool {
	if !p.complete {
		return false
	}
	for _, at := range p.needs {
		if _, ok := value(row, at); !ok {
			return false
		}
	}
	return true
}

// KeyValues gives copies of the text of the key columns, nil for NULL and for
// what the row does not have.
func (p *Plan) KeyValues(row *pglogrepl.TupleData) [][]byte {
	values := make([][]byte, len(p.id))
	for i, at := range p.id {
		text, _ := value(row, at)
		values[i] = bytes.Clone(text)
	}
	return values
}

// none is the text of an empty value, told from nil, which is NULL.
var none = []byte{}

// value gives the text of the value at a position, nil for NULL. It is not ok
// where the row has no such value.
func value(row *pglogrepl.TupleData, at int) (text []byte, ok bool) {
	if at < 0 || at >= len(row.Columns) {
		return nil, false
	}
	c := row.Columns[at]
	switch c.DataType {
	case pglogrepl.TupleDataTypeNull:
		return nil, true
	case pglogrepl.TupleDataTypeText:
		if c.Data == nil {
			return none, true
		}
		return c.Data, true
	}
	return nil, false // unchanged TOAST
}

// Columns gives the columns of t that documents, ids and routing need, in the
// order of the table: what to select, and what to give to [Compile] with it.
func (ix *Index) Columns(t *Table) []string {
	needed := make(map[string]bool)
	for _, name := range ix.KeyColumns(t) {
		needed[name] = true
	}
	if ix.Routing != "" {
		needed[ix.Routing] = true
	}
	for _, f := range ix.DocumentFields(t) {
		needed[f.Column] = true
	}
	var columns []string
	for _, c := range t.Columns {
		if needed[c.Name] {
			columns = append(columns, c.Name)
		}
	}
	return columns
}
