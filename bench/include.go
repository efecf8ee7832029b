package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
)

const (
	reviewsPerItem = 20
	// One row in as many has reviews: the documents are larger.
	itemsPerGoods = 20
)

// includeTables makes a table of rows that have related rows.
const includeTables = `
	create table goods (id bigint primary key, sku text not null, title text not null, price numeric(10,2) not null, stock integer not null, created_at timestamptz not null);
	insert into goods select n, 'SKU-' || n, md5(n::text) || ' ' || md5((n + 1)::text), (n %% 100000)::numeric / 100, n %% 1000, timestamptz '2026-01-01 00:00:00Z' + n * interval '37 seconds'
		from generate_series(1, %d) n;
	create table reviews (id bigint primary key, goods_id bigint not null, author text not null, stars integer not null, body text not null);
	insert into reviews select (g.id - 1) * %[2]d + n, g.id, 'author ' || g.id %% 1000, 1 + (g.id + n) %% 5, md5(g.id::text) || ' ' || md5(n::text) || ' ' || md5((g.id + n)::text)
		from goods g, generate_series(1, %[2]d) n;
	create index on reviews (goods_id);
	alter table reviews replica identity full;
	vacuum (analyze) goods;
	vacuum (analyze) reviews`

// includeQuery gives what the documents ought to be.
const includeQuery = `select g.id::text, (to_jsonb(g) - 'created_at' || jsonb_build_object(
		'created_at', (to_jsonb(g.created_at at time zone 'UTC') #>> '{}') || 'Z',
		'reviews', (select jsonb_agg(jsonb_build_object('author', r.author, 'stars', r.stars, 'body', r.body) order by r.id) from reviews r where r.goods_id = g.id)))::text
	from goods g`

// includeRows gives the rows and their related ones as cheaply as one query can.
const includeRows = `select g.*, (select json_agg(json_build_object('author', r.author, 'stars', r.stars, 'body', r.body) order by r.id) from reviews r where r.goods_id = g.id)
	from goods g`

// includeIndex is the YAML of the index.
const includeIndex = `table: public.goods
include:
  reviews: {table: public.reviews, on: {id: goods_id}, many: object, order_by: id, fields: [author, stars, body]}`

// include has an index filled whose documents hold related rows, and changes one of those in each
// document. Beside the limits it is compared with the filling of the plain table, by bytes of
// documents in a second.
func (b *bench) include(ctx context.Context, n int) (err error) {
	rows := max(100, b.o.rows/itemsPerGoods)
	b.tell("making %d rows with %d related rows each", rows, reviewsPerItem)
	for statement := range strings.SplitSeq(fmt.Sprintf(includeTables, rows, reviewsPerItem), ";") {
		if _, err := b.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	tools, err := b.newTools(include, includeIndex)
	if err != nil {
		return err
	}
	plain := b.plain(include)
	defer func() {
		_, dropped := b.conn.Exec(context.WithoutCancel(ctx), "drop table goods, reviews")
		err = errors.Join(err, b.remove(ctx, tools, plain), dropped)
	}()
	tables, err := loadTables(ctx, tools[0].config, "goods", "reviews")
	if err != nil {
		return err
	}
	body, err := tools[0].config.Indices[0].Body(tables)
	if err != nil {
		return err
	}
	f := filling{
		step: include, what: "documents", n: rows, query: includeRows, plain: plain, body: body,
		check: func(index string) error { return b.checkInclude(ctx, index, rows) },
	}
	if plain != "" {
		if f.rows, err = newBulkFile(b.folder, include, b.o.batch); err != nil {
			return err
		}
		defer f.rows.close()
	}
	err = b.included(ctx, func(doc document) error {
		f.bytes += int64(len(doc.body))
		if f.rows == nil {
			return nil
		}
		return f.rows.store(1, doc)
	})
	if err != nil {
		return err
	}
	used, err := b.fill(ctx, n, f, tools)
	if err != nil {
		return err
	}
	for _, t := range tools {
		if flat := b.flat[t.build]; flat > 0 {
			b.report.of(include, "", t.name).add(bytesRatio, "%", 100*float64(f.bytes)/used[t].filling.Seconds()/flat)
		}
	}
	c := catching{
		step: include, series: "updates of related rows", first: 1, plain: plain, check: f.check,
		commit: func(what *operations) (int, error) { return b.updateReviews(ctx, rows, what) },
	}
	_, _, err = b.catchUp(ctx, n, c, tools)
	return err
}

// updateReviews changes a review of each row, in transactions of 100.
func (b *bench) updateReviews(ctx context.Context, rows int, what *operations) (changes int, err error) {
	what.next()
	for first := 1; first <= rows; first += 100 {
		tag, err := b.conn.Exec(ctx, "update reviews set stars = stars % 5 + 1 where id in (select (g - 1) * $3::bigint + 1 from generate_series($1::bigint, $2) g)",
			first, min(first+99, rows), reviewsPerItem)
		if err != nil {
			return changes, err
		}
		changes += int(tag.RowsAffected())
	}
	return changes, b.included(ctx, what.store)
}

// included calls f with what Postgres makes of the rows by itself.
func (b *bench) included(ctx context.Context, f func(document) error) error {
	rows, err := b.conn.Query(ctx, includeQuery)
	if err != nil {
		return err
	}
	defer rows.Close()
	var compact bytes.Buffer
	for rows.Next() {
		var id string
		var body []byte
		if err := rows.Scan(&id, &body); err != nil {
			return err
		}
		compact.Reset()
		if err := json.Compact(&compact, body); err != nil {
			return err
		}
		if err := f(document{id, compact.Bytes()}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// checkInclude compares an index with what Postgres makes of the rows by itself.
func (b *bench) checkInclude(ctx context.Context, index string, n int) error {
	seed := maphash.MakeSeed()
	sum := func(text []byte) (uint64, error) { // of what it says, however it is written
		var value any
		if err := json.Unmarshal(text, &value); err != nil {
			return 0, err
		}
		text, err := json.Marshal(value)
		return maphash.Bytes(seed, text), err
	}
	want := make(map[string]uint64, n)
	err := b.included(ctx, func(doc document) (err error) {
		want[doc.id], err = sum(doc.body)
		return err
	})
	if err != nil {
		return err
	}
	if len(want) != n {
		return fmt.Errorf("there are %d rows, and not %d", len(want), n)
	}
	return compare(ctx, b.search, index, want, sum)
}
