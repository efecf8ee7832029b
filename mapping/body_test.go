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
		table("orders", "product_id", "paid", "note"),
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
