package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"

	"tidemark/testenv"
)

// A recorder keeps every bulk request that passes a proxy.
type recorder struct {
	mu   sync.Mutex
	sent []*testenv.Request
}

// record keeps a request, and lets it pass.
func (r *recorder) record(q *testenv.Request) bool {
	if q.IsBulk() {
		r.mu.Lock()
		defer r.mu.Unlock()
		kept := *q
		kept.Body = bytes.Clone(q.Body)
		r.sent = append(r.sent, &kept)
	}
	return false
}

// take returns what was recorded since it was called last.
func (r *recorder) take() []*testenv.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

// again sends bulk requests once more, one after the other, as a network does that has held
// copies of them.
func again(t *testing.T, server *testenv.SearchServer, sent []*testenv.Request) {
	t.Helper()
	for _, q := range sent {
		status, answer, err := server.Do(t.Context(), http.MethodPost, q.Path, q.Body)
		if err != nil || status != http.StatusOK {
			t.Fatalf("send %s again: %d %.300s %v", q.Path, status, answer, err)
		}
	}
}

// TestLateCopies has every request that was sent come again when all is done, in several orders,
// also those of a process that was killed, which come for the first time: no document may be another
// one afterwards.
func TestLateCopies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, change string }{
		{"emptied and filled", `BEGIN; TRUNCATE rows; INSERT INTO rows SELECT i, 'x', 'filled' FROM generate_series(1, 500) i; COMMIT`},
		{"emptied twice", `BEGIN; TRUNCATE rows; INSERT INTO rows SELECT i, 'x', 'first' FROM generate_series(1, 500) i; TRUNCATE rows; INSERT INTO rows SELECT i, 'y', 'second' FROM generate_series(200, 700) i; COMMIT`},
		{"large", `BEGIN; INSERT INTO rows SELECT i, 'x', 'new' FROM generate_series(10001, 22000) i; UPDATE rows SET v = 'changed' WHERE id > 10000;
			DELETE FROM rows WHERE id % 100 = 0; INSERT INTO rows SELECT i, 'x', 'again' FROM generate_series(10100, 22000, 200) i; COMMIT`},
		{"large in bytes", `BEGIN; UPDATE rows SET v = repeat('wide', 5000) WHERE id <= 500; UPDATE rows SET v = 'narrow' WHERE id <= 400; DELETE FROM rows WHERE id % 9 = 0; COMMIT`},
		{"routed otherwise", `UPDATE rows SET tenant = 'other' WHERE id % 2 = 0`},
		{"routed there and back", `BEGIN; UPDATE rows SET tenant = 'there'; UPDATE rows SET tenant = 'x' WHERE id % 3 > 0; UPDATE rows SET tenant = 'there' WHERE id % 3 = 1; COMMIT`},
		{"routed otherwise, and deleted", `BEGIN; UPDATE rows SET tenant = 'gone' WHERE id <= 200; DELETE FROM rows WHERE id <= 100; INSERT INTO rows SELECT i, 'back', 'x' FROM generate_series(1, 50) i; COMMIT`},
		{"keys moved", `BEGIN; UPDATE rows SET id = id + 1000000; UPDATE rows SET id = id - 999999; UPDATE rows SET v = 'moved'; COMMIT`},
		{"deleted and there again", `BEGIN; DELETE FROM rows; INSERT INTO rows SELECT i, 'x', 'again' FROM generate_series(1, 300) i; COMMIT`},
		{"related rows", `BEGIN; INSERT INTO parts SELECT i, i % 300 + 1, 'p' FROM generate_series(1, 600) i ON CONFLICT (id) DO UPDATE SET v = 'q'; UPDATE rows SET tenant = 'z' WHERE id < 50; DELETE FROM parts WHERE id % 5 = 0; COMMIT`},
		{"a large value kept", `UPDATE rows SET large = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i) WHERE id <= 50; UPDATE rows SET v = 'beside it' WHERE id <= 50`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, shared(t))
			proxy, sent := s.search.NewProxy(t), &recorder{}
			proxy.Inject(testenv.Watch(sent.record))
			s.searchURL = proxy.URL
			s.db.Exec(t, `CREATE TABLE rows (id int PRIMARY KEY, tenant text NOT NULL, v text, large text); ALTER TABLE rows REPLICA IDENTITY FULL`,
				`CREATE TABLE parts (id int PRIMARY KEY, row int, v text); ALTER TABLE parts REPLICA IDENTITY FULL`,
				`INSERT INTO rows SELECT i, 'x', 'before' FROM generate_series(1, 500) i`, `INSERT INTO parts SELECT i, i, 'before' FROM generate_series(1, 300) i`)
			s.index("flat", "rows", "")
			s.index("routed", "rows", ", routing: tenant", testenv.WithRouting("tenant"))
			s.index("around", "rows", `, routing: tenant, fields: [id], include: {parts: {table: parts, on: {id: row}, value: v, order_by: id}}`, testenv.WithRouting("tenant"),
				testenv.WithQuery(`SELECT id::text, tenant, json_build_object('id', id, 'parts', (SELECT coalesce(json_agg(v ORDER BY p.id), '[]') FROM parts p WHERE p.row = r.id)) FROM rows r`))
			i := s.start(t, "run")
			s.awaitCaughtUp(t, i)
			// What the first process sends does not arrive before everything else is done.
			away := proxy.Inject(testenv.Answer(http.StatusServiceUnavailable, 0, testenv.Bulk))
			s.db.Exec(t, `BEGIN; UPDATE rows SET v = 'changed once'; INSERT INTO rows SELECT i, 'x', 'new' FROM generate_series(501, 600) i; COMMIT`)
			must(t, away.Await(t.Context(), 1))
			i.kill()
			away.Lift()
			s.db.Exec(t, test.change)
			i = s.start(t, "run")
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			i.stop(t)
			all := sent.take()
			random := rand.New(rand.NewPCG(1, uint64(len(all))))
			for range 3 {
				slices.Reverse(all)
				again(t, s.search, all)
				s.checkSynced(t)
				random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			}
		})
	}
}

// TestPausedInstance stops the process that follows the slot while it tries to send, until
// another one has taken its place and has deleted what the first one still has to store. The search
// server has forgotten meanwhile which versions those documents had.
func TestPausedInstance(t *testing.T) {
	t.Parallel()
	search := testenv.StartSearch(t, testenv.Engines(t)[0], testenv.SearchOptions{Heap: "512m"})
	s := newSetup(t, search)
	s.newRows(t)
	proxy := search.NewProxy(t)
	s.searchURL = proxy.URL
	first := s.start(t, "run")
	s.awaitCaughtUp(t, first)
	refused := proxy.Inject(testenv.Answer(http.StatusServiceUnavailable, 0, testenv.Bulk))
	s.db.Exec(t, `INSERT INTO rows SELECT i, 'late' FROM generate_series(1001, 1020) i`)
	must(t, refused.Await(t.Context(), 3))
	must(t, first.cmd.Process.Signal(syscall.SIGSTOP))

	s.searchURL = search.URL
	second := s.takeOver(t)
	s.db.Exec(t, `DELETE FROM rows WHERE id > 1000`)
	s.awaitCaughtUp(t, second)
	if status, answer, err := search.Do(t.Context(), http.MethodPost, "/"+s.alias("rows")+"/_flush", nil); err != nil || status != http.StatusOK {
		t.Fatalf("flush: %d %s %v", status, answer, err)
	}
	must(t, search.Restart(t.Context()))

	refused.Lift()
	sent := proxy.Inject(testenv.Watch(testenv.Bulk))
	must(t, first.cmd.Process.Signal(syscall.SIGCONT))
	first.awaitLog(t, "waiting for it")
	s.awaitCaughtUp(t, second)
	s.checkSynced(t)
	if n := sent.Hits(); n != 0 {
		t.Errorf("the first one has sent %d requests although another one follows the slot", n)
	}

	// Its turn comes again, and it goes on with what the other one has left.
	second.stop(t)
	first.awaitLog(t, "this one begins anew")
	s.db.Exec(t, `INSERT INTO rows SELECT i, 'again' FROM generate_series(1010, 1030) i`)
	s.awaitCaughtUp(t, first)
	s.checkSynced(t)
	first.stop(t)
}

// newRows makes a table with an index of its own.
func (s *setup) newRows(t testing.TB) {
	t.Helper()
	s.db.Exec(t, `CREATE TABLE rows (id int PRIMARY KEY, v text)`, `INSERT INTO rows SELECT i, 'before' FROM generate_series(1, 100) i`)
	s.index("rows", "rows", "")
}

// takeOver starts a second instance, and takes the slot away from the first one.
func (s *setup) takeOver(t testing.TB) *instance {
	t.Helper()
	second := s.start(t, "run")
	second.awaitLog(t, "waiting for it")
	s.db.Exec(t, fmt.Sprintf(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '%s'`, s.slot))
	second.awaitLog(t, "taking over")
	return second
}
