package reindex

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
	"tidemark/testenv"
)

const tableT = `CREATE TABLE t (id int PRIMARY KEY, v text)`

func rowsT(n int) string {
	return fmt.Sprintf(`INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, %d) i`, n)
}

// The process ends after every chunk. The next one goes on there.
func TestResumeAtEveryChunk(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 10}}`, `CREATE TABLE t (a int, b text, v int, PRIMARY KEY (a, b))`,
		`INSERT INTO t SELECT i % 3, 'b|' || i, i FROM generate_series(1, 95) i`)
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	var written atomic.Int64
	proxy.Inject(testenv.Watch(func(q *testenv.Request) bool { written.Add(int64(len(q.Items))); return false }))

	var building string
	for n := int64(1); ; n++ {
		stored := make(chan struct{})
		var once sync.Once
		var begun int64 = -1
		p := r.start(t, options{
			begin:  func(_ string, rows verify.Rows) { begun = rows.Stored },
			stored: func(int64) { once.Do(func() { close(stored) }) },
		})
		select {
		case <-stored:
		case <-p.built:
		case <-time.After(patience):
			t.Fatal("waited in vain for a chunk")
		}
		p.crash()
		st := r.state(t, "t")
		if st.Building.Physical == "" {
			break
		}
		if building == "" {
			building = st.Building.Physical
		}
		if st.Building.Physical != building {
			t.Fatalf("process %d backfills %s, the one before %s", n, st.Building.Physical, building)
		}
		if begun > st.Done || st.Done <= begun && begun > 0 || n > 20 {
			t.Fatalf("process %d began with %d rows and ended with %d", n, begun, st.Done)
		}
		// Rows that are behind the cursor, and before it.
		r.db.Exec(t, fmt.Sprintf(`UPDATE t SET v = -%[1]d WHERE v %% 10 = %[1]d; DELETE FROM t WHERE v = 20 + %[1]d; INSERT INTO t VALUES (%[1]d %% 3, 'new|%[1]d', 0)`, n))
	}
	p := r.start(t, options{})
	p.complete(t)
	r.check(t, "t")
	r.settled(t, "t")
	if _, live := r.physical(t, "t"); live != building {
		t.Errorf("the alias stands for %s, the backfill began with %s", live, building)
	}
	// Each process may repeat what was not noted yet: two chunks, besides the changes.
	if n := written.Load(); n > 95+int64(r.processes)*(20+15) {
		t.Errorf("%d documents were written for 95 rows by %d processes", n, r.processes)
	}
}

// The process ends at every request of the completion, before it has its effect and
// after that. The next one repairs it.
func TestCrashWhileCompleting(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	r.start(t, options{}).complete(t) // an index in use, to be replaced
	crashes := 0
	ended := make(map[bool]bool)
	for n := int64(1); !ended[false]; n++ {
		for _, lost := range []bool{false, true} {
			if ended[lost] {
				continue
			}
			r.crashAll(t)
			var requests atomic.Int64
			completing := false
			var request string
			var mu sync.Mutex
			match := func(q *testenv.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				completing = completing || q.Method == http.MethodPut && strings.HasSuffix(q.Path, "/_settings")
				if !completing || q.IsBulk() || lost && q.Method == http.MethodGet || requests.Add(1) != n {
					return false
				}
				request = q.Method + " " + strings.ReplaceAll(q.Path, r.prefix, "")
				return true
			}
			fault := testenv.Hold(1, match)
			if lost {
				fault = testenv.HoldAnswer(1, match)
			}
			proxy := r.search.NewProxy(t)
			r.searchURL = proxy.URL
			proxy.Inject(fault)
			_, old := r.physical(t, "t")
			dead(t, r, old)
			p := r.start(t, options{rebuild: func(string) bool { return true }})
			r.searchURL = r.search.URL

			hit := make(chan error, 1)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			go func() { hit <- fault.Await(ctx, 1) }()
			select {
			case err := <-hit:
				if err != nil {
					t.Fatal(err)
				}
				crashes++
			case err := <-p.built: // there are no more requests
				if err != nil {
					t.Fatal(err)
				}
				cancel()
				<-hit
				ended[lost] = true
				continue
			}
			cancel()
			if lost {
				await(t, "effect of "+request, func() bool {
					all, live := r.physical(t, "t")
					return !strings.HasSuffix(request, "_aliases") && !strings.HasPrefix(request, "DELETE") ||
						strings.HasSuffix(request, "_aliases") && live != old || !slices.Contains(all, old)
				})
			}
			p.crash()
			t.Logf("crash at %s, its answer is lost: %v", request, lost)
			r.db.Exec(t, `UPDATE t SET v = 'after the crash' WHERE id = 7; DELETE FROM t WHERE id = 8; INSERT INTO t VALUES (8, 'again')`)

			if _, live := r.physical(t, "t"); live == "" {
				t.Errorf("crash at %s: the alias is gone", request)
			}
			r.start(t, options{}).complete(t)
			r.check(t, "t")
			r.settled(t, "t")
			if _, live := r.physical(t, "t"); live == old {
				t.Errorf("crash at %s: the alias still stands for %s", request, old)
			}
			if n := query[int](t, r.db, "SELECT count(*) FROM dbsync_ctrl.dead_letters"); n != 0 {
				t.Errorf("crash at %s: %d dead letters of an index that was dropped are left", request, n)
			}
			if t.Failed() {
				return
			}
		}
	}
	if crashes < 10 {
		t.Errorf("only %d crashes", crashes)
	}
}

// A chunk is noted when it is stored and not before: the next process would go on after it.
func TestChunkIsNotedWhenItIsStored(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	var lifted atomic.Bool
	hold := proxy.Inject(testenv.Hold(1, testenv.Bulk))
	p := r.start(t, options{stored: func(int64) {
		if !lifted.Load() {
			t.Error("a chunk is noted before it is stored")
		}
	}})
	if err := hold.Await(within(t, patience), 1); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // nothing is to happen
	lifted.Store(true)
	hold.Lift()
	p.complete(t)
	r.check(t, "t")
}

// The alias moves when everything is stored that was committed before, also what came by
// the stream after the last chunk.
func TestAliasWaitsForTheStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	lastChunk, goOn := make(chan struct{}), make(chan struct{})
	p := r.start(t, options{stored: func(int64) { close(lastChunk); <-goOn }})
	<-lastChunk
	var lifted atomic.Bool
	hold := proxy.Inject(testenv.Hold(1, testenv.Bulk))
	proxy.Inject(testenv.Watch(func(q *testenv.Request) bool {
		if strings.HasSuffix(q.Path, "/_aliases") && !lifted.Load() {
			t.Error("the alias moves before the stream has passed")
		}
		return false
	}))
	r.db.Exec(t, `UPDATE t SET v = 'by the stream'`)
	if err := hold.Await(within(t, patience), 1); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	await(t, "the manager waits", func() bool {
		return strings.HasPrefix(query[string](t, r.db, "SELECT max(token) FROM dbsync_ctrl.dbsync_wmtable"), "mark:")
	})
	lifted.Store(true)
	hold.Lift()
	p.complete(t)
	r.check(t, "t")
}

// dead puts a dead letter of a physical index into the control schema.
func dead(t testing.TB, r *rig, physical string) {
	t.Helper()
	letters := control.NewDeadLetters(r.db.DB, mapping.DefaultControlSchema, retry.NewAlarm(slog.New(slog.DiscardHandler)))
	alias := strings.TrimRight(physical[:len(physical)-len("20260131t120000z")], "-")
	op := dbsync.Operation{Index: search.WriteAlias(alias, physical), ID: "7", Version: 1, Body: []byte("{}")}
	if err := letters.Keep(t.Context(), []search.Refused{{Operation: op, Err: &search.DocError{Index: op.Index, ID: op.ID, Status: 400}}}); err != nil {
		t.Fatal(err)
	}
}

// A crash after the alias has moved and before that is noted, and then a mapping that was
// edited: what the alias stands for must not be dropped as something half done.
func TestEditedMappingAfterTheAliasHasMoved(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	r.start(t, options{}).complete(t)
	st := r.state(t, "t")
	// As it was before it was noted.
	r.db.Exec(t, `UPDATE dbsync_ctrl.indices SET building = live, building_fingerprint = live_fingerprint, live = '', live_fingerprint = ''`)
	r.crashAll(t)

	r.indices = `PREFIXt: {table: t, fields: {v: {type: keyword}}}`
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	hold := proxy.Inject(testenv.Hold(0, testenv.Bulk))
	p := r.start(t, options{})
	if err := hold.Await(within(t, patience), 1); err != nil {
		t.Fatal(err)
	}
	if _, live := r.physical(t, "t"); live != st.Live.Physical {
		t.Errorf("while the new index is being built the alias stands for %q, want %s", live, st.Live.Physical)
	}
	hold.Lift()
	p.complete(t)
	r.check(t, "t")
	r.settled(t, "t")
}

func TestFinishIsRepeatable(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT)
	p := r.start(t, options{})
	p.complete(t)
	st := &control.State{Name: "x", Generation: "g", Building: control.Version{Physical: "x-1", Fingerprint: "f"}}
	ctx := t.Context()
	if err := p.states.Begin(ctx, st); err != nil {
		t.Fatal(err)
	}
	for range 2 { // its answer may have been lost
		if err := p.states.Finish(ctx, st); err != nil {
			t.Fatal(err)
		}
	}
	got, err := p.states.Read(ctx, "x")
	if err != nil || got.Live.Physical != "x-1" || got.Live.Fingerprint != "f" || got.Building.Physical != "" || got.Building.Fingerprint != "" {
		t.Errorf("state: %+v, %v", got, err)
	}
	next := &control.State{Name: "x", Generation: "g", Live: control.Version{Physical: "x-1", Fingerprint: "f"}, Building: control.Version{Physical: "x-2", Fingerprint: "f"}}
	if err := p.states.Begin(ctx, next); err != nil {
		t.Fatal(err)
	}
	if err := p.states.Finish(ctx, st); !errors.As(err, new(*control.TakenOverError)) {
		t.Errorf("finish of what is not being built: %v", err)
	}
}

// During a rebuild the index in use stays equal to the table, and searchers see all of
// the documents at every moment.
func TestRebuildWithoutAGap(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 50}}`, tableT, rowsT(1000))
	first := r.start(t, options{})
	first.complete(t)
	_, old := r.physical(t, "t")
	first.crash()

	// Searchers, and somebody who changes rows and never their number.
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	var searches atomic.Int64
	others.Go(func() {
		for ctx.Err() == nil {
			// Without a refresh: as a searcher does it.
			_, answer, err := r.search.Do(ctx, http.MethodGet, "/"+r.prefix+"t/_count", nil)
			if ctx.Err() == nil && (err != nil || !strings.Contains(string(answer), `"count":1000,`)) {
				t.Errorf("a search during the rebuild: %s, %v", answer, err)
				return
			}
			searches.Add(1)
		}
	})
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	half := make(chan struct{})
	var rows int64
	p := r.start(t, options{rebuild: func(string) bool { return true }, stored: func(n int64) {
		if rows += n; rows == 500 {
			<-half
		}
	}})
	await(t, "half of the rows", func() bool { return r.state(t, "t").Done == 500 })
	r.db.Exec(t, `UPDATE t SET v = 'changed' WHERE id % 10 = 0`)
	p.settle(t)
	testenv.CheckSynced(t, r.db, r.search, old, "t")
	building := p.manager.State(r.prefix + "t").Building.Physical
	changed := 0
	for _, d := range r.search.Documents(t, building) {
		if strings.Contains(string(d.Source), "changed") {
			changed++
		}
	}
	if changed != 100 {
		t.Errorf("the index that is being built has %d of 100 changes", changed)
	}
	close(half)
	p.complete(t)
	cancel()
	others.Wait()
	if searches.Load() < 10 {
		t.Errorf("only %d searches", searches.Load())
	}
	r.check(t, "t")
	r.settled(t, "t")
	if _, live := r.physical(t, "t"); live == old {
		t.Errorf("the alias still stands for %s", old)
	}
}

// A transaction began before its table was published, so the stream has not what it did
// until then, and commits while the table is being read.
func TestTransactionThatWasOpenAtTheStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXother: {table: other}`, `CREATE TABLE other (id int PRIMARY KEY)`, tableT, rowsT(20))
	r.start(t, options{}).complete(t) // the slot is there
	r.crashAll(t)

	conn, err := pgx.Connect(t.Context(), r.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`BEGIN`)
	exec(`INSERT INTO t VALUES (0, 'first'), (10000, 'last')`)
	exec(`UPDATE t SET v = 'changed' WHERE id = 7`)
	exec(`DELETE FROM t WHERE id = 8`)

	r.indices += "\nPREFIXt: {table: t, reindex: {chunk: 5}}"
	p := r.start(t, options{})
	await(t, "the building begins", func() bool { st := r.state(t, "t"); return st != nil && st.Building.Physical != "" })
	p.settle(t)
	time.Sleep(200 * time.Millisecond) // in which the table could be read, were that not held back
	exec(`INSERT INTO t VALUES (1000, 'published')`)
	exec(`COMMIT`)
	p.complete(t)
	r.check(t, "t")
	r.check(t, "other")
}

// Rows change all the time while the table is read, many of them more than once, and
// their keys wander over the cursor in both directions.
func TestHotRows(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, routing: r, reindex: {chunk: 200}}`,
		`CREATE TABLE t (id int PRIMARY KEY, v text, r text, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ALTER TABLE t REPLICA IDENTITY FULL`,
		`INSERT INTO t SELECT i, 'v', 'r' || i % 3, repeat('x', 3000) FROM generate_series(1, 2000) i`)
	// Slow writing makes large batches, in which rows of a chunk meet their changes.
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	proxy.Inject(testenv.Delay(50*time.Millisecond, 0, testenv.Bulk))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers sync.WaitGroup
	defer writers.Wait()
	statements := []string{
		`UPDATE t SET v = 'w%[1]d n%[2]d' WHERE id %% 37 = %[2]d %% 37`,
		`INSERT INTO t SELECT i, 'new %[2]d', NULL, 'b' FROM generate_series(-5, 2200, 173) i ON CONFLICT (id) DO UPDATE SET v = 'again'`,
		`DELETE FROM t WHERE id %% 41 = %[2]d %% 41`,
		`UPDATE t SET id = 3000 - id WHERE id BETWEEN 900 + %[2]d %% 100 AND 903 + %[2]d %% 100 AND NOT EXISTS (SELECT FROM t u WHERE u.id = 3000 - t.id)`,
		`UPDATE t SET r = 'r' || (%[2]d %% 4) WHERE id %% 53 = %[2]d %% 53`,
	}
	var changes atomic.Int64
	for w := range 2 {
		conn, err := pgx.Connect(ctx, r.db.URL)
		if err != nil {
			t.Fatal(err)
		}
		writers.Go(func() {
			defer conn.Close(context.WithoutCancel(ctx))
			for n := 0; ctx.Err() == nil; n++ {
				_, err := conn.Exec(ctx, fmt.Sprintf(statements[n%len(statements)], w, n))
				deadlock := err != nil && (strings.Contains(err.Error(), "40P01") || strings.Contains(err.Error(), "23505"))
				if err != nil && ctx.Err() == nil && !deadlock {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				changes.Add(1)
			}
		})
	}
	p := r.start(t, options{})
	if err := p.backfilled(t); err != nil {
		t.Fatal(err)
	}
	cancel()
	writers.Wait()
	p.settle(t)
	t.Logf("%d transactions", changes.Load())
	r.check(t, "t", testenv.WithRouting("r"))
	r.settled(t, "t")
}

// A second process has taken over while the first one was away.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, statement string }{
		{"another index is being built", `UPDATE dbsync_ctrl.indices SET building = building || 'x'`},
		{"complete", `UPDATE dbsync_ctrl.indices SET live = 'x', building = ''`},
		{"the row is gone", `DELETE FROM dbsync_ctrl.indices`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 10}}`, tableT, rowsT(50))
			chunk, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			p := r.start(t, options{stored: func(int64) { once.Do(func() { close(chunk); <-goOn }) }})
			<-chunk
			r.db.Exec(t, test.statement)
			close(goOn)
			err := p.backfilled(t)
			if !errors.As(err, new(*control.TakenOverError)) {
				t.Errorf("Manager.Run: %v", err)
			}
		})
		t.Run(test.name+", seen on a new connection", func(t *testing.T) {
			t.Parallel()
			r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 10}}`, tableT, rowsT(50))
			hold := make(chan struct{})
			defer close(hold)
			begun := make(chan struct{})
			p := r.start(t, options{begin: func(string, verify.Rows) { close(begun); <-hold }})
			<-begun
			r.db.Exec(t, test.statement,
				`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '`+r.db.Unique("slot")+`'`)
			select {
			case err := <-p.ran:
				if permanent := (*dbsync.PermanentError)(nil); !errors.As(err, &permanent) || !errors.As(err, new(*control.TakenOverError)) {
					t.Errorf("Syncer.Run: %v", err)
				}
			case <-time.After(patience):
				t.Error("waited in vain for the Syncer to end")
			}
		})
	}
}

// A connection that breaks in the moment of the completion is no take-over.
func TestNewConnectionWhileCompleting(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	p := r.start(t, options{})
	p.complete(t)
	// What complete has noted in the database and not yet in memory.
	st := *p.manager.State(r.prefix + "t")
	st.Building, st.Live = st.Live, control.Version{}
	p.manager.byName[st.Name].set(st)
	if err := p.manager.Begin(within(t, patience)); err != nil {
		t.Error(err)
	}
}

// With NULLs in the key nothing could be followed; there is no row without its key.
func TestEmptyKeyedTables(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT)
	p := r.start(t, options{})
	p.complete(t)
	r.check(t, "t")
	r.db.Exec(t, rowsT(3))
	p.settle(t)
	r.check(t, "t")
}
