package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"tidemark/testenv"
)

// newFanOut has rows that nearly all have the same related row in their documents.
func (s *setup) newFanOut(t testing.TB, rows int, more string) {
	t.Helper()
	s.top = "indexer: {fan_out: 100}"
	s.db.Exec(t, `CREATE TABLE kinds (id int PRIMARY KEY, name text)`, `INSERT INTO kinds VALUES (1, 'old'), (2, 'old')`,
		`CREATE TABLE things (id int PRIMARY KEY, kind int, v text)`, `CREATE INDEX ON things (kind)`,
		fmt.Sprintf(`INSERT INTO things SELECT i, CASE WHEN i %% 500 = 0 THEN 2 ELSE 1 END, 'v' FROM generate_series(1, %d) i`, rows))
	s.index("things", "things", `, include: {kind: {table: kinds, on: {kind: id}, value: name}}`+more, testenv.WithQuery(
		`SELECT id, json_build_object('id', id, 'v', v, 'kind', (SELECT name FROM kinds WHERE id = t.kind)) FROM things t`))
}

// TestFanOutKilled kills the command at random moments while documents are stored again beside the
// stream, rows change, and the index is rebuilt.
func TestFanOutKilled(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.newFanOut(t, 20_000, "")
	random := rand.New(rand.NewPCG(rand.Uint64(), 1))
	s.once(t)
	inTheMiddle := 0
	for n := range pick(10, 100) {
		args := []string{"run"}
		if random.IntN(4) == 0 {
			args = append(args, "--reindex", "all")
		}
		i := s.start(t, args...)
		i.mayLog(t, "following the slot", 8*time.Second)
		s.db.Exec(t, fmt.Sprintf(`UPDATE kinds SET name = 'name %d'`, n), fmt.Sprintf(`UPDATE things SET v = 'v%d' WHERE id %% 100 = %d`, n, random.IntN(100)),
			fmt.Sprintf(`UPDATE things SET kind = 3 - kind WHERE id %% 1000 = %d`, random.IntN(1000)))
		if random.IntN(3) > 0 {
			i.mayLog(t, "stored again beside the stream", 5*time.Second)
		}
		time.Sleep(time.Duration(random.IntN(600)) * time.Millisecond)
		i.kill()
		if s.deferred(t.Context()) != nil {
			inTheMiddle++
		}
	}
	t.Logf("%d kills left documents that were to be stored again", inTheMiddle)
	if inTheMiddle == 0 {
		t.Error("no kill left documents that were to be stored again")
	}
	s.db.Exec(t, `TRUNCATE kinds`)
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// TestFanOutOnce has a change that concerns more documents than the stream waits for: run --once ends when
// they are stored, and verify, which begins before, finds no difference.
func TestFanOutOnce(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.newFanOut(t, 5000, "")
	s.once(t)
	s.db.Exec(t, `UPDATE kinds SET name = 'new'`)
	s.once(t)
	if err := s.deferred(t.Context()); err != nil {
		t.Error(err)
	}
	s.checkSynced(t)

	i := s.start(t, "run")
	i.awaitLog(t, "following the slot")
	s.db.Exec(t, `UPDATE kinds SET name = 'newer'`)
	i.awaitLog(t, "stored again beside the stream")
	if v := s.verify(t, s.alias("things")); v.code != 0 {
		t.Errorf("verify while documents are stored again: %d\n%s", v.code, v.said)
	}
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// TestFanOutWhileACommitHangs has a related row changed by a commit that hangs, and another one after it
// by one that is visible before it, also where a process comes in between: what is stored again shows both.
func TestFanOutWhileACommitHangs(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%t", killed), func(t *testing.T) {
			t.Parallel()
			s := newHangingSetup(t)
			s.newFanOut(t, 5000, "")
			i := s.start(t, "run")
			s.awaitCaughtUp(t, i)
			s.db.Exec(t, `UPDATE kinds SET name = 'first'`) // what a table is like is learned with it
			s.awaitCaughtUp(t, i)
			h := s.hang(t, `UPDATE kinds SET name = 'hung' WHERE id = 1`)
			s.db.Exec(t, `SET synchronous_commit = local`, `UPDATE kinds SET name = 'visible' WHERE id = 2`)
			if killed {
				i.kill()
				i = s.start(t, "run")
				i.awaitLog(t, "following the slot")
			}
			time.Sleep(time.Second) // what does not wait is stored by now
			h.hangs(t)
			h.release(t)
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			i.stop(t)
		})
	}
}
