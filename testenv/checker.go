package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// A Checker compares a table with its index, document by document. What it
// expects comes from Postgres itself, by to_json of each column and the forms that
// docs/types.md promises: nothing of it goes through the code that makes the
// documents.
//
// It reads the index first and the table then. Nobody changes either meanwhile.
type Checker struct {
	URL    string // of the database, as somebody who sees all rows
	Table  string // as it is written in SQL
	Search *SearchServer
	Alias  string

	ID      []string            // columns that make the _id; nil: the primary key
	Routing string              // column; "": documents have none
	Fields  map[string][]string // column -> the fields it goes to; without an entry: one of its name; nil: none
	Refused map[string]bool     // _id of documents that are allowed to be missing or out of date
	Absent  map[string]bool     // fields that a document may lack where they are null

	// Query, in place of Table, ID and Fields, gives for each document its _id, its routing
	// where Routing is not empty, and what it has to be, as JSON.
	Query string
}

// A CheckOption changes what a [Checker] expects.
type CheckOption func(*Checker)

// WithID says that these columns make the _id.
func WithID(columns ...string) CheckOption { return func(c *Checker) { c.ID = columns } }

// WithRouting says that the column's value routes the documents.
func WithRouting(column string) CheckOption { return func(c *Checker) { c.Routing = column } }

// WithFields says that the document has the column under these names, or not at
// all if there are none.
func WithFields(column string, fields ...string) CheckOption {
	return func(c *Checker) { c.Fields[column] = fields }
}

// WithQuery says that the query gives the documents, each as its _id and its JSON: those
// that have rows of other tables in them.
func WithQuery(query string) CheckOption { return func(c *Checker) { c.Query = query } }

// WithRefused says that these documents may be missing, or out of date: the server
// refused them.
func WithRefused(ids ...string) CheckOption {
	return func(c *Checker) {
		for _, id := range ids {
			c.Refused[id] = true
		}
	}
}

// WithAbsent says that a document may lack these fields where they are null: those of
// columns that were added after it was stored.
func WithAbsent(fields ...string) CheckOption {
	return func(c *Checker) {
		for _, field := range fields {
			c.Absent[field] = true
		}
	}
}

// NewChecker makes a checker of a table of db.
func NewChecker(db *Database, search *SearchServer, alias, table string, options ...CheckOption) *Checker {
	c := &Checker{URL: db.URL, Table: table, Search: search, Alias: alias, Fields: make(map[string][]string), Refused: make(map[string]bool), Absent: make(map[string]bool)}
	for _, o := range options {
		o(c)
	}
	return c
}

// CheckSynced fails the test unless every row of the table has its document in
// the one index behind the alias, and no document is left over. The tool is known
// to have caught up.
func CheckSynced(t testing.TB, db *Database, search *SearchServer, alias, table string, options ...CheckOption) {
	t.Helper()
	report, err := NewChecker(db, search, alias, table, options...).Check(t.Context())
	if err != nil {
		t.Fatalf("compare table %s with index %s: %v", table, alias, err)
	}
	if !report.Equal() {
		t.Errorf("table %s and index %s are not equal: %s", table, alias, report)
	}
}

// maxExamples is how many differences of each kind a Report names.
const maxExamples = 20

// A Report is what a [Checker] found.
type Report struct {
	Indices   []string // physical indices behind the alias
	Rows      int
	Documents int

	Missing   Findings // rows without a document
	Extra     Findings // documents without a row
	Differing Findings // documents that differ from their rows
}

// Findings are the documents that have one kind of fault.
type Findings struct {
	Count    int
	Examples []Difference // at most 20
}

func (f *Findings) add(d ...Difference) {
	f.Count++
	room := maxExamples - len(f.Examples)
	f.Examples = append(f.Examples, d[:min(room, len(d))]...)
}

// A Difference is one document that is not as it should be.
type Difference struct {
	ID, Routing string
	Path        string // of the value: tags[2]; "" for a document as a whole
	Want, Got   string // JSON, or what else there is to say
}

func (d Difference) String() string {
	s := strconv.Quote(d.ID)
	if d.Routing != "" {
		s += " routing " + strconv.Quote(d.Routing)
	}
	if d.Path != "" {
		s += fmt.Sprintf(": %s: want %s, got %s", d.Path, shorten(d.Want), shorten(d.Got))
	} else if d.Got != "" {
		s += ": " + shorten(d.Got)
	}
	return s
}

func shorten(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + fmt.Sprintf("… (%d bytes)", len(s))
}

// Equal reports whether table and index are.
func (r *Report) Equal() bool {
	return len(r.Indices) == 1 && r.Missing.Count+r.Extra.Count+r.Differing.Count == 0
}

func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rows, %d documents", r.Rows, r.Documents)
	if len(r.Indices) != 1 {
		fmt.Fprintf(&b, "\n  the alias stands for %d physical indices: %s", len(r.Indices), strings.Join(r.Indices, ", "))
	}
	list := func(what string, f Findings) {
		if f.Count == 0 {
			return
		}
		fmt.Fprintf(&b, "\n  %d %s:", f.Count, what)
		for _, d := range f.Examples {
			fmt.Fprintf(&b, "\n    %s", d)
		}
	}
	list("rows without a document", r.Missing)
	list("documents without a row", r.Extra)
	list("documents that differ from their rows", r.Differing)
	return b.String()
}

// documentKey tells documents apart: those of one _id with different routings may
// be on different shards.
type documentKey struct{ id, routing string }

// Check reads index and table and compares them.
func (c *Checker) Check(ctx context.Context) (*Report, error) {
	report := new(Report)
	indices, err := c.Search.Indices(ctx, c.Alias)
	if err != nil {
		return nil, err
	}
	documents := make(map[documentKey]Document)
	for _, index := range indices {
		report.Indices = append(report.Indices, index.Name)
	}
	if len(indices) > 0 {
		all, err := c.Search.ReadDocuments(ctx, c.Alias)
		if err != nil {
			return nil, err
		}
		report.Documents = len(all)
		for _, d := range all {
			key := documentKey{d.ID, d.Routing}
			if other, twice := documents[key]; twice {
				report.Extra.add(Difference{ID: d.ID, Routing: d.Routing,
					Got: fmt.Sprintf("it is there twice, in %s and %s", other.Index, d.Index)})
				continue
			}
			documents[key] = d
		}
	}
	if err := c.compare(ctx, documents, report); err != nil {
		return nil, err
	}
	left := slices.SortedFunc(maps.Keys(documents), func(a, b documentKey) int { return strings.Compare(a.id+a.routing, b.id+b.routing) })
	for _, key := range left {
		report.Extra.add(Difference{ID: key.id, Routing: key.routing, Got: string(documents[key].Source)})
	}
	return report, nil
}

// compare takes the documents that have a row out of the map.
func (c *Checker) compare(ctx context.Context, documents map[documentKey]Document, report *Report) error {
	conn, err := checkerSession(ctx, c.URL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	table := &checkedTable{query: c.Query, id: 1}
	if c.Query == "" {
		if table, err = c.describe(ctx, conn); err != nil {
			return err
		}
	}
	rows := conn.PgConn().ExecParams(ctx, table.query, nil, nil, nil, nil) // all values as text
	for rows.NextRow() {
		report.Rows++
		if err := c.compareRow(table, rows.Values(), documents, report); err != nil {
			rows.Close()
			return err
		}
	}
	_, err = rows.Close()
	return err
}

func (c *Checker) compareRow(table *checkedTable, row [][]byte, documents map[documentKey]Document, report *Report) error {
	key := documentKey{id: string(row[0])}
	if c.Query == "" {
		key.id = documentID(row[:table.id])
	}
	row = row[table.id:]
	if c.Routing != "" {
		key.routing, row = string(row[0]), row[1:]
	}
	want, err := table.expected(row)
	if err != nil {
		return fmt.Errorf("row %q: %w", key.id, err)
	}
	document, ok := documents[key]
	delete(documents, key)
	switch {
	case c.Refused[key.id]:
	case !ok:
		report.Missing.add(Difference{ID: key.id, Routing: key.routing})
	default:
		got, err := decode(document.Source)
		if err != nil {
			return fmt.Errorf("document %q: %w", key.id, err)
		}
		if fields, ok := got.(map[string]any); ok {
			for field := range c.Absent {
				if _, there := fields[field]; !there {
					fields[field] = nil
				}
			}
		}
		var found []Difference
		differences(&found, "", want, got)
		if len(found) > 0 {
			for i := range found {
				found[i].ID, found[i].Routing = key.id, key.routing
			}
			report.Differing.add(found...)
		}
	}
	return nil
}

// expected returns the document that the values of a row come to.
func (t *checkedTable) expected(row [][]byte) (any, error) {
	if t.columns == nil {
		return decode(row[0])
	}
	want := make(map[string]any)
	for i, column := range t.columns {
		value, err := column.expected(row[i])
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", column.name, err)
		}
		for _, field := range column.fields {
			want[field] = value
		}
	}
	return want, nil
}

// checkerSession has every setting that changes how values are written.
func checkerSession(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	maps.Copy(config.RuntimeParams, map[string]string{
		"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres", "extra_float_digits": "1",
		"bytea_output": "hex", "client_encoding": "UTF8", "row_security": "off",
	})
	return pgx.ConnectConfig(ctx, config)
}

// A checkedTable is how the expected documents are read: the id columns, the
// routing column if there is one, then a JSON value for each column.
type checkedTable struct {
	query   string
	id      int
	columns []checkedColumn
}

type checkedColumn struct {
	name   string
	kind   string // the type below domains and arrays, as in pg_type
	fields []string
}

// describeColumns gives the columns of a table with the type below domains and
// arrays. A vector (oidvector) is no array: it has an output of its own.
const describeColumns = `
	WITH RECURSIVE base AS (
		SELECT a.attnum, a.attname, a.atttypid AS type, false AS is_array
		FROM pg_attribute a WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
	UNION ALL
		SELECT b.attnum, b.attname, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END, b.is_array OR t.typtype <> 'd'
		FROM base b JOIN pg_type t ON t.oid = b.type
		WHERE t.typtype = 'd' OR t.typsubscript = 'array_subscript_handler'::regproc
	)
	SELECT b.attname, CASE WHEN t.typtype = 'e' THEN 'enum' WHEN t.typtype = 'c' THEN 'composite' WHEN t.oid < 10000 THEN t.typname ELSE '' END, b.is_array
	FROM base b JOIN pg_type t ON t.oid = b.type
	WHERE t.typtype <> 'd' AND t.typsubscript <> 'array_subscript_handler'::regproc
	ORDER BY b.attnum`

const describeKey = `
	SELECT a.attname FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
	JOIN pg_attribute a ON a.attrelid = $1::regclass AND a.attnum = k.attnum
	WHERE i.indrelid = $1::regclass AND i.indisprimary ORDER BY k.position`

func (c *Checker) describe(ctx context.Context, conn *pgx.Conn) (*checkedTable, error) {
	id := c.ID
	if id == nil {
		rows, err := conn.Query(ctx, describeKey, c.Table)
		if err != nil {
			return nil, err
		}
		if id, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return nil, err
		}
		if len(id) == 0 {
			return nil, fmt.Errorf("table %s has no primary key", c.Table)
		}
	}
	rows, err := conn.Query(ctx, describeColumns, c.Table)
	if err != nil {
		return nil, err
	}
	table := &checkedTable{id: len(id)}
	var list []string
	for _, name := range id {
		list = append(list, quoted(name))
	}
	if c.Routing != "" {
		list = append(list, quoted(c.Routing))
	}
	var name, kind string
	var isArray bool
	_, err = pgx.ForEachRow(rows, []any{&name, &kind, &isArray}, func() error {
		column := checkedColumn{name: name, kind: kind, fields: []string{name}}
		if fields, ok := c.Fields[name]; ok {
			column.fields = fields
		}
		if len(column.fields) == 0 {
			return nil
		}
		table.columns = append(table.columns, column)
		list = append(list, jsonOf(quoted(name), kind, isArray))
		return nil
	})
	if err != nil {
		return nil, err
	}
	table.query = "SELECT " + strings.Join(list, ", ") + " FROM " + c.Table
	return table, nil
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// jsonOf returns the expression of a column's JSON value. to_json writes numbers as
// they are, and what it knows no better as strings; types of extensions may give
// it a form of their own: these are taken as text. Of ranges those of integers are
// known, of composites those whose attributes to_json writes as they are documented.
func jsonOf(column, kind string, isArray bool) string {
	array := ""
	if isArray {
		array = "[]"
	}
	switch kind {
	case "int2", "int4", "int8", "numeric", "float4", "float8", "bool",
		"text", "varchar", "bpchar", "name", "xml", "char", "enum", "uuid", "macaddr", "macaddr8", "inet", "cidr",
		"date", "timestamp", "timestamptz", "time", "timetz", "interval", "json", "jsonb", "bytea":
		return "to_json(" + column + ")"
	case "composite":
		return "to_json(" + column + ")"
	case "int4range", "int8range":
		if !isArray {
			return fmt.Sprintf(`CASE WHEN NOT isempty(%[1]s) THEN json_strip_nulls(json_build_object('gte', lower(%[1]s), 'lt', upper(%[1]s))) END`, column)
		}
	case "oid", "xid", "cid": // numbers, which to_json writes as strings
		return fmt.Sprintf("to_json(%s::text%s::int8%s)", column, array, array)
	}
	return fmt.Sprintf("to_json(%s::text%s)", column, array)
}

// expected returns the value that the document must have, from what to_json gave.
func (c *checkedColumn) expected(text []byte) (any, error) {
	if text == nil {
		return nil, nil
	}
	value, err := decode(text)
	if err != nil {
		return nil, err
	}
	return documented(c.kind, value), nil
}

func decode(text []byte) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var value any
	err := d.Decode(&value)
	return value, err
}

// documented turns Postgres' own JSON into the form that docs/types.md promises.
func documented(kind string, value any) any {
	if kind == "json" || kind == "jsonb" {
		return value
	}
	switch v := value.(type) {
	case []any:
		for i := range v {
			v[i] = documented(kind, v[i])
		}
	case json.Number:
		if len(v) > 1000 {
			return string(v)
		}
	case string:
		switch kind {
		case "numeric", "float4", "float8":
			return nil // NaN and the infinities
		case "date", "timestamp", "timestamptz":
			return isoMoment(v)
		case "bytea":
			raw, err := hex.DecodeString(strings.TrimPrefix(v, `\x`))
			if err != nil {
				return v
			}
			return base64.StdEncoding.EncodeToString(raw)
		}
	}
	return value
}

// isoMoment returns Postgres' date or timestamp, in UTC, with the year of ISO 8601.
func isoMoment(s string) any {
	if strings.HasSuffix(s, "infinity") {
		return nil
	}
	s, bc := strings.CutSuffix(s, " BC")
	s, zone := strings.CutSuffix(s, "+00:00")
	year, rest, _ := strings.Cut(s, "-")
	if bc {
		if n, err := strconv.Atoi(year); err == nil && n > 1 {
			year = fmt.Sprintf("-%04d", n-1)
		} else {
			year = "0000"
		}
	} else if len(year) > 4 {
		year = "+" + year
	}
	s = year + "-" + rest
	if zone {
		s += "Z"
	}
	return s
}

// documentID follows the rule of docs/types.md.
func documentID(key [][]byte) string {
	parts := make([]string, len(key))
	for i, value := range key {
		s := string(value)
		switch {
		case value == nil:
			s = "~N"
		case len(key) > 1:
			s = strings.NewReplacer("~", "~~", "|", "~|").Replace(s)
		case s == "" || s[0] == '~':
			s = "~" + s
		}
		parts[i] = s
	}
	id := strings.Join(parts, "|")
	if len(id) > 512 || !utf8.ValidString(id) {
		return fmt.Sprintf("~sha256-%x", sha256.Sum256([]byte(id)))
	}
	return id
}

// differences collects where two JSON values are not the same. Numbers are
// compared digit by digit.
func differences(found *[]Difference, path string, want, got any) {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		names := maps.Clone(w)
		maps.Copy(names, g)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			below := name
			if path != "" {
				below = path + "." + name
			}
			wantValue, wanted := w[name]
			gotValue, there := g[name]
			switch {
			case !there:
				*found = append(*found, Difference{Path: below, Want: jsonText(wantValue), Got: "no field"})
			case !wanted:
				*found = append(*found, Difference{Path: below, Want: "no field", Got: jsonText(gotValue)})
			default:
				differences(found, below, wantValue, gotValue)
			}
		}
		return
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			break
		}
		for i := range w {
			differences(found, fmt.Sprintf("%s[%d]", path, i), w[i], g[i])
		}
		return
	default:
		switch got.(type) {
		case map[string]any, []any:
		default:
			if want == got {
				return
			}
		}
	}
	*found = append(*found, Difference{Path: path, Want: jsonText(want), Got: jsonText(got)})
}

func jsonText(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
