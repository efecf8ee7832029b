package mapping

import (
	"slices"
	"strings"

	"tidemark/mapping/catalog"
)

// An Include puts rows of a related table, or what they come to, into the object of each
// row that they belong to.
type Include struct {
	Name     string // of the field
	Table    catalog.TableName
	Children bool   // the rows of tables that inherit from it count as its own
	On       []Pair // the columns of the row around it, and those of the related table, or of the link table
	Through  *Link  // the table that links both; nil: none

	Many      Many      // how several rows are put in; empty: one row, the first
	Value     string    // the column whose values alone are put in, as a list; empty: objects
	Aggregate Aggregate // what the rows come to; empty: they are put in themselves
	Column    string    // that Aggregate is made of; empty: count counts rows
	Shape               // of one object

	OrderBy []Order
	Limit   int    // rows at most; 0: all
	Where   string // a condition in SQL over the columns of the related table; empty: none

	path string // of its keys: indices.products.include.reviews
}

// A Pair is two columns that have the same value: one of the table nearer to the root, and
// one of the table farther from it.
type Pair struct{ Near, Far string }

// A Link is the table between two others, each row of which says that two rows of those
// belong together.
type Link struct {
	Table    catalog.TableName
	Children bool   // the rows of tables that inherit from it count as its own
	To       []Pair // its columns, and those of the related table
}

// Many says how several related rows are put into a document.
type Many string

const (
	ManyObject Many = "object" // a list of objects whose fields the search server keeps apart from each other
	ManyNested Many = "nested" // a list of objects that can be searched one by one
)

// Aggregate is what a column of several rows comes to.
type Aggregate string

const (
	AggregateCount Aggregate = "count"
	AggregateSum   Aggregate = "sum"
	AggregateAvg   Aggregate = "avg"
	AggregateMin   Aggregate = "min"
	AggregateMax   Aggregate = "max"
)

// An Order is one column that related rows are ordered by. It belongs to the related table
// or, if that has none of this name, to the link table.
type Order struct {
	Column     string
	Descending bool
	NullsFirst bool // the default of Postgres: only if Descending
}

// single reports whether the include gives one value, and not a list.
func (in *Include) single() bool {
	return in.Many == "" && in.Value == "" && in.Aggregate == ""
}

// A Path is how a root row is found from a row of a table that its document is made of.
type Path struct {
	Source *Source
	Hops   []Hop // from the root to the table; at least one
}

// A Hop goes from one table to the next one.
type Hop struct {
	Table    catalog.TableName // that it arrives at
	Children bool              // with the rows of tables that inherit from it
	On       []Pair            // columns of the table that it comes from, and of the one that it arrives at
	uses     *Include          // that the table is read for
	link     bool              // as the table that links two others
}

// String says which tables the path leads through, and by which columns: shop.reviews(id=product_id)
// shop.users(author_id=id). Two paths of a source that say the same find the same rows.
func (p *Path) String() string {
	var b strings.Builder
	for i, hop := range p.Hops {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(catalog.QuoteIdent(hop.Table.Schema) + "." + catalog.QuoteIdent(hop.Table.Name))
		if hop.Children {
			b.WriteByte('*')
		}
		for j, pair := range hop.On {
			b.WriteString([]string{"(", ","}[min(j, 1)] + catalog.QuoteIdent(pair.Near) + "=" + catalog.QuoteIdent(pair.Far))
		}
		b.WriteByte(')')
	}
	return b.String()
}

// Table returns the table that the path arrives at.
func (p *Path) Table() catalog.TableName { return p.Hops[len(p.Hops)-1].Table }

// Children reports whether the rows of tables that inherit from that table count as its own.
func (p *Path) Children() bool { return p.Hops[len(p.Hops)-1].Children }

// Columns returns the columns of that table by which the row before it is found.
func (p *Path) Columns() []string {
	var columns []string
	for _, pair := range p.Hops[len(p.Hops)-1].On {
		columns = append(columns, pair.Far)
	}
	return columns
}

// Uses returns the columns of the table t at the end of the path that documents are made of.
// A change of another column changes no document.
func (p *Path) Uses(t *catalog.Table) map[string]bool {
	last := p.Hops[len(p.Hops)-1]
	in := last.uses
	uses := make(map[string]bool)
	for _, name := range p.Columns() {
		uses[name] = true
	}
	if t.OrderKey() == nil || in.Where != "" && !last.link { // ordered by all; in SQL, which may name any
		for _, c := range t.Columns {
			uses[c.Name] = true
		}
	}
	if in.Through != nil && last.link {
		for _, pair := range in.Through.To {
			uses[pair.Near] = true
		}
		for _, name := range t.OrderKey() {
			uses[name] = true
		}
	} else {
		if in.Aggregate == "" && in.Value == "" {
			for name := range in.Shape.readColumns(t) {
				uses[name] = true
			}
		}
		for _, below := range in.Include {
			for _, pair := range below.On {
				uses[pair.Near] = true
			}
		}
		for _, name := range append([]string{in.Value, in.Column}, t.OrderKey()...) {
			uses[name] = true
		}
	}
	for _, o := range in.OrderBy {
		uses[o.Column] = true
	}
	return uses
}

// Paths returns the ways to all the tables whose rows are in documents of the source: one
// for each place where a table is read, so a table may come several times.
func (s *Source) Paths() []*Path {
	var paths []*Path
	var walk func(hops []Hop, includes []*Include)
	walk = func(hops []Hop, includes []*Include) {
		for _, in := range includes {
			here := hops[:len(hops):len(hops)]
			if in.Through != nil {
				here = append(here, Hop{Table: in.Through.Table, Children: in.Through.Children, On: in.On, uses: in, link: true})
				paths = append(paths, &Path{Source: s, Hops: here})
				here = append(here[:len(here):len(here)], Hop{Table: in.Table, Children: in.Children, On: in.Through.To, uses: in})
			} else {
				here = append(here, Hop{Table: in.Table, Children: in.Children, On: in.On, uses: in})
			}
			paths = append(paths, &Path{Source: s, Hops: here})
			walk(here, in.Include)
		}
	}
	walk(nil, s.Include)
	return paths
}

// Key returns the path of one of the source's keys in the file, for [Config.Problem].
func (s *Source) Key(name string) string { return join(s.path, name) }

// A Condition is what an include's where says.
type Condition struct {
	Table catalog.TableName
	SQL   string
}

// Conditions returns the conditions of all includes, by the path of their keys in the file.
func (s *Source) Conditions() map[string]Condition {
	conditions := make(map[string]Condition)
	for _, p := range s.Paths() {
		if last := p.Hops[len(p.Hops)-1]; last.uses.Where != "" && !last.link {
			conditions[join(last.uses.path, "where")] = Condition{last.Table, last.uses.Where}
		}
	}
	return conditions
}

// Tables returns the names of the tables that documents of the source are made of, the root
// table first, each once.
func (s *Source) Tables() []catalog.TableName {
	names := []catalog.TableName{s.Table}
	seen := map[catalog.TableName]bool{s.Table: true}
	for _, p := range s.Paths() {
		if name := p.Table(); !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// Tables returns the names of the tables that documents of the index are made of, each once.
func (ix *Index) Tables() []catalog.TableName {
	var names []catalog.TableName
	seen := make(map[catalog.TableName]bool)
	for _, s := range ix.Sources {
		for _, name := range s.Tables() {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

// WithChildren returns the names of those tables whose children's rows count as their own.
func (ix *Index) WithChildren() []catalog.TableName {
	var names []catalog.TableName
	add := func(name catalog.TableName, children bool) {
		if children && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, s := range ix.Sources {
		add(s.Table, s.Children)
		for _, p := range s.Paths() {
			add(p.Table(), p.Children())
		}
	}
	return names
}

// WithChildren returns the names of those tables whose children's rows count as their own. An
// index that has them otherwise is refused by [Config.Check].
func (c *Config) WithChildren() []catalog.TableName {
	var names []catalog.TableName
	for _, ix := range c.Indices {
		names = append(names, ix.WithChildren()...)
	}
	return names
}

// Tables returns the names of the tables that documents of any index are made of, each once.
func (c *Config) Tables() []catalog.TableName {
	var names []catalog.TableName
	seen := make(map[catalog.TableName]bool)
	for _, ix := range c.Indices {
		for _, name := range ix.Tables() {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}
