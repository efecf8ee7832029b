package mapping

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/mapping/catalog"
)

// Every column that documents are made of, or placed or found by, is among those that are read,
// and no other one.
func TestReads(t *testing.T) {
	integer, text := catalog.NewBase(23, "integer"), catalog.NewBase(25, "text")
	made := func(name string, key string, columns ...string) *catalog.Table {
		table := &catalog.Table{Schema: "public", Name: name, PrimaryKey: strings.Fields(key)}
		for i, c := range columns {
			typ := text
			if strings.HasSuffix(c, "id") || c == "n" {
				typ = integer
			}
			table.Columns = append(table.Columns, catalog.Column{Number: int16(i + 1), Name: c, Type: typ})
		}
		return table
	}
	tables := make(catalog.Tables)
	for _, table := range []*catalog.Table{
		made("a", "id", "id", "b_id", "title", "secret", "n", "lang"),
		made("b", "id", "id", "name", "other", "kind"),
		made("c", "id", "id", "a_id", "n", "hidden", "at"),
		made("ab", "a_id b_id", "a_id", "b_id", "place", "unused"),
	} {
		tables[table.TableName()] = table
	}
	tests := []struct{ index, want string }{
		{`{table: a}`, "a.b_id a.id a.lang a.n a.secret a.title"},
		{`{table: a, fields: {secret: false, n: false}}`, "a.b_id a.id a.lang a.title"},
		{`{table: a, fields: [title]}`, "a.id a.title"},
		{`{table: a, fields: {"*": false, x: {column: title}}, routing: lang, where: n > 1}`, "a.id a.lang a.n a.title"},
		{`{table: a, fields: {"*": false, x: {expr: "n + 1"}}}`, "a.id a.n"},
		{`{table: a, fields: [id], include: {b: {table: b, on: {b_id: id}, fields: [name]}}}`, "a.b_id a.id b.id b.name"},
		{`{table: a, fields: [id], include: {b: {table: b, on: {b_id: id}, value: name}}}`, "a.b_id a.id b.id b.name"},
		{`{table: a, fields: [id], include: {cs: {table: c, on: {id: a_id}, many: nested, fields: [n], order_by: at desc, where: "hidden is null"}}}`, "a.id c.a_id c.at c.hidden c.id c.n"},
		{`{table: a, fields: [id], include: {s: {table: c, on: {id: a_id}, aggregate: sum, column: n}}}`, "a.id c.a_id c.n"},
		{`{table: a, fields: [id], include: {bs: {table: b, through: {table: ab, on: {id: a_id}, to: {b_id: id}}, value: name, order_by: place}}}`, "a.id ab.a_id ab.b_id ab.place b.id b.name"},
	}
	for _, test := range tests {
		c, err := Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices:\n  x: "+test.index+"\n"), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Errorf("%s: %v", test.index, err)
			continue
		}
		var got []string
		for table, columns := range c.Indices[0].Reads(tables) {
			for column := range maps.Keys(columns) {
				got = append(got, table.Name+"."+column)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(test.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.index, diff)
		}
	}
}
