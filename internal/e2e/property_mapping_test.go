package e2e

import (
	"fmt"
	"slices"
	"strings"
)

// A propertyIndex is a random index: what the mapping file says of it, and the query that
// gives what has to be in it, which is written from the same choices and knows nothing of
// how documents are made.
type propertyIndex struct {
	name   string
	yaml   map[string]any // JSON is YAML
	query  string
	routed bool
}

// A mapper draws indices of some tables.
type mapper struct {
	draw
	tables  []*propertyTable
	few     bool // rows of every table
	aliases int
}

func (m *mapper) alias() string {
	m.aliases++
	return fmt.Sprintf("a%d", m.aliases)
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func drawIndices(d draw, tables []*propertyTable, rows int) []*propertyIndex {
	m := &mapper{draw: d, tables: tables, few: rows == 0}
	indices := []*propertyIndex{m.index("one", 1, 3)}
	if d.odds(2) {
		n := 1 + d.int(0, 2)/2
		indices = append(indices, m.index("two", n, d.int(0, 3)))
	}
	for _, ix := range indices {
		chunk := []int{3, 1, 7}
		if rows > 0 {
			chunk = []int{100, 40, 10000}
		}
		ix.yaml["reindex"] = map[string]any{"chunk": one(d, chunk)}
	}
	for _, t := range tables {
		t.full = t.secondary || d.odds(3)
		for name := range t.needs {
			if !slices.ContainsFunc(t.key, func(c *propertyColumn) bool { return c.name == name }) {
				t.full = true
			}
		}
	}
	return indices
}

// index draws one of so many tables, with includes to a depth.
func (m *mapper) index(name string, sources, depth int) *propertyIndex {
	ix := &propertyIndex{name: name, yaml: make(map[string]any), routed: m.odds(4)}
	var all []map[string]any
	var queries []string
	for i := range sources {
		prefix := ""
		if sources > 1 || m.odds(4) {
			prefix = fmt.Sprintf("s%d-", i)
		}
		yaml, query := m.source(one(m.draw, m.tables), prefix, ix.routed, depth)
		all, queries = append(all, yaml), append(queries, query)
	}
	if ix.query = strings.Join(queries, "\nUNION ALL "); sources == 1 {
		ix.yaml = all[0]
	} else {
		ix.yaml["tables"] = all
	}
	if ix.routed {
		ix.yaml["settings"] = map[string]any{"number_of_shards": 3}
	}
	return ix
}

func (m *mapper) source(t *propertyTable, prefix string, routed bool, depth int) (yaml map[string]any, query string) {
	root := m.alias()
	yaml, pairs := m.shape(t, root, depth, prefix, true)
	yaml["table"] = tableName(t)
	key := slices.Clone(t.key)
	if len(key) > 1 && m.odds(3) {
		slices.Reverse(key)
		yaml["id"] = namesOf(key)
	}
	if t.secondary {
		yaml["id"] = namesOf(key)
	}
	id := plainID(root, key)
	if prefix != "" {
		var template string
		template, id = templateID(root, prefix, key)
		yaml["id"] = template
	}
	list := id
	if routed {
		by := m.route(t)
		yaml["routing"] = by.name
		t.needs[by.name] = true
		list += fmt.Sprintf(", format('%%s', %s)", ref(root, by))
	}
	where := ""
	if m.odds(3) {
		if expr, sql := m.condition(t, root); expr != "" {
			yaml["where"], where = expr, " WHERE "+sql
		}
	}
	for _, c := range t.key {
		t.needs[c.name] = true
	}
	return yaml, fmt.Sprintf("SELECT %s, %s FROM %s %s%s", list, object(pairs), ident(t.name), root, where)
}

// tableName is as the mapping file has it.
func tableName(t *propertyTable) string {
	if strings.ContainsAny(t.name, ` "`) {
		return "public." + ident(t.name)
	}
	return t.name
}

func ref(alias string, c *propertyColumn) string { return alias + "." + ident(c.name) }

func namesOf(columns []*propertyColumn) []string {
	var all []string
	for _, c := range columns {
		all = append(all, c.name)
	}
	return all
}

// plainID returns the SQL for the _id made of key columns.
func plainID(alias string, key []*propertyColumn) string {
	if len(key) == 1 {
		k := ref(alias, key[0]) + "::text"
		return fmt.Sprintf("CASE WHEN %[1]s = '' OR left(%[1]s, 1) = '~' THEN '~' ELSE '' END || %[1]s", k)
	}
	var parts []string
	for _, c := range key {
		parts = append(parts, fmt.Sprintf("replace(replace(%s::text, '~', '~~'), '|', '~|')", ref(alias, c)))
	}
	return strings.Join(parts, " || '|' || ")
}

// templateID returns a template, and the SQL for the _id made by it.
func templateID(alias, prefix string, key []*propertyColumn) (template, sql string) {
	template, sql = prefix, literal(prefix)
	for i, c := range key {
		value := fmt.Sprintf("replace(%s::text, '~', '~~')", ref(alias, c))
		if i < len(key)-1 {
			value = fmt.Sprintf("replace(%s, '-', '~-')", value)
		}
		template += "{" + c.name + "}"
		sql += " || " + value
		if i < len(key)-1 {
			template += "-"
			sql += " || '-'"
		}
	}
	return template, sql
}

func (m *mapper) route(t *propertyTable) *propertyColumn {
	var fit []*propertyColumn
	for _, c := range t.columns() {
		if c.kind.route {
			fit = append(fit, c)
		}
	}
	if len(fit) == 0 {
		return t.key[0]
	}
	return one(m.draw, fit)
}

// condition draws one over the columns of a row as an expression, and in SQL.
func (m *mapper) condition(t *propertyTable, alias string) (expr, sql string) {
	c := one(m.draw, t.columns())
	name := "$env[" + fmt.Sprintf("%q", c.name) + "]"
	switch c.kind {
	case boolKind:
		return name, ref(alias, c) + " IS TRUE"
	case integerKind, bigintKind:
		if m.odds(2) {
			return name + " > 2", ref(alias, c) + " > 2"
		}
	case textKind:
		if m.odds(2) {
			return name + ` in ["a", "B b"]`, ref(alias, c) + " IN ('a', 'B b')"
		}
	}
	switch c.kind.name {
	case "timestamptz", "numeric", "double precision", "jsonb": // what is nil is not only NULL
		return "", ""
	}
	if m.odds(2) {
		return name + " == nil", ref(alias, c) + " IS NULL"
	}
	return name + " != nil", ref(alias, c) + " IS NOT NULL"
}

// A pair is a field and the SQL for its JSON.
type pair struct{ name, sql string }

func object(pairs []pair) string {
	var all []string
	for _, p := range pairs {
		all = append(all, literal(p.name)+", "+p.sql)
	}
	return "json_build_object(" + strings.Join(all, ", ") + ")"
}

// shape draws what of a row of t is in an object. Where other tables have a part in the
// index, every field begins with the prefix: one of them may not be of two types.
func (m *mapper) shape(t *propertyTable, alias string, depth int, prefix string, root bool) (yaml map[string]any, pairs []pair) {
	yaml = make(map[string]any)
	value := func(c *propertyColumn) string { return c.kind.jsonOf(ref(alias, c)) }
	columns := t.columns()
	how := m.int(0, 3)
	if prefix != "" {
		how = -1
	}
	switch how {
	case -1:
		fields := map[string]any{"*": false}
		for _, c := range some(m.draw, 1, columns) {
			fields[prefix+c.name] = map[string]any{"column": c.name}
			pairs = append(pairs, pair{prefix + c.name, value(c)})
		}
		yaml["fields"] = fields
	case 0:
		for _, c := range columns {
			pairs = append(pairs, pair{c.name, value(c)})
		}
	case 1:
		var names []string
		for _, c := range some(m.draw, 1, columns) {
			names = append(names, c.name)
			pairs = append(pairs, pair{c.name, value(c)})
		}
		yaml["fields"] = names
	default:
		fields := map[string]any{"constant": map[string]any{"constant": []any{"text", 1, nil}}}
		pairs = append(pairs, pair{"constant", `'["text",1,null]'::json`})
		var group []pair
		grouped := make(map[string]any)
		for i, c := range columns {
			switch m.int(0, 5) {
			case 1:
				fields[c.name] = false
			case 2:
				name := fmt.Sprintf("renamed%d", i)
				fields[name] = map[string]any{"column": c.name}
				pairs = append(pairs, pair{name, value(c)})
			case 3:
				grouped[c.name] = true
				group = append(group, pair{c.name, value(c)})
			case 4:
				pairs = append(pairs, pair{c.name, value(c)})
				if !root {
					break
				}
				name := fmt.Sprintf("made%d", i)
				if expr, sql := expression(c, alias); expr != "" {
					fields[name] = map[string]any{"expr": expr}
					pairs = append(pairs, pair{name, sql})
				}
			default:
				pairs = append(pairs, pair{c.name, value(c)})
			}
		}
		if group != nil {
			fields["group"] = map[string]any{"fields": grouped}
			pairs = append(pairs, pair{"group", object(group)})
		}
		yaml["fields"] = fields
	}
	if depth == 0 {
		return yaml, pairs
	}
	relations := m.relations(t)
	includes := make(map[string]any)
	least := 0
	if root {
		least = 1
	}
	for i := range m.int(least, 2) {
		if len(relations) == 0 {
			break
		}
		name := fmt.Sprintf("%sincluded%d", prefix, i)
		in, sql := m.include(one(m.draw, relations), alias, depth)
		includes[name] = in
		pairs = append(pairs, pair{name, sql})
	}
	if len(includes) > 0 {
		yaml["include"] = includes
	}
	return yaml, pairs
}

// expression returns one over a column, and in SQL.
func expression(c *propertyColumn, alias string) (expr, sql string) {
	name := "$env[" + fmt.Sprintf("%q", c.name) + "]"
	switch c.kind {
	case integerKind:
		return name + " + 1", "to_json(" + ref(alias, c) + "::bigint + 1)"
	case boolKind:
		return "not " + name, "to_json(NOT " + ref(alias, c) + ")"
	case textKind:
		return name + ` + "!"`, "to_json(" + ref(alias, c) + " || '!')"
	}
	return "", ""
}

// A relation leads from a table to rows of another one.
type relation struct {
	to        *propertyTable
	near, far []*propertyColumn
	link      *propertyTable // in between: far is of it
	linkNear  []*propertyColumn
	linkFar   []*propertyColumn
	lone      bool // one row at most
}

func (m *mapper) relations(t *propertyTable) []relation {
	var all []relation
	for _, r := range t.references {
		all = append(all, relation{to: r.to, near: r.columns, far: r.to.key, lone: true})
	}
	for _, other := range m.tables {
		for _, r := range other.references {
			if r.to != t {
				continue
			}
			lone := !slices.ContainsFunc(other.key, func(c *propertyColumn) bool { return !slices.Contains(r.columns, c) })
			all = append(all, relation{to: other, near: t.key, far: r.columns, lone: lone})
			for _, s := range other.references {
				if s != r {
					all = append(all, relation{to: s.to, near: t.key, far: r.columns, link: other, linkNear: s.columns, linkFar: s.to.key})
				}
			}
		}
	}
	if m.few && m.odds(3) {
		// Columns that have nothing to do with each other but may have the same values.
		other, near := one(m.draw, m.tables), one(m.draw, t.columns())
		for _, far := range other.columns() {
			if far.kind == near.kind {
				lone := len(other.key) == 1 && far == other.key[0]
				all = append(all, relation{to: other, near: []*propertyColumn{near}, far: []*propertyColumn{far}, lone: lone})
			}
		}
	}
	return all
}

func pairsOf(near, far []*propertyColumn) map[string]string {
	all := make(map[string]string)
	for i := range near {
		all[near[i].name] = far[i].name
	}
	return all
}

func equalColumns(a string, as []*propertyColumn, b string, bs []*propertyColumn) string {
	var all []string
	for i := range as {
		all = append(all, ref(a, as[i])+" = "+ref(b, bs[i]))
	}
	return strings.Join(all, " AND ")
}

// include draws how rows that a relation leads to are put in, and returns the SQL for it.
func (m *mapper) include(r relation, outer string, depth int) (yaml map[string]any, sql string) {
	t, rows := r.to, m.alias()
	yaml = make(map[string]any)
	kinds := []string{"single", "many", "value", "aggregate"}
	if !r.lone {
		kinds = []string{"many", "value", "aggregate", "single"}
	}
	how := one(m.draw, kinds)
	objects := how == "single" || how == "many"
	var made string
	if objects {
		var pairs []pair
		yaml, pairs = m.shape(t, rows, depth-1, "", false)
		made = object(pairs)
	}
	yaml["table"] = tableName(t)
	ties := refs(rows, t.key) // what rows are ordered by at last
	from := ident(t.name)
	if m.odds(4) {
		where := m.where(t)
		yaml["where"] = where
		from = "(SELECT * FROM " + from + " WHERE " + where + ")"
	}
	from += " " + rows
	if r.link == nil {
		yaml["on"] = pairsOf(r.near, r.far)
		from += " WHERE " + equalColumns(rows, r.far, outer, r.near)
		need(t, r.far)
	} else {
		link := m.alias()
		yaml["through"] = map[string]any{"table": tableName(r.link), "on": pairsOf(r.near, r.far), "to": pairsOf(r.linkNear, r.linkFar)}
		from += fmt.Sprintf(", %s %s WHERE %s AND %s", ident(r.link.name), link, equalColumns(link, r.far, outer, r.near), equalColumns(rows, r.linkFar, link, r.linkNear))
		need(r.link, r.far)
		ties += ", " + refs(link, r.link.key)
	}
	by := " ORDER BY "
	if !r.lone && how != "aggregate" && (how == "single" || m.odds(2)) {
		text, sql := m.order(r.to, rows)
		yaml["order_by"] = text
		by += sql + ", "
	}
	by += ties
	limit := ""
	if !r.lone && (how == "many" || how == "value") && m.odds(3) {
		n := m.int(1, 3)
		yaml["limit"], limit = n, fmt.Sprintf(" WHERE n <= %d", n)
	}
	list := func(value string) string {
		return fmt.Sprintf("(SELECT coalesce(json_agg(o ORDER BY n), '[]') FROM (SELECT %s AS o, row_number() OVER (%s) AS n FROM %s) x%s)", value, by, from, limit)
	}
	switch how {
	case "single":
		return yaml, fmt.Sprintf("(SELECT %s FROM %s%s LIMIT 1)", made, from, by)
	case "many":
		yaml["many"] = one(m.draw, []string{"object", "nested"})
		return yaml, list(made)
	case "value":
		c := one(m.draw, t.columns())
		yaml["value"] = c.name
		value := c.kind.jsonOf(ref(rows, c))
		if r.lone {
			return yaml, fmt.Sprintf("(SELECT %s FROM %s)", value, from)
		}
		return yaml, list(value)
	}
	return yaml, m.aggregate(yaml, t, rows, from)
}

func need(t *propertyTable, columns []*propertyColumn) {
	for _, c := range columns {
		t.needs[c.name] = true
	}
}

func refs(alias string, columns []*propertyColumn) string {
	return list(columns, func(name string) string { return alias + "." + ident(name) })
}

func (m *mapper) aggregate(yaml map[string]any, t *propertyTable, rows, from string) string {
	c := one(m.draw, t.columns())
	of := []string{"count", "count"}
	if c.kind.least {
		of = append(of, "min", "max")
	}
	if c.kind.sum {
		of = append(of, "sum", "avg")
	}
	f := one(m.draw, of)
	yaml["aggregate"] = f
	result := c.kind
	switch {
	case f == "count" && m.odds(2):
		return fmt.Sprintf("(SELECT to_json(count(*)) FROM %s)", from)
	case f == "count" || f == "sum" || f == "avg":
		result = kindNamed("numeric") // to_json of a bigint is the same, but for nullif
	}
	yaml["column"] = c.name
	value := fmt.Sprintf("%s(%s)", f, ref(rows, c))
	if result.name == "numeric" {
		value += "::numeric"
	}
	return fmt.Sprintf("(SELECT %s FROM %s)", result.jsonOf(value), from)
}

func kindNamed(name string) *kind {
	i := slices.IndexFunc(kinds, func(k *kind) bool { return k.name == name })
	return kinds[i]
}

// where draws a condition in SQL.
func (m *mapper) where(t *propertyTable) string {
	c := one(m.draw, t.columns())
	if m.odds(2) {
		return ident(c.name) + " IS NOT NULL"
	}
	return fmt.Sprintf("%s IS DISTINCT FROM %s", ident(c.name), one(m.draw, c.kind.values))
}

// order draws what rows are ordered by.
func (m *mapper) order(t *propertyTable, rows string) (yaml, sql string) {
	c := one(m.draw, t.columns())
	yaml = c.name
	if strings.ContainsAny(c.name, ` "`) {
		yaml = ident(c.name)
	}
	end := one(m.draw, []string{"", " desc", " desc nulls last", " nulls first"})
	return yaml + end, ref(rows, c) + end
}
