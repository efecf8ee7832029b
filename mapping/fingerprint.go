package mapping

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
	"tidemark/mapping/value"
)

// fingerprintForm begins every fingerprint, and says in which form its content was written. A
// content with other names, or with more in it, gets the next number, and the computation
// of the one before goes to fingerprint_before.go: an upgrade costs no rebuild.
const fingerprintForm = "1-"

// expressionForm stands for how expressions are evaluated: to be changed with it.
const expressionForm = "expression 1"

// Fingerprint returns a hash, of the form "1-" and 32 hex digits, of everything that decides
// what the documents and their index look like: two mappings with the same fingerprint
// would fill the same index with the same documents. It does not change with the order of
// tables, columns, fields or keys, nor between versions of Postgres.
//
//   - Types of columns are in it, also where both would be written alike: the rows are
//     written anew when a column gets another type, and the log has nothing of that.
//   - All settings are in it: nothing else brings an edited one to the index in use.
//   - The keys of reindex are not, nor is the name of the index.
//
// What is kept of an index may have been written by an earlier version of Tidemark: it is
// compared by [Index.Matches].
func (ix *Index) Fingerprint(tables catalog.Tables) string {
	return fingerprintForm + hash(ix.fingerprintContent(tables))
}

// Matches reports whether a fingerprint is that of the mapping of these tables, as this
// version of Tidemark or an earlier one made it.
func (ix *Index) Matches(fingerprint string, tables catalog.Tables) bool {
	if strings.HasPrefix(fingerprint, fingerprintForm) {
		return fingerprint == ix.Fingerprint(tables)
	}
	return fingerprint != "" && slices.Contains(ix.fingerprintsBefore(tables), fingerprint)
}

// hash returns 32 hex digits that stand for a text.
func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// A fingerprintOfIndex is the content of a fingerprint. Its JSON is hashed, so the names in
// it are for ever.
type fingerprintOfIndex struct {
	Sources []fingerprintOfSource `json:"sources"`
	Body    json.RawMessage       `json:"body"` // null: no index can be made of it
}

type fingerprintOfSource struct {
	Table    string              `json:"table"`
	Children bool                `json:"children,omitzero"` // rows of tables that inherit from it are documents, too
	Missing  bool                `json:"missing,omitzero"`  // there is no such table
	ID       []fingerprintColumn `json:"id"`
	Literals []string            `json:"literals,omitempty"`
	Routing  *fingerprintColumn  `json:"routing,omitzero"`
	Where    *fingerprintExpr    `json:"where,omitzero"`
	Only     *fingerprintOnly    `json:"only,omitzero"` // only rows with a value of these are documents
	fingerprintOfObject
}

// A fingerprintColumn is a column whose values count, and its type.
type fingerprintColumn struct {
	Name string `json:"name"`
	Type string `json:"type"` // empty: there is no such column
}

// A fingerprintOnly is the values of a column that name the index.
type fingerprintOnly struct {
	Column fingerprintColumn `json:"column"`
	Values []string          `json:"values"`
}

type fingerprintExpr struct {
	Text  string              `json:"text"`
	Form  string              `json:"form"`
	Reads []fingerprintColumn `json:"reads"`
}

type fingerprintOfObject struct {
	Fields   []fingerprintOfField   `json:"fields,omitempty"`
	Includes []fingerprintOfInclude `json:"includes,omitempty"`
}

type fingerprintOfField struct {
	Path     string             `json:"path"`
	Column   *fingerprintColumn `json:"column,omitzero"`
	Form     string             `json:"form,omitzero"` // of the column's values
	Expr     *fingerprintExpr   `json:"expr,omitzero"`
	Constant json.RawMessage    `json:"constant,omitzero"`
}

type fingerprintOfInclude struct {
	Name      string               `json:"name"`
	Table     string               `json:"table"`
	Children  bool                 `json:"children,omitzero"` // with the rows of tables that inherit from it
	On        []fingerprintPair    `json:"on"`
	Through   string               `json:"through,omitzero"`
	Links     bool                 `json:"through_children,omitzero"` // with the rows of tables that inherit from Through
	To        []fingerprintPair    `json:"to,omitempty"`
	Where     string               `json:"where,omitzero"`
	Reads     []fingerprintColumn  `json:"reads,omitempty"` // of Where
	Many      string               `json:"many,omitzero"`
	Aggregate string               `json:"aggregate,omitzero"`
	Of        *fingerprintColumn   `json:"of,omitzero"`   // the column of value or aggregate
	Form      string               `json:"form,omitzero"` // of its values, or of what they come to
	Lone      bool                 `json:"lone,omitzero"` // one row at most: a value instead of a list
	Rows      *fingerprintOfRows   `json:"rows,omitzero"` // which of several rows, and in what order; nil: all that counts is which there are
	Object    *fingerprintOfObject `json:"object,omitzero"`
}

type fingerprintPair struct {
	Near fingerprintColumn `json:"near"`
	Far  fingerprintColumn `json:"far"`
}

type fingerprintOfRows struct {
	Order   []fingerprintOrder  `json:"order,omitempty"`
	Key     []fingerprintColumn `json:"key,omitempty"`      // that rows are ordered by in the end; none: all columns
	LinkKey []fingerprintColumn `json:"link_key,omitempty"` // and those that link them
	Limit   int                 `json:"limit,omitzero"`
}

type fingerprintOrder struct {
	fingerprintColumn
	Descending bool `json:"descending,omitzero"`
	NullsFirst bool `json:"nulls_first,omitzero"`
}

// fingerprintContent returns what is hashed.
func (ix *Index) fingerprintContent(tables catalog.Tables) []byte {
	content := fingerprintOfIndex{Sources: []fingerprintOfSource{}}
	for _, s := range ix.sortedSources() {
		content.Sources = append(content.Sources, s.fingerprint(tables))
	}
	if body, err := ix.Body(tables); err == nil {
		content.Body = body
	}
	text, err := value.Marshal(content)
	if err != nil {
		text = []byte(err.Error()) // names and valid JSON: cannot be
	}
	return text
}

// sortedSources returns the sources in an order that does not depend on that of the file:
// no two have the same prefix.
func (ix *Index) sortedSources() []*Source {
	return slices.SortedFunc(slices.Values(ix.Sources), func(a, b *Source) int { return strings.Compare(a.Prefix(), b.Prefix()) })
}

func (s *Source) fingerprint(tables catalog.Tables) fingerprintOfSource {
	f := fingerprintOfSource{Table: s.Table.String(), Children: s.Children, Literals: s.Literals}
	t := tables[s.Table]
	if t == nil {
		f.Missing = true
		return f
	}
	f.ID = columnsOf(t, s.KeyColumns(t))
	if s.Routing != "" {
		routing := columnOf(t, s.Routing)
		f.Routing = &routing
	}
	if s.Where != "" {
		f.Where = exprOf(s.Where, t)
	}
	if s.Only != nil {
		f.Only = &fingerprintOnly{columnOf(t, s.Only.Column), s.Only.Values}
	}
	f.fingerprintOfObject = s.Shape.fingerprint(t, tables)
	return f
}

func columnOf(t *catalog.Table, name string) fingerprintColumn {
	if c := t.Column(name); c != nil {
		return fingerprintColumn{name, c.Type.Name}
	}
	return fingerprintColumn{Name: name}
}

func columnsOf(t *catalog.Table, names []string) []fingerprintColumn {
	return mapAll(names, func(name string) fingerprintColumn { return columnOf(t, name) })
}

// exprOf returns what decides the results of an expression. One that does not fit the table
// reads nothing; no document is made by it.
func exprOf(text string, t *catalog.Table) *fingerprintExpr {
	f := &fingerprintExpr{Text: text, Form: expressionForm}
	if e, err := expr.Compile(text, t); err == nil {
		f.Reads = columnsOf(t, e.Columns)
	}
	return f
}

// fingerprint returns what decides how objects of rows of t look.
func (s *Shape) fingerprint(t *catalog.Table, tables catalog.Tables) fingerprintOfObject {
	var o fingerprintOfObject
	eachField(s.DocumentFields(t), "", func(path string, f *Field) {
		of := fingerprintOfField{Path: path}
		switch {
		case f.Constant != nil:
			of.Constant, _ = value.Marshal(f.Constant.Value) // what the file had, which was JSON
		case f.Expr != "":
			of.Expr = exprOf(f.Expr, t)
		default:
			column := columnOf(t, f.Column)
			of.Column = &column
			if form, err := value.FormFor(t.Column(f.Column).Type, f.As); err == nil {
				of.Form = form.Name
			}
		}
		o.Fields = append(o.Fields, of)
	})
	slices.SortFunc(o.Fields, func(a, b fingerprintOfField) int { return strings.Compare(a.Path, b.Path) })
	for _, in := range s.Include {
		o.Includes = append(o.Includes, in.fingerprint(t, tables))
	}
	slices.SortFunc(o.Includes, func(a, b fingerprintOfInclude) int { return strings.Compare(a.Name, b.Name) })
	return o
}

// fingerprint returns what decides how the include looks in rows of the table outer.
func (in *Include) fingerprint(outer *catalog.Table, tables catalog.Tables) fingerprintOfInclude {
	f := fingerprintOfInclude{
		Name: in.Name, Table: in.Table.String(), Children: in.Children, Where: in.Where,
		Many: string(in.Many), Aggregate: string(in.Aggregate), Lone: in.Value != "" && in.lone(tables),
	}
	t := tables[in.Table]
	if t == nil {
		return f // there are no documents without it
	}
	far := t
	var link *catalog.Table
	if in.Through != nil {
		f.Through, f.Links = in.Through.Table.String(), in.Through.Children
		if link = tables[in.Through.Table]; link == nil {
			return f
		}
		far = link
		f.To = pairsOf(in.Through.To, link, t)
	}
	f.On = pairsOf(in.On, outer, far)
	if in.Where != "" {
		f.Reads = columnsNamed(in.Where, t)
	}
	if name := cmp.Or(in.Value, in.Column); name != "" {
		of := columnOf(t, name)
		f.Of = &of
		if c := t.Column(name); c != nil {
			typ := c.Type
			if in.Aggregate != "" {
				typ = in.Aggregate.of(typ)
			}
			f.Form = value.FormOf(typ).Name
		}
	}
	if in.Aggregate == "" && !in.lone(tables) {
		f.Rows = in.rows(t, link)
	}
	if in.Aggregate == "" && in.Value == "" {
		object := in.Shape.fingerprint(t, tables)
		f.Object = &object
	}
	return f
}

func pairsOf(pairs []Pair, near, far *catalog.Table) []fingerprintPair {
	return mapAll(pairs, func(p Pair) fingerprintPair {
		return fingerprintPair{columnOf(near, p.Near), columnOf(far, p.Far)}
	})
}

// rows returns what decides which rows of t are put in, and in what order. link is the table
// that links them, or nil.
func (in *Include) rows(t, link *catalog.Table) *fingerprintOfRows {
	rows := &fingerprintOfRows{Key: columnsOf(t, t.OrderKey()), Limit: in.Limit}
	for _, o := range in.OrderBy {
		of := t
		if t.Column(o.Column) == nil && link != nil {
			of = link
		}
		rows.Order = append(rows.Order, fingerprintOrder{columnOf(of, o.Column), o.Descending, o.NullsFirst})
	}
	if link != nil {
		rows.LinkKey = columnsOf(link, link.OrderKey())
	}
	return rows
}

// columnsNamed returns the columns of t that a condition in SQL may read, sorted: their names
// stand in it, as a whole or within another word.
func columnsNamed(condition string, t *catalog.Table) (read []fingerprintColumn) {
	condition = strings.ToLower(condition)
	for _, c := range t.Columns {
		if strings.Contains(condition, strings.ToLower(c.Name)) {
			read = append(read, fingerprintColumn{c.Name, c.Type.Name})
		}
	}
	slices.SortFunc(read, func(a, b fingerprintColumn) int { return strings.Compare(a.Name, b.Name) })
	return read
}
