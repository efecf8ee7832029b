package mapping

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
)

// table makes a table of the catalog whose columns are id, not null and the
// primary key, and those of spec: "name", "name!" for not null, "name=" for generated.
func table(name string, spec ...string) *catalog.Table {
	t := &catalog.Table{Schema: "public", Name: name, PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: catalog.IdentityDefault, Columns: []string{"id"}},
		Columns: []catalog.Column{{Name: "id", Type: named(pgtype.Int8OID), NotNull: true}}}
	for _, s := range spec {
		c := catalog.Column{Name: strings.TrimRight(s, "!="), Type: named(pgtype.TextOID), NotNull: strings.HasSuffix(s, "!"), Generated: strings.HasSuffix(s, "=")}
		t.Columns = append(t.Columns, c)
	}
	return t
}

// tablesOf returns tables by their names.
func tablesOf(all ...*catalog.Table) catalog.Tables {
	tables := make(catalog.Tables)
	for _, t := range all {
		tables[t.TableName()] = t
	}
	return tables
}

func with(t *catalog.Table, change func(*catalog.Table)) *catalog.Table {
	change(t)
	return t
}

// virtual makes the generated columns of t virtual ones.
func virtual(t *catalog.Table) *catalog.Table {
	for i := range t.Columns {
		t.Columns[i].Virtual = t.Columns[i].Generated
	}
	return t
}

func noKey(t *catalog.Table) { t.PrimaryKey, t.Identity.Columns = nil, nil }

// catalog is a database with what Check has to tell apart.
func shopTables() catalog.Tables {
	return tablesOf(
		with(table("products", "tenant!", "title", "secret", "price_cents", "sku!", "a.b"), func(t *catalog.Table) {
			t.PrimaryKey = []string{"tenant", "id"}
			t.Identity.Columns = t.PrimaryKey
			t.Unique = [][]string{{"sku"}}
		}),
		table("Albums"),
		with(table("full", "sku!", "note", "slug="), func(t *catalog.Table) {
			t.Identity = catalog.Identity{Kind: catalog.IdentityFull, Columns: []string{"id", "sku", "note"}}
			t.Unique = [][]string{{"sku"}, {"note"}, {"slug"}}
		}),
		with(table("heap", "x"), noKey),
		with(table(`My "Notes"`, "x"), func(t *catalog.Table) { noKey(t); t.Unique = [][]string{{"x"}} }),
		with(table("coded", "Code!", "part!"), func(t *catalog.Table) { noKey(t); t.Unique = [][]string{{"part", "Code"}} }),
		with(table("by_index", "sku!"), func(t *catalog.Table) {
			t.Identity = catalog.Identity{Kind: catalog.IdentityIndex, Columns: []string{"sku"}}
		}),
		with(table("silent", "tenant"), func(t *catalog.Table) { t.Identity = catalog.Identity{Kind: catalog.IdentityNothing} }),
		with(table("deferrable"), func(t *catalog.Table) { t.Identity = catalog.Identity{Kind: catalog.IdentityDefault} }),
		with(table("events", "kind!"), func(t *catalog.Table) { t.Partitioned = true }),
		with(table("mixed"), func(t *catalog.Table) {
			t.Partitioned = true
			t.Identity = catalog.Identity{Kind: catalog.IdentityMixed}
		}),
		with(table("events_2026", "kind!"), func(t *catalog.Table) { t.Root = catalog.TableName{Schema: "public", Name: "events"} }),
		with(table("scratch"), func(t *catalog.Table) { t.Unlogged = true }),
		with(table("hidden"), func(t *catalog.Table) { t.RowSecurity, t.User = true, "tidemark" }),
		table("dotted", "a", "a.b", "a-b", "a.b.c"),
		table("odd", "_id", ".."),
		with(table("reviews", "product_id", "author_id", "stars"), func(t *catalog.Table) {
			t.Identity = catalog.Identity{Kind: catalog.IdentityFull, Columns: []string{"id", "product_id", "author_id", "stars"}}
		}),
		table("authors", "name"),
		with(table("tags", "name!"), func(t *catalog.Table) {
			t.Unique = [][]string{{"name"}}
			t.Identity = catalog.Identity{Kind: catalog.IdentityFull, Columns: []string{"id", "name"}}
		}),
		with(table("product_tags", "product_id!", "tag_id!", "place"), func(t *catalog.Table) {
			t.PrimaryKey = []string{"product_id", "tag_id"}
			t.Identity.Columns = t.PrimaryKey
		}),
		with(table("loose_tags", "product_id", "tag"), noKey),
		table("lines", "product_id", "sku", "parent"),
		virtual(table("items", "product_id", "place!", "total=")),
		with(virtual(table("whole", "total=")), func(t *catalog.Table) {
			t.Identity = catalog.Identity{Kind: catalog.IdentityFull, Columns: []string{"id"}}
		}),
		with(virtual(table("whole_items", "product_id!", "total=")), func(t *catalog.Table) {
			t.Identity = catalog.Identity{Kind: catalog.IdentityFull, Columns: []string{"id", "product_id"}}
		}),
		with(virtual(table("parted", "product_id!", "total=")), func(t *catalog.Table) { t.Partitioned = true }),
		with(virtual(table("late", "product_id!", "total=")), func(t *catalog.Table) {
			t.KeyDeferrable, t.Identity = true, catalog.Identity{Kind: catalog.IdentityFull, Columns: []string{"id", "product_id"}}
		}),
	)
}

// TestCheck gives each file of testdata/check to Check. What it must say stands in
// the file itself, as in TestBadFiles.
func TestCheck(t *testing.T) {
	files, err := filepath.Glob("testdata/check/*.yaml")
	if err != nil || len(files) < 15 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(file, text, env())
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, p := range c.Check(shopTables()) {
				got += strings.TrimPrefix(p.String(), file+":") + "\n"
			}
			expect(t, file, string(text), got)
			if (got == "") != strings.HasPrefix(filepath.Base(file), "good") {
				t.Error("only the good file is without problems")
			}
		})
	}
}

// TestUnfit alters the tables of a mapping that fitted them.
func TestUnfit(t *testing.T) {
	c, err := Parse("f.yaml", []byte(`
postgres: {url: postgres://localhost/shop}
search: {urls: [http://localhost:9200]}
indices:
  ix:
    table: t
    where: kept
    routing: place
    fields: {x: {column: v}, "*": false}
    include: {rs: {table: r, on: {id: t_id}, many: object}}
`), env())
	if err != nil {
		t.Fatal(err)
	}
	number, text, boolean := catalog.NewBase(23, "integer"), catalog.NewBase(25, "text"), catalog.NewBase(16, "boolean")
	number.Category, text.Category, boolean.Category = 'N', 'S', 'B'
	columns := []string{"id", "kept", "place", "v"}
	tables := func(rename, key string) catalog.Tables {
		root := &catalog.Table{Schema: "public", Name: "t"}
		for i, name := range columns {
			if name == rename {
				name = "away"
			}
			root.Columns = append(root.Columns, catalog.Column{Number: int16(i + 1), Name: name, Type: []*catalog.Type{number, boolean, text, text}[i], NotNull: true})
		}
		if key != "" {
			root.PrimaryKey = []string{key}
		}
		related := &catalog.Table{Schema: "public", Name: "r", PrimaryKey: []string{"id"}, Columns: []catalog.Column{{Number: 1, Name: "id", Type: number, NotNull: true}, {Number: 2, Name: "t_id", Type: number}}}
		if rename == "t_id" {
			related.Columns[1].Name = "away"
		}
		return catalog.Tables{root.TableName(): root, related.TableName(): related}
	}
	for _, test := range []struct{ rename, key, want string }{
		{"", "id", ""},
		{"kept", "id", "table public.t has no column kept"},
		{"place", "id", "table public.t has no column place"},
		{"v", "id", "table public.t has no column v; hint: its columns: id, kept, place, away"},
		{"t_id", "id", "table public.r has no column t_id"},
		{"id", "away", "table public.t has no column id"},
		{"", "", "table public.t has no primary key, and id is not given; hint: ALTER TABLE"},
	} {
		got := c.Indices[0].Unfit(tables(test.rename, test.key))
		if got != test.want && (test.want == "" || !strings.Contains(got, test.want)) {
			t.Errorf("%s away, key %q: %q, want %q", test.rename, test.key, got, test.want)
		}
	}
}
