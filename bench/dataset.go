package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// A dataset is the plain table, and what it is changed by.
type dataset struct {
	*table
	rows  int
	bytes int64 // of the rows in COPY's text form

	rng  *rand.Rand
	live []int64 // ids
	next int64
	ed   int
}

// sessionSettings have values read as the tool reads them. What is committed is on disk when the
// log is next flushed, at the latest by the checkpoint before the tool is started.
var sessionSettings = map[string]string{
	"TimeZone": "UTC", "DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "extra_float_digits": "1", "bytea_output": "hex",
	"synchronous_commit": "off",
}

// connect opens a session for the bench's own statements.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	maps.Copy(config.RuntimeParams, sessionSettings)
	return pgx.ConnectConfig(ctx, config)
}

// newDataset makes the table, and a copy of it that reset takes the rows from.
func newDataset(ctx context.Context, conn *pgx.Conn, rows int) (*dataset, error) {
	d := &dataset{rows: rows}
	if _, err := conn.Exec(ctx, createTable); err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "create unlogged table seed (like items)"); err != nil {
		return nil, err
	}
	from, to := io.Pipe()
	go func() {
		var text []byte
		for id := 1; id <= d.rows; id++ {
			r := newRow(int64(id), 0)
			text = r.appendCopy(text)
			if len(text) > 64<<10 || id == d.rows {
				n, err := to.Write(text)
				d.bytes += int64(n)
				if err != nil {
					return // the other side has closed it, and says why
				}
				text = text[:0]
			}
		}
		to.Close()
	}()
	if _, err := conn.PgConn().CopyFrom(ctx, from, "copy seed from stdin"); err != nil {
		from.CloseWithError(err)
		return nil, err
	}
	return d, nil
}

// reset puts the table back to what it was in the beginning.
func (d *dataset) reset(ctx context.Context) error {
	for _, statement := range []string{
		"truncate items", "insert into items select * from seed", "vacuum (analyze) items", "checkpoint",
	} {
		if _, err := d.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	d.rng = rand.New(rand.NewPCG(2, 2))
	d.live = d.live[:0]
	for id := 1; id <= d.rows; id++ {
		d.live = append(d.live, int64(id))
	}
	d.next, d.ed = int64(d.rows)+1, 0
	return nil
}

// take removes n ids from those that live and returns them.
func (d *dataset) take(n int) []int64 {
	ids := make([]int64, 0, n)
	for range min(n, len(d.live)) {
		i := d.rng.IntN(len(d.live))
		ids = append(ids, d.live[i])
		d.live[i] = d.live[len(d.live)-1]
		d.live = d.live[:len(d.live)-1]
	}
	return ids
}

const (
	updateItems = `update items set title = n.title, price = n.price, stock = n.stock, active = n.active, updated_at = n.updated
		from unnest($1::bigint[], $2::text[], $3::text[]::numeric[], $4::int[], $5::bool[], $6::timestamptz[]) as n (id, title, price, stock, active, updated)
		where items.id = n.id returning `
	insertItems = `insert into items select n.id, n.sku, n.title, n.description, n.status, n.category, n.price, n.stock, n.rating, n.active, n.tags::text[], n.attributes, n.created, n.updated
		from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]::numeric[], $8::int[], $9::float[], $10::bool[], $11::text[], $12::text[]::jsonb[], $13::timestamptz[], $14::timestamptz[])
		as n (id, sku, title, description, status, category, price, stock, rating, active, tags, attributes, created, updated) returning `
)

// A division is how the changes of one are divided.
type division struct{ updates, inserts, deletes int }

// mixed gives the divisions of transactions of 100: 60 updates, 30 inserts, 10 deletes.
func mixed(int) division { return division{60, 30, 10} }

// alone gives the same, of transactions of one change each.
func alone(tx int) division {
	switch tx % 10 {
	case 9:
		return division{deletes: 1}
	case 2, 5, 8:
		return division{inserts: 1}
	}
	return division{updates: 1}
}

// change commits at least n changes in transactions that of divides. It notes in what what each
// ought to do to the index, in this order, and returns how many they are.
func (d *dataset) change(ctx context.Context, n int, of func(tx int) division, what *operations) (changes int, err error) {
	for tx := 0; changes < n; tx++ {
		size := of(tx)
		changes += size.updates + size.inserts + size.deletes
		if err := d.inTransaction(ctx, size, what); err != nil {
			return changes, err
		}
	}
	return changes, nil
}

func (d *dataset) inTransaction(ctx context.Context, size division, what *operations) error {
	single := size.updates+size.inserts+size.deletes == 1 // its statement is one
	if !single {
		if _, err := d.conn.Exec(ctx, "begin"); err != nil {
			return err
		}
	}
	what.next()
	if size.updates > 0 {
		ids := d.take(size.updates)
		if err := d.update(ctx, ids, what.store); err != nil {
			return err
		}
		d.live = append(d.live, ids...)
	}
	if size.inserts > 0 {
		if err := d.insert(ctx, size.inserts, what.store); err != nil {
			return err
		}
	}
	if size.deletes > 0 {
		gone := d.take(size.deletes)
		if _, err := d.conn.Exec(ctx, "delete from items where id = any($1)", gone); err != nil {
			return err
		}
		for _, id := range gone {
			if err := what.delete(fmt.Sprint(id)); err != nil {
				return err
			}
		}
	}
	if !single {
		if _, err := d.conn.Exec(ctx, "commit"); err != nil {
			return err
		}
	}
	return nil
}

// updateOf commits n updates of rows by turns, in transactions of 100.
func (d *dataset) updateOf(ctx context.Context, n int, rows []int64, what *operations) (changes int, err error) {
	for at := 0; changes < n; at += 100 {
		ids := make([]int64, 0, 100)
		for i := range 100 {
			ids = append(ids, rows[(at+i)%len(rows)])
		}
		what.next()
		if err := d.update(ctx, ids, what.store); err != nil {
			return changes, err
		}
		changes += len(ids)
	}
	return changes, nil
}

func (d *dataset) update(ctx context.Context, ids []int64, f func(document) error) error {
	n := len(ids)
	titles, prices, stocks, actives, updated := make([]string, n), make([]string, n), make([]int32, n), make([]bool, n), make([]time.Time, n)
	for i, id := range ids {
		d.ed++
		r := newRow(id, d.ed)
		titles[i], prices[i], stocks[i], actives[i], updated[i] = r.title, r.price, r.stock, r.active, r.updated
	}
	return d.documents(ctx, f, updateItems+d.list, ids, titles, prices, stocks, actives, updated)
}

func (d *dataset) insert(ctx context.Context, n int, f func(document) error) error {
	var args struct {
		ids                                                                        []int64
		skus, titles, descriptions, statuses, categories, prices, tags, attributes []string
		stocks                                                                     []int32
		ratings                                                                    []float64
		actives                                                                    []bool
		created, updated                                                           []time.Time
	}
	for range n {
		r := newRow(d.next, 0)
		d.live = append(d.live, d.next)
		d.next++
		args.ids, args.skus, args.titles = append(args.ids, r.id), append(args.skus, r.sku), append(args.titles, r.title)
		args.descriptions, args.statuses = append(args.descriptions, r.description), append(args.statuses, r.status)
		args.categories, args.prices, args.stocks = append(args.categories, r.category), append(args.prices, r.price), append(args.stocks, r.stock)
		args.ratings, args.actives = append(args.ratings, r.rating), append(args.actives, r.active)
		args.tags, args.attributes = append(args.tags, "{"+r.tags[0]+","+r.tags[1]+","+r.tags[2]+"}"), append(args.attributes, r.attributes)
		args.created, args.updated = append(args.created, r.created), append(args.updated, r.updated)
	}
	return d.documents(ctx, f, insertItems+d.list, args.ids, args.skus, args.titles, args.descriptions, args.statuses, args.categories,
		args.prices, args.stocks, args.ratings, args.actives, args.tags, args.attributes, args.created, args.updated)
}

// updateAll changes every row of a table in one transaction.
func (t *table) updateAll(ctx context.Context, set string, what *operations) (changes int, err error) {
	tag, err := t.conn.Exec(ctx, "update "+t.name+" set "+set)
	if err != nil {
		return 0, err
	}
	what.next()
	return int(tag.RowsAffected()), t.all(ctx, what.store)
}
