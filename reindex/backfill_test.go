package reindex

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
	"tidemark/testenv"
)

// The process ends after every chunk. The next one goes on there.
func TestResumeAtEveryChunk(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 10, readers: 2}}`, `CREATE TABLE t (a int, b text, v int, PRIMARY KEY (a, b))`,
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
	// Each process may repeat what was not noted yet: two chunks of each of two readers, besides the changes.
	if n := written.Load(); n > 95+int64(r.processes)*(40+15) {
		t.Errorf("%d documents were written for 95 rows by %d processes", n, r.processes)
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

// Of several chunks that are read at a time a later one may be stored first. What is noted is what is
// stored without a gap: the process that ends meanwhile has the next one begin in front of the gap.
func TestChunksAreNotedInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 10, readers: 4}}`, `CREATE TABLE t (id int PRIMARY KEY, v text)`, `INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 200) i`,
		// Row 15, of the second chunk, is read by nobody while the lock is held.
		`CREATE FUNCTION slow(i int, v text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN IF i = 15 THEN PERFORM pg_advisory_xact_lock_shared(15); END IF; RETURN v; END $$`,
		`CREATE TABLE u (id int PRIMARY KEY, tid int, v text)`, `CREATE INDEX ON u (tid)`)
	r.indices = `PREFIXt: {table: t, reindex: {chunk: 10, readers: 4}, include: {slow: {table: u, on: {id: tid}, many: nested, where: "slow(tid, v) IS NOT NULL"}}}`
	r.db.Exec(t, `INSERT INTO u SELECT i, i, 'u' || i FROM generate_series(1, 200) i`)
	lock, err := pgx.Connect(t.Context(), r.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close(context.WithoutCancel(t.Context()))
	if _, err := lock.Exec(t.Context(), `SELECT pg_advisory_lock(15)`); err != nil {
		t.Fatal(err)
	}
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	later := make(chan struct{})
	var once sync.Once
	proxy.Inject(testenv.Watch(func(q *testenv.Request) bool {
		if slices.ContainsFunc(q.Items, func(i testenv.Item) bool { return i.ID == "25" }) {
			once.Do(func() { close(later) })
		}
		return false
	}))
	p := r.start(t, options{})
	select {
	case <-later:
	case <-time.After(patience):
		t.Fatal("waited in vain for the third chunk to be written")
	}
	await(t, "the first chunk is noted", func() bool { return r.state(t, "t").Done == 10 })
	p.settle(t) // what is written is stored
	if st := r.state(t, "t"); st.Done != 10 || len(st.Cursor) != 1 || st.Cursor[0] != "10" {
		t.Errorf("%d rows are noted, up to %v, before the second chunk is read", st.Done, st.Cursor)
	}
	p.crash()
	if st := r.state(t, "t"); st.Done != 10 {
		t.Errorf("%d rows are noted by the process that ended", st.Done)
	}
	r.db.Exec(t, `DELETE FROM t WHERE id = 12; UPDATE t SET v = 'meanwhile' WHERE id IN (9, 15, 25)`)
	if _, err := lock.Exec(t.Context(), `SELECT pg_advisory_unlock(15)`); err != nil {
		t.Fatal(err)
	}
	r.start(t, options{}).complete(t)
	r.settled(t, "t")
	for id, want := range map[string]string{"9": "meanwhile", "11": "v11", "12": "", "15": "meanwhile", "20": "v20", "25": "meanwhile", "200": "v200"} {
		source, _ := r.document(t, r.prefix+"t", id)
		if got, _ := source["v"].(string); got != want {
			t.Errorf("document %s has %q, want %q", id, got, want)
		}
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
				if !dbsync.IsPermanent(err) || !errors.As(err, new(*control.TakenOverError)) {
					t.Errorf("Syncer.Run: %v", err)
				}
			case <-time.After(patience):
				t.Error("waited in vain for the Syncer to end")
			}
		})
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

// A backfill that was given up leaves nothing behind: neither its index nor dead letters.
func TestAbandonedBackfill(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 5}}`, tableT, rowsT(20))
	stored := make(chan struct{}, 100)
	r.start(t, options{stored: func(int64) { stored <- struct{}{} }})
	<-stored
	r.crashAll(t)
	first := r.state(t, "t")
	if first.Building.Physical == "" {
		t.Fatal("it is complete already")
	}
	dead(t, r, first.Building.Physical)
	r.indices = `PREFIXt: {table: t, fields: {v: {type: keyword}}, reindex: {chunk: 5}}`
	r.start(t, options{}).complete(t)
	r.check(t, "t")
	r.settled(t, "t")
	if n := query[int](t, r.db, "SELECT count(*) FROM dbsync_ctrl.dead_letters"); n != 0 {
		t.Errorf("%d dead letters are left", n)
	}
}

// A physical index that is deleted during its backfill is an alarm, and not made by
// accident; the next start makes it anew.
func TestIndexGoneWhileBackfilling(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 5}}`, tableT, rowsT(20))
	chunk, goOn := make(chan struct{}, 1), make(chan struct{})
	p := r.start(t, options{stored: func(int64) {
		select {
		case chunk <- struct{}{}:
			<-goOn
		default:
		}
	}})
	<-chunk
	building := r.state(t, "t").Building.Physical
	r.put(t, http.MethodDelete, "/"+building, ``)
	close(goOn)
	await(t, "an alarm", func() bool { return len(p.manager.o.Alarm.Reasons()) > 0 })
	if all, _ := r.physical(t, "t"); len(all) > 0 {
		t.Errorf("there are %q", all)
	}
	ended := make(chan struct{})
	go func() { p.crash(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the process does not end while it is held back")
	}
	r.start(t, options{}).complete(t)
	r.check(t, "t")
	r.settled(t, "t")
}

// How far a filling is, and a comparison, is noted by the number of a table: where the file has the tables in another order by
// the next start, neither is gone on with in another table.
func TestTablesInAnotherOrder(t *testing.T) {
	t.Parallel()
	const one, two = `{table: t, id: "t-{id}"}`, `{table: u, id: "u-{id}"}`
	r := newRig(t, `PREFIXt: {tables: [`+one+`, `+two+`], reindex: {chunk: 5, max_rows_per_second: 20}}`, tableT, rowsT(20), `CREATE TABLE u (id int PRIMARY KEY, v text)`, `INSERT INTO u SELECT i, 'u' FROM generate_series(1, 20) i`)
	equal := func() {
		t.Helper()
		r.check(t, "t", testenv.WithQuery(`SELECT 't-' || id, json_build_object('id', id, 'v', v) FROM t UNION ALL SELECT 'u-' || id, json_build_object('id', id, 'v', v) FROM u`))
	}
	swap := func() {
		r.crashAll(t)
		if strings.Contains(r.indices, one+`, `+two) {
			r.indices = strings.Replace(r.indices, one+`, `+two, two+`, `+one, 1)
		} else {
			r.indices = strings.Replace(r.indices, two+`, `+one, one+`, `+two, 1)
		}
	}
	inSecond := make(chan struct{})
	var once sync.Once
	r.start(t, options{stored: func(int64) {
		if st := r.state(t, "t"); st.Source == 1 && st.Cursor != nil {
			once.Do(func() { close(inSecond) })
		}
	}})
	select {
	case <-inSecond:
	case <-time.After(patience):
		t.Fatal("waited in vain for a chunk of the second table")
	}
	swap()
	p := r.start(t, options{serve: true})
	p.complete(t)
	p.settle(t)
	equal()

	st := r.state(t, "t")
	proofs := r.schema().Proofs()
	if _, err := proofs.Unprove(t.Context(), st, "somebody may have written"); err != nil {
		t.Fatal(err)
	}
	proof, err := proofs.Begin(t.Context(), st, 40)
	if err != nil {
		t.Fatal(err)
	}
	proof.Walk.Source, proof.Walk.Cursor, proof.Walk.Key = 1, []string{"20"}, []string{"id"}
	if err := proofs.Advance(t.Context(), proof.Index, &proof.Walk); err != nil {
		t.Fatal(err)
	}
	swap()
	p = r.start(t, options{serve: true, verify: mapping.Verify{Every: time.Hour}})
	p.complete(t)
	await(t, "the index is proven", func() bool {
		proof, err = proofs.Read(t.Context(), proof.Index)
		return err != nil || !proof.IsUnproven()
	})
	if err != nil || proof.Last.Rows != 40 {
		t.Errorf("of 40 rows %d were compared, %v", proof.Last.Rows, err)
	}
}
