package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/testenv"
)

// A load makes random inserts, updates, deletes and changes of keys, in transactions on
// several connections, some of which are rolled back in part or as a whole. Foreign keys
// are not enforced meanwhile.
type load struct {
	url    string
	tables []*loadTable

	seed         uint64
	connections  int
	transactions int           // 0: until the context is done
	statements   int           // of a transaction, about
	pause        time.Duration // between two transactions of a connection

	committed, inserts, updates, deletes, moves, retries atomic.Int64
}

// A loadTable is what the load knows of a table.
type loadTable struct {
	name    string
	key     []loadColumn
	columns []loadColumn // the others
	keys    int          // values of a key column are below this
}

type loadColumn struct {
	name, kind string
	length     int // of a varchar, 0: no limit
	notNull    bool
}

// newLoad describes the tables, which have primary keys of integers.
func newLoad(t testing.TB, db *testenv.Database, tables ...string) *load {
	t.Helper()
	l := &load{url: db.URL, seed: newSeed(t), connections: 4, statements: 16}
	for _, name := range tables {
		l.tables = append(l.tables, describe(t, db, name))
	}
	return l
}

func describe(t testing.TB, db *testenv.Database, name string) *loadTable {
	t.Helper()
	rows, err := db.DB.QueryContext(t.Context(), `
		SELECT a.attname, format_type(a.atttypid, NULL), greatest(a.atttypmod - 4, 0), a.attnotnull, i.indexrelid IS NOT NULL
		FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)
		WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum`, name)
	must(t, err)
	defer rows.Close()
	table := &loadTable{name: name}
	for rows.Next() {
		var c loadColumn
		var key bool
		must(t, rows.Scan(&c.name, &c.kind, &c.length, &c.notNull, &key))
		if c.kind == "numeric" {
			c.length = 0
		}
		if key {
			table.key = append(table.key, c)
		} else {
			table.columns = append(table.columns, c)
		}
	}
	must(t, rows.Err())
	var largest, n int
	must(t, db.DB.QueryRowContext(t.Context(), fmt.Sprintf("SELECT coalesce(max(%s), 0), count(*) FROM %s", table.key[0].name, name)).Scan(&largest, &n))
	table.keys = max(largest, 20) * 5 / 4
	return table
}

// run makes the load; nil when it is complete, or when ctx was done and it has no end.
func (l *load) run(ctx context.Context) error {
	var errs []error
	var mu sync.Mutex
	var wg sync.WaitGroup
	var begun atomic.Int64
	for n := range l.connections {
		wg.Go(func() {
			w := &loadWriter{load: l, rand: rand.New(rand.NewPCG(l.seed, uint64(n)))}
			defer w.close()
			for l.transactions == 0 || begun.Add(1) <= int64(l.transactions) {
				if err := w.transaction(ctx); err != nil {
					if ctx.Err() == nil || l.transactions > 0 {
						mu.Lock()
						errs = append(errs, err)
						mu.Unlock()
					}
					return
				}
				if l.pause > 0 {
					select {
					case <-time.After(l.pause):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// begin runs the load until the returned function is called, which waits for it.
func (l *load) begin(t testing.TB) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.run(ctx) }()
	var once sync.Once
	end = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("load: %v", err)
			}
			t.Log(l)
		})
	}
	t.Cleanup(end)
	return end
}

func (l *load) String() string {
	return fmt.Sprintf("load: %d transactions committed (%d tried again) with %d inserts, %d updates, %d deletes, %d changes of keys",
		l.committed.Load(), l.retries.Load(), l.inserts.Load(), l.updates.Load(), l.deletes.Load(), l.moves.Load())
}

// A loadWriter is one connection of a load.
type loadWriter struct {
	load *load
	rand *rand.Rand
	conn *pgx.Conn
}

func (w *loadWriter) close() {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.conn.Close(ctx) // whatever the server says
		w.conn = nil
	}
}

// transaction makes one that commits, or is rolled back on purpose. It is made again when
// it meets another one, or when the server goes away meanwhile: whether it was committed
// then does not matter.
func (w *loadWriter) transaction(ctx context.Context) error {
	for {
		err := w.try(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		var server *pgconn.PgError
		if errors.As(err, &server) {
			switch server.Code {
			case "40P01", "40001", "23505": // deadlock, serialization, a key that another one took
			case "57P01", "57P02", "57P03": // the server ends or begins
				w.close()
			default:
				return err
			}
		} else {
			w.close()
		}
		w.load.retries.Add(1)
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *loadWriter) try(ctx context.Context) (err error) {
	if w.conn == nil {
		config, err := pgx.ParseConfig(w.load.url)
		if err != nil {
			return err
		}
		config.RuntimeParams["session_replication_role"] = "replica" // no foreign keys
		config.RuntimeParams["deadlock_timeout"] = "20ms"            // they are met often
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		if w.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
			return err
		}
	}
	if _, err := w.conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	defer func() {
		if err != nil && !w.conn.IsClosed() {
			_, _ = w.conn.Exec(context.WithoutCancel(ctx), "ROLLBACK") // the error is told already
		}
	}()
	var inserts, updates, deletes, moves int64
	savepoint := w.rand.IntN(10) == 0
	for n := range 1 + w.rand.IntN(2*w.load.statements-1) {
		if savepoint && n == 0 {
			if _, err := w.conn.Exec(ctx, "SAVEPOINT s"); err != nil {
				return err
			}
		}
		table := w.load.tables[w.rand.IntN(len(w.load.tables))]
		var statement string
		var counter *int64
		switch p := w.rand.IntN(100); {
		case p < 30:
			statement, counter = w.insert(table), &inserts
		case p < 65:
			statement, counter = w.update(table), &updates
		case p < 85:
			statement, counter = w.delete(table), &deletes
		default:
			statement, counter = w.move(table), &moves
		}
		tag, err := w.conn.Exec(ctx, statement)
		if err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
		*counter += tag.RowsAffected()
		if savepoint && n == 1 {
			if _, err := w.conn.Exec(ctx, "ROLLBACK TO SAVEPOINT s"); err != nil {
				return err
			}
			inserts, updates, deletes, moves = 0, 0, 0, 0
		}
	}
	if w.rand.IntN(20) == 0 {
		_, err := w.conn.Exec(ctx, "ROLLBACK")
		return err
	}
	if _, err := w.conn.Exec(ctx, "COMMIT"); err != nil {
		return err
	}
	w.load.committed.Add(1)
	w.load.inserts.Add(inserts)
	w.load.updates.Add(updates)
	w.load.deletes.Add(deletes)
	w.load.moves.Add(moves)
	return nil
}

func names(columns []loadColumn) string {
	var all []string
	for _, c := range columns {
		all = append(all, c.name)
	}
	return strings.Join(all, ", ")
}

// newKey returns values for the key columns.
func (w *loadWriter) newKey(t *loadTable) string {
	var all []string
	for range t.key {
		all = append(all, fmt.Sprint(1+w.rand.IntN(t.keys)))
	}
	return strings.Join(all, ", ")
}

// where chooses a row that is there, if one is above a random key.
func (w *loadWriter) where(t *loadTable) string {
	key := names(t.key)
	return fmt.Sprintf(" WHERE (%s) = (SELECT %s FROM %s WHERE (%s) >= (%s) ORDER BY %s LIMIT 1)", key, key, t.name, key, w.newKey(t), key)
}

func (w *loadWriter) insert(t *loadTable) string {
	columns, values := names(t.key), w.newKey(t)
	for _, c := range t.columns {
		columns += ", " + c.name
		values += ", " + w.value(c)
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) ON CONFLICT DO NOTHING", t.name, columns, values)
}

func (w *loadWriter) update(t *loadTable) string {
	if len(t.columns) == 0 {
		return w.move(t)
	}
	c := t.columns[w.rand.IntN(len(t.columns))]
	return fmt.Sprintf("UPDATE %s SET %s = %s%s", t.name, c.name, w.value(c), w.where(t))
}

func (w *loadWriter) delete(t *loadTable) string { return "DELETE FROM " + t.name + w.where(t) }

func (w *loadWriter) move(t *loadTable) string {
	key, to := names(t.key), w.newKey(t)
	return fmt.Sprintf("UPDATE %s SET (%s) = ROW (%s)%s AND NOT EXISTS (SELECT FROM %s WHERE (%s) = (%s))", t.name, key, to, w.where(t), t.name, key, to)
}

const letters = "abcdefghij klmnop'\"\\\n\täöüß€漢字🙂|~<&>"

func (w *loadWriter) value(c loadColumn) string {
	if !c.notNull && w.rand.IntN(8) == 0 {
		return "NULL"
	}
	switch c.kind {
	case "smallint", "integer", "bigint":
		return fmt.Sprint(w.rand.IntN(30000) - 10000)
	case "numeric":
		return fmt.Sprintf("%d.%02d", w.rand.IntN(10000), w.rand.IntN(100))
	case "timestamp without time zone", "timestamp with time zone", "date":
		return fmt.Sprintf("'epoch'::timestamp + %d * interval '1 microsecond'", w.rand.Int64N(1e17))
	case "boolean":
		return fmt.Sprint(w.rand.IntN(2) == 0)
	case "character varying", "text":
		n := w.rand.IntN(30)
		if c.kind == "text" && w.rand.IntN(5) == 0 {
			n = 3000 + w.rand.IntN(5000) // outside of the row
		}
		if c.length > 0 {
			n = min(n, c.length)
		}
		all := []rune(letters)
		text := make([]rune, n)
		for i := range text {
			text[i] = all[w.rand.IntN(len(all))]
		}
		return "'" + strings.ReplaceAll(string(text), "'", "''") + "'"
	}
	return "NULL"
}
