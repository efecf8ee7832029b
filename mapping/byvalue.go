package mapping

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
)

// Where the name of an index has a column in braces, name: "orders-{region}", each row is a document of the index
// that the value of its column names. Which values there are is known when the database has been asked, see
// [Config.ValueColumns]; from [Config.ByValues] on there is one index for each of them, like any other, of the
// rows that have its value alone ([Source.Only]), and nothing else knows of columns in names.

// An Only says which rows of a root table are documents of an index: those with one of some values in a column.
type Only struct {
	Column string

	// Values are texts as the output function of the type writes them, sorted; one at least. They are several
	// where spellings make the same name: EU and eu.
	Values []string
}

// has reports whether a row with this text, nil for NULL, is one of them.
func (o *Only) has(text []byte) bool {
	_, found := slices.BinarySearch(o.Values, string(text))
	return found && text != nil
}

// only returns the values of the index, none where it is of no column.
func (s *Source) only() []string {
	if s.Only == nil {
		return nil
	}
	return s.Only.Values
}

// A ValueColumn is a column of a root table whose values are in names of indices.
type ValueColumn struct {
	Table  catalog.TableName
	Column string
}

// A Value is one that a column has.
type Value struct {
	Text string // as the output function of the type writes it, and the stream has it
	Name string // what it is in the name of an index, before it is written in lower case: true of the boolean t
}

// MaxValues is how many values of a column are looked at for indices of which there are max at most.
func MaxValues(max int) int { return 10 * max }

// ValueColumns returns the columns whose values are in names of indices, each once, and how many values of
// each are looked at.
func (c *Config) ValueColumns() map[ValueColumn]int {
	columns := make(map[ValueColumn]int)
	for _, ix := range c.Indices {
		column := ix.valueColumn()
		if column == "" {
			continue
		}
		for _, s := range ix.Sources {
			of := ValueColumn{s.Table, column}
			columns[of] = max(columns[of], MaxValues(ix.MaxIndices))
		}
	}
	return columns
}

// ValueKey returns the key of the file that names indices by the values of a column, for [Config.Problem].
func (c *Config) ValueKey(of ValueColumn) string {
	for _, ix := range c.Indices {
		if ix.valueColumn() == of.Column && slices.ContainsFunc(ix.Sources, func(s *Source) bool { return s.Table == of.Table }) {
			return ix.Path() + ".name"
		}
	}
	return "indices"
}

// Values returns the values that were found of columns, those in no index among them, as [Config.ByValues] was given them.
// Columns of whose table no index is made are not there: who follows the stream hears nothing of them.
func (c *Config) Values() map[ValueColumn][]Value {
	values := make(map[ValueColumn][]Value)
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			if s.Only != nil {
				of := ValueColumn{s.Table, s.Only.Column}
				values[of] = c.found[of]
			}
		}
	}
	return values
}

// CheckValues holds the columns that stand in names of indices against the tables, see [Config.Check].
func (c *Config) CheckValues(tables catalog.Tables) Problems {
	k := checker{file: c.File, places: c.places, tables: tables}
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			if t := tables[s.Table]; t != nil || ix.valueColumn() != "" && k.table(s.Table, s.path) != nil {
				k.valueColumn(s, t)
			}
		}
	}
	return k.problems
}

// ByValues returns the configuration with an index for each value in the place of one whose name has a column: found
// has the values of [Config.ValueColumns]. kept are indices that there are already, as they were stored: one whose value
// no row has any more is kept equal, too, and none of them is left out for a new one. Rows of values that make no
// name, or that there are too many of, are in no index, which is said in [Config.Left]. The error is [Problems]
// where there is no index at all.
func (c *Config) ByValues(found map[ValueColumn][]Value, kept []*Index) (*Config, error) {
	into := *c
	into.Indices, into.written, into.found = nil, c.Written(), found
	into.Left = slices.Clip(c.Left)
	taken := make(map[string]bool) // by other indices
	for _, ix := range c.Indices {
		if ix.valueColumn() == "" {
			taken[ix.Name] = true
		}
	}
	made := make(map[string]int) // indices, by key
	var none Problems
	for _, ix := range c.Indices {
		column := ix.valueColumn()
		if column == "" {
			into.Indices = append(into.Indices, ix)
			continue
		}
		v := ix.values(found, kept, taken)
		var beyond int
		for _, name := range v.names() {
			if made[ix.Key] == ix.MaxIndices {
				beyond++
				continue
			}
			made[ix.Key]++
			taken[name] = true
			into.Indices = append(into.Indices, ix.only(name, v.byName[name]))
		}
		if v.unfit > 0 {
			into.Left = append(into.Left, c.Problem(ix.Path()+".name", "give them values of which the name of an index can be made",
				"%s of column %s make no name of an index of their own (%s): rows that have one are in no index", count(v.unfit, "value"), column, v.why))
		}
		if beyond > 0 {
			into.Left = append(into.Left, c.Problem(ix.Path()+".name", "raise max_indices, or name the index by a column with fewer values",
				"%d values of column %s are left out, since an index stands for %d at most: rows that have one are in no index", beyond, column, ix.MaxIndices))
		}
		if made[ix.Key] == 0 {
			none = append(none, c.Problem(ix.Path()+".name", "write the first row, and start then",
				"no row of %s has a value in column %s that names an index, and there is no other index to keep", ix.Sources[0].Table, column))
		}
	}
	if len(into.Indices) == 0 {
		return nil, none
	}
	return &into, nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// namedValues are the values of an index by the names that they make.
type namedValues struct {
	byName map[string][]string // texts, sorted; by the name of the index
	first  map[string]bool     // names of indices that there are already
	unfit  int                 // values that make none
	why    error               // the first of these does not
}

// names returns the names in the order in which they are taken: those that there are already come first.
func (v *namedValues) names() []string {
	return slices.SortedFunc(maps.Keys(v.byName), func(a, b string) int {
		if v.first[a] != v.first[b] {
			if v.first[a] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
}

// values returns the values that rows of the index have, or had.
func (ix *Index) values(found map[ValueColumn][]Value, kept []*Index, taken map[string]bool) *namedValues {
	v := &namedValues{byName: make(map[string][]string), first: make(map[string]bool)}
	add := func(name, text string) {
		if texts := v.byName[name]; !slices.Contains(texts, text) {
			texts = append(texts, text)
			slices.Sort(texts)
			v.byName[name] = texts
		}
	}
	column := ix.valueColumn()
	for _, before := range kept {
		if name := before.Name; !taken[name] && cutValue(ix.Name, column, name) != "" && ix.madeOf(before) {
			v.first[name] = true
			for _, s := range before.Sources {
				for _, text := range s.Only.Values {
					add(name, text)
				}
			}
		}
	}
	unfit := make(map[string]bool)
	for _, s := range ix.Sources {
		for _, value := range found[ValueColumn{s.Table, column}] {
			name, err := nameBy(ix.Name, column, value.Name)
			if err == nil && taken[name] {
				err = errors.New("another index has the name that it makes")
			}
			if err == nil {
				add(name, value.Text)
			} else if !unfit[value.Text] {
				unfit[value.Text] = true
				if v.why == nil {
					v.why = err
				}
			}
		}
	}
	v.unfit = len(unfit)
	return v
}

// madeOf reports whether a stored index is one of those that this one stands for: of the same column, and of
// one of its tables at least.
func (ix *Index) madeOf(before *Index) bool {
	of := func(s *Source) bool { return s.Only != nil && s.Only.Column == ix.valueColumn() }
	return !slices.ContainsFunc(before.Sources, func(s *Source) bool { return !of(s) }) && slices.ContainsFunc(before.Sources, func(s *Source) bool {
		return slices.ContainsFunc(ix.Sources, func(own *Source) bool { return own.Table == s.Table })
	})
}

// only returns the index of the rows with some values.
func (ix *Index) only(name string, values []string) *Index {
	of := *ix
	of.Name, of.template, of.Sources = name, ix.Name, nil
	for _, s := range ix.Sources {
		source := *s
		source.Index, source.Only = &of, &Only{ix.valueColumn(), values}
		of.Sources = append(of.Sources, &source)
	}
	return &of
}

// nameBy returns the name that a value makes where another one has a column in braces. Its error says why it makes none.
func nameBy(template, column, value string) (string, error) {
	if value == "" {
		return "", errors.New("it is empty")
	}
	name := strings.Replace(template, "{"+column+"}", lowerASCII(value), 1)
	return name, checkIndexName(name)
}

// cutValue returns the value, in lower case, that makes a name; "" where none does.
func cutValue(template, column, name string) string {
	before, after, _ := strings.Cut(template, "{"+column+"}")
	value, begins := strings.CutPrefix(name, before)
	value, ends := strings.CutSuffix(value, after)
	if !begins || !ends {
		return ""
	}
	return value
}

// lowerASCII writes the letters A to Z small. What other letters are in lower case depends on whom one asks.
func lowerASCII(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, text)
}

// Names reports whether a value that a row of the source has may name an index as the index of the source is named by
// another one.
func (s *Source) Names(text []byte) bool {
	if s.Only == nil || s.Index.template == "" {
		return false
	}
	_, err := nameBy(s.Index.template, s.Only.Column, string(text))
	return err == nil
}

// valueColumn returns the column whose value is in the name of the index, "" if there is none.
func (ix *Index) valueColumn() string {
	for _, part := range namePart.FindAllStringSubmatch(ix.Name, -1) {
		if part[1] != schemaName {
			return part[1]
		}
	}
	return ""
}

// valueColumn returns the column by whose values documents of the table are in one index or another; "": there is
// none.
func (s *Source) valueColumn() string {
	if s.Only != nil {
		return s.Only.Column
	}
	if s.Index == nil {
		return ""
	}
	return s.Index.valueColumn()
}

// valueColumn reports what is wrong with the column that names the index.
func (k *checker) valueColumn(s *Source, t *catalog.Table) {
	name := s.valueColumn()
	if name == "" {
		return
	}
	key := s.Index.Path() + ".name"
	c := k.column(t, key, key, name)
	switch {
	case c == nil:
	case c.Generated:
		k.problem(key, "name the index by another column, or make it an ordinary one", "%s: column %s of table %s is generated: the log does not carry it", key, name, t.TableName())
	case !isNaming(c.Type):
		k.problem(key, "a column of type text, varchar, int, boolean, uuid, date or an enum", "%s: column %s of table %s is of type %s, whose values name no index", key, name, t.TableName(), c.Type.Name)
	}
}

// isNaming reports whether each value of a type has one text, which may be in a name.
func isNaming(t *catalog.Type) bool {
	root := t.Root()
	switch root.OID {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.BoolOID, pgtype.UUIDOID, pgtype.DateOID:
		return true
	}
	return root.Kind == catalog.KindEnum
}

// RowsOf returns the condition in SQL that holds for the rows of t, known by an alias, that are documents of the index; "" if all may be.
// Whether one is is said by [Plan.Holds]: in what a text is equal to is up to its collation. An index that begins with
// the column is of use for it.
func (s *Source) RowsOf(t *catalog.Table, alias string) string {
	if s.Only == nil {
		return ""
	}
	c := t.Column(s.Only.Column)
	if c == nil {
		return "false" // none can be told
	}
	root := c.Type.Root()
	var values []string
	for _, text := range s.Only.Values {
		if isTextOf(root, text) {
			values = append(values, quoteLiteral(text))
		}
	}
	return fmt.Sprintf("%s %s ANY (ARRAY[%s]::%s[])", catalog.ColumnRef(alias, c.Name), c.Type.Operator("="), strings.Join(values, ", "), castName(root))
}

// From returns what a select takes the rows from that may be documents of the source: a table, or a subselect of one,
// as long as it has no name of its own.
func (s *Source) From(t *catalog.Table) string {
	rows := s.RowsOf(t, Root)
	if rows == "" {
		return t.From()
	}
	return fmt.Sprintf("(SELECT * FROM %s %s WHERE %s)", t.From(), Root, rows)
}

// castName is what a list of values of a type is cast to: a modifier would cut them off.
func castName(root *catalog.Type) string {
	switch root.OID {
	case pgtype.VarcharOID, pgtype.TextOID:
		return "pg_catalog.text"
	}
	return root.Name
}

var (
	uuidText = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	dateText = regexp.MustCompile(`^(\d{4,7}-\d\d-\d\d( BC)?|-?infinity)$`)
)

// isTextOf reports whether a text is one of a value of a type: the type of a column may be another one than it was.
func isTextOf(root *catalog.Type, text string) bool {
	bits := map[uint32]int{pgtype.Int2OID: 16, pgtype.Int4OID: 32, pgtype.Int8OID: 64}[root.OID]
	switch {
	case bits > 0:
		_, err := strconv.ParseInt(text, 10, bits)
		return err == nil
	case root.OID == pgtype.BoolOID:
		return text == "t" || text == "f"
	case root.OID == pgtype.UUIDOID:
		return uuidText.MatchString(text)
	case root.OID == pgtype.DateOID:
		return dateText.MatchString(text)
	case root.Kind == catalog.KindEnum:
		return slices.ContainsFunc(root.Labels, func(l catalog.Label) bool { return l.Text == text || l.OID == 0 })
	}
	return true
}
