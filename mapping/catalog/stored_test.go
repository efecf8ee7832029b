package catalog_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/mapping/catalog"
)

// roundTrip makes sure that tables are the same after they were stored.
func roundTrip(t rapid.TB, tables catalog.Tables) {
	t.Helper()
	text, err := tables.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := catalog.DecodeTables(text)
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	if diff := cmp.Diff(tables, got); diff != "" {
		t.Fatalf("want -, got +:\n%s", diff)
	}
	if again, err := got.Encode(); err != nil || again != text {
		t.Fatalf("%v: the second text is another one:\n%s\n%s", err, text, again)
	}
}

// TestEncode shows the form that is stored.
func TestEncode(t *testing.T) {
	text := catalog.NewBase(25, "text")
	text.Schema, text.Plain, text.Category = "pg_catalog", "text", 'S'
	tables := catalog.Tables{
		{Schema: "public", Name: "t"}: {
			OID: 16400, Schema: "public", Name: "t", User: "me", EstimatedRows: -1,
			Columns: []catalog.Column{
				{Name: "id", Type: text, NotNull: true},
				{Name: "a", Type: &catalog.Type{OID: 1009, Name: "text[]", Kind: catalog.KindArray, Category: 'A', Elem: text, Delim: ',', Modifier: -1}, Default: true},
			},
			PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: catalog.IdentityDefault, Columns: []string{"id"}},
		},
		{Schema: "public", Name: "gone"}: nil,
	}
	got, err := tables.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const typ = `{"oid":25,"name":"text","schema":"pg_catalog","plain":"text","kind":"b","category":"S","delim":",","modifier":-1}`
	want := `{"version":2,"tables":{"public.t":{"oid":16400,"schema":"public","name":"t","columns":[` +
		`{"name":"id","type":` + typ + `,"not_null":true},` +
		`{"name":"a","type":{"oid":1009,"name":"text[]","kind":"a","category":"A","elem":` + typ + `,"delim":",","modifier":-1},"default":true}],` +
		`"primary_key":["id"],"identity":{"kind":"d","columns":["id"]},"user":"me","estimated_rows":-1}}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	delete(tables, catalog.TableName{Schema: "public", Name: "gone"})
	roundTrip(t, tables)
}

// TestEncodeAny stores tables that no catalog would have, too: whatever the fields hold.
func TestEncodeAny(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tables := make(catalog.Tables)
		for _, table := range rapid.SliceOfN(anyTable(), 0, 3).Draw(t, "tables") {
			tables[table.TableName()] = table
		}
		roundTrip(t, tables)
	})
}

// anyList returns lists of names, also none.
func anyList() *rapid.Generator[[]string] {
	return rapid.OneOf(rapid.Just([]string(nil)), rapid.SliceOfN(rapid.String(), 0, 3))
}

func anyTable() *rapid.Generator[*catalog.Table] {
	return rapid.Custom(func(t *rapid.T) *catalog.Table {
		table := &catalog.Table{
			OID: rapid.Uint32().Draw(t, "oid"), Schema: rapid.String().Draw(t, "schema"), Name: rapid.String().Draw(t, "name"),
			PrimaryKey: anyList().Draw(t, "primary key"), KeyDeferrable: rapid.Bool().Draw(t, "deferrable"),
			Identity: catalog.Identity{Kind: catalog.IdentityKind(rapid.Byte().Draw(t, "identity")), Columns: anyList().Draw(t, "carried")},
			Unique:   rapid.SliceOfN(anyList(), 0, 2).Draw(t, "unique"), RowSecurity: rapid.Bool().Draw(t, "row security"),
			User: rapid.String().Draw(t, "user"), Unlogged: rapid.Bool().Draw(t, "unlogged"), Partitioned: rapid.Bool().Draw(t, "partitioned"),
			Root:          catalog.TableName{Schema: rapid.String().Draw(t, "root schema"), Name: rapid.String().Draw(t, "root")},
			EstimatedRows: rapid.Int64().Draw(t, "rows"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "columns") {
			table.Columns = append(table.Columns, catalog.Column{
				Name: rapid.String().Draw(t, "column"), Type: anyType(2).Draw(t, "type"),
				NotNull: rapid.Bool().Draw(t, "not null"), Generated: rapid.Bool().Draw(t, "generated"), Virtual: rapid.Bool().Draw(t, "virtual"), Default: rapid.Bool().Draw(t, "default"),
			})
		}
		return table
	})
}

func anyType(depth int) *rapid.Generator[*catalog.Type] {
	return rapid.Custom(func(t *rapid.T) *catalog.Type {
		typ := &catalog.Type{
			OID: rapid.Uint32().Draw(t, "oid"), Name: rapid.String().Draw(t, "name"), Schema: rapid.String().Draw(t, "schema"),
			Plain: rapid.String().Draw(t, "plain"), Extension: rapid.String().Draw(t, "extension"),
			Kind: catalog.Kind(rapid.Byte().Draw(t, "kind")), Category: rapid.Byte().Draw(t, "category"), Canonical: rapid.Bool().Draw(t, "canonical"),
			Delim: rapid.Byte().Draw(t, "delim"), Modifier: rapid.Int32().Draw(t, "modifier"), Fraction: rapid.Int().Draw(t, "fraction"),
		}
		if depth == 0 {
			return typ
		}
		below := anyType(depth - 1)
		maybe := rapid.OneOf(rapid.Just((*catalog.Type)(nil)), below)
		typ.Elem, typ.Base = maybe.Draw(t, "elem"), maybe.Draw(t, "base")
		for range rapid.IntRange(0, 2).Draw(t, "attributes") {
			typ.Attributes = append(typ.Attributes, catalog.Attribute{Name: rapid.String().Draw(t, "attribute"), Type: below.Draw(t, "its type")})
		}
		return typ
	})
}

// TestDecodeTablesOfEarlierVersions reads the tables in the dumps of the control schema.
func TestDecodeTablesOfEarlierVersions(t *testing.T) {
	tables := regexp.MustCompile(`'(\{"public[^']*"OID":[^']*\})'`)
	for _, generation := range []string{"08", "09", "10", "11", "12"} {
		dump, err := os.ReadFile("../../reindex/testdata/control/" + generation + ".sql")
		if err != nil {
			t.Fatal(err)
		}
		names := make(map[string]int)
		for _, m := range tables.FindAllStringSubmatch(string(dump), -1) {
			text := regexp.MustCompile(`\{\{oid [a-z_0-9]+\}\}`).ReplaceAllString(m[1], "16400")
			got, err := catalog.DecodeTables(text)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, got)
			for name, table := range got {
				names[name.String()]++
				if table.OID != 16400 || table.Identity.Kind != catalog.IdentityDefault || !slices.Equal(table.Identity.Columns, table.PrimaryKey) || table.User != "{{user}}" {
					t.Errorf("%s: %+v", generation, table)
				}
			}
			if lines := got[catalog.TableName{Schema: "public", Name: "order_lines"}]; lines != nil {
				want := &catalog.Type{OID: 25, Name: "text", Schema: "pg_catalog", Plain: "text", Kind: catalog.KindBase, Category: 'S', Delim: ',', Modifier: -1}
				if diff := cmp.Diff(&catalog.Column{Name: "note", Type: want, NotNull: true}, lines.Column("note")); diff != "" || !lines.Partitioned || lines.EstimatedRows != 200 {
					t.Errorf("%s: want -, got +:\n%s", generation, diff)
				}
			}
		}
		want := map[string]int{"public.products": 1, "public.categories": 1, "public.events": 1, "public.orders": 2, "public.order_lines": 2}
		if !maps.Equal(names, want) {
			t.Errorf("%s: %v, want %v", generation, names, want)
		}
	}
}

func TestDecodeTablesRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "tables of an index: unexpected end of JSON input",
		`{"version":3,"tables":7}`: "tables of an index: the text is of version 3, and this Tidemark reads versions up to 2: it was written by a newer one; hint: run the newer Tidemark",
		`{"version":-1}`:           "tables of an index: there is no version -1 of this text",
		`{"version":1,"more":{}}`:  `tables of an index: json: unknown field "more"`,
		`{"version":1,"tables":{"public.t":{"schema":"public","name":"u"}}}`:                          "tables of an index: table public.u is there as public.t",
		`{"version":1,"tables":{"public.t":{"schema":"public","name":"t","columns":[{"name":"a"}]}}}`: "tables of an index: column a of table public.t has no type",
		`{"public.t":{"Schema":"public","Name":"t","Columns":[{"Name":"a"}]}}`:                        "tables of an index: column a of table public.t has no type",
		`{"public.t":{"Schema":"public","Name":"t","More":1}}`:                                        `tables of an index: json: unknown field "More"`,
	} {
		if got, err := catalog.DecodeTables(text); err == nil || err.Error() != want {
			t.Errorf("%s: got %v %v, want %s", text, got, err, want)
		}
	}
	got, err := catalog.DecodeTables(`{"version":1,"tables":{"public.t":{"schema":"public","name":"t","identity":{"kind":"ab"}}}}`)
	if err == nil || !strings.Contains(err.Error(), `"ab" is not one letter`) {
		t.Errorf("got %v %v", got, err)
	}
}
