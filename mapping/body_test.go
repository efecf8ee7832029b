package mapping

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/mapping/value"
)

func TestBody(t *testing.T) {
	const (
		idField    = `"id":{"type":"long"}`
		titleField = `"title":{"fields":{"keyword":{"ignore_above":256,"type":"keyword"}},"type":"text"}`
	)
	table := &catalog.Table{
		Schema: "public", Name: "t", PrimaryKey: []string{"id"},
		Columns: []catalog.Column{{Name: "id", Type: ownType(pgtype.Int8OID)}, {Name: "title", Type: ownType(pgtype.TextOID)}},
	}
	tests := []struct {
		name string
		ix   Index
		s    Shape
		want string
	}{
		{"nothing given", Index{}, Shape{},
			`{"mappings":{"dynamic":false,"properties":{` + idField + `,` + titleField + `}},"settings":{"index.gc_deletes":"1h"}}`},
		{"settings nested, dotted, prefixed", Index{Settings: map[string]any{
			"number_of_shards": 3,
			"index":            map[string]any{"gc_deletes": "10m", "refresh_interval": "5s"},
			"index.codec":      "best_compression",
			"analysis":         map[string]any{"filter.syn": map[string]any{"type": "synonym", "synonyms": []any{"a<b"}}},
		}}, Shape{Listed: true},
			`{"mappings":{"dynamic":false,"properties":{}},"settings":{"index.analysis.filter.syn.synonyms":["a<b"],"index.analysis.filter.syn.type":"synonym",` +
				`"index.codec":"best_compression","index.gc_deletes":"10m","index.number_of_shards":3,"index.refresh_interval":"5s"}}`},
		{"parameters are added to the derived field", Index{}, Shape{Listed: true, Fields: []Field{{Name: "title", Column: "title",
			Params: map[string]any{"analyzer": "english", "fields": map[string]any{"keyword": map[string]any{"ignore_above": 50}, "raw": map[string]any{"type": "keyword"}}}}}},
			`{"mappings":{"dynamic":false,"properties":{"title":{"analyzer":"english","fields":{"keyword":{"ignore_above":50,"type":"keyword"},"raw":{"type":"keyword"}},"type":"text"}}},"settings":{"index.gc_deletes":"1h"}}`},
		{"a type replaces the derived field", Index{}, Shape{Listed: true, Fields: []Field{{Name: "title", Column: "title", Params: map[string]any{"type": "keyword"}}}},
			`{"mappings":{"dynamic":false,"properties":{"title":{"type":"keyword"}}},"settings":{"index.gc_deletes":"1h"}}`},
		{"mappings over all", Index{Mappings: map[string]any{"dynamic": "strict", "_meta": map[any]any{1: time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)},
			"properties": map[string]any{"id": map[string]any{"type": "keyword"}, "title": map[string]any{"boost": 2}, "more": map[string]any{"type": "ip"}}}},
			Shape{Fields: []Field{{Name: "title", Column: "title", Params: map[string]any{"analyzer": "english"}}}},
			`{"mappings":{"_meta":{"1":"2026-01-31"},"dynamic":"strict","properties":{"id":{"type":"keyword"},"more":{"type":"ip"},` +
				`"title":{"analyzer":"english","boost":2,"fields":{"keyword":{"ignore_above":256,"type":"keyword"}},"type":"text"}}},"settings":{"index.gc_deletes":"1h"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := indexOf(tt.ix, Source{Table: table.TableName(), Shape: tt.s}).Body(tablesOf(table))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff(map[string]any{"type": "text", "fields": map[string]any{"keyword": map[string]any{"type": "keyword", "ignore_above": 256}}}, value.TextField); diff != "" {
		t.Errorf("a body changed what all bodies begin with:\n%s", diff)
	}
}

// relatedTables are those of the tests of include: products with reviews, tags and the rest;
// each has replica identity full.
func relatedTables() catalog.Tables {
	typed := func(t *catalog.Table, name string, oid uint32) {
		t.Column(name).Type = &catalog.Type{OID: oid, Name: map[uint32]string{pgtype.Int4OID: "integer", pgtype.NumericOID: "numeric", pgtype.DateOID: "date", pgtype.UUIDOID: "uuid"}[oid], Kind: catalog.KindBase, Delim: ',', Modifier: -1}
	}
	tables := tablesOf(
		with(table("products", "category_id", "width", "title"), func(t *catalog.Table) { typed(t, "width", pgtype.Int4OID) }),
		table("categories", "parent_id", "name"),
		with(table("tags", "name!", "rank"), func(t *catalog.Table) { t.Unique = [][]string{{"name"}} }),
		with(table("product_tags", "product_id!", "tag_id!", "place"), func(t *catalog.Table) { t.PrimaryKey = []string{"product_id", "tag_id"} }),
		with(table("reviews", "product_id", "author_id", "stars", "price", "made"), func(t *catalog.Table) {
			typed(t, "stars", pgtype.Int4OID)
			typed(t, "price", pgtype.NumericOID)
			typed(t, "made", pgtype.DateOID)
		}),
		with(table("authors", "name"), func(t *catalog.Table) { typed(t, "name", pgtype.UUIDOID) }),
	)
	for _, t := range tables {
		t.Identity = catalog.Identity{Kind: catalog.IdentityFull}
		for _, c := range t.Columns {
			t.Identity.Columns = append(t.Identity.Columns, c.Name)
		}
	}
	return tables
}

// outline returns the type of each field of an index, with the path of its names.
func outline(properties map[string]any, prefix string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		field := properties[name].(map[string]any)
		if field["type"] != nil {
			fmt.Fprintf(&b, "%s%s %v\n", prefix, name, field["type"])
		}
		if below, ok := field["properties"].(map[string]any); ok {
			b.WriteString(outline(below, prefix+name+"."))
		}
	}
	return b.String()
}

// TestBodyOfInclude: what is included is an object, nested, or the field of what its column
// comes to; a group is an object; a constant has the field that its value asks for.
func TestBodyOfInclude(t *testing.T) {
	tests := []struct{ name, index, want string }{
		{"include", `
  a:
    table: products
    fields: [id]
    include:
      category: {table: categories, on: {category_id: id}, fields: {parent_id: false, name: {type: keyword}}, include: {parent: {table: categories, on: {parent_id: id}, fields: [id]}}}
      object: {table: reviews, on: {id: product_id}, many: object, fields: [stars]}
      nested: {table: reviews, on: {id: product_id}, many: nested, fields: {"*": false, day: {column: made}}, include: {author: {table: authors, on: {author_id: id}}}}
      tags: {table: tags, through: {table: product_tags, on: {id: product_id}, to: {tag_id: id}}, value: rank}
      count: {table: reviews, on: {id: product_id}, aggregate: count}
      rated: {table: reviews, on: {id: product_id}, aggregate: count, column: made}
      sum: {table: reviews, on: {id: product_id}, aggregate: sum, column: stars}
      avg: {table: reviews, on: {id: product_id}, aggregate: avg, column: stars}
      total: {table: reviews, on: {id: product_id}, aggregate: sum, column: price}
      since: {table: reviews, on: {id: product_id}, aggregate: min, column: made}
`, `avg double
category.id long
category.name keyword
category.parent.id long
count long
id long
nested nested
nested.author.id long
nested.author.name keyword
nested.day date
object.stars integer
rated long
since date
sum long
tags text
total double
`},
		{"groups and constants", `
  a:
    table: products
    fields:
      "*": false
      size: {fields: {width: true, deep: {fields: {t: {column: title, type: keyword}}}}, dynamic: true}
      yes: {constant: true}
      int: {constant: 5}
      float: {constant: 0.5}
      list: {constant: [1, 2]}
      none: {constant: null}
      text: {constant: product}
      typed: {constant: product, type: text}
      object: {constant: {a: 1, b: {c: x}}}
`, `float double
int long
list long
none keyword
object.a long
object.b.c keyword
size.deep.t keyword
size.width integer
text keyword
typed text
yes boolean
`},
		{"several tables with fields in common", `
  a:
    tables:
      - {table: products, id: "product-{id}", fields: [id, title]}
      - {table: tags, id: "tag-{id}", fields: {rank: false, kind: {constant: tag}}}
`, `id long
kind keyword
name text
title text
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, err := indexIn(t, tt.index).Body(relatedTables())
			if err != nil {
				t.Fatal(err)
			}
			var body struct {
				Mappings struct{ Properties map[string]any }
			}
			if err := json.Unmarshal(text, &body); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, outline(body.Mappings.Properties, "")); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	clash := indexIn(t, `
  a:
    tables:
      - {table: products, id: "product-{id}", fields: [id, width]}
      - {table: tags, id: "tag-{id}", fields: {width: {column: rank}}}
`)
	want := "index a: field width of table public.tags is not what it is of another table; give both the same type"
	if _, err := clash.Body(relatedTables()); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestBodyRefuses(t *testing.T) {
	table := productTable()
	for want, mappings := range map[string]map[string]any{
		"index p: mappings.properties: want fields by name":                  {"properties": []any{}},
		"index p: mappings.properties.title: want the parameters of a field": {"properties": map[string]any{"title": "text"}},
	} {
		ix := indexOf(Index{Name: "p", Mappings: mappings}, Source{Table: table.TableName()})
		if _, err := ix.Body(tablesOf(table)); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	given := func() *Index {
		return indexOf(Index{Name: "products", Settings: map[string]any{"number_of_shards": 3}},
			Source{Table: catalog.TableName{Schema: "public", Name: "products"}, Shape: Shape{Fields: []Field{{Name: "title", Column: "title", Params: map[string]any{"analyzer": "english"}}, {Name: "note", Omit: true}}}})
	}
	want := given().Fingerprint(tablesOf(productTable()))
	if len(want) != 32 {
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
