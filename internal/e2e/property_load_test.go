package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A transaction is a random one. Its statements hit rows that are there often, since keys
// are of few values.
type transaction struct {
	statements []string
	rollback   bool
	overlaps   bool // it ends after the next one

	kind  string // of the alteration that it is; "": none
	first bool   // the first part of it: the other one counts
	bare  bool   // its statements are no transaction
}

func (t transaction) String() string {
	end := "COMMIT"
	if t.rollback {
		end = "ROLLBACK"
	}
	if t.overlaps {
		end = "(the next one ends first) " + end
	}
	if t.bare {
		return strings.Join(t.statements, "; ") + ";"
	}
	return "BEGIN; " + strings.Join(t.statements, "; ") + "; " + end + ";"
}

func drawTransactions(d draw, tables []*propertyTable, n int) []transaction {
	all := make([]transaction, n)
	for i := range all {
		t := &all[i]
		savepoint := false
		for range d.int(1, 6) {
			if !savepoint && d.odds(12) {
				t.statements, savepoint = append(t.statements, "SAVEPOINT s"), true
			}
			t.statements = append(t.statements, drawStatement(d, one(d, tables)))
			if savepoint && d.odds(2) {
				t.statements, savepoint = append(t.statements, "ROLLBACK TO SAVEPOINT s; RELEASE SAVEPOINT s"), false
			}
		}
		t.rollback, t.overlaps = d.odds(20), d.odds(5)
	}
	return all
}

func drawStatement(d draw, t *propertyTable) string {
	free := t.free()
	if t.partitioned && d.odds(4) {
		return drawPartition(d, t)
	}
	switch n := d.int(0, 20); {
	case n <= 5:
		return drawInsert(d, t, d.int(1, 4))
	case n <= 13:
		var set []string
		for _, c := range some(d, 1, free)[:1+d.int(0, 1)*d.int(0, len(free)-1)/2] {
			set = append(set, ident(c.name)+" = "+drawValue(d, t, c))
		}
		return fmt.Sprintf("UPDATE %s SET %s%s", ident(t.name), strings.Join(set, ", "), drawWhere(d, t))
	case n <= 16: // another key, also one that is equal but for letter case
		old, key := drawKey(d, t), drawKey(d, t)
		columns := identifiers(t.key)
		return fmt.Sprintf("UPDATE %[1]s SET (%[2]s) = ROW (%[3]s) WHERE (%[2]s) = (%[4]s) AND NOT EXISTS (SELECT FROM %[1]s WHERE (%[2]s) = (%[3]s) AND (%[2]s) <> (%[4]s))",
			ident(t.name), columns, key, old)
	case n == 17 && d.odds(4):
		return "TRUNCATE " + ident(t.name) + " CASCADE"
	case n == 18: // nothing changes
		return fmt.Sprintf("UPDATE %[1]s SET %[2]s = %[2]s%[3]s", ident(t.name), ident(one(d, free).name), drawWhere(d, t))
	}
	return "DELETE FROM " + ident(t.name) + drawWhere(d, t)
}

// drawPartition does something to a partition that the stream of its table does not tell.
func drawPartition(d draw, t *propertyTable) string {
	i := d.int(0, 1)
	leaf := *t
	leaf.name, leaf.partitioned = t.leaf(i), false
	if d.odds(3) {
		return "TRUNCATE " + ident(leaf.name) + " CASCADE"
	}
	all := []string{fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s", ident(t.name), ident(leaf.name))}
	for range d.int(0, 2) {
		c := one(d, t.free())
		all = append(all, fmt.Sprintf("UPDATE %s SET %s = %s%s", ident(leaf.name), ident(c.name), drawValue(d, t, c), drawWhere(d, t)))
	}
	if d.odds(2) {
		all = append(all, "DELETE FROM "+ident(leaf.name)+drawWhere(d, t))
	}
	return strings.Join(append(all, fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s %s", ident(t.name), ident(leaf.name), leafBounds(i))), "; ")
}

// drawWhere chooses rows: one by its key, those with a value, or all.
func drawWhere(d draw, t *propertyTable) string {
	switch n := d.int(0, 9); {
	case n <= 5:
		return fmt.Sprintf(" WHERE (%s) = (%s)", identifiers(t.key), drawKey(d, t))
	case n <= 8:
		c := one(d, t.columns())
		return fmt.Sprintf(" WHERE %s IS NOT DISTINCT FROM %s", ident(c.name), one(d, c.values))
	}
	return ""
}

func drawKey(d draw, t *propertyTable) string {
	var all []string
	for _, c := range t.key {
		all = append(all, one(d, c.values)+"::"+c.sql())
	}
	return strings.Join(all, ", ")
}

// drawValue draws one for a column outside of the key.
func drawValue(d draw, t *propertyTable, c *propertyColumn) string {
	if c.values[len(c.values)-1] != "NULL" && d.odds(6) {
		return "NULL" // a reference to nothing
	}
	return one(d, c.values)
}

func drawInsert(d draw, t *propertyTable, rows int) string {
	var all []string
	for range rows {
		values := []string{drawKey(d, t)}
		for _, c := range t.free() {
			values = append(values, drawValue(d, t, c))
		}
		all = append(all, "("+strings.Join(values, ", ")+")")
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES %s ON CONFLICT DO NOTHING", ident(t.name), identifiers(t.columns()), strings.Join(all, ", "))
}

// drawMany inserts many rows with the same values, where the key allows it; "" else.
func drawMany(d draw, t *propertyTable, rows int) string {
	if len(t.key) != 1 || len(t.references) > 0 && t.references[0].columns[0] == t.key[0] || t.key[0].kind != integerKind && t.key[0].kind != bigintKind {
		return ""
	}
	values := []string{"i"}
	for _, c := range t.free() {
		values = append(values, drawValue(d, t, c)+"::"+c.sql())
	}
	return fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM generate_series(1000, %d) i", ident(t.name), identifiers(t.columns()), strings.Join(values, ", "), 1000+rows-1)
}

// A propertyWriter executes random transactions, on two connections of its own.
type propertyWriter struct {
	conns                   [2]*pgx.Conn
	next                    int
	committed, rolled, lost int // lost: they met another one
	altered                 map[string]int
	pause                   time.Duration
}

func newPropertyWriter(t testing.TB, url string) *propertyWriter {
	t.Helper()
	w := &propertyWriter{altered: make(map[string]int)}
	for i := range w.conns {
		config, err := pgx.ParseConfig(url)
		must(t, err)
		config.RuntimeParams["session_replication_role"] = "replica" // no foreign keys
		config.RuntimeParams["lock_timeout"] = "200ms"
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		w.conns[i], err = pgx.ConnectConfig(t.Context(), config)
		must(t, err)
		t.Cleanup(func() { _ = w.conns[i].Close(context.Background()) }) // nothing is open
	}
	return w
}

// cutOthers breaks all other connections to the database.
func (w *propertyWriter) cutOthers(t testing.TB, db *sql.DB) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid NOT IN ($1, $2, pg_backend_pid())`, w.conns[0].PgConn().PID(), w.conns[1].PgConn().PID())
	must(t, err)
}

// run executes transactions one after the other, but for those that overlap.
func (w *propertyWriter) run(ctx context.Context, all []transaction) error {
	for i := 0; i < len(all); i++ {
		end, err := w.begin(ctx, all[i])
		if err != nil {
			return err
		}
		if all[i].overlaps && i+1 < len(all) {
			i++
			second, err := w.begin(ctx, all[i])
			if err == nil {
				err = second()
			}
			if err != nil {
				return err
			}
		}
		if err := end(); err != nil {
			return err
		}
		time.Sleep(w.pause)
	}
	return nil
}

// expectedStates are the errors of transactions that met another one: no lock within the time, a
// deadlock, a key that is there. The last one attaches or detaches what is referred to.
var expectedStates = []string{"55P03", "40P01", "23505", "23503"}

// statesOfAlterations are those of alterations: the publication is not there yet, or lacks the table;
// the instance changes it at the same moment; what the first part was to make is not there; a partition has
// another type or collation than its table got since.
var statesOfAlterations = []string{"42704", "XX000", "42P01", "42703", "42804", "42P21"}

// begin executes all of a transaction but its end.
func (w *propertyWriter) begin(ctx context.Context, t transaction) (end func() error, err error) {
	conn := w.conns[w.next%len(w.conns)]
	w.next++
	last, counter := "COMMIT", &w.committed
	if t.rollback {
		last, counter = "ROLLBACK", &w.rolled
	}
	begin := "BEGIN"
	if t.bare {
		begin, last = "", ""
	}
	for _, statement := range append([]string{begin}, t.statements...) {
		if _, err := conn.Exec(ctx, statement); err != nil {
			pg, ok := errors.AsType[*pgconn.PgError](err)
			if !ok || !slices.Contains(expectedStates, pg.Code) && (t.kind == "" || !slices.Contains(statesOfAlterations, pg.Code)) {
				return nil, fmt.Errorf("%s: %w", statement, err)
			}
			last, counter = "ROLLBACK", &w.lost
			break
		}
	}
	return func() error {
		_, err := conn.Exec(ctx, last)
		*counter++
		if counter == &w.committed && t.kind != "" && !t.first {
			w.altered[t.kind]++
		}
		return err
	}, nil
}
