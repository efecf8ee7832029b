package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
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

// TestKilled kills the command at random moments, from its first start on, while the
// tables change and indices are filled.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	l := newLoad(t, s.db, s.newLoadTables(t, pick(50_000, 500_000))...)
	l.connections, l.pause = 2, 100*time.Millisecond
	random := rand.New(rand.NewPCG(l.seed, 1<<32))
	binary(t)
	end := l.begin(t)

	kills, backfilling := pick(20, 200), 0
	for range kills {
		args := []string{"run"}
		if complete, err := s.complete(t.Context()); err == nil && complete && random.IntN(2) == 0 {
			args = append(args, "--reindex", "all") // there is always something to be filled
		}
		i := s.start(t, args...)
		// Half of them soon after something has begun.
		moments := []string{"tidemark starts", "following the slot", "made a physical index", "stored a chunk", "index is complete"}
		if n := random.IntN(2 * len(moments)); n < len(moments) {
			i.mayLog(t, moments[n], 8*time.Second)
			time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
		} else {
			time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
		}
		i.kill()
		if complete, err := s.complete(t.Context()); err != nil || !complete {
			backfilling++
		}
	}
	t.Logf("killed %d times, %d of them before the indices were complete", kills, backfilling)
	if backfilling < 3 {
		t.Error("too few kills came before the indices were complete")
	}
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	end()
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}
