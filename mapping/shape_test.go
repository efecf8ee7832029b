package mapping

import (
	"strings"
	"testing"
)

func TestDocumentFields(t *testing.T) {
	tests := []struct{ name, fields, want string }{
		{"all columns by default", `{}`, "id=id price=price cents=cents"},
		{"left out", `{price: false}`, "id=id cents=cents"},
		{"true changes nothing", `{price: true}`, "id=id price=price cents=cents"},
		{"renamed: not also under its own name", `{amount: {column: cents}}`, "id=id price=price amount=cents"},
		{"renamed, and asked for under its own name", `{amount: {column: cents}, cents: true}`, "id=id price=price amount=cents cents=cents"},
		{"two fields from one column", `{a: {column: cents}, b: {column: cents}}`, "id=id price=price a=cents b=cents"},
		{"a name taken from another column", `{price: {column: cents}}`, "id=id price=cents"},
		{"names swapped", `{price: {column: cents}, cents: {column: price}}`, "id=id cents=price price=cents"},
		{"listed only", `{"*": false, price: {type: double}}`, "price=price"},
		{"a list of columns, in the order of the table", `[cents, id]`, "id=id cents=cents"},
		{"a column that is gone", `{gone: true, x: {column: gone}}`, "id=id price=price cents=cents"},
		{"constant, after the columns", `{a: {constant: 1}}`, "id=id price=price cents=cents a"},
		{"a constant by the name of a column", `{price: {constant: 1}}`, "id=id cents=cents price"},
		{"expression: its columns are there, too", `{total: {expr: price + cents}}`, "id=id price=price cents=cents total"},
		{"expression by the name of a column", `{price: {expr: price + cents}}`, "id=id cents=cents price"},
		{"expression that stands for a column", `{price_: {column: price, expr: price + cents}}`, "id=id price_=price cents=cents"},
		{"expressions that do not fit", `{a: {expr: gone}, b: {column: cents, expr: "1 + gone"}, c: {fields: {d: {expr: gone}, e: {constant: 1}}}}`, "id=id price=price c(e)"},
		{"group: its columns are not also outside of it", `{money: {fields: {p: {column: price}, cents: true}}}`, "id=id money(p=price cents=cents)"},
		{"group: but for those that an entry names", `{money: {fields: [price, cents]}, price: true}`, "id=id price=price money(price=price cents=cents)"},
		{"group in group", `{a: {fields: {b: {fields: {c: {column: cents}}}, d: {constant: 1}}}}`, "id=id price=price a(b(c=cents) d)"},
		{"group: left out inside of it", `{a: {fields: {price: true, cents: false}}}`, "id=id cents=cents a(price=price)"},
		{"group whose columns are all gone", `{a: {fields: {gone: true}}, b: {fields: {gone: true, c: {constant: 1}}}}`, "id=id price=price cents=cents b(c)"},
		{"group by the name of a column", `{price: {fields: {x: {column: cents}}}}`, "id=id price(x=cents)"},
		{"an include by the name of a column", `{}, include: {price: {table: p, on: {id: id}}}`, "id=id cents=cents"},
	}
	var shown func(fields []Field) string
	shown = func(fields []Field) string {
		var parts []string
		for _, f := range fields {
			switch {
			case f.Group != nil:
				parts = append(parts, f.Name+"("+shown(f.Group)+")")
			case f.Column == "":
				parts = append(parts, f.Name)
			default:
				parts = append(parts, f.Name+"="+f.Column)
			}
		}
		return strings.Join(parts, " ")
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ix := indexIn(t, "  t: {table: t, fields: "+test.fields+"}")
			if got := shown(ix.Sources[0].DocumentFields(table("t", "price", "cents"))); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
