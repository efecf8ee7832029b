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
	for _, bad := range []string{"", ".", "a.", ".a", "a.b.c", "a b", "1a", "a-b", `"a`, `"a"b`, `""`, `a"b"`, "a\x00", strings.Repeat("a", 64)} {
		if got, err := ParseTableName(bad); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
}
