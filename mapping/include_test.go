package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tidemark/mapping/catalog"
	"tidemark/mapping/limit"
)

// indexIn returns the first index of a file whose indices are text.
func indexIn(t *testing.T, indices string) *Index {
	t.Helper()
	c, err := Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices:\n"+indices), env())
	if err != nil {
		t.Fatal(err)
	}
	return c.Indices[0]
}

// TestParseInclude reads every key of include, and every other thing that fields can be.
func TestParseInclude(t *testing.T) {
	ix := indexIn(t, `
  a:
    table: products
    where: deleted_at == nil
    fields:
      price: {column: cents, expr: cents / 100.0, type: double}
      sum: {expr: a + b}
      weight: {as: string, index: false}
      kind: {constant: [1, two, {three: 2026-01-31}]}
      none: {constant: null}
      size: {fields: {w: {column: width}, deep: {fields: [x, y]}, gone: false}, dynamic: true}
      title: {fields: {raw: {type: keyword}}}
      on: {fields: {type: {column: kind}}}
    include:
      category: {table: shop.categories, on: {category_id: id, lang: lang}, fields: [name, id]}
      reviews:
        table: reviews
        on: {id: product_id}
        many: nested
        fields: {"*": false, stars: true}
        order_by: created_at desc, id
        limit: 100
        where: stars > 0 and 'a' <> 'b'
        include: {author: {table: '"Author"', on: {author_id: Id}, many: object}}
      tags: {table: tags, through: {table: product_tags, on: {id: product_id}, to: {tag_id: id}}, value: name}
      stars: {table: reviews, on: {id: product_id}, aggregate: avg, column: stars}
      count: {table: reviews, on: {id: product_id}, aggregate: count}
`)
	public := func(name string) catalog.TableName { return catalog.TableName{Schema: "public", Name: name} }
	want := indexOf(Index{Key: "a", Name: "a", MaxIndices: DefaultMaxIndices, Reindex: Reindex{Chunk: DefaultChunk}, MaxDocumentBytes: limit.DefaultDocumentBytes}, Source{
		Table: public("products"),
		Where: "deleted_at == nil",
		Shape: Shape{
			Fields: []Field{
				{Name: "price", Column: "cents", Expr: "cents / 100.0", Params: map[string]any{"type": "double"}},
				{Name: "sum", Expr: "a + b"},
				{Name: "weight", Column: "weight", As: "string", Params: map[string]any{"index": false}},
				{Name: "kind", Constant: &Constant{[]any{1, "two", map[string]any{"three": "2026-01-31"}}}},
				{Name: "none", Constant: &Constant{nil}},
				{Name: "size", Params: map[string]any{"dynamic": true}, Group: []Field{
					{Name: "w", Column: "width"},
					{Name: "deep", Group: []Field{{Name: "x", Column: "x"}, {Name: "y", Column: "y"}}},
					{Name: "gone", Column: "gone", Omit: true},
				}},
				{Name: "title", Column: "title", Params: map[string]any{"fields": map[string]any{"raw": map[string]any{"type": "keyword"}}}},
				{Name: "on", Group: []Field{{Name: "type", Column: "kind"}}},
			},
			Include: []*Include{
				{Name: "category", Table: catalog.TableName{Schema: "shop", Name: "categories"}, On: []Pair{{"category_id", "id"}, {"lang", "lang"}},
					Shape: Shape{Listed: true, Fields: []Field{{Name: "name", Column: "name"}, {Name: "id", Column: "id"}}}},
				{Name: "reviews", Table: public("reviews"), On: []Pair{{"id", "product_id"}}, Many: ManyNested,
					OrderBy: []Order{{"created_at", true, true}, {"id", false, false}}, Limit: 100, Where: "stars > 0 and 'a' <> 'b'",
					Shape: Shape{Listed: true, Fields: []Field{{Name: "stars", Column: "stars"}},
						Include: []*Include{{Name: "author", Table: public("Author"), On: []Pair{{"author_id", "Id"}}, Many: ManyObject}}}},
				{Name: "tags", Table: public("tags"), On: []Pair{{"id", "product_id"}}, Value: "name",
					Through: &Link{Table: public("product_tags"), To: []Pair{{"tag_id", "id"}}}},
				{Name: "stars", Table: public("reviews"), On: []Pair{{"id", "product_id"}}, Aggregate: AggregateAvg, Column: "stars"},
				{Name: "count", Table: public("reviews"), On: []Pair{{"id", "product_id"}}, Aggregate: AggregateCount},
			},
		},
	})
	if diff := cmp.Diff(want, ix, cmpopts.IgnoreUnexported(Index{}, Source{}, Field{}, Include{})); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if got, want := ix.Sources[0].Include[1].Include[0].path, "indices.a.include.reviews.include.author"; got != want {
		t.Errorf("path %s, want %s", got, want)
	}
}

// TestParseTables reads an index of several tables.
func TestParseTables(t *testing.T) {
	ix := indexIn(t, `
  a:
    tables:
      - {table: products, id: "product-{id}", fields: [id]}
      - {table: articles, id: "article-{id}@{lang}!", routing: lang, where: public, include: {n: {table: reviews, on: {id: article}, aggregate: count}}}
    settings: {number_of_shards: 3}
`)
	want := &Index{Key: "a", Name: "a", MaxIndices: DefaultMaxIndices, Reindex: Reindex{Chunk: DefaultChunk}, Settings: map[string]any{"number_of_shards": 3}, MaxDocumentBytes: limit.DefaultDocumentBytes}
	want.Sources = []*Source{
		{Index: want, Table: catalog.TableName{Schema: "public", Name: "products"}, ID: []string{"id"}, Literals: []string{"product-", ""}, Shape: Shape{Listed: true, Fields: []Field{{Name: "id", Column: "id"}}}},
		{Index: want, Table: catalog.TableName{Schema: "public", Name: "articles"}, ID: []string{"id", "lang"}, Literals: []string{"article-", "@", "!"}, Routing: "lang", Where: "public", Shape: Shape{
			Include: []*Include{{Name: "n", Table: catalog.TableName{Schema: "public", Name: "reviews"}, On: []Pair{{"id", "article"}}, Aggregate: AggregateCount}}}},
	}
	if diff := cmp.Diff(want, ix, cmpopts.IgnoreUnexported(Index{}, Source{}, Field{}, Include{})); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	for i, want := range []struct{ prefix, id, name, key string }{
		{"product-", "product-{id}", "a (public.products)", "indices.a.tables[0].where"},
		{"article-", "article-{id}@{lang}!", "a (public.articles)", "indices.a.tables[1].where"},
	} {
		s := ix.Sources[i]
		if s.Prefix() != want.prefix || s.IDText(nil) != want.id || s.Name() != want.name || s.Key("where") != want.key {
			t.Errorf("%+v: got %s, %s, %s, %s", want, s.Prefix(), s.IDText(nil), s.Name(), s.Key("where"))
		}
	}
	plain := indexIn(t, "  b: {table: products, id: [b, a]}").Sources[0]
	if plain.Prefix() != "" || plain.IDText(nil) != "b, a" || plain.Name() != "b" || plain.Key("where") != "indices.b.where" {
		t.Error(plain.Prefix(), plain.IDText(nil), plain.Name(), plain.Key("where"))
	}
}

func TestOrderBy(t *testing.T) {
	tests := []struct {
		text string
		want []Order
	}{
		{`id`, []Order{{"id", false, false}}},
		{`  made   DESC  `, []Order{{"made", true, true}}},
		{`a asc, b desc`, []Order{{"a", false, false}, {"b", true, true}}},
		{`a nulls first`, []Order{{"a", false, true}}},
		{`a Desc Nulls Last,b ASC NULLS FIRST`, []Order{{"a", true, false}, {"b", false, true}}},
		{`"desc" desc`, []Order{{"desc", true, true}}},
		{`"a ""b""" asc`, []Order{{`a "b"`, false, false}}},
		{`desc`, []Order{{"desc", false, false}}},
		{`Name, größe`, []Order{{"Name", false, false}, {"größe", false, false}}},
		{`[a desc, "b"]`, []Order{{"a", true, true}, {"b", false, false}}},
		{`"a, b" desc`, []Order{{"a, b", true, true}}},
	}
	for _, tt := range tests {
		text := "'" + tt.text + "'"
		if strings.HasPrefix(tt.text, "[") {
			text = tt.text
		}
		in := indexIn(t, "  a: {table: a, include: {b: {table: b, on: {id: id}, many: object, order_by: "+text+"}}}").Sources[0].Include[0]
		if diff := cmp.Diff(tt.want, in.OrderBy); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", tt.text, diff)
		}
	}
}

const nested = `
  a:
    table: products
    include:
      category: {table: categories, on: {category_id: id}, fields: [name], include: {parent: {table: categories, on: {parent_id: id}, fields: [name]}}}
      tags: {table: tags, through: {table: product_tags, on: {id: product_id}, to: {tag_id: id}}, value: name, order_by: "place, rank"}
      count: {table: reviews, on: {id: product_id}, aggregate: count}
      stars: {table: reviews, on: {id: product_id}, aggregate: sum, column: stars}
      good: {table: reviews, on: {id: product_id}, aggregate: count, where: stars > 3}
      reviews: {table: reviews, on: {id: product_id}, many: object, order_by: made, fields: {stars: false}, include: {author: {table: authors, on: {author_id: id}}}}
`

// TestPaths: each place where a table is read, how it is got to, and which of its columns
// documents depend on.
func TestPaths(t *testing.T) {
	ix := indexIn(t, nested)
	tables := tablesOf(
		table("products", "category_id"), table("categories", "name", "parent_id", "note"), table("tags", "name", "rank", "note"),
		with(table("product_tags", "product_id", "tag_id", "place", "note"), func(t *catalog.Table) { t.PrimaryKey = []string{"product_id", "tag_id"} }),
		table("reviews", "product_id", "author_id", "stars", "made", "text"), table("authors", "name"),
	)
	got := ""
	for _, p := range ix.Sources[0].Paths() {
		for _, h := range p.Hops {
			got += fmt.Sprintf("%s %v ", h.Table.Name, h.On)
		}
		uses := slices.Sorted(maps.Keys(p.Uses(tables[p.Table()])))
		got += fmt.Sprintf("by %v uses %v\n", p.Columns(), slices.DeleteFunc(uses, func(name string) bool { return name == "" }))
	}
	const want = `categories [{category_id id}] by [id] uses [id name parent_id]
categories [{category_id id}] categories [{parent_id id}] by [id] uses [id name]
product_tags [{id product_id}] by [product_id] uses [place product_id rank tag_id]
product_tags [{id product_id}] tags [{tag_id id}] by [id] uses [id name place rank]
reviews [{id product_id}] by [product_id] uses [id product_id]
reviews [{id product_id}] by [product_id] uses [id product_id stars]
reviews [{id product_id}] by [product_id] uses [author_id id made product_id stars text]
reviews [{id product_id}] by [product_id] uses [author_id id made product_id text]
reviews [{id product_id}] authors [{author_id id}] by [id] uses [id name]
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestTables(t *testing.T) {
	c, err := Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices:"+nested+`
  b:
    tables:
      - {table: reviews, id: "r-{id}", include: {product: {table: products, on: {product_id: id}}}}
      - {table: orders, id: "o-{id}"}
`), env())
	if err != nil {
		t.Fatal(err)
	}
	names := func(tables []catalog.TableName) string {
		var names []string
		for _, name := range tables {
			names = append(names, name.Name)
		}
		return strings.Join(names, " ")
	}
	for _, tt := range []struct{ got, want string }{
		{names(c.Tables()), "products categories product_tags tags reviews authors orders"},
		{names(c.Indices[1].Tables()), "reviews products orders"},
		{names(c.Indices[1].Sources[1].Tables()), "orders"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
	conditions := map[string]Condition{"indices.a.include.good.where": {catalog.TableName{Schema: "public", Name: "reviews"}, "stars > 3"}}
	if diff := cmp.Diff(conditions, c.Indices[0].Sources[0].Conditions()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}
