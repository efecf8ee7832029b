package mapping

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
)

// table makes a table of the catalog whose columns are id, not null and the
// primary key, and those of spec: "name", "name!" for not null, "name=" for generated.
func table(name string, spec ...string) *Table {
	t := &Table{Schema: "public", Name: name, PrimaryKey: []string{"id"}, Identity: Identity{IdentityDefault, []string{"id"}},
		Columns: []Column{{Name: "id", Type: named(pgtype.Int8OID), NotNull: true}}}
	for _, s := range spec {
		c := Column{Name: strings.TrimRight(s, "!="), Type: named(pgtype.TextOID), NotNull: strings.HasSuffix(s, "!"), Generated: strings.HasSuffix(s, "=")}
		t.Columns = append(t.Columns, c)
	}
	return t
}

// tablesOf gives tables by their names.
func tablesOf(all ...*Table) Tables {
	tables := make(Tables)
	for _, t := range all {
		tables[t.TableName()] = t
	}
	return tables
}

func with(t *Table, change func(*Table)) *Table {
	change(t)
	return t
}

func noKey(t *Table) { t.PrimaryKey, t.Identity.Columns = nil, nil }

// catalog is a database with what Check has to tell apart.
func catalog() Tables {
	return tablesOf(
		with(table("products", "tenant!", "title", "secret", "price_cents", "sku!", "a.b"), func(t *Table) {
			t.PrimaryKey = []string{"tenant", "id"}
			t.Identity.Columns = t.PrimaryKey
			t.Unique = [][]string{{"sku"}}
		}),
		table("Albums"),
		with(table("full", "sku!", "note", "slug="), func(t *Table) {
			t.Identity = Identity{IdentityFull, []string{"id", "sku", "note"}}
			t.Unique = [][]string{{"sku"}, {"note"}, {"slug"}}
		}),
		with(table("heap", "x"), noKey),
		with(table(`My "Notes"`, "x"), func(t *Table) { noKey(t); t.Unique = [][]string{{"x"}} }),
		with(table("coded", "Code!", "part!"), func(t *Table) { noKey(t); t.Unique = [][]string{{"part", "Code"}} }),
		with(table("by_index", "sku!"), func(t *Table) { t.Identity = Identity{IdentityIndex, []string{"sku"}} }),
		with(table("silent", "tenant"), func(t *Table) { t.Identity = Identity{Kind: IdentityNothing} }),
		with(table("deferrable"), func(t *Table) { t.Identity = Identity{Kind: IdentityDefault} }),
		with(table("events", "kind!"), func(t *Table) { t.Partitioned = true }),
		with(table("mixed"), func(t *Table) { t.Partitioned = true; t.Identity = Identity{Kind: IdentityMixed} }),
		with(table("events_2026", "kind!"), func(t *Table) { t.Root = TableName{"public", "events"} }),
		with(table("scratch"), func(t *Table) { t.Unlogged = true }),
		with(table("hidden"), func(t *Table) { t.RowSecurity, t.User = true, "tidemark" }),
		table("dotted", "a", "a.b", "a-b", "a.b.c"),
		table("odd", "_id", ".."),
		with(table("reviews", "product_id", "author_id", "stars"), func(t *Table) {
			t.Identity = Identity{IdentityFull, []string{"id", "product_id", "author_id", "stars"}}
		}),
		table("authors", "name"),
		with(table("tags", "name!"), func(t *Table) {
			t.Unique = [][]string{{"name"}}
			t.Identity = Identity{IdentityFull, []string{"id", "name"}}
		}),
		with(table("product_tags", "product_id!", "tag_id!", "place"), func(t *Table) {
			t.PrimaryKey = []string{"product_id", "tag_id"}
			t.Identity.Columns = t.PrimaryKey
		}),
		with(table("loose_tags", "product_id", "tag"), noKey),
		table("lines", "product_id", "sku", "parent"),
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
			for _, p := range c.Check(catalog()) {
				got += strings.TrimPrefix(p.String(), file+":") + "\n"
			}
			expect(t, file, string(text), got)
			if (got == "") != strings.HasPrefix(filepath.Base(file), "good") {
				t.Error("only the good file is without problems")
			}
		})
	}
}
