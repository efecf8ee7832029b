package mapping

import (
	"fmt"
	"strings"
	"testing"

	"tidemark/mapping/catalog"
)

func TestPatternMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, schema string
		want            bool
	}{
		{"tenant_*", "tenant_1", true},
		{"tenant_*", "tenant_", true},
		{"tenant_*", "tenants", false},
		{"*_shop", "a_shop", true},
		{"*_shop", "shop", false},
		{"a*b*c", "abc", true},
		{"a*b*c", "aXbYc", true},
		{"a*b*c", "acb", false},
		{"a*a", "a", false},
		{"a**b", "ab", true},
		{"t_*_x*y", "t_1_x_xy", true},
	} {
		if got := matches(tt.pattern, tt.schema); got != tt.want {
			t.Errorf("%s, %s: %t", tt.pattern, tt.schema, got)
		}
	}
}

// TestInSchemas has a file with patterns stand for the tables of a database.
func TestInSchemas(t *testing.T) {
	found := []catalog.TableName{
		{Schema: "pg_tenant", Name: "orders"}, {Schema: "tenant_a", Name: "orders"}, {Schema: "tenant_a-b", Name: "orders"},
		{Schema: "tenant_a", Name: "users"}, {Schema: "other", Name: "orders"}, {Schema: "tenant_ctrl", Name: "orders"},
	}
	c := mustParse(t, `postgres: {control_schema: tenant_ctrl}
search: {urls: [http://h]}
indices:
  orders:
    table: "tenant_*.orders"
    id: "{schema}-{id}"
    fields: {tenant: {schema: true}, place: {fields: {of: {schema: true}, city: true}}}
    include:
      items: {table: "{schema}.items", on: {id: order_id}, many: object}
      tags: {table: public.tags, through: {table: "{schema}.order_tags", on: {id: order_id}, to: {tag_id: id}}, many: object}
  users:
    name: "users-{schema}"
    table: "tenant_*.users"
  plain:
    table: public.plain
    fields: {tenant: {schema: true}}
`)
	if got := fmt.Sprint(c.Patterns()); got != `["tenant_*".orders "tenant_*".users]` {
		t.Errorf("patterns %s", got)
	}
	in, err := c.InSchemas(found)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ix := range in.Indices {
		for _, s := range ix.Sources {
			if s.Index != ix {
				t.Errorf("a source of %s belongs to another index", ix.Name)
			}
			text := fmt.Sprintf("%s %s %q %q", ix.Name, s.Table, s.Literals, s.ID)
			for _, f := range s.Fields {
				if f.Constant != nil {
					text += fmt.Sprint(" ", f.Name, "=", f.Constant.Value)
				}
				for _, g := range f.Group {
					if g.Constant != nil {
						text += fmt.Sprint(" ", f.Name, ".", g.Name, "=", g.Constant.Value)
					}
				}
			}
			for _, name := range s.Tables()[1:] {
				text += " " + name.String()
			}
			got = append(got, text)
		}
	}
	want := []string{
		`orders tenant_a.orders ["tenant_a-" ""] ["id"] tenant=tenant_a place.of=tenant_a tenant_a.items tenant_a.order_tags public.tags`,
		`orders "tenant_a-b".orders ["tenant_a~-b-" ""] ["id"] tenant=tenant_a-b place.of=tenant_a-b "tenant_a-b".items "tenant_a-b".order_tags public.tags`,
		`users-tenant_a tenant_a.users [] []`,
		`plain public.plain [] [] tenant=public`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if in.Written() != c || c.Written() != c {
		t.Error("the file as it is written is lost")
	}
	if got := fmt.Sprint(in.Matched()); got != `[tenant_a.orders "tenant_a-b".orders tenant_a.users]` {
		t.Errorf("in the place of patterns: %s", got)
	}
	only := in.Only(catalog.TableName{Schema: "tenant_a", Name: "users"})
	if len(only.Indices) != 1 || only.Indices[0].Sources[0].Index != only.Indices[0] {
		t.Errorf("only one table: %v", only.Indices)
	}
	if less, err := c.InSchemas(found[:4]); err != nil || !in.SameTables(less) {
		t.Errorf("the same tables are others: %v", err)
	}
	if less, err := c.InSchemas(append(found[3:4:4], found[1])); err != nil || in.SameTables(less) {
		t.Errorf("other tables are the same: %v", err)
	}
}

// TestInSchemasLeavesOut has more schemas than an index takes.
func TestInSchemasLeavesOut(t *testing.T) {
	c := mustParse(t, "search: {urls: [http://h]}\nindices:\n  o: {name: \"o-{schema}\", table: \"t_*.o\", max_indices: 2}\n")
	var found []catalog.TableName
	for i := range 4 {
		found = append(found, catalog.TableName{Schema: fmt.Sprintf("t_%d", i), Name: "o"})
	}
	in, err := c.InSchemas(found)
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Indices) != 2 || len(in.Left) != 1 || !strings.Contains(in.Left[0].Text, "4 schemas match, of which 2 are taken: t_2, t_3 are left out") {
		t.Errorf("%d indices, %v", len(in.Indices), in.Left)
	}
}

func TestInSchemasRefuses(t *testing.T) {
	for _, tt := range []struct{ index, schemas, want string }{
		{`{table: "t_*.o", id: "{schema}-{id}"}`, "u_1", "no schema of the database has a table t_*.o"},
		{`{name: "x-{schema}", table: "*T.o"}`, "aT", "an index name is written in lower case"},
		{`{tables: [{table: "t*.o", id: "{schema}-{id}"}, {table: public.p, id: "t1-{id}"}]}`, "t1", "documents of table t1.o could have the _id of one of table public.p"},
	} {
		c := mustParse(t, "search: {urls: [http://h]}\nindices:\n  x: "+tt.index+"\n")
		_, err := c.InSchemas([]catalog.TableName{{Schema: tt.schemas, Name: "o"}})
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), `"t_*".o`, "t_*.o"), tt.want) {
			t.Errorf("%s: %v, want %s", tt.index, err, tt.want)
		}
	}
}

// TestPatternsInFiles is what a file may say of patterns.
func TestPatternsInFiles(t *testing.T) {
	for _, tt := range []struct{ index, want string }{
		{`{table: "*.o", id: "{schema}-{id}"}`, "a pattern has more than *"},
		{`{table: "t_*.o"}`, "rows of two schemas could have the same _id"},
		{`{table: "t_*.o", id: "{id}-{schema}"}`, "rows of two schemas could have the same _id"},
		{`{table: "t_*.o", id: "{schema}"}`, "it has no column of the table"},
		{`{table: "t_*.o", id: [schema, id]}`, "schema stands in a list"},
		{`{name: "a-{schema}", table: public.o}`, "the name of the index has {schema}, and table public.o is of one"},
		{`{table: public.o, include: {i: {table: "t_*.i", on: {id: o}, many: object}}}`, "many schemas are for the table whose rows are documents"},
		{`{table: "t_*.o*", id: "{schema}-{id}"}`, `a name with '*' must be in double quotes`},
		{`{name: "A-{schema}", table: "t_*.o"}`, "an index name is written in lower case"},
		{`{table: public.o, fields: {a: {schema: false}}}`, "schema: want true"},
		{`{table: public.o, fields: {a: {schema: true, column: b}}}`, "this field is made of several things"},
		{`{table: '"{schema}".o'}`, "could not be told from that of the root table"},
	} {
		_, err := Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices:\n  x: "+tt.index+"\n"), env())
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.index, err, tt.want)
		}
	}
	// Elsewhere the same words are what they were, and a name in quotes is a name.
	if c := mustParse(t, `{search: {urls: [http://h]}, indices: {x: {table: '"a*".o'}}}`); len(c.Patterns()) > 0 || c.Indices[0].Sources[0].Table.Schema != "a*" {
		t.Errorf("a schema in quotes is %v", c.Indices[0].Sources[0])
	}
	if c := mustParse(t, `{search: {urls: [http://h]}, indices: {x: {table: 'tenant-*.o', id: "{schema}-{id}"}}}`); len(c.Patterns()) != 1 {
		t.Error("a pattern may have a hyphen")
	}
	mustParse(t, `{search: {urls: [http://h]}, indices: {x: {name: other, table: public.o, id: "{schema}-{id}"}}}`)
	_, err := Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices:\n  x: {table: a}\n  y: {name: x, table: b}\n"), env())
	if err == nil || !strings.Contains(err.Error(), "has the name of that of indices.x") {
		t.Errorf("two indices of one name: %v", err)
	}
}

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("t.yaml", []byte(text), env())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
