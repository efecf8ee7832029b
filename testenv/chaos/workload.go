package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// schema is what there is at the begin of a run: enough rows that filling takes a while.
var schema = []string{
	`CREATE TABLE items (id int PRIMARY KEY, tenant int NOT NULL, name text, qty int, price numeric(10,2), body text)`,
	`ALTER TABLE items REPLICA IDENTITY FULL`, // its rows are routed by tenant
	`INSERT INTO items SELECT i, i % 5, 'item ' || i, i % 100, i / 7.0, (SELECT string_agg(md5(i::text || j), ' ') FROM generate_series(1, CASE WHEN i % 9 = 0 THEN 120 ELSE 1 END) j) FROM generate_series(1, 3000) i`,
	`CREATE TABLE customers (id int PRIMARY KEY, name text)`,
	`INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, 100) i`,
	`CREATE TABLE orders (id int PRIMARY KEY, customer_id int, note text)`,
	`INSERT INTO orders SELECT i, 1 + i % 100, 'order ' || i FROM generate_series(1, 1000) i`,
	`CREATE TABLE lines (order_id int, n int, sku text, qty int, PRIMARY KEY (order_id, n))`,
	`INSERT INTO lines SELECT o, n, 'sku ' || o * n % 50, n FROM generate_series(1, 1000) o, generate_series(1, 3) n`,
	`CREATE TABLE events (id int PRIMARY KEY, kind text, at int) PARTITION BY RANGE (id)`,
	`CREATE TABLE events_0 PARTITION OF events FOR VALUES FROM (0) TO (1000)`,
	`CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1000) TO (2000)`,
	`CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (2000) TO (3000)`,
	`INSERT INTO events SELECT i, 'kind ' || i % 7, i FROM generate_series(0, 2999, 2) i`,
	`CREATE TABLE things (id int PRIMARY KEY, a text, b int, z int)`,
	`INSERT INTO things SELECT i, 'thing ' || i, i, 0 FROM generate_series(1, 1500) i`,
	`CREATE TABLE ledger (id int PRIMARY KEY, v int, pad text)`,
	fmt.Sprintf(`INSERT INTO ledger SELECT i, 0, md5(i::text) FROM generate_series(1, %d) i`, ledgerRows),
	`CREATE TABLE markers (id bigint PRIMARY KEY)`,
	`ANALYZE`,
}

// ledgerRows makes a change of all of them a transaction of several groups of messages.
const ledgerRows = 18_000

// A transaction is a change that is committed as a whole, or not at all.
type transaction struct {
	name       string
	statements []string
	pause      time.Duration // after it
}

type transactions []transaction

// writers is how many sessions make changes at a time. The last one makes the large ones.
const writers = 4

func drawTransactions(d *drawer, writer int) (all transactions) {
	if writer == writers-1 {
		for range d.between(2, 5) {
			all = append(all, drawLarge(d))
		}
		return all
	}
	for range d.between(60, 120) {
		t := transaction{pause: time.Duration(d.between(20, 160)) * time.Millisecond}
		statements := d.between(1, 4)
		if d.odds(12) {
			statements = d.between(20, 60)
		}
		for range statements {
			name, more := drawChange(d)
			t.name = name
			t.statements = append(t.statements, more...)
		}
		switch {
		case d.odds(15):
			t.statements = append([]string{"SAVEPOINT s"}, append(t.statements, "ROLLBACK TO SAVEPOINT s", updateItem(d))...)
		case d.odds(20):
			t.statements = append(t.statements, "ROLLBACK", "BEGIN")
		}
		all = append(all, t)
	}
	return all
}

// drawLarge draws a change of many rows: what a transaction of several groups of messages, or
// a TRUNCATE, leads to.
func drawLarge(d *drawer) transaction {
	t := transaction{pause: d.time(500*time.Millisecond, 4*time.Second)}
	n := d.IntN(1 << 20)
	switch d.IntN(8) {
	case 0, 1:
		t.name = "every row of ledger"
		t.statements = []string{fmt.Sprintf(`UPDATE ledger SET v = %d`, n)}
	case 2:
		t.name = "every row of ledger thrice, part of them deleted in between"
		t.statements = []string{fmt.Sprintf(`UPDATE ledger SET v = %d WHERE id %% 2 = 0`, n), `DELETE FROM ledger WHERE id % 3 = 0`,
			fmt.Sprintf(`INSERT INTO ledger SELECT i, %d, 'again' FROM generate_series(3, %d, 3) i ON CONFLICT DO NOTHING`, n+1, ledgerRows), fmt.Sprintf(`UPDATE ledger SET v = %d WHERE id %% 4 = 0`, n+2)}
	case 3, 4:
		rows := one(d, 500, 5000, ledgerRows)
		t.name = fmt.Sprintf("ledger is truncated and gets %d rows", rows)
		t.statements = []string{`TRUNCATE ledger`, fmt.Sprintf(`INSERT INTO ledger SELECT i, %d, 'anew' FROM generate_series(1, %d) i`, n, rows)}
	case 5:
		t.name = "items are truncated and filled"
		t.statements = []string{`TRUNCATE items`, fmt.Sprintf(`INSERT INTO items SELECT i, (i + %d) %% 5, 'anew ' || i, i %% 100, 1, md5(i::text) FROM generate_series(1, 3000) i`, n)}
	case 6:
		t.name = "every customer"
		t.statements = []string{fmt.Sprintf(`UPDATE customers SET name = 'customer %d'`, n)}
	default:
		t.name = "half of things"
		t.statements = []string{fmt.Sprintf(`DELETE FROM things WHERE id %% 2 = %d`, n%2), fmt.Sprintf(`INSERT INTO things (id, z) SELECT i, %d FROM generate_series(1, 1500) i ON CONFLICT DO NOTHING`, n)}
	}
	return t
}

// drawChange draws a change of few rows. It names rows by numbers alone: whether they are there
// is seen when it is made.
func drawChange(d *drawer) (name string, statements []string) {
	item, order, customer, event, thing, n := d.between(1, 3500), d.between(1, 1200), d.between(1, 100), d.IntN(3000), d.between(1, 1600), d.IntN(1<<20)
	f := fmt.Sprintf
	switch d.IntN(22) {
	case 0, 1, 2:
		return "update an item", []string{updateItem(d)}
	case 3:
		return "store an item", []string{insertItem(d, item)}
	case 4:
		return "delete an item", []string{f(`DELETE FROM items WHERE id = %d`, item)}
	case 5:
		return "delete an item and insert it again", []string{f(`DELETE FROM items WHERE id = %d`, item), insertItem(d, item)}
	case 6:
		return "an item's key", []string{f(`UPDATE items SET id = %[2]d WHERE id = %[1]d AND NOT EXISTS (SELECT FROM items WHERE id = %[2]d)`, item, d.between(1, 3500))}
	case 7, 8:
		return "an item's routing", []string{f(`UPDATE items SET tenant = %d WHERE id = %d`, d.IntN(5), item)}
	case 9:
		return "the routing of many items, there and back", []string{f(`UPDATE items SET tenant = tenant + 1 WHERE id %% 40 = %d`, item%40), f(`UPDATE items SET tenant = (tenant + %d) %% 5 WHERE id %% 40 = %d`, d.IntN(5), item%40)}
	case 10:
		return "an item's large value", []string{f(`UPDATE items SET body = (SELECT string_agg(md5(%d::text || j), ' ') FROM generate_series(1, %d) j) WHERE id = %d`, n, d.between(1, 200), item)}
	case 11:
		return "an order's note", []string{f(`UPDATE orders SET note = 'note %d' WHERE id = %d`, n, order)}
	case 12:
		return "an order's customer", []string{f(`UPDATE orders SET customer_id = %d WHERE id = %d`, customer, order)}
	case 13:
		return "a customer", []string{f(`UPDATE customers SET name = 'name %d' WHERE id = %d`, n, customer)}
	case 14:
		return "a line", []string{f(`INSERT INTO lines VALUES (%d, %d, 'sku %d', %d) ON CONFLICT (order_id, n) DO UPDATE SET qty = excluded.qty`, order, d.between(1, 6), n, n%100)}
	case 15:
		return "a line moves to another order", []string{f(`UPDATE lines SET order_id = %d, n = %d WHERE order_id = %d AND n = 1`, d.between(1, 1200), n, order)}
	case 16:
		return "an order with its lines goes and comes", []string{f(`DELETE FROM lines WHERE order_id = %d`, order), f(`DELETE FROM orders WHERE id = %d`, order),
			f(`INSERT INTO orders VALUES (%d, %d, 'back %d')`, order, customer, n), f(`INSERT INTO lines VALUES (%d, 1, 'back', %d)`, order, n)}
	case 17:
		return "an order goes", []string{f(`DELETE FROM orders WHERE id = %d`, order)}
	case 18:
		return "an event", []string{f(`INSERT INTO events VALUES (%d, 'kind', %d) ON CONFLICT (id) DO UPDATE SET at = excluded.at`, event, n)}
	case 19:
		return "an event moves to another partition", []string{f(`UPDATE events SET id = %[2]d WHERE id = %[1]d AND NOT EXISTS (SELECT FROM events WHERE id = %[2]d)`, event, d.IntN(3000))}
	case 20:
		return "a thing", []string{f(`INSERT INTO things (id, z) VALUES (%d, %d) ON CONFLICT (id) DO UPDATE SET z = excluded.z`, thing, n)}
	default:
		return "a thing's key", []string{f(`UPDATE things SET id = %[2]d WHERE id = %[1]d AND NOT EXISTS (SELECT FROM things WHERE id = %[2]d)`, thing, d.between(1, 1600))}
	}
}

func updateItem(d *drawer) string {
	return fmt.Sprintf(`UPDATE items SET name = 'name %d', qty = %d, price = %d.%02d WHERE id = %d`, d.IntN(1<<20), d.IntN(100), d.IntN(1000), d.IntN(100), d.between(1, 3500))
}

func insertItem(d *drawer, id int) string {
	return fmt.Sprintf(`INSERT INTO items VALUES (%d, %d, 'stored %d', %d, 1, repeat('x', %d)) ON CONFLICT (id) DO UPDATE SET name = excluded.name, tenant = excluded.tenant`,
		id, d.IntN(5), d.IntN(1<<20), d.IntN(100), d.IntN(30))
}

// A writer makes the transactions of one stream.
type writer struct {
	url  string
	conn *pgx.Conn

	made, skipped, repeated int
}

func (w *writer) close() {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.conn.Close(ctx) // whatever the server says
		w.conn = nil
	}
}

// run makes them one after the other. One that meets another is made again; so is one whose
// server goes away: whether it was committed then does not matter.
func (w *writer) run(ctx context.Context, all transactions) error {
	defer w.close()
	for _, t := range all {
		for {
			err := w.try(ctx, t)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil {
				w.made++
				break
			}
			if outcome := judge(err); outcome == skip {
				w.skipped++
				break
			} else if outcome == final {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if w.conn != nil && w.conn.IsClosed() {
				w.close()
			}
			w.repeated++
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
		if err := pause(ctx, t.pause); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) try(ctx context.Context, t transaction) error {
	if w.conn == nil {
		config, err := pgx.ParseConfig(w.url)
		if err != nil {
			return err
		}
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		config.RuntimeParams["lock_timeout"] = "5s"
		config.RuntimeParams["deadlock_timeout"] = "50ms"
		if w.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
			return err
		}
	}
	statements := "BEGIN;\n" + strings.Join(t.statements, ";\n") + ";\nCOMMIT"
	_, err := w.conn.Exec(ctx, statements)
	if err != nil && !w.conn.IsClosed() {
		_, _ = w.conn.Exec(ctx, "ROLLBACK") // the error is told already
	}
	return err
}

// What comes of a transaction that failed.
type outcome int

const (
	again outcome = iota
	skip          // it cannot be made of what is there by now
	final         // it is the plan's mistake
)

func judge(err error) outcome {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return again // the connection
	}
	switch server.Code {
	case "40P01", "40001", "55P03": // deadlock, serialization, a lock that was held for too long
		return again
	case "23505", "23514", // a key that is taken, a partition that is away
		"42P01", "42703", "42701", "42P07", "42P16", "42704", "55000", "42809", "22P02", "22003", "42804", "0A000": // altered meanwhile
		return skip
	}
	if class := server.Code[:2]; class == "57" || class == "08" || class == "53" || class == "58" { // the server ends, begins, or has crashed
		return again
	}
	return final
}

// pause waits, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
