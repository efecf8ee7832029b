package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A form is a table whose rows differ from those of the plain one.
type form struct {
	step, name, columns, values string // values are of row n of generate_series
	rows                        int
	set                         string // what an update of all rows sets
}

// wideColumns is how many columns the wide table has.
const wideColumns = 50

// wideForm is a table of many columns of several types.
func wideForm(rows int) form {
	columns, values := []string{"id bigint primary key", "stock integer not null"}, []string{"n", "n % 1000"}
	kinds := []struct{ column, value string }{
		{"integer not null", "(n * %d) %% 100000"},
		{"text not null", "'value ' || md5((n * %d)::text)"},
		{"numeric(12,2) not null", "((n * %d) %% 1000000)::numeric / 100"},
		{"boolean not null", "(n / %d) %% 2 = 0"},
		{"timestamptz not null", "timestamptz '2026-01-01 00:00:00Z' + (n %% 1000000) * interval '%d seconds'"},
		{"double precision", "case when n %% 3 > 0 then n / %d.0 end"},
		{"varchar(40)", "case when n %% 4 > 0 then 'code-' || n %% %d end"},
	}
	for i := len(columns); i < wideColumns; i++ {
		kind := kinds[i%len(kinds)]
		columns = append(columns, fmt.Sprintf("c%d %s", i, kind.column))
		values = append(values, fmt.Sprintf(kind.value, i+1))
	}
	return form{step: wide, name: "broad", columns: strings.Join(columns, ", "), values: strings.Join(values, ", "), rows: rows, set: "stock = stock + 1, c2 = c2 + 1"}
}

// largeForm is a table with a value of 100 KB in each row, stored beside it.
func largeForm(rows int) form {
	return form{
		step: large, name: "heavy", rows: rows, set: "stock = stock + 1",
		columns: "id bigint primary key, stock integer not null, title text not null, body text not null",
		values:  "n, n % 1000, 'title ' || n, (select string_agg(md5(n || '/' || i), '') from generate_series(1, 3200) i)",
	}
}

func (b *bench) wide(ctx context.Context, n int) error {
	return b.form(ctx, n, wideForm(max(100, b.o.rows/5)))
}

func (b *bench) large(ctx context.Context, n int) error {
	return b.form(ctx, n, largeForm(max(20, b.o.rows/1000)))
}

// form measures the backfill of a table, and how an update of each of its rows is caught up with.
func (b *bench) form(ctx context.Context, n int, f form) (err error) {
	b.tell("making %d rows for %s", f.rows, f.step)
	for _, statement := range []string{
		fmt.Sprintf("create table %s (%s)", f.name, f.columns),
		fmt.Sprintf("insert into %s select %s from generate_series(1, %d) n", f.name, f.values, f.rows),
		"vacuum (analyze) " + f.name,
	} {
		if _, err := b.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%.100s: %w", statement, err)
		}
	}
	tools, err := b.newTools(f.step, "table: public."+f.name)
	if err != nil {
		return err
	}
	plain := b.plain(f.step)
	defer func() {
		_, dropped := b.conn.Exec(context.WithoutCancel(ctx), "drop table "+f.name)
		err = errors.Join(err, b.remove(ctx, tools, plain), dropped)
	}()
	t, err := openTable(ctx, b.conn, f.name, tools[0].config)
	if err != nil {
		return err
	}
	checkIndex := func(index string) error { return check(ctx, b.search, t, index) }
	fill := filling{step: f.step, what: "rows", n: f.rows, query: t.selection(), plain: plain, body: t.body, check: checkIndex}
	if plain != "" {
		if fill.rows, err = newBulkFile(b.folder, f.step, b.o.batch); err != nil {
			return err
		}
		defer fill.rows.close()
	}
	err = t.all(ctx, func(doc document) error {
		fill.bytes += int64(len(doc.body))
		if fill.rows == nil {
			return nil
		}
		return fill.rows.store(1, doc)
	})
	if err != nil {
		return err
	}
	if _, err := b.fill(ctx, n, fill, tools); err != nil {
		return err
	}
	c := catching{
		step: f.step, series: "updates", first: 1, plain: plain, check: checkIndex,
		commit: func(what *operations) (int, error) { return t.updateEach(ctx, f.rows, f.set, what) },
	}
	_, _, err = b.catchUp(ctx, n, c, tools)
	return err
}

// updateEach changes each row of a table whose ids are 1 to rows, in transactions of 100.
func (t *table) updateEach(ctx context.Context, rows int, set string, what *operations) (changes int, err error) {
	what.next()
	for first := 1; first <= rows; first += 100 {
		tag, err := t.conn.Exec(ctx, "update "+t.name+" set "+set+" where id between $1 and $2", first, first+99)
		if err != nil {
			return changes, err
		}
		changes += int(tag.RowsAffected())
	}
	return changes, t.all(ctx, what.store)
}
