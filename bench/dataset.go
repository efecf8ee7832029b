package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// A dataset is the table, and the documents that its rows ought to become.
type dataset struct {
	conn  *pgx.Conn
	table *catalog.Table
	plan  *mapping.Plan
	list  string // select list, in the order that plan expects
	rows  int
	bytes int64 // of the rows in COPY's text form

	rng  *rand.Rand
	live []int64 // ids
	next int64
	ed   int
}

// sessionSettings have values read as the tool reads them.
var sessionSettings = map[string]string{
	"TimeZone": "UTC", "DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "extra_float_digits": "1", "bytea_output": "hex",
}

// newDataset makes and fills the table. ix says what documents look like.
func newDataset(ctx context.Context, url string, ix *mapping.Index, rows int) (*dataset, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	maps.Copy(config.RuntimeParams, sessionSettings)
	d := &dataset{rows: rows}
	if d.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, err
	}
	if err := d.fill(ctx, url, ix); err != nil {
		return nil, errors.Join(err, d.close(ctx))
	}
	return d, nil
}

func (d *dataset) close(ctx context.Context) error { return d.conn.Close(context.WithoutCancel(ctx)) }

func (d *dataset) fill(ctx context.Context, url string, ix *mapping.Index) error {
	if _, err := d.conn.Exec(ctx, createTable); err != nil {
		return err
	}
	if _, err := d.conn.Exec(ctx, "create unlogged table seed (like items)"); err != nil {
		return err
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
	if _, err := d.conn.PgConn().CopyFrom(ctx, from, "copy seed from stdin"); err != nil {
		from.CloseWithError(err)
		return err
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer db.Close()
	if d.table, err = catalog.LoadTable(ctx, db, "public", "items"); err != nil {
		return err
	}
	selection, err := ix.Sources[0].Select(d.tables())
	if err != nil {
		return err
	}
	// The size of a row that is too large is no column of the table, and no row here is.
	columns := slices.DeleteFunc(selection.Names, func(name string) bool { return d.table.Column(name) == nil })
	if d.plan, err = mapping.Compile(ix.Sources[0], d.table, columns); err != nil {
		return err
	}
	for i, c := range columns {
		if i > 0 {
			d.list += ", "
		}
		d.list += "items." + catalog.QuoteIdent(c)
	}
	return d.reset(ctx)
}

func (d *dataset) tables() catalog.Tables { return catalog.Tables{d.table.TableName(): d.table} }

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

// A document is what a row becomes.
type document struct {
	id   string
	body []byte // valid until the next one
}

// documents calls f with what a query's rows, which have d.list, become.
func (d *dataset) documents(ctx context.Context, f func(document) error, query string, args ...any) error {
	rows, err := d.conn.Query(ctx, query, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var tuple pglogrepl.TupleData
	var body []byte
	for rows.Next() {
		values := rows.RawValues()
		for len(tuple.Columns) < len(values) {
			tuple.Columns = append(tuple.Columns, new(pglogrepl.TupleDataColumn))
		}
		for i, v := range values {
			*tuple.Columns[i] = pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeText, Data: v}
			if v == nil {
				tuple.Columns[i].DataType = pglogrepl.TupleDataTypeNull
			}
		}
		id, ok := d.plan.ID(&tuple)
		if !ok {
			return errors.New("a row has no key")
		}
		if body, err = d.plan.AppendDocument(body[:0], &tuple); err != nil {
			return err
		}
		if err := f(document{id, body}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// all calls f with the document of every row of the table.
func (d *dataset) all(ctx context.Context, f func(document) error) error {
	return d.documents(ctx, f, "select "+d.list+" from items order by id")
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

// change commits n changes in transactions of 100: 60 updates, 30 inserts, 10 deletes.
// It calls stored and deleted with what each ought to do to the index, in this order,
// and with the number of its transaction.
func (d *dataset) change(ctx context.Context, n int, stored func(tx int, doc document) error, deleted func(tx int, id string) error) error {
	for tx := 1; n > 0; tx++ {
		size := min(n, 100)
		n -= size
		updates, inserts := size*60/100, size*30/100
		t, err := d.conn.Begin(ctx)
		if err != nil {
			return err
		}
		store := func(doc document) error { return stored(tx, doc) }
		ids := d.take(updates)
		if err := d.update(ctx, ids, store); err != nil {
			return err
		}
		d.live = append(d.live, ids...)
		if err := d.insert(ctx, inserts, store); err != nil {
			return err
		}
		gone := d.take(size - updates - inserts)
		if _, err := t.Exec(ctx, "delete from items where id = any($1)", gone); err != nil {
			return err
		}
		for _, id := range gone {
			if err := deleted(tx, fmt.Sprint(id)); err != nil {
				return err
			}
		}
		if err := t.Commit(ctx); err != nil {
			return err
		}
	}
	return nil
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

// updateAll changes every row in one transaction.
func (d *dataset) updateAll(ctx context.Context) (rows int, err error) {
	tag, err := d.conn.Exec(ctx, "update items set price = price + 1, stock = stock + 1")
	return int(tag.RowsAffected()), err
}
