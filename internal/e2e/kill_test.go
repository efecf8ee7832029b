package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"tidemark/testenv"
)

// newLoadTables makes two tables for a load: one that takes a while to be filled, with
// values outside of the row, and a small one with a key of two columns.
func (s *setup) newLoadTables(t testing.TB, rows int) []string {
	t.Helper()
	s.db.Exec(t,
		`CREATE TABLE big (id bigint PRIMARY KEY, name varchar(80), body text, price numeric(10,2), at timestamptz NOT NULL DEFAULT now(), on_sale boolean)`,
		fmt.Sprintf(`INSERT INTO big SELECT i, 'name ' || i, CASE WHEN i %% 50 = 0 THEN (SELECT string_agg(md5(i::text || j), ' ') FROM generate_series(1, 150) j) ELSE md5(i::text) END,
			i / 3.0, now() + i * interval '1 second', i %% 2 = 0 FROM generate_series(1, %d) i`, rows),
		`CREATE TABLE pairs (a int, b int, note text, PRIMARY KEY (a, b))`,
		`INSERT INTO pairs SELECT i / 40, i % 40, 'note ' || i FROM generate_series(0, 1599) i`,
		`ANALYZE`)
	s.index("big", "big", ", reindex: {chunk: 2000}")
	s.index("pairs", "pairs", "")
	return []string{"big", "pairs"}
}

// TestKilled kills the command at random moments while the tables change: when indices
// are filled for the first time, when they are followed, and when they are rebuilt.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	// With a slow cluster there is always something that was received and is not stored.
	proxy := s.search.NewProxy(t)
	proxy.Inject(testenv.Delay(100*time.Millisecond, 0, testenv.Bulk))
	s.searchURL = proxy.URL
	l := newLoad(t, s.db, s.newLoadTables(t, pick(50_000, 500_000))...)
	l.connections, l.pause = 2, 100*time.Millisecond
	random := rand.New(rand.NewPCG(l.seed, 1<<32))
	wait := func(most time.Duration) { time.Sleep(time.Duration(random.Int64N(int64(most)))) }
	binary(t, raced)

	// A life of the command, which ends when something has happened, or a while after it.
	early := func(*instance) { wait(time.Second) }
	filling := func(i *instance) {
		for range 1 + random.IntN(4) {
			i.mayLog(t, "stored a chunk", 5*time.Second)
		}
		wait(100 * time.Millisecond)
	}
	steps := func(i *instance) {
		steps := []string{"following the slot", "made a physical index", "index is complete", "dropped a physical index"}
		i.mayLog(t, steps[random.IntN(len(steps))], 5*time.Second)
		wait(100 * time.Millisecond)
	}
	following := func(i *instance) {
		s.awaitConfirmed(t, i)
		wait(1500 * time.Millisecond)
	}
	for _, phase := range []struct {
		name  string
		args  []string // of the first start
		lives []func(*instance)
		times int
	}{
		{"filled", nil, []func(*instance){steps, filling, early, filling}, pick(9, 90)},
		{"followed", nil, []func(*instance){following, following, early}, pick(6, 60)},
		{"rebuilt", []string{"--reindex", "all"}, []func(*instance){filling, steps}, pick(5, 50)},
	} {
		done := took(t, fmt.Sprintf("to kill it %d times while indices are %s", phase.times, phase.name))
		end := l.begin(t)
		args := append([]string{"run"}, phase.args...)
		for n := range phase.times {
			i := s.start(t, args...)
			phase.lives[n%len(phase.lives)](i)
			if i.seen("made a physical index") {
				args = args[:1] // goes on with it
			}
			i.kill()
		}
		i := s.start(t, args...)
		if len(args) > 1 {
			i.awaitLog(t, "made a physical index")
		}
		s.awaitComplete(t, i)
		end()
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
		i.stop(t)
		l.seed++
		done()
	}
}
