package indexer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// Rows that are to blame are found, and nobody else; too many at a time are not blamed on one.
func TestSuspicion(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		rows    int
		bad     []int
		atMost  int // rows that a statement can have; 0: any number
		passing int // so many statements fail at first, whatever their rows
		calls   int // at the most
	}{
		{name: "nobody", rows: 100, calls: 1},
		{name: "the only one", rows: 1, bad: []int{0}, calls: 3},
		{name: "the first", rows: 64, bad: []int{0}, calls: 6 + 3 + 1},
		{name: "the last", rows: 64, bad: []int{63}, calls: 1 + 6 + 3},
		{name: "some", rows: 100, bad: []int{3, 4, 50, 99}, calls: 50},
		{name: "all", rows: 8, bad: []int{0, 1, 2, 3, 4, 5, 6, 7}, calls: 60},
		{name: "too many at a time", rows: 100, atMost: 10, calls: 40},
		{name: "one at a time", rows: 8, atMost: 1, calls: 20},
		{name: "too many, and one of them", rows: 100, atMost: 10, bad: []int{42}, calls: 60},
		{name: "it passes", rows: 4, passing: 4, calls: 12}, // two of them at one row
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var s Suspicion
			var blamed, widths []int
			calls := 0
			for at, n := 0, test.rows; at < test.rows; {
				n = min(n, test.rows-at)
				widths = append(widths, n)
				calls++
				fails := test.atMost > 0 && n > test.atMost || calls <= test.passing ||
					slices.ContainsFunc(test.bad, func(i int) bool { return at <= i && i < at+n })
				if fails {
					next, err := s.Failed(t.Context(), n, &dbsync.RowError{Err: &pgconn.PgError{Code: "P0001"}})
					if err != nil {
						t.Fatal(err)
					}
					if n = next; next == 0 {
						blamed = append(blamed, at)
						at++
						n = s.Bound(test.rows)
					}
					continue
				}
				s.Passed(n)
				at += n
				n = s.Bound(test.rows)
			}
			if !slices.Equal(blamed, test.bad) || calls > test.calls {
				t.Errorf("%v are blamed after %d statements of %v rows; want %v, %d at the most", blamed, calls, widths, test.bad, test.calls)
			}
			if test.atMost > 0 && len(test.bad) == 0 && s.Bound(test.rows) > test.atMost {
				t.Errorf("after that %d rows are tried, want at most %d", s.Bound(test.rows), test.atMost)
			}
		})
	}
}

// What were too many are tried again in the end.
func TestSuspicionWidens(t *testing.T) {
	var s Suspicion
	if next, err := s.Failed(t.Context(), 100, errors.New("x")); next != 50 || err != nil {
		t.Fatal(next, err)
	}
	for s.rows > 0 {
		s.Passed(s.Bound(100))
	}
	for range widenAfter {
		if s.Bound(100) != 50 {
			t.Fatalf("bound %d", s.Bound(100))
		}
		s.Passed(50)
	}
	if s.Bound(100) != 100 {
		t.Errorf("bound %d after %d statements that passed", s.Bound(100), widenAfter)
	}
}

// Only the same error counts.
func TestRepeated(t *testing.T) {
	var r repeated
	for i, state := range []string{"P0001", "P0001", "54000", "P0001", "P0001", "P0001"} {
		enough, err := r.again(t.Context(), &pgconn.PgError{Code: state})
		if enough != (i == 5) || err != nil {
			t.Errorf("%d: %t %v", i, enough, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if enough, err := new(repeated).again(ctx, &pgconn.PgError{Code: "53200"}); enough || !errors.Is(err, context.Canceled) {
		t.Errorf("%t %v", enough, err)
	}
}

// picky makes function picky, which raises what its argument says: 'bad STATE'; or, while a table
// has a row, 'now STATE'.
const picky = `CREATE TABLE now (); INSERT INTO now DEFAULT VALUES; CREATE FUNCTION picky(n text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
	IF n LIKE 'bad %' THEN RAISE EXCEPTION 'picky' USING ERRCODE = split_part(n, ' ', 2); END IF;
	IF n LIKE 'now %' AND EXISTS (SELECT FROM public.now) THEN RAISE EXCEPTION 'picky' USING ERRCODE = split_part(n, ' ', 2); END IF;
	RETURN true; END $$;
	CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE c (id int PRIMARY KEY, t int, n text); ALTER TABLE c REPLICA IDENTITY FULL; CREATE INDEX ON c (t);
	INSERT INTO t SELECT i, 0 FROM generate_series(1, 200) i; INSERT INTO c SELECT i, i, 'good' FROM generate_series(1, 200) i;`

const pickyIndex = `t: {table: t, include: {cs: {table: c, on: {id: t}, value: n, where: "public.picky(n)"}}}`

// A row that no document can be made of becomes a dead letter, whatever Postgres says against it;
// its neighbours are stored. What passes is waited for, however often it comes.
func TestRereadFindsBadRows(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, change string
		refused      map[string]string // what the reason holds, by id
	}{
		{"a row itself", `UPDATE c SET n = 'bad P0001' WHERE id = 7; UPDATE t SET v = 1`, map[string]string{"7": "P0001"}},
		{"all kinds of reasons", `UPDATE c SET n = 'bad ' || (ARRAY['54000','53200','XX001','57014','MY001','22012','23514'])[id - 9] WHERE id BETWEEN 10 AND 16; UPDATE t SET v = 1`,
			map[string]string{"10": "54000", "11": "53200", "12": "XX001", "13": "57014", "14": "MY001", "15": "22012", "16": "23514"}},
		{"found by related rows", `UPDATE c SET n = 'bad P0001' WHERE id IN (50, 51, 200); UPDATE c SET n = 'fine' WHERE id < 50`, map[string]string{"50": "P0001", "51": "P0001", "200": "P0001"}},
		{"it passes", `UPDATE c SET n = 'now 40P01' WHERE id = 7`, nil},
		{"the server ends", `UPDATE c SET n = 'now 57P01' WHERE id = 7; UPDATE t SET v = 1`, nil},
		{"gone by now", `UPDATE c SET n = 'bad P0001' WHERE id = 7; DELETE FROM t WHERE id = 7; UPDATE t SET v = 1`, nil},
	}
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := testenv.NewDatabase(t)
			db.Exec(t, picky)
			s := newStream(t, db, pickyIndex)
			w := s.writeTo(t, engine.URL, search.BulkOptions{})
			alias := s.documentsOf(t, engine, "t", loose)
			s.run(t)
			db.Exec(t, "UPDATE t SET v = -1")
			s.settle(t)
			if n := len(engine.Documents(t, alias)); n != 200 {
				t.Fatalf("%d documents", n)
			}
			db.Exec(t, test.change)
			if strings.Contains(test.change, "'now ") {
				err := retry.Poll(searchtest.Within(t, 30*time.Second), func() (bool, error) { return len(s.Status().Troubles) > 0, nil })
				if err != nil {
					t.Fatalf("no trouble: %v", err)
				}
				db.Exec(t, `DELETE FROM now`)
			}
			s.settle(t)
			got := make(map[string]string)
			for _, r := range w.Refused() {
				got[r.Operation.ID] = ""
				if want := test.refused[r.Operation.ID]; want != "" && strings.Contains(r.Err.Reason, "(SQLSTATE "+want+")") {
					got[r.Operation.ID] = want
				}
			}
			if diff := cmp.Diff(test.refused, got, cmp.Transformer("sorted", func(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) })); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
			for id, want := range test.refused {
				if got[id] != want {
					t.Errorf("%s is refused without %s in its reason: %v", id, want, w.Refused())
				}
			}
			without := "0"
			for id := range test.refused {
				without += "," + id
			}
			good := make(map[string]bool)
			for id, doc := range engine.Documents(t, alias) {
				var v int
				var n *string
				if strings.Contains(","+without+",", ","+id+",") {
					continue
				}
				if err := db.DB.QueryRowContext(t.Context(), `SELECT t.v, c.n FROM t JOIN c ON c.t = t.id WHERE t.id = $1`, id).Scan(&v, &n); err != nil {
					t.Fatalf("row %s: %v", id, err)
				}
				if want := fmt.Sprintf(`{"id":%s,"v":%d,"cs":[%q]}`, id, v, *n); string(doc.Source) != want {
					t.Errorf("document %s is %s, want %s", id, doc.Source, want)
				}
				good[id] = true
			}
			var rows int
			if err := db.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM t WHERE id NOT IN (`+without+`)`).Scan(&rows); err != nil || rows != len(good) {
				t.Errorf("%d documents for %d rows (%v)", len(good), rows, err)
			}
		})
	}
}

// A change of a related row whose documents cannot be found is not lost: its index is doubted, once
// for each such row, and the documents of the others are written.
func TestLookupsThatFail(t *testing.T) {
	t.Parallel()
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	// A type whose equality is a function of ours.
	const odd = `CREATE TYPE odd; CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal IMMUTABLE STRICT AS 'textin';
		CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
		CREATE TYPE odd (INPUT = odd_in, OUTPUT = odd_out, LIKE = text); CREATE CAST (odd AS text) WITHOUT FUNCTION;
		CREATE FUNCTION odd_eq(a odd, b odd) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
			IF 'bad' IN (a::text, b::text) THEN RAISE EXCEPTION 'odd'; END IF; RETURN a::text = b::text; END $$;
		CREATE OPERATOR = (LEFTARG = odd, RIGHTARG = odd, FUNCTION = odd_eq);
		CREATE TABLE t (id int PRIMARY KEY, link odd); CREATE TABLE c (id int PRIMARY KEY, link odd, v text); ALTER TABLE c REPLICA IDENTITY FULL;
		INSERT INTO t SELECT i, ('v' || i)::odd FROM generate_series(1, 9) i; INSERT INTO c SELECT i, ('v' || i)::odd, 'old' FROM generate_series(1, 9) i; INSERT INTO c VALUES (10, 'bad', 'old')`
	for _, noted := range []bool{true, false} {
		t.Run(fmt.Sprint("noted ", noted), func(t *testing.T) {
			db := testenv.NewDatabase(t)
			db.Exec(t, odd)
			s := newStream(t, db, `t: {table: t, include: {cs: {table: c, on: {link: link}, value: v}}}`)
			w := s.writeTo(t, engine.URL, search.BulkOptions{})
			alias := s.documentsOf(t, engine, "t", loose)
			var doubts []string
			full := errors.New("it cannot be noted")
			s.handler.o.Doubted = func(_ context.Context, d *Documents, why string) error {
				doubts = append(doubts, d.Index.Name+": "+why)
				if !noted {
					return full
				}
				return nil
			}
			r := s.record()
			s.run(t)
			db.Exec(t, `BEGIN; DELETE FROM c WHERE id = 10; UPDATE c SET v = 'new'; COMMIT`)
			s.settle(t)
			err := s.handler.BatchOperations(t.Context(), dbsync.NewBatch(r.operations()...))
			if want := []string{"t: the documents of a row of public.c that changed were not found: "}; len(doubts) != 1 || !strings.HasPrefix(doubts[0], want[0]) || !strings.Contains(doubts[0], "ERROR: odd (SQLSTATE P0001)") {
				t.Errorf("doubts %q, want %q", doubts, want)
			}
			if !noted {
				if !errors.Is(err, full) {
					t.Errorf("got %v: what could not be noted must come again", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			w.WantRefused(t)
			docs := engine.Documents(t, alias)
			for id, doc := range docs {
				if want := fmt.Sprintf(`{"id":%s,"link":"v%[1]s","cs":["new"]}`, id); string(doc.Source) != want {
					t.Errorf("%s, want %s", doc.Source, want)
				}
			}
			if len(docs) != 9 {
				t.Errorf("%d documents, want 9", len(docs))
			}
		})
	}
}
