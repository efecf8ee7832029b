package mapping_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

// shopSchema is a small shop: three levels of tables, keys of several columns, of citext,
// names that are quoted, a link table, a table of categories in each other.
const shopSchema = `
	create extension citext;
	create schema "Shop";
	create table product (id int, lang citext, category_id int, title text, price numeric(10,2), width int, height int, primary key (id, lang));
	create table category (id int primary key, parent_id int, name text, hidden bool not null default false);
	create table "Shop"."Review" ("Id" bigint primary key, product_id int, product_lang citext, author_id int, stars smallint, weight float8, approved bool, made date, note json);
	create table author (id int primary key, name text, nick citext);
	create table tag (name citext primary key, rank int);
	create table product_tag (id int, lang citext, tag citext, place int, primary key (id, lang, tag, place));

	insert into category values (1, null, 'All', false), (2, 1, 'Tea', false), (3, 2, 'Green', true);
	insert into product values
		(1, 'en', 3, 'Sencha', 12.50, 5, 10),
		(1, 'DE', 2, 'Sencha "grün"', 13.00, 5, null),
		(2, 'en', null, null, null, null, null),
		(3, 'en', 99, 'Lost', 0, 1, 1);
	insert into author values (1, 'Ann', 'ann'), (2, 'Bob', 'BOB');
	insert into "Shop"."Review" values
		(1, 1, 'en', 1, 5, 0.5, true, '2026-01-01', E'{"a":\n 1}'),
		(2, 1, 'EN', 2, 4, 1.5, true, '2026-01-03', null),
		(3, 1, 'en', null, 3, null, true, '2026-01-03', '[]'),
		(4, 1, 'en', 1, null, 2, true, null, null),
		(5, 1, 'en', 1, 1, 1, false, '2026-01-05', null),
		(6, 1, 'de', 2, 2, 1e30, true, '2026-01-01', null),
		(7, null, 'en', 2, 2, 1, true, '2026-01-01', null);
	insert into tag values ('Fresh', 2), ('cold', 1), ('Bio', 2);
	insert into product_tag values (1, 'en', 'fresh', 1), (1, 'en', 'cold', 2), (1, 'en', 'BIO', 3), (1, 'en', 'bio', 4), (1, 'de', 'cold', 1), (2, 'en', 'gone', 1)`

// shopMapping has an include of every kind.
const shopMapping = `
search: {urls: [http://h]}
indices:
  products:
    table: product
    id: "p-{id}-{lang}"
    fields:
      size: {fields: {w: {column: width}, more: {fields: {height: true, of: {constant: [1, "a'b\\c"]}}}}}
      kind: {constant: {a: product}}
      price: false
    include:
      category:
        table: category
        on: {category_id: id}
        fields: [name]
        include: {above: {table: category, on: {parent_id: id}, fields: {id: false, parent_id: false, hidden: {column: hidden}}, include: {above: {table: category, on: {parent_id: id}, fields: [name]}}}}
      reviews:
        table: '"Shop"."Review"'
        on: {id: product_id, lang: product_lang}
        many: nested
        where: approved -- and nothing else
        order_by: made desc nulls last, stars
        limit: 3
        fields: {"*": false, Id: true, stars: true, note: true, rated: {fields: {s: {column: stars}, w: {column: weight}}}, kind: {constant: review}}
        include: {author: {table: author, on: {author_id: id}, fields: [name]}}
      first: {table: '"Shop"."Review"', on: {id: product_id, lang: product_lang}, order_by: '"Id"', fields: [Id]}
      tags: {table: tag, through: {table: product_tag, on: {id: id, lang: lang}, to: {tag: name}}, value: name, order_by: place desc}
      tag_objects: {table: tag, through: {table: product_tag, on: {id: id, lang: lang}, to: {tag: name}}, many: object, order_by: [rank, name], limit: 2}
      links: {table: product_tag, on: {id: id, lang: lang}, value: place}
      review_count: {table: '"Shop"."Review"', on: {id: product_id, lang: product_lang}, aggregate: count}
      good: {table: '"Shop"."Review"', on: {id: product_id, lang: product_lang}, aggregate: count, column: stars, where: stars > 3}
      stars: {table: '"Shop"."Review"', on: {id: product_id, lang: product_lang}, aggregate: sum, column: stars}
      mean: {table: '"Shop"."Review"', on: {id: product_id, lang: product_lang}, aggregate: avg, column: stars}
      weight: {table: '"Shop"."Review"', on: {id: product_id, lang: product_lang}, aggregate: max, column: weight}
      since: {table: '"Shop"."Review"', on: {id: product_id, lang: product_lang}, aggregate: min, column: made}
`

// shopQuery makes the same documents by hand.
const shopQuery = `select json_build_object(
	'id', id, 'lang', lang, 'category_id', category_id, 'title', title,
	'size', json_build_object('w', width, 'more', json_build_object('height', height, 'of', '[1,"a''b\\c"]'::json)),
	'kind', '{"a":"product"}'::json,
	'category', (select json_build_object('name', name, 'above',
			(select json_build_object('name', name, 'hidden', hidden, 'above', (select json_build_object('name', name) from category where id = b.parent_id)) from category b where id = a.parent_id))
		from category a where id = p.category_id),
	'reviews', coalesce((select json_agg(json_build_object('Id', "Id", 'stars', stars, 'note', note, 'rated', json_build_object('s', stars, 'w', weight), 'kind', 'review',
			'author', (select json_build_object('name', name) from author where id = author_id)) order by made desc nulls last, stars nulls last, "Id")
		from (select * from "Shop"."Review" where approved and (product_id, product_lang) = (p.id, p.lang) order by made desc nulls last, stars nulls last, "Id" limit 3) r), '[]'),
	'first', (select json_build_object('Id', min("Id")) from "Shop"."Review" where (product_id, product_lang) = (p.id, p.lang) having count(*) > 0),
	'tags', coalesce((select json_agg(tag.name order by place desc, name) from product_tag l join tag on tag.name = l.tag where (l.id, l.lang) = (p.id, p.lang)), '[]'),
	'tag_objects', coalesce((select json_agg(json_build_object('name', name, 'rank', rank) order by rank, name)
		from (select tag.* from product_tag l join tag on tag.name = l.tag where (l.id, l.lang) = (p.id, p.lang) order by rank, tag.name, l.id, l.lang, l.tag, l.place limit 2) r), '[]'),
	'links', coalesce((select json_agg(place order by id, lang, tag, place) from product_tag where (id, lang) = (p.id, p.lang)), '[]'),
	'review_count', (select count(*) from "Shop"."Review" where (product_id, product_lang) = (p.id, p.lang)),
	'good', (select count(*) from "Shop"."Review" where (product_id, product_lang) = (p.id, p.lang) and stars > 3),
	'stars', (select sum(stars) from "Shop"."Review" where (product_id, product_lang) = (p.id, p.lang)),
	'mean', (select avg(stars) from "Shop"."Review" where (product_id, product_lang) = (p.id, p.lang)),
	'weight', (select max(weight) from "Shop"."Review" where (product_id, product_lang) = (p.id, p.lang)),
	'since', (select min(made) from "Shop"."Review" where (product_id, product_lang) = (p.id, p.lang))
) from product p order by id, lang`

// shop makes the database, reads its catalog, and gives the source of shopMapping.
func shop(t *testing.T, text string) (*testenv.Database, *mapping.Source, catalog.Tables) {
	t.Helper()
	return databaseOf(t, shopSchema, text)
}

// databaseOf makes a database by statements, and returns it, the source of a file, and its tables.
func databaseOf(t *testing.T, schema, text string) (*testenv.Database, *mapping.Source, catalog.Tables) {
	t.Helper()
	d := testenv.NewDatabase(t)
	d.Exec(t, schema)
	s := sourceIn(t, text)
	tables := make(catalog.Tables)
	for _, name := range s.Tables() {
		var err error
		if tables[name], err = catalog.LoadTable(t.Context(), d.DB, name.Schema, name.Name); err != nil {
			t.Fatal(err)
		}
	}
	return d, s, tables
}

// sourceIn returns the first source of a file.
func sourceIn(t *testing.T, text string) *mapping.Source {
	t.Helper()
	c, err := mapping.Parse("shop.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return c.Indices[0].Sources[0]
}

// The statements as people read them.
func TestStatements(t *testing.T) {
	typ := func(oid uint32, name string) *catalog.Type {
		return &catalog.Type{OID: oid, Name: name, Kind: catalog.KindBase, Delim: ',', Modifier: -1}
	}
	integer, date := typ(23, "integer"), typ(1082, "date")
	citext := typ(20000, "public.citext")
	citext.Category = 'S'
	products := &catalog.Table{Schema: "public", Name: "products", PrimaryKey: []string{"lang", "id"}, Partitioned: true, Columns: []catalog.Column{
		{Name: "lang", Type: citext}, {Name: "id", Type: integer}, {Name: "category_id", Type: integer}, {Name: "include_0", Type: integer}}}
	categories := &catalog.Table{Schema: "public", Name: "categories", PrimaryKey: []string{"id"}, Columns: []catalog.Column{
		{Name: "id", Type: integer}, {Name: "parent", Type: integer}, {Name: "made", Type: date}}}
	tags := &catalog.Table{Schema: "My Shop", Name: "Tags", Columns: []catalog.Column{{Name: "Name", Type: citext}, {Name: "rank", Type: integer}}}
	links := &catalog.Table{Schema: "public", Name: "links", Columns: []catalog.Column{{Name: "product", Type: integer}, {Name: "lang", Type: citext}, {Name: "tag", Type: citext}}}
	tables := catalog.Tables{products.TableName(): products, categories.TableName(): categories, tags.TableName(): tags, links.TableName(): links}
	c, err := mapping.Parse("t.yaml", []byte(`
search: {urls: [http://h]}
indices:
  products:
    table: products
    fields: [id]
    include:
      category: {table: categories, on: {category_id: id}, fields: {"*": false, id: true, g: {fields: {parent: true, c: {constant: it's}}}}}
      children: {table: categories, on: {category_id: parent}, many: object, fields: [id], order_by: made desc, limit: 5, where: parent > 0}
      tags: {table: '"My Shop"."Tags"', through: {table: links, on: {id: product, lang: lang}, to: {tag: Name}}, value: rank}
      count: {table: categories, on: {category_id: parent}, aggregate: count}
      latest: {table: categories, on: {category_id: parent}, aggregate: sum, column: id}
`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	source := c.Indices[0].Sources[0]
	sel, err := source.Select(tables)
	if err != nil {
		t.Fatal(err)
	}
	paths := source.Paths()
	two := mapping.Lookup{Path: paths[2], Keys: [][][]byte{{[]byte("1"), nil}, {[]byte(`a"b`), []byte("c")}}}
	three := mapping.Lookup{Path: paths[3], Keys: [][][]byte{{[]byte("x")}}}
	find := func(after [][]byte, lookups ...mapping.Lookup) string {
		query, args, err := source.Find(tables, lookups, after, 10)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %q", query, args)
	}
	lines := strings.NewReplacer("pg_catalog.", "", `" FROM`, "\"\nFROM", " AS \"include", "\nAS \"include", "\n", " ", " UNION", "\nUNION", ") f ", ")\nf ")
	for _, tt := range []struct{ name, got, want string }{
		{"select list", lines.Replace(sel.List), `t."lang", t."id", (SELECT row_to_json(o2.*) FROM (SELECT r1."id" AS "id", (SELECT row_to_json(g3.*) FROM (SELECT r1."parent" AS "parent", '"it''s"'::json AS "c") g3) AS "g"
FROM ONLY "public"."categories" r1 WHERE r1."id" = t."category_id" LIMIT 1) o2)
AS "include_0_", array_to_json(ARRAY(SELECT row_to_json(o5.*) FROM (SELECT r4."id" AS "id"
FROM (SELECT * FROM ONLY "public"."categories" WHERE (parent > 0 )) r4 WHERE r4."parent" = t."category_id" ORDER BY r4."made" DESC NULLS FIRST, r4."id" LIMIT 5) o5))
AS "include_1", array_to_json(ARRAY(SELECT to_json(r6."rank") FROM ONLY "My Shop"."Tags" r6 JOIN ONLY "public"."links" l7 ON r6."Name" OPERATOR(public.=) l7."tag" WHERE l7."product" = t."id" AND l7."lang" OPERATOR(public.=) t."lang" ORDER BY r6."Name"::text, r6."rank"::text, l7."product"::text, l7."lang"::text, l7."tag"::text))
AS "include_2", (SELECT to_json(count(*)) FROM ONLY "public"."categories" r8 WHERE r8."parent" = t."category_id")
AS "include_3", (SELECT to_json(v10.v) FROM (SELECT sum(r9."id") AS v FROM ONLY "public"."categories" r9 WHERE r9."parent" = t."category_id") v10)
AS "include_4"`},
		{"columns of the result", strings.Join(sel.Names, " "), "lang id include_0_ include_1 include_2 include_3 include_4 document_bytes"},
		{"locks", strings.Join(sel.Locks, ", "), `"public"."products", ONLY "public"."categories", ONLY "public"."links", ONLY "My Shop"."Tags"`},
		{"every row", find(nil), `SELECT t."lang", t."id" FROM "public"."products" t ORDER BY t."lang", t."id" LIMIT 10 []`},
		{"rows of a link table", lines.Replace(find(nil, two)), `SELECT DISTINCT f."lang", f."id"
FROM (SELECT t."lang", t."id"
FROM ROWS FROM (unnest($1::text[]), unnest($2::text[])) AS k(k0, k1) JOIN "public"."products" t ON t."id" = k.k0::integer AND t."lang" OPERATOR(public.=) k.k1::public.citext)
f ORDER BY f."lang", f."id" LIMIT 10 ["{\"1\",NULL}" "{\"a\\\"b\",\"c\"}"]`},
		{"rows of two tables, after a key", lines.Replace(find([][]byte{[]byte("en"), []byte("7")}, two, three)), `SELECT DISTINCT f."lang", f."id"
FROM (SELECT t."lang", t."id"
FROM ROWS FROM (unnest($1::text[]), unnest($2::text[])) AS k(k0, k1) JOIN "public"."products" t ON t."id" = k.k0::integer AND t."lang" OPERATOR(public.=) k.k1::public.citext
UNION ALL SELECT t."lang", t."id"
FROM ROWS FROM (unnest($3::text[])) AS k(k0) JOIN ONLY "public"."links" h1 ON h1."tag" OPERATOR(public.=) k.k0::public.citext JOIN "public"."products" t ON h1."product" = t."id" AND h1."lang" OPERATOR(public.=) t."lang")
f WHERE f."lang" OPERATOR(public.>=) $4::public.citext AND (f."lang" OPERATOR(public.>) $4::public.citext OR f."id" > $5::integer) ORDER BY f."lang", f."id" LIMIT 10 ["{\"1\",NULL}" "{\"a\\\"b\",\"c\"}" "{\"x\"}" "en" "7"]`},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s: want -, got +:\n%s\n%s", tt.name, diff, tt.got)
		}
	}
	delete(tables, tags.TableName())
	if _, err := source.Select(tables); err == nil || err.Error() != `index products: include tags: table "My Shop"."Tags": no such table` {
		t.Errorf("without a table: %v", err)
	}
}

// Documents are what a query written by hand makes of the same rows.
func TestSelectGivesWhatAQueryGives(t *testing.T) {
	d, source, tables := shop(t, shopMapping)
	sel, err := source.Select(tables)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := mapping.Compile(source, tables[source.Table], sel.Names)
	if err != nil {
		t.Fatal(err)
	}
	rows := selectRows(t, d, sel.Statement("product "+mapping.Root+" order by id, lang"))
	want := selectRows(t, d, shopQuery)
	if len(rows) != len(want) {
		t.Fatal(len(rows), len(want))
	}
	for i, row := range rows {
		got, err := plan.AppendDocument(nil, row)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsAny(got, "\n\r") {
			t.Errorf("row %d: more than one line: %s", i, got)
		}
		if diff := cmp.Diff(compact(t, want[i].Columns[0].Data), compact(t, got)); diff != "" {
			t.Errorf("row %d: want -, got +:\n%s", i, diff)
		}
		if !plan.Complete(row) {
			t.Errorf("row %d is not complete", i)
		}
	}
}

// Names of fields that are also those of parts of the statement are not taken for them.
func TestSelectOfAnyName(t *testing.T) {
	fields := `'"': {column: name}, 'a"b\': {column: parent_id}`
	want := map[string]any{`"`: "All", `a"b\`: nil}
	for i := range 9 {
		for _, letter := range "orlgvkt" {
			name := fmt.Sprintf("%c%d", letter, i)
			fields += fmt.Sprintf(", %s: {constant: %d}", name, i)
			want[name] = float64(i)
		}
	}
	text := "search: {urls: [http://h]}\nindices: {a: {table: product, include: {c: {table: category, on: {id: id}, fields: {'*': false, t: {fields: {" + fields + "}}, " + fields + "}}}}}"
	d, source, tables := shop(t, text)
	sel, err := source.Select(tables)
	if err != nil {
		t.Fatal(err)
	}
	row := selectRows(t, d, "select "+sel.List+" from product t where id = 1")[0]
	var got map[string]any
	if err := json.Unmarshal(row.Columns[len(row.Columns)-1].Data, &got); err != nil {
		t.Fatal(err)
	}
	inner := maps.Clone(want)
	want["t"] = inner
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// compact returns JSON with a line for each value, in the order and with the digits that it has.
func compact(t *testing.T, text []byte) string {
	t.Helper()
	var short, b bytes.Buffer
	if err := json.Compact(&short, text); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if err := json.Indent(&b, short.Bytes(), "", " "); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The paths are the ways to the tables, and what is found along them is the root rows whose
// documents hold the row, or would.
func TestFind(t *testing.T) {
	d, source, tables := shop(t, shopMapping)
	paths := source.Paths()
	ways := ""
	for i, p := range paths {
		ways += fmt.Sprintf("%d:", i)
		for _, h := range p.Hops {
			ways += " " + h.Table.Name
		}
		ways += fmt.Sprint(" ", p.Columns(), "\n")
	}
	const wantWays = `0: category [id]
1: category category [id]
2: category category category [id]
3: Review [product_id product_lang]
4: Review author [id]
5: Review [product_id product_lang]
6: product_tag [id lang]
7: product_tag tag [name]
8: product_tag [id lang]
9: product_tag tag [name]
10: product_tag [id lang]
11: Review [product_id product_lang]
12: Review [product_id product_lang]
13: Review [product_id product_lang]
14: Review [product_id product_lang]
15: Review [product_id product_lang]
16: Review [product_id product_lang]
`
	if diff := cmp.Diff(wantWays, ways); diff != "" {
		t.Fatalf("paths: want -, got +:\n%s", diff)
	}
	conn, err := pgconn.Connect(t.Context(), d.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	keys := func(columns ...string) (keys [][][]byte) { // each with its values, comma between them, NULL
		for _, column := range columns {
			var values [][]byte
			for value := range strings.SplitSeq(column, ",") {
				if value == "NULL" {
					values = append(values, nil)
				} else {
					values = append(values, []byte(value))
				}
			}
			keys = append(keys, values)
		}
		return keys
	}
	lookup := func(path int, columns ...string) mapping.Lookup {
		return mapping.Lookup{Path: paths[path], Keys: keys(columns...)}
	}
	tests := []struct {
		name    string
		lookups []mapping.Lookup
		after   []string
		limit   int
		want    string
	}{
		{"all rows", nil, nil, 10, "1 DE, 1 en, 2 en, 3 en"},
		{"all rows, a page", nil, nil, 2, "1 DE, 1 en"},
		{"all rows, the next page, by citext's order", nil, []string{"1", "EN"}, 2, "2 en, 3 en"},
		{"all rows, between two of the same first column", nil, []string{"1", "de"}, 2, "1 en, 2 en"},
		{"one hop", []mapping.Lookup{lookup(0, "2")}, nil, 10, "1 DE"},
		{"a row that is gone, of which a key is still there", []mapping.Lookup{lookup(0, "99,4")}, nil, 10, "3 en"},
		{"NULL links nothing", []mapping.Lookup{lookup(0, "NULL")}, nil, 10, ""},
		{"two hops", []mapping.Lookup{lookup(1, "2")}, nil, 10, "1 en"},
		{"three hops", []mapping.Lookup{lookup(2, "1")}, nil, 10, "1 en"},
		{"several columns, as citext compares", []mapping.Lookup{lookup(3, "1,2,2", "EN,en,de")}, nil, 10, "1 en, 2 en"},
		{"a part of the key is NULL", []mapping.Lookup{lookup(3, "1,NULL", "NULL,en")}, nil, 10, ""},
		{"through a table of another schema", []mapping.Lookup{lookup(4, "2")}, nil, 10, "1 DE, 1 en"},
		{"the link table itself", []mapping.Lookup{lookup(6, "2", "EN")}, nil, 10, "2 en"},
		{"through the link table", []mapping.Lookup{lookup(7, "COLD")}, nil, 10, "1 DE, 1 en"},
		{"through two rows of the link table, once", []mapping.Lookup{lookup(7, "bio")}, nil, 10, "1 en"},
		{"several lookups together", []mapping.Lookup{lookup(0, "99"), lookup(7, "bio,gone"), lookup(3, "1", "en")}, nil, 10, "1 en, 2 en, 3 en"},
		{"several lookups, after a key", []mapping.Lookup{lookup(0, "99"), lookup(7, "bio,gone"), lookup(3, "1", "en")}, []string{"1", "en"}, 1, "2 en"},
		{"texts that have to be quoted in an array", []mapping.Lookup{lookup(7, `a"b\c{},,NULL ,null, Fresh`)}, nil, 10, ""},
		{"no keys at all", []mapping.Lookup{{Path: paths[0], Keys: [][][]byte{{}}}}, nil, 10, ""},
	}
	for _, tt := range tests {
		var after [][]byte
		for _, value := range tt.after {
			after = append(after, []byte(value))
		}
		query, args, err := source.Find(tables, tt.lookups, after, tt.limit)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		result := conn.ExecParams(t.Context(), query, args, nil, nil, nil).Read()
		if result.Err != nil {
			t.Fatalf("%s: %v\n%s", tt.name, result.Err, query)
		}
		var got []string
		for _, row := range result.Rows {
			got = append(got, string(bytes.Join(row, []byte(" "))))
		}
		if got := strings.Join(got, ", "); got != tt.want {
			t.Errorf("%s: got %s, want %s\n%s", tt.name, got, tt.want, query)
		}
		if tt.after != nil || tt.limit < 10 {
			continue
		}
		// Those that are found first are the same, each as often as it is found.
		if query, args, err = source.FindSome(tables, tt.lookups, 10); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		some := conn.ExecParams(t.Context(), query, args, nil, nil, nil).Read()
		if some.Err != nil {
			t.Fatalf("%s: %v\n%s", tt.name, some.Err, query)
		}
		var each []string
		for _, row := range some.Rows {
			each = append(each, string(bytes.Join(row, []byte(" "))))
		}
		if got := strings.Join(slices.Compact(each), ", "); got != tt.want {
			t.Errorf("%s: some of them: got %s, want %s\n%s", tt.name, got, tt.want, query)
		}
		if query, args, err = source.FindSome(tables, tt.lookups, 1); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if one := conn.ExecParams(t.Context(), query, args, nil, nil, nil).Read(); one.Err != nil || len(one.Rows) != min(1, len(each)) {
			t.Errorf("%s: one of them: got %d rows, %v\n%s", tt.name, len(one.Rows), one.Err, query)
		}
	}
}

// The text of a path stands for it outside of the process: it must not become another one, and those of
// different ways must differ.
func TestPathText(t *testing.T) {
	path := func(hops ...mapping.Hop) string { return (&mapping.Path{Hops: hops}).String() }
	hop := func(schema, table string, on ...string) mapping.Hop {
		h := mapping.Hop{Table: catalog.TableName{Schema: schema, Name: table}}
		for i := 0; i < len(on); i += 2 {
			h.On = append(h.On, mapping.Pair{Near: on[i], Far: on[i+1]})
		}
		return h
	}
	children := hop("public", "c", "a", "b")
	children.Children = true
	for want, got := range map[string]string{
		`"public"."c"("c"="id")`:                                    path(hop("public", "c", "c", "id")),
		`"public"."l"("id"="p","x"="y") "Other"."t"("t a""g"="id")`: path(hop("public", "l", "id", "p", "x", "y"), hop("Other", "t", `t a"g`, "id")),
		`"public"."c"*("a"="b")`:                                    path(children),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
