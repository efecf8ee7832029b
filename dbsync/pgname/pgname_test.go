package pgname

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

func TestSplit(t *testing.T) {
	plain := func(name string) Part { return Part{Name: name} }
	quoted := func(name string) Part { return Part{Name: name, Quoted: true} }
	for _, test := range []struct {
		text string
		want []Part
	}{
		{"", []Part{plain("")}},
		{".", []Part{plain(""), plain("")}},
		{"a", []Part{plain("a")}},
		{"a.b", []Part{plain("a"), plain("b")}},
		{"a..b", []Part{plain("a"), plain(""), plain("b")}},
		{"a.b.c", []Part{plain("a"), plain("b"), plain("c")}},
		{"a.", []Part{plain("a"), plain("")}},
		{".a", []Part{plain(""), plain("a")}},
		{"a b", []Part{plain("a b")}},
		{"Ünï.x", []Part{plain("Ünï"), plain("x")}},
		{`"a.b"`, []Part{quoted("a.b")}},
		{`"a"."b"`, []Part{quoted("a"), quoted("b")}},
		{`a."b"`, []Part{plain("a"), quoted("b")}},
		{`"a".b`, []Part{quoted("a"), plain("b")}},
		{`"a""b".c`, []Part{quoted(`a"b`), plain("c")}},
		{`"a".`, []Part{quoted("a"), plain("")}},
		{`""`, []Part{quoted("")}},
		{`""""`, []Part{quoted(`"`)}},
		{`a"b"`, []Part{plain(`a"b"`)}}, // only a quote at its beginning makes a quoted name
	} {
		got, err := Split(test.text)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: got %+v, %v, want %+v", test.text, got, err, test.want)
		}
	}
	for text, want := range map[string]string{
		`"`: `a " without its end`, `"a`: `a " without its end`, `"a""`: `a " without its end`, `a."b`: `a " without its end`,
		`"a"b`: "after a name in quotes comes a dot or the end", `"a" .b`: "after a name in quotes comes a dot or the end",
	} {
		if got, err := Split(text); err == nil || err.Error() != want {
			t.Errorf("%s: got %+v, %v, want the error %s", text, got, err, want)
		}
	}
}

// Whatever names pgx has quoted are found again.
func TestSplitQuoted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.StringOf(rapid.RuneFrom([]rune(`ab."' ü`))), 1, 3).Draw(t, "names")
		parts, err := Split(pgx.Identifier(names).Sanitize())
		if err != nil || len(parts) != len(names) {
			t.Fatalf("got %+v, %v", parts, err)
		}
		for i, p := range parts {
			if p != (Part{Name: names[i], Quoted: true}) {
				t.Errorf("part %d is %+v, want %q", i, p, names[i])
			}
		}
	})
}
