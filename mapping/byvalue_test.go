package mapping

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
)

var ordersRegion = ValueColumn{catalog.TableName{Schema: "public", Name: "orders"}, "region"}

func texts(all ...string) (values []Value) {
	for _, text := range all {
		values = append(values, Value{text, text})
	}
	return values
}

// TestByValues has names with a column stand for the values that a column has.
func TestByValues(t *testing.T) {
	stored := func(name, column string, values ...string) *Index {
		return indexOf(Index{Name: name}, Source{Table: ordersRegion.Table, Only: &Only{column, values}})
	}
	other := stored("orders-other", "region", "other")
	other.Sources[0].Table.Name = "others"
	for _, tt := range []struct {
		name  string
		most  int
		found []Value
		kept  []*Index
		want  []string // indices, each with its values
		left  []string
	}{
		{name: "values", most: 5, found: texts("us", "eu"), want: []string{"orders-eu [eu]", "orders-us [us]"}},
		{name: "spellings", most: 5, found: texts("EU", "Eu", "us"), want: []string{"orders-eu [EU Eu]", "orders-us [us]"}},
		{name: "a name that is not the text", most: 5, found: []Value{{"t", "true"}}, want: []string{"orders-true [t]"}},
		{name: "kept", most: 5, found: texts("us"), kept: []*Index{stored("orders-eu", "region", "EU", "eu")}, want: []string{"orders-eu [EU eu]", "orders-us [us]"}},
		{name: "kept, with another spelling", most: 5, found: texts("Eu"), kept: []*Index{stored("orders-eu", "region", "eu")}, want: []string{"orders-eu [Eu eu]"}},
		{name: "of another column, table or name", most: 5, found: texts("us"), kept: []*Index{stored("orders-eu", "country", "eu"), other, stored("order-eu", "region", "eu")},
			want: []string{"orders-us [us]"}},
		{name: "none that is there is left out", most: 2, found: texts("a", "b", "eu"), kept: []*Index{stored("orders-eu", "region", "eu")}, want: []string{"orders-eu [eu]", "orders-a [a]"},
			left: []string{"1 values of column region are left out, since an index stands for 2 at most"}},
		{name: "no names", most: 5, found: texts("", "a/b", "a b", "Ä", "us", "taken", strings.Repeat("x", 250)), want: []string{"orders-us [us]"},
			left: []string{"6 values of column region make no name of an index of their own (it is empty)"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, fmt.Sprintf("search: {urls: [http://h]}\nindices:\n  orders-taken: {table: other}\n  orders: {name: \"orders-{region}\", table: orders, max_indices: %d}\n", tt.most))
			if got := c.ValueColumns(); len(got) != 1 || got[ordersRegion] != 10*tt.most {
				t.Errorf("columns %v", got)
			}
			by, err := c.ByValues(map[ValueColumn][]Value{ordersRegion: tt.found}, tt.kept)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, ix := range by.Indices[1:] {
				s := ix.Sources[0]
				if s.Index != ix || ix.Key != "orders" || s.Only.Column != "region" {
					t.Errorf("%s: %+v", ix.Name, s)
				}
				got = append(got, fmt.Sprint(ix.Name, " ", s.Only.Values))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q", got)
			}
			if len(by.Left) != len(tt.left) {
				t.Errorf("left %v", by.Left)
			}
			for i := range min(len(by.Left), len(tt.left)) {
				if !strings.Contains(by.Left[i].Text, tt.left[i]) {
					t.Errorf("left %v", by.Left[i])
				}
			}
			if by.Written() != c || !by.SameTables(by) {
				t.Error("the file as it is written is lost")
			}
			if fmt.Sprint(by.Values()[ordersRegion]) != fmt.Sprint(tt.found) {
				t.Errorf("values %v", by.Values())
			}
		})
	}
}

func TestByValuesRefuses(t *testing.T) {
	c := mustParse(t, "search: {urls: [http://h]}\nindices:\n  orders: {name: \"orders-{region}\", table: orders}\n")
	if _, err := c.ByValues(nil, nil); err == nil || !strings.Contains(err.Error(), "no row of public.orders has a value in column region that names an index") {
		t.Errorf("no values: %v", err)
	}
	for _, tt := range []struct{ index, want string }{
		{`{name: "o-{a}-{b}", table: orders}`, "one column may stand in the name of an index"},
		{`{name: "o-{}", table: orders}`, "a name is missing"},
		{`{name: "O-{a}", table: orders}`, "an index name is written in lower case"},
	} {
		_, err := Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices:\n  x: "+tt.index+"\n"), env())
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.index, err)
		}
	}
}

// TestSameValues tells configurations apart by the values of their indices.
func TestSameValues(t *testing.T) {
	c := mustParse(t, "search: {urls: [http://h]}\nindices:\n  orders: {name: \"orders-{region}\", table: orders}\n")
	of := func(all ...string) *Config {
		by, err := c.ByValues(map[ValueColumn][]Value{ordersRegion: texts(all...)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return by
	}
	if !of("a", "b").SameTables(of("b", "a")) || of("a").SameTables(of("a", "b")) || of("a").SameTables(of("a", "A")) {
		t.Error("the same values are others, or others the same")
	}
}

// TestRowsOf says in SQL which rows an index has. A text that the type of the column does not take is in no statement.
func TestRowsOf(t *testing.T) {
	typed := func(oid uint32, name string) *catalog.Type {
		return &catalog.Type{OID: oid, Name: name, Kind: catalog.KindBase, Modifier: -1}
	}
	enum := &catalog.Type{OID: 20000, Name: "public.region", Kind: catalog.KindEnum, Labels: []catalog.Label{{OID: 1, Text: "eu"}}}
	for _, tt := range []struct {
		of     *catalog.Type
		values []string
		want   string
	}{
		{typed(pgtype.TextOID, "text"), []string{"a", "it's"}, `t."c" = ANY (ARRAY['a', 'it''s']::pg_catalog.text[])`},
		{typed(pgtype.VarcharOID, "character varying(2)"), []string{"abc"}, `t."c" = ANY (ARRAY['abc']::pg_catalog.text[])`},
		{typed(pgtype.Int4OID, "integer"), []string{"7", "99999999999", "x"}, `t."c" = ANY (ARRAY['7']::integer[])`},
		{typed(pgtype.BoolOID, "boolean"), []string{"t", "true"}, `t."c" = ANY (ARRAY['t']::boolean[])`},
		{typed(pgtype.DateOID, "date"), []string{"2026-01-31", "n/a"}, `t."c" = ANY (ARRAY['2026-01-31']::date[])`},
		{enum, []string{"eu", "renamed"}, `t."c" = ANY (ARRAY['eu']::public.region[])`},
	} {
		table := &catalog.Table{Schema: "public", Name: "o", Columns: []catalog.Column{{Name: "c", Type: tt.of}}}
		s := &Source{Only: &Only{"c", tt.values}}
		if got := s.RowsOf(table, Root); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.of.Name, got, tt.want)
		}
	}
}

// TestOnlyCounts has the values of an index be in its fingerprint and in what is stored, and decide which rows are documents.
func TestOnlyCounts(t *testing.T) {
	text := &catalog.Type{OID: pgtype.TextOID, Name: "text", Kind: catalog.KindBase, Modifier: -1}
	table := &catalog.Table{Schema: "public", Name: "orders", PrimaryKey: []string{"id"}, Columns: []catalog.Column{{Name: "id", Type: text, NotNull: true}, {Name: "region", Type: text}}}
	tables := catalog.Tables{table.TableName(): table}
	of := func(only *Only) *Index {
		return indexOf(Index{Name: "a"}, Source{Table: table.TableName(), Only: only})
	}
	all, eu, both := of(nil), of(&Only{"region", []string{"eu"}}), of(&Only{"region", []string{"EU", "eu"}})
	if a, b, c := all.Fingerprint(tables), eu.Fingerprint(tables), both.Fingerprint(tables); a == b || b == c {
		t.Errorf("fingerprints %s, %s, %s", a, b, c)
	}
	for _, ix := range []*Index{all, eu, both} {
		roundTrip(t, ix)
	}
	if stored, _ := eu.Encode(); !strings.Contains(stored, `"version":3`) {
		t.Errorf("stored as %s", stored)
	}
	if eu.Matches(all.fingerprintsBefore(tables)[0], tables) {
		t.Error("it is taken for one that an earlier version made")
	}
	plan, err := Compile(eu.Sources[0], table, []string{"id", "region"})
	if err != nil {
		t.Fatal(err)
	}
	// What is read again, or found for others, is rows of its own alone.
	query, _, err := eu.Sources[0].Find(tables, nil, nil, 10)
	if err != nil || !strings.Contains(query, `WHERE t."region" = ANY (ARRAY['eu']`) {
		t.Errorf("%s, %v", query, err)
	}
	path := &Path{Source: eu.Sources[0], Hops: []Hop{{Table: table.TableName(), On: []Pair{{"id", "id"}}}}}
	query, _, err = eu.Sources[0].FindSome(tables, []Lookup{{Path: path, Keys: [][][]byte{{[]byte("1")}}}}, 10)
	if err != nil || !strings.Contains(query, `WHERE t."region" = ANY (ARRAY['eu']`) {
		t.Errorf("%s, %v", query, err)
	}
	for region, want := range map[string]bool{"eu": true, "EU": false, "": false} {
		if holds, err := plan.Holds(row("1", region)); err != nil || holds != want {
			t.Errorf("%q: %t, %v", region, holds, err)
		}
	}
}

// TestCheckValues holds the column of a name against the table.
func TestCheckValues(t *testing.T) {
	text := &catalog.Type{OID: pgtype.TextOID, Name: "text", Kind: catalog.KindBase, Modifier: -1}
	number := &catalog.Type{OID: pgtype.NumericOID, Name: "numeric", Kind: catalog.KindBase, Modifier: -1}
	for _, tt := range []struct {
		column catalog.Column
		full   bool
		want   string
	}{
		{catalog.Column{Name: "region", Type: text}, true, ""},
		{catalog.Column{Name: "other", Type: text}, true, "has no column region"},
		{catalog.Column{Name: "region", Type: text, Generated: true}, true, "column region of table public.orders is generated"},
		{catalog.Column{Name: "region", Type: number}, true, "is of type numeric, whose values name no index"},
		{catalog.Column{Name: "region", Type: text}, false, "the replica identity of table public.orders does not hold region"},
	} {
		c := mustParse(t, "search: {urls: [http://h]}\nindices:\n  orders: {name: \"orders-{region}\", table: orders}\n")
		table := &catalog.Table{OID: 1, Schema: "public", Name: "orders", PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: catalog.IdentityDefault, Columns: []string{"id"}},
			Columns: []catalog.Column{{Name: "id", Type: text, NotNull: true}, tt.column}}
		if tt.full {
			table.Identity = catalog.Identity{Kind: catalog.IdentityFull, Columns: []string{"id", tt.column.Name}}
		}
		problems := c.Check(catalog.Tables{table.TableName(): table})
		if got := fmt.Sprint(problems); tt.want == "" && len(problems) > 0 || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s", tt.want, got)
		}
	}
}
