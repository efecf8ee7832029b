package control

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

func newDeadLetters(t *testing.T, db *sql.DB, schema string) *DeadLetters {
	t.Helper()
	ctx := searchtest.Within(t, time.Minute)
	if _, err := db.ExecContext(ctx, `CREATE SCHEMA `+catalog.QuoteIdent(schema)); err != nil {
		t.Fatal(err)
	}
	if err := Migrate(ctx, db, schema, searchtest.Logger(t)); err != nil {
		t.Fatal(err)
	}
	return Open(db, schema, "slot").DeadLetters(retry.NewAlarm(searchtest.Logger(t)))
}

// letters returns how many dead letters there are.
func letters(ctx context.Context, d *DeadLetters) (n int64, err error) {
	counts, err := d.Counts(ctx, LetterFilter{})
	for _, count := range counts {
		n += count
	}
	return n, err
}

func refusal(op dbsync.Operation) search.Refused {
	return search.Refused{Operation: op, Err: &search.DocError{Index: op.Index, ID: op.ID, Status: 400, Type: "document_parsing_exception", Reason: "half a rune \xff and a \x00"}}
}

func TestDeadLetters(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	db := testenv.NewDatabase(t)
	d := newDeadLetters(t, db.DB, `strange "schema"; --`)
	routed := searchtest.Store("P", "1", 10, `{"id":"a"}`)
	routed.Routing = strings.Repeat("long routing ", 1000)
	batch := []search.Refused{
		refusal(searchtest.Store("P", "1", 10, `{"id":"'; DROP TABLE x"}`)),
		refusal(routed),
		refusal(searchtest.Remove("P", "2", 11)),
		refusal(searchtest.Store("Q", "1", 10, `{}`)),
		refusal(searchtest.Store("P", "1", 12, `{"id":"b"}`)),
		refusal(searchtest.Store("P", "1", 10, `{"id":"twice"}`)),
	}
	for range 2 { // the same batch again, as after a crash
		if err := d.Keep(ctx, batch); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := letters(ctx, d); err != nil || n != 5 {
		t.Fatalf("%d letters, %v; want 5", n, err)
	}
	all, err := d.List(ctx, LetterFilter{}, 100, true)
	if err != nil || len(all) != 5 {
		t.Fatalf("List: %v, %v", all, err)
	}
	for i, l := range all {
		want := batch[i].Operation
		if op := &l; op.Index != want.Index || op.ID != want.ID || op.Routing != want.Routing || op.Version != want.Version || op.Delete != (want.Kind == dbsync.Delete) || string(op.Body) != string(want.Body) {
			t.Errorf("dead letter %d is %+v, want %+v", i, op, want)
		}
		if l.Attempts != 2 || l.Status != 400 || l.Reason != "half a rune \uFFFD and a " || time.Since(l.CreatedAt) > time.Hour {
			t.Errorf("dead letter %d: %+v", i, l)
		}
	}
	page, err := d.List(ctx, LetterFilter{Indices: []string{"P"}, After: all[1].Row}, 1, false)
	if err != nil || len(page) != 1 || page[0].Row != all[2].Row || page[0].Body != nil {
		t.Errorf("a page of one: %+v, %v", page, err)
	}
	for _, f := range []LetterFilter{{Rows: []int64{}}, {Indices: []string{}}, {After: all[4].Row}, {After: all[1].Row, UpTo: all[1].Row}, {Rows: []int64{all[3].Row}, Indices: []string{"P"}}} {
		if n, err := d.Drop(ctx, f); err != nil || n != 0 {
			t.Errorf("%+v means %d dead letters, %v", f, n, err)
		}
	}
	if n, err := d.Resolve(ctx, []int64{all[0].Row, -1}); err != nil || n != 1 { // of the same document there is row 4
		t.Errorf("Resolve: %d documents were refused again, %v; want 1", n, err)
	}
	if n, err := d.Resolve(ctx, []int64{all[2].Row}); err != nil || n != 0 {
		t.Errorf("Resolve: %d documents were refused again, %v; want 0", n, err)
	}
	if n, err := d.Drop(ctx, LetterFilter{Rows: []int64{all[1].Row}}); err != nil || n != 1 {
		t.Errorf("Drop: %d, %v", n, err)
	}
	if row, err := d.Last(ctx); err != nil || row != all[4].Row {
		t.Errorf("the last one is %d, %v", row, err)
	}
	if n, err := d.Drop(ctx, LetterFilter{Indices: []string{"P"}}); err != nil || n != 1 {
		t.Errorf("Drop: %d, %v", n, err)
	}
	if n, err := letters(ctx, d); err != nil || n != 1 {
		t.Errorf("%d letters, %v; want 1", n, err)
	}
}

func TestDeadLettersOfAWholeBatch(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	d := newDeadLetters(t, testenv.NewDatabase(t).DB, "ctrl")
	batch := make([]search.Refused, 2500)
	for i := range batch {
		batch[i] = refusal(searchtest.Store("P", fmt.Sprint(i), 1, `{}`))
	}
	batch[7].Operation.Body = []byte(`"` + strings.Repeat("x", 10<<20) + `"`)
	if err := d.Keep(ctx, batch); err != nil {
		t.Fatal(err)
	}
	if n, err := letters(ctx, d); err != nil || n != 2500 {
		t.Errorf("%d letters, %v", n, err)
	}
}

// While Postgres is away Keep waits, and loses nothing.
func TestDeadLettersOutlastPostgres(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	database := testenv.NewDatabase(t)
	newDeadLetters(t, database.DB, "ctrl")
	proxy := database.Postgres.NewProxy(t)
	db, err := sql.Open("pgx", proxy.URL(database.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	d := Open(db, "ctrl", "slot").DeadLetters(retry.NewAlarm(searchtest.Logger(t)))
	proxy.CutOff()
	done := make(chan error, 1)
	go func() { done <- d.Keep(ctx, []search.Refused{refusal(searchtest.Store("P", "1", 1, `{}`))}) }()
	if err := proxy.Await(ctx, func(p *testenv.TCPProxy) bool { return p.Attempts() > 6 || len(d.alarm.Reasons()) > 0 }); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("Keep returned %v without Postgres", err)
	default:
	}
	proxy.Restore()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n, err := letters(ctx, d); err != nil || n != 1 {
		t.Errorf("%d letters, %v", n, err)
	}
	if r := d.alarm.Reasons(); len(r) > 0 {
		t.Errorf("alarm: %v", r)
	}

	// It waits no longer than it may.
	proxy.CutOff()
	stopped := errors.New("told to stop")
	stopping, cancel := context.WithCancelCause(ctx)
	attempts := proxy.Attempts()
	go func() { done <- d.Keep(stopping, []search.Refused{refusal(searchtest.Store("P", "2", 1, `{}`))}) }()
	if err := proxy.Await(ctx, func(p *testenv.TCPProxy) bool { return p.Attempts() > attempts }); err != nil {
		t.Fatal(err)
	}
	cancel(stopped)
	if err := <-done; !errors.Is(err, stopped) {
		t.Errorf("Keep: %v", err)
	}
}

// The table is gone: repeating does not cure it, so Keep says so.
func TestDeadLettersWithoutTable(t *testing.T) {
	d := Open(testenv.NewDatabase(t).DB, "nowhere", "slot").DeadLetters(retry.NewAlarm(searchtest.Logger(t)))
	err := d.Keep(searchtest.Within(t, time.Minute), []search.Refused{refusal(searchtest.Store("P", "1", 1, `{}`))})
	if err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("Keep: %v", err)
	}
}

// What the server refuses is in the table when Write returns.
func TestRefusedDocumentsBecomeDeadLetters(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		d := newDeadLetters(t, testenv.NewDatabase(t).DB, "ctrl")
		_, index := searchtest.NewIndex(t, s, searchtest.ProductMapping)
		w := searchtest.NewWriter(t, searchtest.Connect(t, s.URL), search.BulkOptions{OnRefused: d.Keep})
		ops := searchtest.Products(index, 2000)
		ops[3].Body, ops[1900].Body = []byte(`{"id":"a"}`), []byte(`{"id":"b"}`)
		for range 2 {
			if err := w.Write(ctx, ops); err != nil {
				t.Fatal(err)
			}
		}
		list, err := d.List(ctx, LetterFilter{Indices: []string{index}}, 10, false)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, l := range list {
			ids = append(ids, l.ID)
		}
		slices.Sort(ids)
		if !slices.Equal(ids, []string{"1900", "3"}) {
			t.Errorf("dead letters of %q", ids)
		}
		if n := len(s.Documents(t, index)); n != 1998 {
			t.Errorf("%d documents, want 1998", n)
		}
	})
}
