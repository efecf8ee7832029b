package mapping

import (
	"slices"
	"strings"
	"testing"

	"tidemark/mapping/catalog"
)

// family has a table with children: one with its key, one without, one unlogged.
func family() *catalog.Table {
	child := func(name string, logged bool, identity ...string) catalog.Child {
		return catalog.Child{TableName: catalog.TableName{Schema: "public", Name: name}, Logged: logged, Identity: catalog.Identity{Kind: catalog.IdentityDefault, Columns: identity}}
	}
	return with(table("payment", "amount", "shop!"), func(t *catalog.Table) {
		t.Children = []catalog.Child{child("with_key", true, "id"), child("without", true), child("off", false, "id")}
	})
}

func TestChildren(t *testing.T) {
	for _, test := range []struct {
		name, indices string
		want          []string // texts of problems, with the first line of the hint after a tab
	}{
		{"without", `{a: {table: payment}}`, nil},
		{"false", `{a: {table: {name: payment, children: false}}}`, nil},
		{"followed", `{a: {table: {name: payment, children: true}}}`, []string{
			"indices.a.table: table public.off, which inherits from public.payment, is unlogged or a foreign table: the log does not carry it\tALTER TABLE \"public\".\"off\" SET LOGGED;",
			"indices.a: table public.payment and those that inherit from it have no replica identity in common: updates and deletes could not be followed\tALTER TABLE \"public\".\"without\" REPLICA IDENTITY FULL;",
		}},
		{"inside of others", `{a: {table: shop, include: {n: {table: {name: payment, children: true}, on: {id: shop}, aggregate: count}}}}`, []string{
			"indices.a.include.n.table: table public.off, which inherits from public.payment, is unlogged or a foreign table: the log does not carry it\tALTER TABLE \"public\".\"off\" SET LOGGED;",
			"indices.a.include.n: the replica identity of table public.payment does not hold shop: when a row is deleted or moved, it would not be known which documents of index a it was in\tALTER TABLE \"public\".\"payment\" REPLICA IDENTITY FULL;",
		}},
		{"with and without", `{a: {table: {name: shop, children: true}}, b: {table: shop}}`, []string{
			"indices.b.table: the rows of tables that inherit from public.shop are left out here, and count as its own in indices.a.table\ttable: {name: public.shop, children: true}",
		}},
		{"partitioned", `{a: {table: {name: parts, children: true}}}`, []string{
			"indices.a.table: table public.parts is partitioned: the rows of its partitions are its own anyway\ttable: public.parts",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := Parse("t.yaml", []byte("search: {urls: [http://localhost:9200]}\nindices: "+test.indices), env())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range c.Check(tablesOf(family(), table("shop"), with(table("parts"), func(t *catalog.Table) { t.Partitioned = true }))) {
				hint, _, _ := strings.Cut(p.Hint, "\n")
				got = append(got, p.Text+"\t"+hint)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got  %s\nwant %s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestChildrenRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{children: true}`:                "indices.a.table.name is missing",
		`{name: t, children: some}`:       "indices.a.table.children: want true or false",
		`{name: t, child: true}`:          "indices.a.table.child: unknown key",
		`{name: "", children: true}`:      "indices.a.table.name is empty",
		`{name: pg_class.x, parts: true}`: "indices.a.table.parts: unknown key",
	} {
		_, err := Parse("t.yaml", []byte("search: {urls: [http://localhost:9200]}\nindices: {a: {table: "+text+"}}"), env())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// Children change what documents there are; without them everything is as it was.
func TestChildrenFingerprint(t *testing.T) {
	alone := indexOf(Index{Name: "a"}, Source{Table: catalog.TableName{Schema: "public", Name: "payment"}})
	with := indexOf(Index{Name: "a"}, Source{Table: catalog.TableName{Schema: "public", Name: "payment"}, Children: true})
	tables := tablesOf(family())
	if alone.Fingerprint(tables) == with.Fingerprint(tables) {
		t.Error("one fingerprint for both")
	}
	for ix, version := range map[*Index]string{alone: `{"version":1,`, with: `{"version":2,`} {
		text, err := ix.Encode()
		if err != nil || !strings.HasPrefix(text, version) || !ix.EncodedAs(text) {
			t.Errorf("%v: want %s, got %s", err, version, text)
		}
	}
}
