package mapping

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
)

func TestFingerprint(t *testing.T) {
	given := func() *Index {
		return indexOf(Index{Name: "products", Settings: map[string]any{"number_of_shards": 3}},
			Source{Table: catalog.TableName{Schema: "public", Name: "products"}, Shape: Shape{Fields: []Field{{Name: "title", Column: "title", Params: map[string]any{"analyzer": "english"}}, {Name: "note", Omit: true}}}})
	}
	want := given().Fingerprint(tablesOf(productTable()))
	if !regexp.MustCompile(`^1-[0-9a-f]{32}$`).MatchString(want) {
		t.Errorf("fingerprint %q", want)
	}
	tests := []struct {
		name   string
		change func(ix *Index, t *catalog.Table)
		same   bool
	}{
		{"columns in another order", func(_ *Index, t *catalog.Table) { t.Columns[1], t.Columns[3] = t.Columns[3], t.Columns[1] }, true},
		{"fields in another order", func(ix *Index, _ *catalog.Table) {
			ix.Sources[0].Fields[0], ix.Sources[0].Fields[1] = ix.Sources[0].Fields[1], ix.Sources[0].Fields[0]
		}, true},
		{"a setting written otherwise", func(ix *Index, _ *catalog.Table) {
			ix.Settings = map[string]any{"index": map[string]any{"number_of_shards": 3}}
		}, true},
		{"the primary key as id", func(ix *Index, _ *catalog.Table) { ix.Sources[0].ID = []string{"id"} }, true},
		{"another table oid", func(_ *Index, t *catalog.Table) { t.OID = 7 }, true},
		{"chunk and alias", func(ix *Index, _ *catalog.Table) { ix.Name, ix.Reindex.Chunk = "goods", 5 }, true},
		{"a column that is left out", func(_ *Index, t *catalog.Table) { t.Columns[4].Type = named(pgtype.Int8OID) }, true},
		{"another id", func(ix *Index, _ *catalog.Table) { ix.Sources[0].ID = []string{"tenant", "id"} }, false},
		{"routing", func(ix *Index, _ *catalog.Table) { ix.Sources[0].Routing = "tenant" }, false},
		{"another setting", func(ix *Index, _ *catalog.Table) { ix.Settings["number_of_shards"] = 4 }, false},
		{"another analyzer", func(ix *Index, _ *catalog.Table) { ix.Sources[0].Fields[0].Params["analyzer"] = "french" }, false},
		{"another type", func(_ *Index, t *catalog.Table) {
			t.Columns[1].Type = &catalog.Type{OID: pgtype.VarcharOID, Name: "character varying"}
		}, false},
		{"another type of an id that is no field", func(ix *Index, t *catalog.Table) {
			ix.Sources[0].Listed = true
			t.Column("id").Type = named(pgtype.NumericOID)
		}, false},
		{"a new column", func(_ *Index, t *catalog.Table) {
			t.Columns = append(t.Columns, catalog.Column{Name: "n", Type: named(pgtype.TextOID)})
		}, false},
		{"a field from another column", func(ix *Index, _ *catalog.Table) { ix.Sources[0].Fields[0].Column = "tenant" }, false},
		{"another table", func(ix *Index, t *catalog.Table) { t.Schema, ix.Sources[0].Table.Schema = "shop", "shop" }, false},
	}
	for _, tt := range tests {
		ix, table := given(), productTable()
		tt.change(ix, table)
		if got := ix.Fingerprint(tablesOf(table)); (got == want) != tt.same {
			t.Errorf("%s: the same fingerprint: %v", tt.name, got == want)
		}
	}
}

// TestFingerprintOfInclude changes one thing after another in a mapping that has everything,
// or in its tables.
func TestFingerprintOfInclude(t *testing.T) {
	const text = `
  a:
    table: products
    where: title != nil
    fields:
      up: {expr: title + "a"}
      size: {fields: {w: {column: width}, t: {constant: 1}}}
      kind: {constant: {a: 1, b: 2}}
    include:
      category: {table: categories, on: {category_id: id}, fields: {name: true, parent_id: false}, include: {parent: {table: categories, on: {parent_id: id}, fields: [name]}}}
      reviews: {table: reviews, on: {id: product_id}, many: nested, order_by: made desc, limit: 5, where: stars > 1}
      tags: {table: tags, through: {table: product_tags, on: {id: product_id}, to: {tag_id: id}}, value: name}
      placed: {table: tags, through: {table: product_tags, on: {id: product_id}, to: {tag_id: id}}, value: name, order_by: place}
      orders: {table: orders, on: {id: product_id}, aggregate: count, where: PAID > 0}
      stars: {table: reviews, on: {id: product_id}, aggregate: sum, column: stars}
`
	want := indexIn(t, text).Fingerprint(relatedTables())
	for _, tt := range []struct {
		from, to string
		same     bool
	}{
		{"table: products", "reindex: {chunk: 5}\n    table: public.products", true},
		{"{a: 1, b: 2}", "{b: 2, a: 1}", true},
		{"{name: true, parent_id: false}", "{parent_id: false, name: true}", true},
		{"fields: [name]}}}\n", "fields: {'*': false, name: {column: name}}}}}\n", true},
		{"order_by: made desc", "order_by: MADE_ desc nulls first", true},
		{"table: tags", "table: public.tags", true},
		{"{tag_id: id}", "{ tag_id : 'id' }", true},
		{"table: products", "table: products\n    id: p-{id}", false},
		{"table: products", "table: products\n    id: '{id}'", false},
		{"table: products", "table: products\n    routing: title", false},
		{"where: title != nil", "where: title == nil", false},
		{"    where: title != nil\n", "", false},
		{`title + "a"`, `title + "b"`, false},
		{"w: {column: width}", "w: {column: id}", false},
		{"w: {column: width}", "v: {column: width}", false},
		{"t: {constant: 1}", "t: {constant: 2}", false},
		{"{a: 1, b: 2}", "{a: 1, b: 3}", false},
		{"on: {category_id: id}", "on: {id: id}", false},
		{"{name: true, parent_id: false}", "{name: true}", false},
		{"fields: [name]}}}\n", "fields: [id]}}}\n", false},
		{"on: {parent_id: id}", "on: {id: id}", false},
		{"      category: ", "      cat: ", false},
		{"many: nested", "many: object", false},
		{"made desc", "made", false},
		{"made desc", "made desc nulls last", false},
		{"made desc", "stars desc", false},
		{"limit: 5", "limit: 6", false},
		{"stars > 1", "stars > 2", false},
		{"value: name", "value: rank", false},
		{"{tag_id: id}", "{tag_id: name}", false},
		{"on: {id: product_id}, to", "on: {title: product_id}, to", false},
		{"{table: product_tags, on: {id: product_id}, to: {tag_id: id}}", "{table: reviews, on: {id: product_id}, to: {author_id: id}}", false},
		{"aggregate: sum", "aggregate: max", false},
		{"aggregate: sum, column: stars", "aggregate: sum, column: price", false},
		{"aggregate: sum, column: stars", "aggregate: count", false},
	} {
		to := strings.ReplaceAll(tt.to, "MADE_", "made")
		if !strings.Contains(text, tt.from) {
			t.Fatal(tt.from)
		}
		changed := strings.Replace(text, tt.from, to, 1)
		if got := indexIn(t, changed).Fingerprint(relatedTables()); (got == want) != tt.same {
			t.Errorf("%s instead of %s: the same fingerprint: %v", to, tt.from, got == want)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(tables catalog.Tables)
		same   bool
	}{
		{"oid of a related table", func(tables catalog.Tables) { tables[catalog.TableName{Schema: "public", Name: "reviews"}].OID = 7 }, true},
		{"identity of a related table", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "reviews"}].Identity.Kind = catalog.IdentityIndex
		}, true},
		{"order of its columns", func(tables catalog.Tables) {
			c := tables[catalog.TableName{Schema: "public", Name: "reviews"}].Columns
			c[1], c[2] = c[2], c[1]
		}, true},
		{"a column that is not taken", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "tags"}].Column("rank").Type = named(pgtype.Int8OID)
		}, true},
		{"a column that is", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "tags"}].Column("name").Type = named(pgtype.Int8OID)
		}, false},
		{"type of an aggregate", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "reviews"}].Column("stars").Type = named(pgtype.NumericOID)
		}, false},
		{"a new column", func(tables catalog.Tables) {
			t := tables[catalog.TableName{Schema: "public", Name: "reviews"}]
			t.Columns = append(t.Columns, catalog.Column{Name: "n", Type: named(pgtype.TextOID)})
		}, false},
		{"key that rows are ordered by", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "reviews"}].PrimaryKey = []string{"made"}
		}, false},
		{"key that counts only where rows are added up", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "orders"}].PrimaryKey = []string{"product_id"}
		}, true},
		{"a column that a condition does not name", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "orders"}].Column("note").Type = named(pgtype.XMLOID)
		}, true},
		{"a column that a condition names", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "orders"}].Column("paid").Type = named(pgtype.XMLOID)
		}, false},
		{"type of a column that links", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "orders"}].Column("product_id").Type = named(pgtype.NumericOID)
		}, false},
		{"type of a column that links to it", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "product_tags"}].Column("tag_id").Type = named(pgtype.NumericOID)
		}, false},
		{"key that links are ordered by", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "product_tags"}].PrimaryKey = []string{"tag_id", "product_id"}
		}, false},
		{"key of rows of which one is put in", func(tables catalog.Tables) {
			t := tables[catalog.TableName{Schema: "public", Name: "categories"}]
			t.PrimaryKey, t.Unique = []string{"name"}, [][]string{{"id"}}
		}, true},
		{"type of a column that rows are ordered by", func(tables catalog.Tables) {
			tables[catalog.TableName{Schema: "public", Name: "product_tags"}].Column("place").Type = named(pgtype.Int8OID)
		}, false},
		{"no such table any more", func(tables catalog.Tables) { delete(tables, catalog.TableName{Schema: "public", Name: "reviews"}) }, false},
	} {
		tables := relatedTables()
		tt.change(tables)
		if got := indexIn(t, text).Fingerprint(tables); (got == want) != tt.same {
			t.Errorf("%s: the same fingerprint: %v", tt.name, got == want)
		}
	}
}

// TestFingerprintOfSeveralTables: in which order the file has them is not seen in documents.
func TestFingerprintOfSeveralTables(t *testing.T) {
	fingerprint := func(tables string) string {
		return indexIn(t, "  a: {tables: ["+tables+"]}").Fingerprint(relatedTables())
	}
	want := fingerprint(`{table: tags, id: "t-{id}"}, {table: authors, id: "a-{id}", fields: [id]}`)
	for text, same := range map[string]bool{
		`{table: authors, id: "a-{id}", fields: [id]}, {table: tags, id: "t-{id}"}`:  true,
		`{table: tags, id: "u-{id}"}, {table: authors, id: "a-{id}", fields: [id]}`:  false,
		`{table: tags, id: "t-{id}."}, {table: authors, id: "a-{id}", fields: [id]}`: false,
		`{table: tags, id: "t-{id}"}`: false,
		`{table: tags, id: "t-{id}"}, {table: authors, id: "a-{id}", fields: [id]}, {table: categories, id: "c-{id}", fields: [id]}`: false,
	} {
		if got := fingerprint(text); (got == want) != same {
			t.Errorf("%s: the same fingerprint: %v", text, got == want)
		}
	}
}

// TestFingerprintContent shows what is hashed: a change of it costs every index a rebuild.
func TestFingerprintContent(t *testing.T) {
	ix := indexIn(t, `
  a:
    tables:
      - table: products
        id: p-{id}
        routing: title
        where: width > 1
        fields: {"*": false, title: true, kind: {constant: 1.0}, up: {expr: title + "a"}}
        include:
          category: {table: categories, on: {category_id: id}, fields: [name]}
          tags: {table: tags, through: {table: product_tags, on: {id: product_id}, to: {tag_id: id}}, value: name, order_by: rank desc, limit: 5}
          stars: {table: reviews, on: {id: product_id}, aggregate: sum, column: stars, where: stars > 1}
      - {table: authors, id: "a-{id}", fields: [id]}
`)
	tables := relatedTables()
	var got bytes.Buffer
	if err := json.Indent(&got, ix.fingerprintContent(tables), "", " "); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/fingerprint.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(want)), got.String()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	const fingerprint = "1-6c3698b5321711ac691a1b5a464d9015"
	if got := ix.Fingerprint(tables); got != fingerprint {
		t.Errorf("got %s, want %s", got, fingerprint)
	}
}

// TestFingerprintOfNothing: a mapping of which no index can be made has a fingerprint, too, and
// matches none of an earlier version.
func TestFingerprintOfNothing(t *testing.T) {
	ix := indexIn(t, "  a: {table: products, mappings: {properties: 1}}")
	tables := relatedTables()
	good := indexIn(t, "  a: {table: products}")
	if got := ix.Fingerprint(tables); got == good.Fingerprint(tables) || !ix.Matches(got, tables) {
		t.Errorf("fingerprint %s", got)
	}
	for _, fingerprint := range []string{"", good.fingerprintsBefore(tables)[0], good.fingerprintsBefore(tables)[1], good.Fingerprint(tables), "2-" + good.Fingerprint(tables)[2:]} {
		if ix.Matches(fingerprint, tables) || ix.Matches(fingerprint, nil) {
			t.Errorf("%q matches", fingerprint)
		}
	}
}
