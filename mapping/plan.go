package mapping

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"

	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
	"tidemark/mapping/jsontext"
	"tidemark/mapping/value"
)

// A Plan turns rows of one relation into documents of one source. It is not changed once
// it is compiled, so several goroutines may use it.
//
// Rows hold values in text form, as the output functions of the types write
// them. A select must ask for that form; a cast to text is something else: it
// strips char(n) of its blanks, and adds a mask to inet.
type Plan struct {
	fields   []planField
	tail     []byte   // from the end of the last field: `}`
	id       []int    // positions in the row; -1: the row does not have the column
	literals []string // around the values of id; nil: they are joined
	routing  int      // position in the row; -1: not in it; noRouting: documents have none
	where    *bound   // nil: every row is a document
	only     *Only    // nil: likewise
	onlyAt   int      // position in the row of the column of only; -1: not in it
	needs    []int    // positions of all columns that the document, its id and routing need
	complete bool     // all needed columns are in the row
	size     int      // position in the row of what sizeBound says of it; -1: nothing
	max      int      // bytes of a document; 0: as many as it has
}

// A planField is one value of the document.
type planField struct {
	lead   []byte // from the end of the value before: `,"name":`
	column int    // position in the row; -1: the row does not have the column
	encode value.Encoder
	expr   *bound // in place of column and encode; nil: none
}

// A bound expression knows where in the row its columns are.
type bound struct {
	*expr.Expression
	columns []int
}

const noRouting = -2

// Compile makes the plan for rows of t whose values come in the order of
// columns: those of a relation message, or of a [Selection]. Fields whose
// column t does not have are left out; a field whose column is in t but not in
// columns makes every row incomplete (see [Plan.Complete]), and so does what is
// included of other tables.
func Compile(s *Source, t *catalog.Table, columns []string) (*Plan, error) {
	c := compiler{t: t, position: make(map[string]int, len(columns)), plan: &Plan{routing: noRouting, literals: s.Literals, size: -1, max: s.Index.MaxDocumentBytes}}
	for i, name := range columns {
		c.position[name] = i
	}
	if err := c.compile(s); err != nil {
		return nil, fmt.Errorf("index %s: %w", s.Name(), err)
	}
	return c.plan, nil
}

// A compiler makes one plan.
type compiler struct {
	t        *catalog.Table
	position map[string]int // of the columns in the row
	plan     *Plan
	lead     []byte // what stands before the next value
}

func (c *compiler) compile(s *Source) error {
	p, t := c.plan, c.t
	key := s.KeyColumns(t)
	if len(key) == 0 {
		return fmt.Errorf("table %s has no primary key, and no id columns are given", t.TableName())
	}
	for _, name := range key {
		if t.Column(name) == nil {
			return fmt.Errorf("table %s has no column %s to make the id of", t.TableName(), catalog.QuoteIdent(name))
		}
		p.id = append(p.id, c.need(name))
	}
	if s.Routing != "" {
		if t.Column(s.Routing) == nil {
			return fmt.Errorf("table %s has no column %s to route by", t.TableName(), catalog.QuoteIdent(s.Routing))
		}
		p.routing = c.need(s.Routing)
	}
	if s.Only != nil {
		if t.Column(s.Only.Column) == nil {
			return fmt.Errorf("table %s has no column %s to name indices by", t.TableName(), catalog.QuoteIdent(s.Only.Column))
		}
		p.only, p.onlyAt = s.Only, c.need(s.Only.Column)
	}
	if s.Where != "" {
		e, err := expr.CompileCondition(s.Where, t)
		if err != nil {
			return fmt.Errorf("where: %w", err)
		}
		p.where = c.bind(e)
	}
	if at, ok := c.position[freeName(t, sizeColumn)]; ok {
		p.size = at
	}
	c.lead = append(c.lead, '{')
	if err := c.object(s.DocumentFields(t)); err != nil {
		return err
	}
	for i, in := range s.Include {
		c.name(in.Name)
		// A column of type json in it may repeat keys and have line ends.
		c.value(planField{column: c.need(includeColumn(t, i)), encode: value.AppendJSON})
	}
	p.tail = append(c.lead, '}')
	slices.Sort(p.needs)
	p.needs = slices.Compact(p.needs)
	p.complete = p.needs[0] >= 0
	return nil
}

// need notes that documents need a column, and gives its position.
func (c *compiler) need(name string) int {
	at, ok := c.position[name]
	if !ok {
		at = -1
	}
	c.plan.needs = append(c.plan.needs, at)
	return at
}

func (c *compiler) bind(e *expr.Expression) *bound {
	b := &bound{Expression: e}
	for _, name := range e.Columns {
		b.columns = append(b.columns, c.need(name))
	}
	return b
}

// object adds the fields of an object whose opening brace is in lead.
func (c *compiler) object(fields []Field) error {
	for i := range fields {
		f := &fields[i]
		c.name(f.Name)
		switch {
		case f.Group != nil:
			c.lead = append(c.lead, '{')
			if err := c.object(f.Group); err != nil {
				return err
			}
			c.lead = append(c.lead, '}')
		case f.Constant != nil:
			text, err := value.Marshal(f.Constant.Value)
			if err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
			c.lead = append(c.lead, text...)
		case f.Expr != "":
			e, err := expr.Compile(f.Expr, c.t)
			if err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
			c.value(planField{expr: c.bind(e)})
		default:
			form, err := value.FormFor(c.t.Column(f.Column).Type, f.As)
			if err != nil {
				return fmt.Errorf("field %s: %w", f.Name, err)
			}
			c.value(planField{column: c.need(f.Column), encode: form.Encode})
		}
	}
	return nil
}

// name begins a field of the object that is open.
func (c *compiler) name(name string) {
	if n := len(c.lead); n == 0 || c.lead[n-1] != '{' {
		c.lead = append(c.lead, ',')
	}
	c.lead = append(jsontext.Append(c.lead, []byte(name)), ':')
}

// value ends what stands before a value.
func (c *compiler) value(f planField) {
	f.lead = slices.Clip(c.lead)
	c.lead = nil
	c.plan.fields = append(c.plan.fields, f)
}

// AppendDocument appends the document of a row to dst: a JSON object on one
// line. Without expressions it needs no memory but dst's, and there is no error.
// Values that the row does not have are null: ask [Plan.Complete] first.
//
// An error says what an expression could not do with the row, or is a [*TooLargeError]; dst is as
// it was then.
func (p *Plan) AppendDocument(dst []byte, row *pglogrepl.TupleData) ([]byte, error) {
	if err, _ := p.tooLarge(row); err != nil {
		return dst, err
	}
	start := len(dst)
	if n := rowBytes(row); n > largeRow {
		// Otherwise storage would be made again and again as it grows, each time a quarter larger.
		dst = slices.Grow(dst, n+n/32)
	}
	for i := range p.fields {
		f := &p.fields[i]
		dst = append(dst, f.lead...)
		if f.expr != nil {
			var err error
			if dst, err = f.expr.Append(dst, f.expr.values(row)); err != nil {
				return dst[:start], err
			}
			continue
		}
		if text, ok := columnText(row, f.column); ok && text != nil {
			dst = f.encode(dst, text)
		} else {
			dst = append(dst, "null"...)
		}
		if p.max > 0 && len(dst)-start > p.max {
			return dst[:start], &TooLargeError{Bytes: len(dst) - start, Max: p.max}
		}
	}
	return append(dst, p.tail...), nil
}

// largeRow is the size from which on storage for a document is made at once.
const largeRow = 1 << 20

// rowBytes is about how many bytes the values of a row take.
func rowBytes(row *pglogrepl.TupleData) (n int) {
	for _, c := range row.Columns {
		n += len(c.Data)
	}
	return n
}

// Holds reports whether the row is a document: whether it has a value of the index's, and what the mapping has in
// where is true for it. An error says what the expression could not do with the row. One that is too large, with
// what where reads left out, counts as a document: AppendDocument says that it is none.
func (p *Plan) Holds(row *pglogrepl.TupleData) (bool, error) {
	if p.only != nil {
		if text, ok := columnText(row, p.onlyAt); !ok || !p.only.has(text) {
			return false, nil
		}
	}
	if p.where == nil {
		return true, nil
	}
	if _, unclear := p.tooLarge(row); unclear {
		return true, nil
	}
	return p.where.Holds(p.where.values(row))
}

// values returns the text of the columns that the expression reads, nil for NULL.
func (b *bound) values(row *pglogrepl.TupleData) [][]byte {
	values := make([][]byte, len(b.columns))
	for i, at := range b.columns {
		values[i], _ = columnText(row, at)
	}
	return values
}

// ID returns the _id of a row's document. It is not ok if the row does not have
// a column of the key, or not its value. That an old row has null for columns
// that are not in the replica identity cannot be seen here: the key must be in
// the identity, as [Config.Check] demands.
func (p *Plan) ID(row *pglogrepl.TupleData) (id string, ok bool) {
	var room [4][]byte
	values := room[:0]
	for _, at := range p.id {
		text, ok := columnText(row, at)
		if !ok {
			return "", false
		}
		values = append(values, text)
	}
	return p.IDOf(values), true
}

// IDOf returns the _id that a key makes, the text of its columns, nil for NULL.
func (p *Plan) IDOf(key [][]byte) string {
	var buf [maxID]byte
	if p.literals != nil {
		return string(templateID(buf[:0], p.literals, key...))
	}
	return string(joinID(buf[:0], key...))
}

// Routing returns the routing of a row's document: the text of the routing
// column, "" if that is NULL or if the index has none. It is not ok if the row
// does not have the value. As for [Plan.ID], the column must be in the replica
// identity for old rows.
func (p *Plan) Routing(row *pglogrepl.TupleData) (string, bool) {
	if p.routing == noRouting {
		return "", true
	}
	text, ok := columnText(row, p.routing)
	return strings.ToValidUTF8(string(text), "\uFFFD"), ok
}

// Value returns the text of the column by whose value rows are in one index or another, nil for NULL. It is not ok
// where the row does not have it. The source has [Source.Only].
func (p *Plan) Value(row *pglogrepl.TupleData) (text []byte, ok bool) {
	return columnText(row, p.onlyAt)
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
		if _, ok := columnText(row, at); !ok {
			return false
		}
	}
	return true
}

// KeyValues returns copies of the text of the key columns, nil for NULL and for
// what the row does not have.
func (p *Plan) KeyValues(row *pglogrepl.TupleData) [][]byte {
	values := make([][]byte, len(p.id))
	for i, at := range p.id {
		text, _ := columnText(row, at)
		values[i] = bytes.Clone(text)
	}
	return values
}

// none is the text of an empty value, told from nil, which is NULL.
var none = []byte{}

// value gives the text of the value at a position, nil for NULL. It is not ok
// where the row has no such value.
func columnText(row *pglogrepl.TupleData, at int) (text []byte, ok bool) {
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
