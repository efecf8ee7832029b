package mapping

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/mapping/catalog"
)

func TestJoinID(t *testing.T) {
	tests := []struct {
		key  []string // "\x00" stands for NULL
		want string
	}{
		{[]string{"7"}, "7"},
		{[]string{"a|b~"}, "a|b~"},
		{[]string{""}, "~"},
		{[]string{"~"}, "~~"},
		{[]string{"~N"}, "~~N"},
		{[]string{"\x00"}, "~N"},
		{[]string{"1", "2"}, "1|2"},
		{[]string{"a|", "~b"}, "a~||~~b"},
		{[]string{"", ""}, "|"},
		{[]string{"\x00", ""}, "~N|"},
		{[]string{strings.Repeat("x", 512)}, strings.Repeat("x", 512)},
		{[]string{strings.Repeat("x", 513)}, "~sha256-35ade0090e64e74d6ad04204009c23a4e34b82bdf0f4f317fbcc5f26f9b10241"},
		{[]string{"\xff"}, "~sha256-a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89"},
	}
	for _, tt := range tests {
		var values [][]byte
		for _, s := range tt.key {
			if s == "\x00" {
				values = append(values, nil)
			} else {
				values = append(values, []byte(s))
			}
		}
		if got := string(joinID(nil, values...)); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.key, got, tt.want)
		}
	}
}

// Different keys of one table give different ids, none longer than the search
// servers take.
func TestJoinIDIsInjective(t *testing.T) {
	value := rapid.OneOf(
		rapid.Just([]byte(nil)),
		rapid.Map(rapid.StringOfN(rapid.RuneFrom([]rune("~|Ns")), 0, 4, -1), func(s string) []byte { return []byte(s) }),
		rapid.SliceOfN(rapid.Byte(), 0, 3),
		rapid.Map(rapid.IntRange(509, 514), func(n int) []byte { return bytes.Repeat([]byte{'~'}, n) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3).Draw(t, "columns")
		key := rapid.SliceOfN(value, n, n)
		a, b := key.Draw(t, "a"), key.Draw(t, "b")
		same := true
		for i := range a {
			same = same && (a[i] == nil) == (b[i] == nil) && bytes.Equal(a[i], b[i])
		}
		x, y := joinID(nil, a...), joinID(nil, b...)
		if bytes.Equal(x, y) != same {
			t.Fatalf("%q and %q: %q and %q", a, b, x, y)
		}
		if len(x) == 0 || len(x) > maxID {
			t.Fatalf("%q: id of %d bytes", a, len(x))
		}
	})
}

func TestTemplateID(t *testing.T) {
	tests := []struct {
		template string
		key      []string // "\x00" stands for NULL
		want     string
	}{
		{"product-{id}", []string{"7"}, "product-7"},
		{"product-{id}", []string{""}, "product-"},
		{"{id}", []string{""}, "~"},
		{"{id}", []string{"~"}, "~~"},
		{"product-{id}", []string{"~a-b"}, "product-~~a-b"},
		{"product-{id}", []string{"\x00"}, "product-~N"},
		{"{id}.", []string{"a.b"}, "a~.b."},
		{"p-{lang}-{id}", []string{"de-CH", "7-8"}, "p-de~-CH-7-8"},
		{"p-{lang}äö{id}", []string{"ä", "ä"}, "p-~ääöä"},
		{"p-{id}", []string{strings.Repeat("x", 510)}, "p-" + strings.Repeat("x", 510)},
		{"p-{id}", []string{strings.Repeat("x", 511)}, "p-~sha256-f9b02d3eb9d27b8f397ca402644cee7ae7683f34a850a5c7accb7cb542cfcfba"},
		{"p-{id}", []string{"\xff"}, "p-~sha256-91c67a5c1852955851b64e57bb42bdd8af79a76f91b8a706b9babe2ac7902b30"},
	}
	for _, tt := range tests {
		literals, columns, err := parseTemplate(tt.template)
		if err != nil || len(columns) != len(tt.key) {
			t.Fatal(tt.template, columns, err)
		}
		var values [][]byte
		for _, s := range tt.key {
			if s == "\x00" {
				values = append(values, nil)
			} else {
				values = append(values, []byte(s))
			}
		}
		if got := string(templateID(nil, literals, values...)); got != tt.want {
			t.Errorf("%s of %q: got %q, want %q", tt.template, tt.key, got, tt.want)
		}
	}
}

// Different keys give different ids by one template, whatever stands in it, none longer
// than the search servers take, and all begin with what stands before the first column:
// no two templates whose beginnings are not those of each other meet.
func TestTemplateIDIsInjective(t *testing.T) {
	signs := []rune("~|Ns-ä")
	text := rapid.StringOfN(rapid.RuneFrom(signs), 0, 3, -1)
	value := rapid.OneOf(
		rapid.Just([]byte(nil)),
		rapid.Map(rapid.StringOfN(rapid.RuneFrom(signs), 0, 4, -1), func(s string) []byte { return []byte(s) }),
		rapid.SliceOfN(rapid.Byte(), 0, 3),
		rapid.Map(rapid.IntRange(500, 514), func(n int) []byte { return bytes.Repeat([]byte{'-'}, n) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3).Draw(t, "columns")
		template := ""
		for i := range n {
			template += text.Draw(t, "text") + "{" + string(rune('a'+i)) + "}"
		}
		template += text.Draw(t, "text")
		literals, _, err := parseTemplate(template)
		if err != nil {
			t.Skip(err)
		}
		key := rapid.SliceOfN(value, n, n)
		a, b := key.Draw(t, "a"), key.Draw(t, "b")
		same := true
		for i := range a {
			same = same && (a[i] == nil) == (b[i] == nil) && bytes.Equal(a[i], b[i])
		}
		x, y := templateID(nil, literals, a...), templateID(nil, literals, b...)
		if bytes.Equal(x, y) != same {
			t.Fatalf("%s: %q and %q: %q and %q", template, a, b, x, y)
		}
		if len(x) == 0 || len(x) > maxID || !bytes.HasPrefix(x, []byte(literals[0])) {
			t.Fatalf("%s: %q: id %q", template, a, x)
		}
	})
}

// TestPageColumns pages along the unique index over the id, whatever the order of the id.
func TestPageColumns(t *testing.T) {
	integer := &catalog.Type{Name: "integer", Kind: catalog.KindBase}
	table := &catalog.Table{Schema: "public", Name: "t", PrimaryKey: []string{"a", "b"}, Unique: [][]string{{"c", "b"}},
		Columns: []catalog.Column{{Name: "a", Type: integer}, {Name: "b", Type: integer}, {Name: "c", Type: integer}}}
	for _, test := range []struct{ id, want []string }{
		{nil, []string{"a", "b"}}, {[]string{"b", "a"}, []string{"a", "b"}}, {[]string{"b", "c"}, []string{"c", "b"}}, {[]string{"c"}, []string{"c"}},
	} {
		s := &Source{Index: &Index{Name: "t"}, Table: table.TableName(), ID: test.id}
		s.Index.Sources = []*Source{s}
		if diff := cmp.Diff(test.want, s.PageColumns(table)); diff != "" {
			t.Errorf("id %v (-want +got):\n%s", test.id, diff)
		}
	}
	s := &Source{Index: &Index{Name: "t"}, Table: table.TableName(), ID: []string{"b", "a"}}
	s.Index.Sources = []*Source{s}
	query, args, err := s.Find(catalog.Tables{s.Table: table}, nil, [][]byte{[]byte("2"), []byte("1")}, 5)
	const want = `SELECT t."b", t."a" FROM ONLY "public"."t" t WHERE (t."a", t."b") > ($1::integer, $2::integer) ORDER BY t."a", t."b" LIMIT 5`
	if err != nil || query != want || string(args[0]) != "1" || string(args[1]) != "2" {
		t.Errorf("got %s %q, %v, want %s", query, args, err, want)
	}
}
