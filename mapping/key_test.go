package mapping

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tidemark/mapping/catalog"
)

// keyed is a source whose _id is made of the columns a, b and c, as many as there are.
func keyed(columns []string, literals []string) (*Source, *catalog.Table) {
	ix := &Index{Name: "x"}
	s := &Source{Index: ix, ID: columns, Literals: literals}
	ix.Sources = []*Source{s}
	return s, &catalog.Table{PrimaryKey: columns}
}

func sameKey(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) || !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// TestKeyOf undoes what makes ids of keys, whatever stands in them, and takes no text for an
// id that no key makes.
func TestKeyOf(t *testing.T) {
	signs := []rune("~|Ns-ä")
	text := rapid.StringOfN(rapid.RuneFrom(signs), 0, 3, -1)
	value := rapid.OneOf(
		rapid.Just([]byte(nil)),
		rapid.Map(rapid.StringOfN(rapid.RuneFrom(signs), 0, 4, -1), func(s string) []byte { return []byte(s) }),
		rapid.Just([]byte("sha256-"+strings.Repeat("0", 64))),
		rapid.SliceOfN(rapid.Byte(), 0, 3),
		rapid.Map(rapid.IntRange(500, 514), func(n int) []byte { return bytes.Repeat([]byte{'-'}, n) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 3).Draw(t, "columns")
		columns := []string{"a", "b", "c"}[:n]
		var literals []string
		if rapid.Bool().Draw(t, "by a template") {
			template := ""
			for _, c := range columns {
				template += text.Draw(t, "text") + "{" + c + "}"
			}
			template += text.Draw(t, "text")
			var err error
			if literals, _, err = parseTemplate(template); err != nil {
				t.Skip(err)
			}
		}
		s, table := keyed(columns, literals)
		id := func(key [][]byte) string {
			if literals != nil {
				return string(templateID(nil, literals, key...))
			}
			return string(joinID(nil, key...))
		}
		key := rapid.SliceOfN(value, n, n).Draw(t, "key")
		made := id(key)
		got, ok := s.KeyOf(table, made)
		if hashed := s.IsHashed(made); ok == hashed || ok && !sameKey(got, key) {
			t.Fatalf("%q of %q: got %q, %v, hashed %v", made, key, got, ok, hashed)
		}
		if !s.Identifies(made) {
			t.Fatalf("%q does not begin with %q", made, s.Prefix())
		}
		other := s.Prefix() + rapid.StringOfN(rapid.RuneFrom(signs), 0, 8, -1).Draw(t, "other")
		if got, ok := s.KeyOf(table, other); ok && id(got) != other {
			t.Fatalf("%q is no id, got %q", other, got)
		}
	})
}
