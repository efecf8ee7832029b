package draft

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

const (
	maxDescribing = 4   // fields of one row that is included
	maxUseful     = 8   // fields of each of several rows
	maxMany       = 12  // includes of tables that refer to one
	manyRows      = 100 // of them in one document
)

// An include is proposed for a foreign key.
type include struct {
	name   string
	parts  []string // "table: public.artist", …
	fields []string // of each object; nil: there are none, but values
	before []string // statements without which it is refused, or not to be had at a bearable price
	faster []string // statements that make it cheaper
}

// text writes the include for a line that begins with first, and others with next. The
// name is padded to a width.
func (in *include) text(first, next string, pad int) string {
	name := key(in.name) + ": " + strings.Repeat(" ", max(0, pad-len(key(in.name))))
	if len(in.fields) == 0 {
		return flow(first, next, name+"{", in.parts, "}")
	}
	fields := scalars(in.fields)
	last := "fields: [" + strings.Join(fields, ", ") + "]"
	if utf8.RuneCountInString(next+last) < width {
		return flow(first, next, name+"{", append(in.parts[:len(in.parts):len(in.parts)], last), "}")
	}
	return flow(first, next, name+"{", in.parts, ",") + "\n" + flow(next, next+"  ", "fields: [", fields, "]}")
}

// includes proposes what can be put into documents of t. more is the number of tables that
// are left out of a proposal that would become too long.
func (d *drafter) includes(t *catalog.Table, head []string, taken map[string]bool) (proposed []*include, more int) {
	own, others := d.keysOf(t.TableName())
	name := func(candidates ...string) string {
		name := firstFree(candidates, func(s string) bool { return taken[s] || !fitsField(s) || len(s) > 63 })
		taken[name] = true
		return name
	}
	add := func(in *include) {
		// Without fields to list it would be all of them, secrets too.
		if (in.fields == nil || len(in.fields) > 0) && d.weigh(t, head, in) {
			proposed = append(proposed, in)
		}
	}
	for _, k := range own {
		add(d.toOne(k, name))
	}
	count := 0
	for _, through := range []bool{true, false} {
		for _, k := range others {
			if through != d.pureLink(k.table) {
				continue
			}
			if count++; count > maxMany {
				more++
			} else if through {
				add(d.toManyThrough(k, name))
			} else {
				add(d.toMany(k, name))
			}
		}
	}
	return proposed, more
}

// weigh completes the statements that an include needs; false where none would do.
func (d *drafter) weigh(t *catalog.Table, head []string, in *include) bool {
	_, err := d.tryOut(slices.Concat(head, []string{"include:", in.text("  ", "    ", 0)})...)
	if err == nil {
		return true
	}
	problems, ok := errors.AsType[mapping.Problems](err)
	if !ok {
		return false
	}
	for _, p := range problems {
		isSQL := func(prefix string) bool { return strings.HasPrefix(p.Hint, prefix) }
		if !slices.ContainsFunc([]string{"ALTER ", "SELECT ", "CREATE "}, isSQL) {
			return false
		}
		for line := range strings.SplitSeq(p.Hint, "\n") {
			if !slices.Contains(in.before, line) {
				in.before = append(in.before, line)
			}
		}
	}
	return true
}

// toOne includes the row that a foreign key refers to.
func (d *drafter) toOne(k *foreignKey, name func(...string) string) *include {
	to := d.tables[k.to]
	last := k.pairs[len(k.pairs)-1].Near // of several, the first ones often say whose the row is
	candidates := []string{referred(last), simple(k.to.Name, "row"), simple(k.to.Name+"_by_"+last, "row")}
	if len(k.pairs) > 1 {
		candidates = candidates[1:]
	}
	in := &include{name: name(candidates...), parts: []string{"table: " + tableText(k.to), "on: " + pairsText(k.pairs)}}
	skip := referredColumns(k)
	fields := describing(to, skip)
	if len(fields) == 0 {
		fields = useful(to, skip, maxDescribing)
	}
	if len(fields) == 0 {
		fields = useful(to, nil, maxDescribing)
	}
	in.fields = fields
	if near := k.near(); !d.indexed(k.table, near) {
		in.faster = append(in.faster, createIndex(d.tables[k.table], near))
	}
	return in
}

// toMany includes the rows that refer to one: a list, or an object if there can only be
// one of them.
func (d *drafter) toMany(k *foreignKey, name func(...string) string) *include {
	t, near := d.tables[k.table], k.near()
	last := near[len(near)-1]
	candidates := []string{simple(k.table.Name, "rows"), simple(k.table.Name+"_by_"+cmp.Or(referred(last), last), "rows")}
	_, siblings := d.keysOf(k.to)
	siblings = slices.DeleteFunc(siblings, func(o *foreignKey) bool { return o.table != k.table })
	if len(siblings) > 1 || k.table == k.to {
		candidates = candidates[1:]
	}
	in := &include{name: name(candidates...), parts: []string{"table: " + tableText(k.table), "on: " + pairsText(k.reversed())}}
	if !oneEach(t, near) {
		in.parts = append(in.parts, "many: nested", "limit: "+strconv.Itoa(manyRows))
	}
	fields := useful(t, near, maxUseful)
	if len(fields) == 0 {
		fields = useful(t, nil, maxUseful)
	}
	in.fields = fields
	if !d.indexed(k.table, near) {
		in.before = append(in.before, createIndex(t, near))
	}
	return in
}

// toManyThrough includes the rows that a link table says belong to one: their names, or
// objects.
func (d *drafter) toManyThrough(k *foreignKey, name func(...string) string) *include {
	link := d.tables[k.table]
	own, _ := d.keysOf(k.table)
	far := own[0]
	if far == k {
		far = own[1]
	}
	to := d.tables[far.to]
	candidates := []string{simple(far.to.Name, "rows"), simple(far.to.Name+"_by_"+k.table.Name, "rows"), simple(far.to.Name+"_by_"+k.table.Name+"_"+far.near()[0], "rows")}
	if far.to == k.to {
		candidates = []string{simple(cmp.Or(referred(far.near()[0]), far.to.Name+"_by_"+far.near()[0]), "rows"), candidates[2]}
	}
	in := &include{name: name(candidates...), parts: []string{
		"table: " + tableText(far.to),
		"through: {table: " + tableText(k.table) + ", on: " + pairsText(k.reversed()) + ", to: " + pairsText(far.pairs) + "}",
	}}
	skip := referredColumns(far)
	fields := describing(to, skip)
	if len(fields) == 1 {
		in.parts = append(in.parts, "value: "+scalar(fields[0]))
	} else {
		in.parts = append(in.parts, "many: nested")
		if len(fields) == 0 {
			fields = useful(to, nil, maxUseful)
		}
	}
	for _, column := range d.linkRest(link, own) {
		if to.Column(column) == nil {
			in.parts = append(in.parts, "order_by: "+scalar(column)) // of the names that orders takes
		}
	}
	in.parts = append(in.parts, "limit: "+strconv.Itoa(manyRows))
	if !strings.HasPrefix(in.parts[2], "value") {
		in.fields = fields
	}
	if near := k.near(); !d.indexed(k.table, near) {
		in.before = append(in.before, createIndex(link, near))
	}
	if near := far.near(); !d.indexed(k.table, near) {
		in.faster = append(in.faster, createIndex(link, near))
	}
	return in
}

// referredColumns returns the columns that a foreign key refers to.
func referredColumns(k *foreignKey) []string {
	var columns []string
	for _, p := range k.pairs {
		columns = append(columns, p.Far)
	}
	return columns
}

// oneEach reports whether columns are of one row at most: they hold a key.
func oneEach(t *catalog.Table, columns []string) bool {
	return slices.ContainsFunc(append([][]string{t.PrimaryKey}, t.Unique...), func(key []string) bool {
		return len(key) > 0 && !slices.ContainsFunc(key, func(name string) bool { return !slices.Contains(columns, name) })
	})
}

// describing returns the columns that tell a person which row it is.
func describing(t *catalog.Table, skip []string) []string {
	columns := []string{}
	for _, c := range t.Columns {
		if describes.MatchString(c.Name) && isField(c.Name) && !slices.Contains(skip, c.Name) && len(columns) < maxDescribing {
			columns = append(columns, c.Name)
		}
	}
	return columns
}

// useful returns the first columns that an object of the row can have.
func useful(t *catalog.Table, skip []string, most int) []string {
	columns := []string{}
	for _, c := range t.Columns {
		root := c.Type.Root().Name
		if isField(c.Name) && !slices.Contains(skip, c.Name) && root != "bytea" && root != "tsvector" && len(columns) < most {
			columns = append(columns, c.Name)
		}
	}
	return columns
}

// isField reports whether a column is put into an object under its own name.
func isField(column string) bool { return fitsField(column) && !secrets.MatchString(column) }

// createIndex returns the statement that makes rows of t be found by columns.
func createIndex(t *catalog.Table, columns []string) string {
	concurrently := " CONCURRENTLY"
	if t.Partitioned {
		concurrently = "" // Postgres cannot
	}
	return fmt.Sprintf("CREATE INDEX%s ON %s (%s);", concurrently, t.SQL(), columnList(columns))
}
