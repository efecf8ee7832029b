package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"

	"tidemark/mapping"
)

const (
	reviewsPerItem = 3
	// One row in as many has reviews: the documents are larger.
	itemsPerGoods = 3
)

// includeTables makes a table of rows that have related rows.
const includeTables = `
	create table goods (like items including all);
	insert into goods select * from items order by id limit %d;
	create table reviews (id bigint primary key, goods_id bigint not null, author text not null, stars integer not null, body text not null, created_at timestamptz not null);
	insert into reviews select row_number() over (), g.id, 'author ' || g.id %% 1000, 1 + (g.id + n) %% 5, substr(g.description, 1, 120), g.created_at + n * interval '1 hour'
		from goods g, generate_series(1, %d) n;
	create index on reviews (goods_id);
	alter table reviews replica identity full;
	vacuum (analyze) goods;
	vacuum (analyze) reviews`

// includeQuery gives what the documents ought to be.
const includeQuery = `select g.id::text, (to_jsonb(g) - 'created_at' - 'updated_at' || jsonb_build_object(
		'created_at', (to_jsonb(g.created_at at time zone 'UTC') #>> '{}') || 'Z', 'updated_at', (to_jsonb(g.updated_at at time zone 'UTC') #>> '{}') || 'Z',
		'reviews', (select jsonb_agg(jsonb_build_object('author', r.author, 'stars', r.stars, 'body', r.body) order by r.id) from reviews r where r.goods_id = g.id)))::text
	from goods g`

// include has an index filled whose documents hold several related rows each. What it is
// compared with is the filling of the plain table, by bytes of documents in a second.
func (b *bench) include(ctx context.Context, flat float64) (err error) {
	n := b.o.rows / itemsPerGoods
	b.tell("making %d rows with %d related rows each", n, reviewsPerItem)
	// Several statements in one, of which vacuum wants to be alone.
	for _, statement := range splitStatements(fmt.Sprintf(includeTables, n, reviewsPerItem)) {
		if _, err := b.data.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	t := *b.tool
	t.file, t.index = filepath.Join(b.folder, "include.yaml"), b.servers.name+"-goods"
	slot := b.servers.name + "_include"
	yaml := fmt.Sprintf(`postgres: {url: %q, slot: %s, publication: bench_include, control_schema: bench_include}
search: {urls: [%q], bulk: {requests: %d}}
admin: {listen: "127.0.0.1:0"}
indices:
  %s:
    table: public.goods
    settings: {refresh_interval: 1s}
    include:
      reviews: {table: public.reviews, on: {id: goods_id}, many: object, order_by: id, fields: [author, stars, body]}
`, b.servers.url, slot, b.search.url, b.o.requests, t.index)
	if err := os.WriteFile(t.file, []byte(yaml), 0o600); err != nil {
		return err
	}
	if t.config, err = mapping.Read(t.file); err != nil {
		return err
	}
	defer func() {
		end := context.WithoutCancel(ctx)
		err = errors.Join(err, dropSlot(end, b.data.conn, slot), b.search.drop(end, t.index))
	}()
	if err := b.awaitIdle(ctx); err != nil {
		return err
	}
	b.tell("filling an index with related rows")
	u, _, err := t.once(ctx, include)
	if err != nil {
		return err
	}
	bytes, err := b.checkInclude(ctx, t.index, n)
	if err != nil {
		return err
	}
	speed := float64(bytes) / u.Wall.Seconds()
	b.report.add(include, fmt.Sprintf("documents of %d bytes", bytes/int64(n)), "documents/s", rate(n, u.Wall))
	b.report.add(include, "documents in bytes", "MB/s", speed/1e6)
	if flat > 0 {
		b.report.add(include, "to the backfill of a plain table, by bytes", "%", 100*speed/flat)
	}
	b.usage(include, "documents", n, u)
	return nil
}

// splitStatements parts statements that have no semicolon inside.
func splitStatements(text string) (statements []string) {
	start := 0
	for i := range len(text) {
		if text[i] == ';' {
			statements = append(statements, text[start:i])
			start = i + 1
		}
	}
	return append(statements, text[start:])
}

// checkInclude compares the index with what Postgres makes of the rows by itself, and
// returns the size of all documents.
func (b *bench) checkInclude(ctx context.Context, index string, n int) (bytes int64, err error) {
	b.tell("comparing index and tables")
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
	rows, err := b.data.conn.Query(ctx, includeQuery)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, document string
		if err := rows.Scan(&id, &document); err != nil {
			return 0, err
		}
		if want[id], err = sum([]byte(document)); err != nil {
			return 0, err
		}
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	if len(want) != n {
		return 0, fmt.Errorf("there are %d rows, and not %d", len(want), n)
	}
	err = b.search.each(ctx, index, func(id string, source []byte) error {
		got, err := sum(source)
		if err != nil {
			return err
		}
		if got != want[id] {
			return fmt.Errorf("document %s is not what it ought to be: %s", id, source)
		}
		delete(want, id)
		bytes += int64(len(source))
		return nil
	})
	if err == nil && len(want) > 0 {
		err = fmt.Errorf("%d documents are missing", len(want))
	}
	return bytes, err
}
