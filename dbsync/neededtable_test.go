package dbsync

import (
	"slices"
	"testing"
)

func TestParseNeeded(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]neededTable{
		"docs":                           {name: `"docs"`},
		" public.docs ":                  {name: `"public"."docs"`},
		"docs(id)":                       {name: `"docs"`, columns: []string{"id"}},
		"public.docs (id,  title )":      {name: `"public"."docs"`, columns: []string{"id", "title"}},
		`"a(b" ("x,y", "q""(z)", Title)`: {name: `"a(b"`, columns: []string{"x,y", `q"(z)`, "Title"}},
	} {
		got, err := parseNeeded(text)
		if err != nil || got.name != want.name || !slices.Equal(got.columns, want.columns) || (got.columns == nil) != (want.columns == nil) {
			t.Errorf("%s is read as %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "docs ()", "docs (id", "docs (id) more", "docs (id,)", "docs (a.b)", `docs ("id)`, "docs ((id))", "(id)", `docs (a"b)`} {
		if got, err := parseNeeded(text); err == nil {
			t.Errorf("%s is read as %+v, want an error", text, got)
		}
	}
}
