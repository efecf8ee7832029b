package mapping

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"tidemark/mapping/catalog"
	"tidemark/mapping/expr"
	"tidemark/mapping/value"
)

// Fingerprints as earlier versions of Tidemark made them, so that an upgrade costs no
// rebuild: a hash of JSON with the names that the fields had in Go. What stands here is not
// to be changed. It can go when nobody upgrades from there any more; their indices are then
// rebuilt once. A fingerprint of this version takes the place of an old one when the index
// is filled again or gets new fields.

// fingerprintsBefore returns the fingerprints that the mapping had in earlier versions, none
// where no index can be made of it.
func (ix *Index) fingerprintsBefore(tables catalog.Tables) []string {
	for _, name := range ix.Tables() {
		if tables[name] == nil {
			return nil
		}
	}
	if slices.ContainsFunc(ix.Sources, func(s *Source) bool { return s.Only != nil }) {
		return nil // there was none
	}
	body, err := ix.Body(tables)
	if err != nil {
		return nil
	}
	all := []string{ix.fingerprintOfRelated(body, tables)}
	if flat, ok := ix.fingerprintOfFlat(body, tables); ok {
		all = append(all, flat)
	}
	return all
}

func hashJSON(content any) string {
	text, err := value.Marshal(content)
	if err != nil {
		text = []byte(err.Error()) // names and valid JSON: cannot be
	}
	return hash(text)
}

// fingerprintOfFlat returns the fingerprint that an index of one table had before documents
// had rows of other tables in them, expressions, and forms to choose from. It is not ok
// where the mapping has any of these.
func (ix *Index) fingerprintOfFlat(body []byte, tables catalog.Tables) (_ string, ok bool) {
	type field struct{ Name, Column, Type, Form string }
	if len(ix.Sources) != 1 {
		return "", false
	}
	s := ix.Sources[0]
	if s.Literals != nil || s.Where != "" || len(s.Include) > 0 {
		return "", false
	}
	t := tables[s.Table]
	content := struct {
		Table   nameBefore
		ID      []string
		Routing string
		Fields  []field
		Body    json.RawMessage
		Error   string
	}{Table: nameBefore(s.Table), ID: s.KeyColumns(t), Routing: s.Routing, Body: body}
	for _, f := range s.DocumentFields(t) {
		if f.Column == "" || f.Expr != "" || f.As != "" {
			return "", false
		}
		typ := t.Column(f.Column).Type
		content.Fields = append(content.Fields, field{f.Name, f.Column, typ.Name, value.FormOf(typ).Name})
	}
	slices.SortFunc(content.Fields, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	return hashJSON(content), true
}

// fingerprintOfRelated returns the fingerprint that was made from then on, until forms of
// fingerprints got numbers.
func (ix *Index) fingerprintOfRelated(body []byte, tables catalog.Tables) string {
	type source struct {
		Table    nameBefore
		ID       []string
		Literals []string
		Routing  string
		Where    string
		Reads    string // of Where
		Object   objectBefore
	}
	content := struct {
		Sources []source
		Body    json.RawMessage
		Error   string
	}{Body: body}
	for _, s := range ix.sortedSources() {
		t := tables[s.Table]
		content.Sources = append(content.Sources, source{nameBefore(s.Table), s.KeyColumns(t), s.Literals, s.Routing, s.Where, readsBefore(s.Where, t), s.Shape.before(t, tables)})
	}
	return hashJSON(content)
}

type objectBefore struct {
	Fields   []fieldOfObjectBefore
	Includes []includeOfObjectBefore
}

type fieldOfObjectBefore struct {
	Path, Column, Type, Form, Expr string
	Constant                       any
}

type includeOfObjectBefore struct {
	Name, Through         string
	Table                 nameBefore
	On, To                []pairBefore
	Many, Value, Where    string
	Aggregate, Column, Of string
	Order                 []orderBefore
	Key                   []string
	Limit                 int
	Lone                  bool
	Object                objectBefore
}

func readsBefore(text string, t *catalog.Table) string {
	if text == "" {
		return ""
	}
	e, err := expr.Compile(text, t)
	if err != nil {
		return err.Error()
	}
	reads := "expression 1"
	for _, name := range e.Columns {
		reads += " " + t.Column(name).Type.Name
	}
	return reads
}

func (s *Shape) before(t *catalog.Table, tables catalog.Tables) objectBefore {
	var o objectBefore
	eachField(s.DocumentFields(t), "", func(path string, f *Field) {
		p := fieldOfObjectBefore{Path: path, Column: f.Column, Expr: f.Expr, Type: readsBefore(f.Expr, t)}
		if f.Constant != nil {
			p.Constant = f.Constant.Value
		}
		if c := t.Column(f.Column); c != nil {
			p.Type = c.Type.Name
			if form, err := value.FormFor(c.Type, f.As); err == nil {
				p.Form = form.Name
			}
		}
		o.Fields = append(o.Fields, p)
	})
	slices.SortFunc(o.Fields, func(a, b fieldOfObjectBefore) int { return strings.Compare(a.Path, b.Path) })
	for _, in := range s.Include {
		t := tables[in.Table]
		p := includeOfObjectBefore{Name: in.Name, Table: nameBefore(in.Table), On: mapAll(in.On, pairBeforeOf), Many: string(in.Many), Value: in.Value, Where: in.Where,
			Aggregate: string(in.Aggregate), Column: in.Column, Order: mapAll(in.OrderBy, orderBeforeOf), Key: t.OrderKey(), Limit: in.Limit, Lone: in.lone(tables)}
		if in.Through != nil {
			p.Through, p.To = in.Through.Table.String(), mapAll(in.Through.To, pairBeforeOf)
		}
		if c := t.Column(cmp.Or(in.Value, in.Column)); c != nil {
			p.Of = c.Type.Name + " " + value.FormOf(c.Type).Name
		}
		if in.Aggregate == "" && in.Value == "" {
			p.Object = in.Shape.before(t, tables)
		}
		o.Includes = append(o.Includes, p)
	}
	slices.SortFunc(o.Includes, func(a, b includeOfObjectBefore) int { return strings.Compare(a.Name, b.Name) })
	return o
}

func pairBeforeOf(p Pair) pairBefore    { return pairBefore(p) }
func orderBeforeOf(o Order) orderBefore { return orderBefore(o) }
