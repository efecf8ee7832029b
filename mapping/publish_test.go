package mapping

import (
	"strings"
	"testing"

	"tidemark/mapping/catalog"
)

// The publication names the columns that any index uses, of tables with files that none uses.
func TestPublished(t *testing.T) {
	t.Parallel()
	integer, text, bytea := catalog.NewBase(23, "integer"), catalog.NewBase(25, "text"), catalog.NewBase(17, "bytea")
	domain := &catalog.Type{OID: 20001, Name: "public.file", Kind: catalog.KindDomain, Base: bytea}
	array := &catalog.Type{OID: 1001, Name: "bytea[]", Kind: catalog.KindArray, Elem: bytea}
	composite := &catalog.Type{OID: 20002, Name: "public.named", Kind: catalog.KindComposite, Attributes: []catalog.Attribute{{Name: "name", Type: text}, {Name: "file", Type: domain}}}
	made := func(name string, columns ...catalog.Column) *catalog.Table {
		table := &catalog.Table{Schema: "public", Name: name, PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: catalog.IdentityDefault, Columns: []string{"id"}}}
		for i, c := range append([]catalog.Column{{Name: "id", Type: integer, NotNull: true}}, columns...) {
			c.Number = int16(i + 1)
			table.Columns = append(table.Columns, c)
		}
		return table
	}
	parent := made("parent", catalog.Column{Name: "v", Type: text}, catalog.Column{Name: "f", Type: composite})
	parent.Children = []catalog.Child{
		{OID: 7, TableName: catalog.TableName{Schema: "public", Name: "child"}, Logged: true, Identity: parent.Identity},
		{OID: 8, TableName: catalog.TableName{Schema: "public", Name: "keyless"}, Logged: true},
	}
	tables := make(catalog.Tables)
	for _, table := range []*catalog.Table{
		made("plain", catalog.Column{Name: "v", Type: text}, catalog.Column{Name: "w", Type: text}),
		made("docs", catalog.Column{Name: "v", Type: text}, catalog.Column{Name: "odd \"name\"", Type: text}, catalog.Column{Name: "f", Type: domain}),
		made("lists", catalog.Column{Name: "doc_id", Type: integer}, catalog.Column{Name: "f", Type: array}),
		parent.Following(),
	} {
		tables[table.TableName()] = table
	}
	for _, test := range []struct{ indices, auto, used string }{
		{`{x: {table: plain}}`, ``, `plain ("id", "v", "w")`},
		{`{x: {table: plain, fields: [v]}}`, ``, `plain ("id", "v")`},
		{`{x: {table: docs, fields: [v]}}`, `docs ("id", "v")`, `docs ("id", "v")`},
		{`{x: {table: docs, fields: [v, f]}}`, ``, `docs ("id", "v", "f")`},
		{`{x: {table: docs, fields: [id]}, y: {table: docs, fields: [id], where: "v != 'x'"}}`, `docs ("id", "v")`, `docs ("id", "v")`},
		{`{x: {table: docs, fields: {"*": false, n: {column: "odd \"name\""}}}, y: {table: docs, fields: [v]}}`, `docs ("id", "v", "odd ""name""")`, `docs ("id", "v", "odd ""name""")`},
		{`{x: {table: docs, fields: [v]}, y: {table: docs, fields: [f]}}`, ``, `docs ("id", "v", "f")`},
		{`{x: {table: docs, fields: [id], include: {l: {table: lists, on: {id: doc_id}, aggregate: count}}}}`, `docs ("id"); lists ("doc_id")`, `docs ("id"); lists ("doc_id")`},
		{`{x: {table: {name: parent, children: true}, fields: [v]}}`, `child ("id", "v"); parent ("id", "v")`, `child ("id", "v"); parent ("id", "v")`},
		// What it needs once its documents can be made is not known.
		{`{x: {table: docs, fields: [v]}, y: {table: docs, fields: [gone]}}`, ``, ``},
		{`{x: {table: docs, fields: [v]}, y: {table: lists, fields: [id], include: {n: {table: nothing, on: {id: id}}}}}`, `docs ("id", "v")`, `docs ("id", "v")`},
	} {
		c, err := Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices: "+test.indices+"\n"), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Errorf("%s: %v", test.indices, err)
			continue
		}
		if c.Postgres.PublishColumns != PublishColumnsAuto {
			t.Errorf("the default is %s", c.Postgres.PublishColumns)
		}
		for policy, want := range map[PublishColumns]string{PublishColumnsAuto: test.auto, PublishColumnsUsed: test.used, PublishColumnsAll: ""} {
			var listed []string
			all := policy.Published(c.Indices, tables)
			for _, table := range all {
				if strings.Contains(table, "(") {
					listed = append(listed, strings.NewReplacer(`"public".`, "", `"docs"`, "docs", `"lists"`, "lists", `"parent"`, "parent", `"child"`, "child", `"plain"`, "plain").Replace(table))
				}
			}
			if got := strings.Join(listed, "; "); got != want {
				t.Errorf("%s with %s: listed are %s, want %s", test.indices, policy, got, want)
			}
			if len(all) != 5 {
				t.Errorf("%s with %s: published are %s", test.indices, policy, all)
			}
		}
	}
}
