package mapping

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
)

// row makes a row of texts: nil is NULL, unchanged is a value that was not logged.
func row(values ...any) *pglogrepl.TupleData {
	r := &pglogrepl.TupleData{ColumnNum: uint16(len(values))}
	for _, v := range values {
		c := &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeText}
		switch v := v.(type) {
		case nil:
			c.DataType = pglogrepl.TupleDataTypeNull
		case string:
			c.Data = []byte(v)
			c.Length = uint32(len(v))
		case toast:
			c.DataType = pglogrepl.TupleDataTypeToast
		}
		r.Columns = append(r.Columns, c)
	}
	return r
}

type toast struct{}

var unchanged toast

// indexOf makes the index of one source; it is called products unless it has a name.
func indexOf(ix Index, s Source) *Index {
	ix.Name = cmp.Or(ix.Name, "products")
	s.Index, ix.Sources = &ix, []*Source{&s}
	return &ix
}

// sourceOf makes the source of the index products.
func sourceOf(s Source) *Source { return indexOf(Index{}, s).Sources[0] }

// productTable is public.products (id, tenant, title, price, note).
func productTable() *catalog.Table {
	column := func(name string, oid uint32) catalog.Column { return catalog.Column{Name: name, Type: named(oid)} }
	return &catalog.Table{
		Schema: "public", Name: "products", PrimaryKey: []string{"id"},
		Columns: []catalog.Column{
			column("id", pgtype.Int8OID), column("tenant", pgtype.TextOID), column("title", pgtype.TextOID),
			column("price", pgtype.NumericOID), column("note", pgtype.TextOID),
		},
	}
}

func named(oid uint32) *catalog.Type {
	t := ownType(oid)
	t.Name = map[uint32]string{pgtype.Int8OID: "bigint", pgtype.TextOID: "text", pgtype.NumericOID: "numeric"}[oid]
	return t
}

func TestPlan(t *testing.T) {
	type answer struct {
		ID, Routing, Document    string
		HasID, HasRouting, Whole bool
	}
	all := []string{"id", "tenant", "title", "price", "note"}
	tests := []struct {
		name    string
		source  Source
		columns []string
		row     *pglogrepl.TupleData
		want    answer
	}{
		{"all columns", Source{}, all, row("7", "a", "T", "1.50", nil),
			answer{"7", "", `{"id":7,"tenant":"a","title":"T","price":1.50,"note":null}`, true, true, true}},
		{"columns in another order", Source{}, []string{"note", "price", "title", "tenant", "id"}, row("", "1", "T", "a", "7"),
			answer{"7", "", `{"id":7,"tenant":"a","title":"T","price":1,"note":""}`, true, true, true}},
		{"a column that nothing needs is unchanged", Source{Shape: Shape{Fields: []Field{{Name: "note", Omit: true}}}}, all, row("7", "a", "T", "1", unchanged),
			answer{"7", "", `{"id":7,"tenant":"a","title":"T","price":1}`, true, true, true}},
		{"a field is unchanged", Source{}, all, row("7", "a", "T", "1", unchanged),
			answer{"7", "", `{"id":7,"tenant":"a","title":"T","price":1,"note":null}`, true, true, false}},
		{"the id is unchanged", Source{ID: []string{"id", "title"}}, all, row("7", "a", unchanged, "1", "n"),
			answer{"", "", `{"id":7,"tenant":"a","title":null,"price":1,"note":"n"}`, false, true, false}},
		{"a column that the log does not carry", Source{}, all[:4], row("7", "a", "T", "1"),
			answer{"7", "", `{"id":7,"tenant":"a","title":"T","price":1,"note":null}`, true, true, false}},
		{"the id is not in the row", Source{ID: []string{"note"}}, all[:4], row("7", "a", "T", "1"),
			answer{"", "", `{"id":7,"tenant":"a","title":"T","price":1,"note":null}`, false, true, false}},
		{"a row shorter than its relation", Source{}, all, row("7", "a"),
			answer{"7", "", `{"id":7,"tenant":"a","title":null,"price":null,"note":null}`, true, true, false}},
		{"composite id and routing", Source{ID: []string{"tenant", "id"}, Routing: "tenant"}, all, row("7", "a|b", "T", "1", "n"),
			answer{"a~|b|7", "a|b", `{"id":7,"tenant":"a|b","title":"T","price":1,"note":"n"}`, true, true, true}},
		{"routing is NULL", Source{Routing: "tenant"}, all, row("7", nil, "T", "1", "n"),
			answer{"7", "", `{"id":7,"tenant":null,"title":"T","price":1,"note":"n"}`, true, true, true}},
		{"routing is unchanged", Source{Routing: "tenant", Shape: Shape{Listed: true}}, all, row("7", unchanged, "T", "1", "n"),
			answer{"7", "", `{}`, true, false, false}},
		{"fields by other names", Source{Shape: Shape{Listed: true, Fields: []Field{{Name: `the "title"`, Column: "title"}, {Name: "gone", Column: "gone"}}}}, all, row("7", "a", "T", "1", "n"),
			answer{"7", "", `{"the \"title\"":"T"}`, true, true, true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Compile(sourceOf(tt.source), productTable(), tt.columns)
			if err != nil {
				t.Fatal(err)
			}
			var got answer
			got.ID, got.HasID = p.ID(tt.row)
			got.Routing, got.HasRouting = p.Routing(tt.row)
			got.Whole = p.Complete(tt.row)
			document, err := p.AppendDocument(nil, tt.row)
			if err != nil {
				t.Fatal(err)
			}
			got.Document = string(document)
			if diff := gocmp.Diff(tt.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// TestPlanOfShape: what else a document is made of than columns under a name.
func TestPlanOfShape(t *testing.T) {
	all := []string{"id", "tenant", "title", "price", "note"}
	tests := []struct {
		name, index string
		columns     []string
		row         *pglogrepl.TupleData
		want        string
		whole       bool
	}{
		{"groups", `{table: products, fields: {"*": false, id: true, a: {fields: {t: {column: title}, b: {fields: {price: true, c: {constant: "x\"y"}}}}}}}`, all, row("7", "a", "T", "1.50", nil),
			`{"id":7,"a":{"t":"T","b":{"price":1.50,"c":"x\"y"}}}`, true},
		{"a value in a group is unchanged", `{table: products, fields: {"*": false, a: {fields: {t: {column: title}}}}}`, all, row("7", "a", unchanged, "1.50", nil),
			`{"a":{"t":null}}`, false},
		{"constants", `{table: products, fields: {"*": false, a: {constant: null}, b: {constant: {y: 1, x: ["<é>", 2026-01-31, true]}}, c: {constant: 0.5}}}`, all, row("7", "a", "T", "1.50", nil),
			`{"a":null,"b":{"x":["<é>","2026-01-31",true],"y":1},"c":0.5}`, true},
		{"only constants in a group", `{table: products, fields: {"*": false, a: {fields: {b: {constant: 1}}}, id: true}}`, all, row("7", "a", "T", "1.50", nil),
			`{"id":7,"a":{"b":1}}`, true},
		{"an expression", `{table: products, fields: {"*": false, up: {expr: upper(title)}, g: {fields: {up: {column: note, expr: upper(note)}}}}}`, all, row("7", "a", "T \"x\"", "1.50", "n"),
			`{"up":"T \"X\"","g":{"up":"N"}}`, true},
		{"a value that an expression reads is unchanged", `{table: products, fields: {"*": false, up: {expr: upper(title)}}}`, all, row("7", "a", unchanged, "1.50", nil), "", false},
		{"a value that where reads is unchanged", `{table: products, where: title != nil, fields: {"*": false, id: true}}`, all, row("7", "a", unchanged, "1.50", nil),
			`{"id":7}`, false},
		{"included", `{table: products, fields: [id], include: {r: {table: r, on: {id: p}, many: object}, c: {table: c, on: {id: id}}}}`,
			[]string{"include_1", "id", "include_0"}, row("{\"x\":\n \r\n{\"y\": \"a\\nb\"}}", "7", `[]`),
			`{"id":7,"r":[],"c":{"x":    {"y": "a\nb"}}}`, true},
		{"included is NULL", `{table: products, fields: [id], include: {c: {table: c, on: {id: id}}}}`, []string{"id", "include_0"}, row("7", nil),
			`{"id":7,"c":null}`, true},
		{"a row of the log has nothing that is included", `{table: products, fields: [id], include: {c: {table: c, on: {id: id}}}}`, all, row("7", "a", "T", "1.50", "n"),
			`{"id":7,"c":null}`, false},
		{"nothing but what is included", `{table: products, fields: {"*": false}, include: {c: {table: c, on: {id: id}}}}`, []string{"id", "include_0"}, row("7", `1`),
			`{"c":1}`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := indexIn(t, "  products: "+tt.index).Sources[0]
			p, err := Compile(s, productTable(), tt.columns)
			if err != nil {
				t.Fatal(err)
			}
			if whole := p.Complete(tt.row); whole != tt.whole {
				t.Errorf("complete: %v, want %v", whole, tt.whole)
			}
			if tt.want == "" {
				return
			}
			got, err := p.AppendDocument([]byte("before "), tt.row)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff("before "+tt.want, string(got)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// TestPlanHolds: where decides whether a row is a document, and an expression that fails
// leaves nothing behind.
func TestPlanHolds(t *testing.T) {
	s := indexIn(t, `  products: {table: products, where: note == nil, fields: {n: {expr: "1 / int(title)"}, m: {expr: "[1][int(title)]"}}}`).Sources[0]
	p, err := Compile(s, productTable(), []string{"id", "tenant", "title", "price", "note"})
	if err != nil {
		t.Fatal(err)
	}
	for note, want := range map[any]bool{nil: true, "": false, "n": false} {
		got, err := p.Holds(row("7", "a", "T", "1", note))
		if got != want || err != nil {
			t.Errorf("note %v: %v, %v", note, got, err)
		}
	}
	dst, err := p.AppendDocument([]byte("before"), row("7", "a", "5", "1", nil))
	if err == nil || string(dst) != "before" {
		t.Errorf("an expression cannot be, but: %s, %v", dst, err)
	}
	every, err := Compile(sourceOf(Source{}), productTable(), []string{"id"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := every.Holds(row("7")); !got || err != nil {
		t.Error("without where a row is no document:", err)
	}
}

func TestPlanOfTemplate(t *testing.T) {
	s := indexIn(t, `  products: {tables: [{table: products, id: "product-{tenant}-{id}"}]}`).Sources[0]
	p, err := Compile(s, productTable(), []string{"id", "tenant"})
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := p.ID(row("7", "a-b")); id != "product-a~-b-7" || !ok {
		t.Errorf("id %s, %v", id, ok)
	}
	if id := p.IDOf([][]byte{[]byte("a-b"), []byte("7")}); id != "product-a~-b-7" {
		t.Errorf("id %s", id)
	}
}

func TestPlanKeyValues(t *testing.T) {
	p, err := Compile(sourceOf(Source{ID: []string{"tenant", "id", "title"}}), productTable(), []string{"id", "tenant", "title"})
	if err != nil {
		t.Fatal(err)
	}
	r := row("7", nil, "")
	got := p.KeyValues(r)
	r.Columns[0].Data[0] = 'x' // the row's memory is used again
	if diff := gocmp.Diff([][]byte{nil, []byte("7"), {}}, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestCompileRefuses(t *testing.T) {
	noKey := productTable()
	noKey.PrimaryKey = nil
	tests := []struct {
		source Source
		table  *catalog.Table
		want   string
	}{
		{Source{}, noKey, "index products: table public.products has no primary key, and no id columns are given"},
		{Source{ID: []string{"Gone"}}, noKey, `index products: table public.products has no column "Gone" to make the id of`},
		{Source{Where: "gone == nil"}, productTable(), `index products: where: table public.products has no column gone (character 1): its columns: id, tenant, title, price, note`},
		{Source{Routing: "gone"}, productTable(), `index products: table public.products has no column "gone" to route by`},
	}
	for _, tt := range tests {
		_, err := Compile(sourceOf(tt.source), tt.table, []string{"id"})
		if err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

// TestSelectNames: only the columns that something needs, in the order of the table.
func TestSelectNames(t *testing.T) {
	s := sourceOf(Source{Table: catalog.TableName{Schema: "public", Name: "products"}, ID: []string{"tenant", "id"}, Routing: "tenant",
		Shape: Shape{Listed: true, Fields: []Field{{Name: "p", Column: "price"}, {Name: "note", Omit: true}}}})
	sel, err := s.Select(tablesOf(productTable()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]string{"id", "tenant", "price"}, sel.Names); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func ownType(oid uint32) *catalog.Type { return catalog.NewBase(oid, "") }

func arrayType(elem *catalog.Type) *catalog.Type {
	return &catalog.Type{OID: 1 << 20, Kind: catalog.KindArray, Elem: elem, Delim: ',', Modifier: elem.Modifier}
}

// tenColumns is a row as tables often have it, with its table.
func tenColumns() (*catalog.Table, []string, *pglogrepl.TupleData) {
	t := &catalog.Table{Schema: "public", Name: "articles", PrimaryKey: []string{"id"}}
	var columns []string
	var values []any
	add := func(name string, typ *catalog.Type, value any) {
		t.Columns = append(t.Columns, catalog.Column{Name: name, Type: typ})
		columns = append(columns, name)
		values = append(values, value)
	}
	add("id", ownType(pgtype.Int8OID), "1234567")
	add("tenant_id", ownType(pgtype.UUIDOID), "7d9e2c3a-41c5-4a5f-9d0e-2f2e5a8f7d11")
	add("title", ownType(pgtype.TextOID), "Thé \"noir\" de Ceylan, 250 g")
	add("body", ownType(pgtype.TextOID), strings.Repeat("A line of text as people write it, with a full stop. ", 6)+"\nAnd an end.")
	add("price", ownType(pgtype.NumericOID), "12.90")
	add("active", ownType(pgtype.BoolOID), "t")
	add("created_at", ownType(pgtype.TimestamptzOID), "2026-01-31 12:34:56.789012+00")
	add("tags", arrayType(ownType(pgtype.TextOID)), `{tea,"loose leaf","with \"quotes\""}`)
	add("attributes", ownType(pgtype.JSONBOID), `{"origin": "LK", "grade": "OP", "organic": true}`)
	add("deleted_at", ownType(pgtype.TimestamptzOID), nil)
	return t, columns, row(values...)
}

func TestAppendDocumentNeedsNoMemory(t *testing.T) {
	table, columns, r := tenColumns()
	for typ, text := range map[*catalog.Type]string{
		ownType(pgtype.ByteaOID):            `\x` + strings.Repeat("00ff", 500),
		ownType(pgtype.JSONOID):             `{"a": [1, {"b": "c"}], "d": {"b": 1}}`,
		ownType(pgtype.CIDROID):             "::ffff:1.2.3.0/120",
		arrayType(ownType(pgtype.JSONBOID)): `{"{\"a\": 1}"}`,
		ownType(pgtype.DateOID):             "0044-03-15 BC",
	} {
		name := fmt.Sprint("more", len(columns))
		table.Columns = append(table.Columns, catalog.Column{Name: name, Type: typ})
		columns = append(columns, name)
		r.Columns = append(r.Columns, row(text).Columns...)
	}
	p, err := Compile(sourceOf(Source{}), table, columns)
	if err != nil {
		t.Fatal(err)
	}
	dst, err := p.AppendDocument(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(dst) {
		t.Fatalf("not JSON: %s", dst)
	}
	if n := testing.AllocsPerRun(100, func() { dst, _ = p.AppendDocument(dst[:0], r) }); n != 0 {
		t.Errorf("%v allocations per document", n)
	}
	if n := testing.AllocsPerRun(100, func() { p.Complete(r) }); n != 0 {
		t.Errorf("%v allocations per row asked whether it is complete", n)
	}
}

func BenchmarkAppendDocument(b *testing.B) {
	table, columns, r := tenColumns()
	p, err := Compile(sourceOf(Source{}), table, columns)
	if err != nil {
		b.Fatal(err)
	}
	dst, err := p.AppendDocument(nil, r)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(dst)))
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = p.AppendDocument(dst[:0], r)
	}
}

func BenchmarkID(b *testing.B) {
	table, columns, r := tenColumns()
	p, err := Compile(sourceOf(Source{ID: []string{"tenant_id", "id"}}), table, columns)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.ID(r)
	}
}
