package mapping

import (
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"tidemark/mapping/catalog"
)

// maxIncludeDepth bounds how deep includes stand in each other.
const maxIncludeDepth = 10

// includes reads what is put into an object of rows of other tables.
func (r *reader) includes(n *yaml.Node, path string, s *Shape, depth int) {
	if r.define("includes", func() { r.entries(n, path, func(key, value *yaml.Node) { r.include(key, value, path, depth) }) }) {
		return
	}
	r.entries(n, path, func(key, value *yaml.Node) {
		below := join(path, key.Value)
		if depth > maxIncludeDepth {
			r.problem(key, "", "%s: more than %d includes inside of each other", below, maxIncludeDepth)
			return
		}
		in := r.include(key, value, below, depth)
		if err := checkFieldName(Field{Name: in.Name, Column: in.Name}); err != nil || strings.Contains(in.Name, ".") {
			r.problem(key, "another name", "%s: the search server takes no field of this name", below)
		}
		if i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == in.Name && !f.Omit }); i >= 0 {
			r.problem(key, "give one of them another name", "%s: fields has this name as well, in line %d", below, r.places.line(s.Fields[i].path))
		}
		s.Include = append(s.Include, in)
	})
}

func (r *reader) include(key, n *yaml.Node, path string, depth int) *Include {
	in := &Include{Name: key.Value, path: path}
	var near []Pair // of through
	given := r.object(n, path, map[string]keyReader{
		"table":     r.table(r.relatedTable(&in.Table), &in.Children),
		"on":        func(n *yaml.Node, path string) { r.pairs(n, path, &in.On) },
		"through":   func(n *yaml.Node, path string) { in.Through = r.through(n, path, &near) },
		"many":      choice(r, &in.Many, ManyObject, ManyNested),
		"value":     r.checked(&in.Value, catalog.CheckIdent, ""),
		"aggregate": choice(r, &in.Aggregate, AggregateCount, AggregateSum, AggregateAvg, AggregateMin, AggregateMax),
		"column":    r.checked(&in.Column, catalog.CheckIdent, ""),
		"fields":    func(n *yaml.Node, path string) { r.fields(n, path, &in.Shape) },
		"include":   func(n *yaml.Node, path string) { r.includes(n, path, &in.Shape, depth+1) },
		"order_by":  func(n *yaml.Node, path string) { r.orders(n, path, &in.OrderBy) },
		"limit":     r.integer(&in.Limit, 1, 1000000),
		"where":     r.text(&in.Where),
	})
	r.require("table")
	r.requireOne("on", "through")
	if n.Kind != yaml.MappingNode && !isNull(n) {
		return in
	}
	missing := func(name, hint string) {
		if given[name] == nil {
			r.problem(key, hint, "%s.%s is missing", path, name)
		}
	}
	missing("table", "table: public.categories")
	if in.Through == nil {
		missing("on", "on: {category_id: id}, the columns here, and those of the table that have the same value")
	} else {
		if given["on"] != nil {
			r.problem(given["on"], "put it into through", "%s.on: what links the tables is in through", path)
		}
		in.On = near
	}
	r.kind(in, path, given)
	return in
}

// kind makes sure that an include says one thing about what it puts in.
func (r *reader) kind(in *Include, path string, given map[string]*yaml.Node) {
	var kinds []string
	for _, name := range []string{"many", "value", "aggregate"} {
		if given[name] != nil {
			kinds = append(kinds, name)
		}
	}
	if len(kinds) > 1 {
		r.problem(given[kinds[1]], "keep one of them", "%s.%s: %s is given as well", path, kinds[1], kinds[0])
	}
	refuse := func(why string, names ...string) {
		for _, name := range names {
			if given[name] != nil {
				r.problem(given[name], "leave it out", "%s.%s: %s", path, name, why)
			}
		}
	}
	switch {
	case in.Aggregate != "":
		refuse("rows are counted and added up, they are not put in themselves", "fields", "include", "order_by", "limit")
		if in.Aggregate != AggregateCount && given["column"] == nil {
			r.problem(given["aggregate"], "column: price", "%s.column is missing: what the %s is made of", path, in.Aggregate)
		}
	case in.Value != "":
		refuse("value is one column of each row", "fields", "include", "column")
	case given["aggregate"] == nil:
		refuse("it belongs to aggregate", "column")
	}
	if in.single() {
		refuse("one row is put in; for several there is many: object, or many: nested", "limit")
	}
}

// through reads the table between two others.
func (r *reader) through(n *yaml.Node, path string, on *[]Pair) *Link {
	link := new(Link)
	given := r.object(n, path, map[string]keyReader{
		"table": r.table(r.relatedTable(&link.Table), &link.Children),
		"on":    func(n *yaml.Node, path string) { r.pairs(n, path, on) },
		"to":    func(n *yaml.Node, path string) { r.pairs(n, path, &link.To) },
	})
	r.require("table", "on", "to")
	for _, must := range [][2]string{
		{"table", "table: public.product_tags"},
		{"on", "on: {id: product_id}, the columns here and those of the link table"},
		{"to", "to: {tag_id: id}, the columns of the link table and those of the related table"},
	} {
		if given[must[0]] == nil && n.Kind == yaml.MappingNode {
			r.problem(n, must[1], "%s.%s is missing", path, must[0])
		}
	}
	return link
}

// pairs reads columns of two tables that have the same values.
func (r *reader) pairs(n *yaml.Node, path string, into *[]Pair) {
	r.entries(n, path, func(key, value *yaml.Node) {
		p := Pair{Near: key.Value}
		if err := catalog.CheckIdent(p.Near); err != nil {
			r.problem(key, "", "%s: %q: %v", path, p.Near, err)
		}
		if r.checked(&p.Far, catalog.CheckIdent, "")(value, join(path, key.Value)); p.Far != "" {
			*into = append(*into, p)
		}
	})
	r.nonEmpty()
	if len(n.Content) == 0 && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(n, "on: {category_id: id}", "%s is empty", path)
	}
}

var orderText = regexp.MustCompile(`^\s*("(?:[^"]|"")+"|[^\s",]+)(?i:\s+(asc|desc))?(?i:\s+nulls\s+(first|last))?\s*(,|$)`)

// orders reads what rows are ordered by: "created_at desc, id", or a list of these.
func (r *reader) orders(n *yaml.Node, path string, into *[]Order) {
	r.list(n, path, "columns, each with asc or desc", func(item *yaml.Node, path string) {
		var text string
		r.text(&text)(item, path)
		for more := text != ""; more; {
			m := orderText.FindStringSubmatch(text)
			if m == nil {
				r.problem(item, "order_by: created_at desc, id", "%s: %s: want columns, each with asc or desc, and nulls first or nulls last", path, r.show(item))
				return
			}
			o := Order{Column: m[1], Descending: strings.EqualFold(m[2], "desc")}
			if strings.HasPrefix(m[1], `"`) {
				o.Column = strings.ReplaceAll(m[1][1:len(m[1])-1], `""`, `"`)
			}
			o.NullsFirst = o.Descending
			if m[3] != "" {
				o.NullsFirst = strings.EqualFold(m[3], "first")
			}
			*into = append(*into, o)
			text, more = text[len(m[0]):], m[4] != ""
		}
	})
}
