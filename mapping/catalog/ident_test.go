package catalog

import (
	"strings"
	"testing"
)

func TestParseTableName(t *testing.T) {
	tests := []struct{ text, schema, name string }{
		{"products", "public", "products"},
		{"Shop.Products", "Shop", "Products"},
		{`public."Weird.Name"`, "public", "Weird.Name"},
		{`"a ""b"""."c"`, `a "b"`, "c"},
		{`"only"`, "public", "only"},
		{"größe.tab$1", "größe", "tab$1"},
	}
	for _, test := range tests {
		got, err := ParseTableName(test.text)
		if want := (TableName{test.schema, test.name}); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", test.text, got, err, want)
		}
		again, err := ParseTableName(got.String())
		if err != nil || again != got {
			t.Errorf("%s: reads as %v, %v", got, again, err)
		}
	}
	for text, want := range map[string]string{
		"":          "a name is missing",
		"a.":        "a name is missing",
		"a b":       "a name with ' ' must be in double quotes",
		`a"b"`:      "a name with '\"' must be in double quotes",
		"1a":        "a name with '1' must be in double quotes",
		`"a`:        `a " without its end`,
		`"a"b`:      "after a name in quotes comes a dot or the end",
		"a.b.c":     "a table is named by schema and name, not by 3 parts",
		"\"a\x00\"": "a name in Postgres holds no NUL",
	} {
		if got, err := ParseTableName(text); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, %v, want the error %s", text, got, err, want)
		}
	}
	for _, bad := range []string{"", ".", "a.", ".a", "a.b.c", "a b", "1a", "a-b", `"a`, `"a"b`, `""`, `a"b"`, "a\x00", strings.Repeat("a", 64)} {
		if got, err := ParseTableName(bad); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
}

func TestQuoteIdent(t *testing.T) {
	for name, want := range map[string]string{
		"a": `"a"`, "Ünï Code": `"Ünï Code"`, `a"b`: `"a""b"`, `"`: `""""`, "": `""`, "a.b": `"a.b"`, "a'b": `"a'b"`, `a\b`: `"a\b"`, "a\nb": "\"a\nb\"",
		"a\x00b": `"ab"`,
	} {
		if got := QuoteIdent(name); got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}
