package mapping

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgtype"
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

// productTable is public.products (id, tenant, title, price, note).
func productTable() *Table {
	column := func(name string, oid uint32) Column { return Column{Name: name, Type: named(oid)} }
	return &Table{
		Schema: "public", Name: "products", PrimaryKey: []string{"id"},
		Columns: []Column{
			column("id", pgtype.Int8OID), column("tenant", pgtype.TextOID), column("title", pgtype.TextOID),
			column("price", pgtype.NumericOID), column("note", pgtype.TextOID),
		},
	}
}

func named(oid uint32) *Type {
	t := base(oid)
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
		ix      Index
		columns []string
		row     *pglogrepl.TupleData
		want    answer
	}{
		{"all columns", Index{}, all, row("7", "a", "T", "1.50", nil),
			answer{"7", "", `{"id":7,"tenant":"a","title":"T","price":1.50,"note":null}`, true, true, true}},
		{"columns in another order", Index{}, []string{"note", "price", "title", "tenant", "id"}, row("", "1", "T", "a", "7"),
			answer{"7", "", `{"id":7,"tenant":"a","title":"T","price":1,"note":""}`, true, true, true}},
		{"a column that nothing needs is unchanged", Index{Fields: []Field{{Name: "note", Omit: true}}}, all, row("7", "a", "T", "1", unchanged),
			answer{"7", "", `{"id":7,"tenant":"a","title":"T","price":1}`, true, true, true}},
		{"a field is unchanged", Index{}, all, row("7", "a", "T", "1", unchanged),
			answer{"7", "", `{"id":7,"tenant":"a","title":"T","price":1,"note":null}`, true, true, false}},
		{"the id is unchanged", Index{ID: []string{"id", "title"}}, all, row("7", "a", unchanged, "1", "n"),
			answer{"", "", `{"id":7,"tenant":"a","title":null,"price":1,"note":"n"}`, false, true, false}},
		{"a column that the log does not carry", Index{}, all[:4], row("7", "a", "T", "1"),
			answer{"7", "", `{"id":7,"tenant":"a","title":"T","price":1,"note":null}`, true, true, false}},
		{"the id is not in the row", Index{ID: []string{"note"}}, all[:4], row("7", "a", "T", "1"),
			answer{"", "", `{"id":7,"tenant":"a","title":"T","price":1,"note":null}`, false, true, false}},
		{"a row shorter than its relation", Index{}, all, row("7", "a"),
			answer{"7", "", `{"id":7,"tenant":"a","title":null,"price":null,"note":null}`, true, true, false}},
		{"composite id and routing", Index{ID: []string{"tenant", "id"}, Routing: "tenant"}, all, row("7", "a|b", "T", "1", "n"),
			answer{"a~|b|7", "a|b", `{"id":7,"tenant":"a|b","title":"T","price":1,"note":"n"}`, true, true, true}},
		{"routing is NULL", Index{Routing: "tenant"}, all, row("7", nil, "T", "1", "n"),
			answer{"7", "", `{"id":7,"tenant":null,"title":"T","price":1,"note":"n"}`, true, true, true}},
		{"routing is unchanged", Index{Routing: "tenant", Listed: true}, all, row("7", unchanged, "T", "1", "n"),
			answer{"7", "", `{}`, true, false, false}},
		{"fields by other names", Index{Listed: true, Fields: []Field{{Name: `the "title"`, Column: "title"}, {Name: "gone", Column: "gone"}}}, all, row("7", "a", "T", "1", "n"),
			answer{"7", "", `{"the \"title\"":"T"}`, true, true, true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.ix.Name = "products"
			p, err := Compile(&tt.ix, productTable(), tt.columns)
			if err != nil {
				t.Fatal(err)
			}
			var got answer
			got.ID, got.HasID = p.ID(tt.row)
			got.Routing, got.HasRouting = p.Routing(tt.row)
			got.Whole = p.Complete(tt.row)
			got.Document = string(p.AppendDocument(nil, tt.row))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestPlanKeyValues(t *testing.T) {
	ix := &Index{Name: "products", ID: []string{"tenant", "id", "title"}}
	p, err := Compile(ix, productTable(), []string{"id", "tenant", "title"})
	if err != nil {
		t.Fatal(err)
	}
	r := row("7", nil, "")
	got := p.KeyValues(r)
	r.Columns[0].Data[0] = 'x' // the row's memory is used again
	if diff := cmp.Diff([][]byte{nil, []byte("7"), {}}, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestCompileRefuses(t *testing.T) {
	noKey := productTable()
	noKey.PrimaryKey = nil
	tests := []struct {
		ix    Index
		table *Table
		want  string
	}{
		{Index{}, noKey, "index products: table public.products has no primary key, and no id columns are given"},
		{Index{ID: []string{"Gone"}}, noKey, `index products: table public.products has no column "Gone" to make the id of`},
		{Index{Routing: "gone"}, productTable(), `index products: table public.products has no column "gone" to route by`},
	}
	for _, tt := range tests {
		tt.ix.Name = "products"
		_, err := Compile(&tt.ix, tt.table, []string{"id"})
		if err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

func TestColumns(t *testing.T) {
	ix := &Index{ID: []string{"tenant", "id"}, Routing: "tenant", Listed: true, Fields: []Field{{Name: "p", Column: "price"}, {Name: "note", Omit: true}}}
	if diff := cmp.Diff([]string{"id", "tenant", "price"}, ix.Columns(productTable())); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// tenColumns is a row as tables often have it, with its table.
func tenColumns() (*Table, []string, *pglogrepl.TupleData) {
	t := &Table{Schema: "public", Name: "articles", PrimaryKey: []string{"id"}}
	var columns []string
	var values []any
	add := func(name string, typ *Type, value any) {
		t.Columns = append(t.Columns, Column{Name: name, Type: typ})
		columns = append(columns, name)
		values = append(values, value)
	}
	add("id", base(pgtype.Int8OID), "1234567")
	add("tenant_id", base(pgtype.UUIDOID), "7d9e2c3a-41c5-4a5f-9d0e-2f2e5a8f7d11")
	add("title", base(pgtype.TextOID), "Thé \"noir\" de Ceylan, 250 g")
	add("body", base(pgtype.TextOID), strings.Repeat("A line of text as people write it, with a full stop. ", 6)+"\nAnd an end.")
	add("price", base(pgtype.NumericOID), "12.90")
	add("active", base(pgtype.BoolOID), "t")
	add("created_at", base(pgtype.TimestamptzOID), "2026-01-31 12:34:56.789012+00")
	add("tags", arrayOf(base(pgtype.TextOID)), `{tea,"loose leaf","with \"quotes\""}`)
	add("attributes", base(pgtype.JSONBOID), `{"origin": "LK", "grade": "OP", "organic": true}`)
	add("deleted_at", base(pgtype.TimestamptzOID), nil)
	return t, columns, row(values...)
}

func TestAppendDocumentNeedsNoMemory(t *testing.T) {
	table, columns, r := tenColumns()
	for typ, text := range map[*Type]string{
		base(pgtype.ByteaOID):          `\x` + strings.Repeat("00ff", 500),
		base(pgtype.JSONOID):           `{"a": [1, {"b": "c"}], "d": {"b": 1}}`,
		base(pgtype.CIDROID):           "::ffff:1.2.3.0/120",
		arrayOf(base(pgtype.JSONBOID)): `{"{\"a\": 1}"}`,
		base(pgtype.DateOID):           "0044-03-15 BC",
	} {
		name := fmt.Sprint("more", len(columns))
		table.Columns = append(table.Columns, Column{Name: name, Type: typ})
		columns = append(columns, name)
		r.Columns = append(r.Columns, row(text).Columns...)
	}
	p, err := Compile(&Index{Name: "articles"}, table, columns)
	if err != nil {
		t.Fatal(err)
	}
	dst := p.AppendDocument(nil, r)
	if !json.Valid(dst) {
		t.Fatalf("not JSON: %s", dst)
	}
	if n := testing.AllocsPerRun(100, func() { dst = p.AppendDocument(dst[:0], r) }); n != 0 {
		t.Errorf("%v allocations per document", n)
	}
	if n := testing.AllocsPerRun(100, func() { p.Complete(r) }); n != 0 {
		t.Errorf("%v allocations per row asked whether it is complete", n)
	}
}

func BenchmarkAppendDocument(b *testing.B) {
	table, columns, r := tenColumns()
	p, err := Compile(&Index{Name: "articles"}, table, columns)
	if err != nil {
		b.Fatal(err)
	}
	dst := p.AppendDocument(nil, r)
	b.SetBytes(int64(len(dst)))
	b.ReportAllocs()
	for b.Loop() {
		dst = p.AppendDocument(dst[:0], r)
	}
}

func BenchmarkID(b *testing.B) {
	table, columns, r := tenColumns()
	p, err := Compile(&Index{Name: "articles", ID: []string{"tenant_id", "id"}}, table, columns)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.ID(r)
	}
}
