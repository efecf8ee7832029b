package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidemark/testenv"
)

// newSmall has two tables with an index each.
func newSmall(t *testing.T) *setup {
	t.Helper()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text, n text)`, `INSERT INTO a SELECT i, 'v' || i, i FROM generate_series(1, 500) i`,
		`CREATE TABLE b (id int PRIMARY KEY, v text)`, `INSERT INTO b SELECT i, 'v' || i FROM generate_series(1, 500) i`)
	s.index("a", "a", "")
	s.index("b", "b", "")
	return s
}

// physical is the index behind an alias.
func (s *setup) physical(t *testing.T, name string) string {
	t.Helper()
	all, err := s.search.Indices(t.Context(), s.alias(name))
	must(t, err)
	if len(all) != 1 {
		t.Fatalf("alias %s stands for %v", name, all)
	}
	return all[0].Name
}

// dropSlot drops the slot when nobody has it.
func (s *setup) dropSlot(t *testing.T) {
	t.Helper()
	s.db.Exec(t, fmt.Sprintf(`SELECT pg_drop_replication_slot('%s')`, s.slot))
}

func (s *setup) delete(t *testing.T, index string) {
	t.Helper()
	status, answer, err := s.search.Do(t.Context(), http.MethodDelete, "/"+index, nil)
	if err != nil || status != http.StatusOK {
		t.Fatalf("delete index %s: %d %s %v", index, status, answer, err)
	}
}

func TestSlotDropped(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.once(t)
	s.dropSlot(t)
	s.db.Exec(t, `DELETE FROM a WHERE id < 100`, `UPDATE b SET v = 'missed' WHERE id < 100`)
	for range 2 { // it stays so
		s.start(t, "run").fail(t, 1, s.slot, "on_slot_lost: reindex", "--reindex all")
	}
	s.top = "on_slot_lost: reindex"
	before := s.physical(t, "a")
	s.once(t)
	s.checkSynced(t)
	if after := s.physical(t, "a"); after == before {
		t.Errorf("%s was not rebuilt", after)
	}
	s.db.Exec(t, `DELETE FROM a WHERE id < 200`)
	s.once(t)
	s.checkSynced(t)
}

// TestSlotDroppedAndAskedToRebuild fixes a lost slot by hand.
func TestSlotDroppedAndAskedToRebuild(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.once(t)
	s.dropSlot(t)
	s.db.Exec(t, `DELETE FROM a WHERE id < 100`)
	s.once(t, "--reindex", "all")
	s.checkSynced(t)
}

// TestSlotMadeAnew has somebody drop the slot and make one of its name.
func TestSlotMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.once(t)
	s.dropSlot(t)
	s.db.Exec(t, `DELETE FROM a WHERE id < 100`, fmt.Sprintf(`SELECT pg_create_logical_replication_slot('%s', 'pgoutput')`, s.slot))
	s.start(t, "run").fail(t, 1, s.slot)
}

// TestSlotDroppedWhileRunning takes the slot from under a running instance.
func TestSlotDroppedWhileRunning(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.db.Exec(t, fmt.Sprintf(`
		DO $$ DECLARE tries int := 0; BEGIN
			LOOP
				PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '%[1]s' AND active_pid IS NOT NULL;
				BEGIN PERFORM pg_drop_replication_slot('%[1]s'); RETURN; EXCEPTION WHEN object_in_use THEN tries := tries + 1; IF tries > 1000 THEN RAISE; END IF; END;
				PERFORM pg_sleep(0.005);
			END LOOP;
		END $$`, s.slot))
	i.fail(t, 1, s.slot, "--reindex all")
}

func TestPhysicalIndexDeletedWhileStopped(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.once(t)
	s.delete(t, s.physical(t, "a"))
	before := s.physical(t, "b")
	s.db.Exec(t, `DELETE FROM a WHERE id < 100`)
	s.once(t)
	s.checkSynced(t)
	if after := s.physical(t, "b"); after != before {
		t.Error("the other index was rebuilt, too")
	}
}

// TestPhysicalIndexDeletedWhileRunning deletes the index that is written to: writing
// pauses, nothing is made by accident, and the next start fixes it.
func TestPhysicalIndexDeletedWhileRunning(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.delete(t, s.physical(t, "a"))
	s.db.Exec(t, `UPDATE a SET v = 'new' WHERE id < 10`, `DELETE FROM a WHERE id > 490`, `UPDATE b SET v = 'new' WHERE id < 10`)
	i.awaitReady(t, http.StatusServiceUnavailable, s.alias("a"))
	all, err := s.search.Indices(t.Context(), s.alias("a")+"*")
	must(t, err)
	if len(all) > 0 {
		t.Errorf("an index was made by accident: %v", all)
	}
	i.stop(t)
	i = s.start(t, "run")
	i.awaitLog(t, "index is complete")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// TestAliasRemoved takes the alias away while nothing runs.
func TestAliasRemoved(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.once(t)
	physical := s.physical(t, "a")
	s.delete(t, physical+"/_alias/"+s.alias("a"))
	s.once(t)
	if now := s.physical(t, "a"); now != physical {
		t.Errorf("the alias stands for %s, not for %s", now, physical)
	}
	s.checkSynced(t)
}

// TestMappingChanged edits the file: the index is rebuilt beside the live one, while
// changes go on and searchers see the old one, and then takes its place.
func TestMappingChanged(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.db.Exec(t, `INSERT INTO a SELECT i, 'v' || i, i FROM generate_series(501, 20000) i`)
	s.once(t)
	before, other := s.physical(t, "a"), s.physical(t, "b")
	s.index("a", "a", ", fields: {v: {type: keyword}, number: {column: n, type: integer}}, reindex: {chunk: 500}", testenv.WithFields("n", "number"))
	i := s.start(t, "run")
	i.awaitLog(t, "made a physical index")
	i.awaitLog(t, "stored a chunk")
	if now := s.physical(t, "a"); now != before {
		t.Errorf("the alias stands for %s before the new index is complete", now)
	}
	i.awaitReady(t, http.StatusOK, "") // searchers are served
	s.db.Exec(t, `UPDATE a SET v = 'new' WHERE id % 100 = 0`, `DELETE FROM a WHERE id % 100 = 1`, `UPDATE a SET id = -id WHERE id % 100 = 2`, `INSERT INTO a SELECT i, 'late', i FROM generate_series(30000, 30100) i`)
	i.awaitLog(t, "index is complete")
	i.awaitLog(t, "dropped a physical index")
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	if now := s.physical(t, "b"); now != other {
		t.Error("the other index was rebuilt, too")
	}
	i.stop(t)
	if now := s.physical(t, "a"); now == before {
		t.Error("the index was not rebuilt")
	}
	if log := s.once(t).log(); strings.Contains(log, "made a physical index") {
		t.Errorf("it is rebuilt again:\n%s", log)
	}
}

// TestIndexAdded adds an index to a file that runs already.
func TestIndexAdded(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	delete(s.indices, "b")
	s.once(t)
	s.db.Exec(t, `UPDATE b SET v = 'before'`)
	s.index("b", "b", "")
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	s.db.Exec(t, `UPDATE b SET v = 'after' WHERE id < 100`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// TestSecondInstance waits for the slot, and takes over when the first one is killed: the
// stream, and the admin address.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	first := s.start(t, "run")
	s.awaitCaughtUp(t, first)
	s.adminListen = first.admin(t)
	same := s.start(t, "run")
	same.awaitLog(t, "the admin server cannot listen")
	same.awaitLog(t, "waiting for it")
	first.awaitReady(t, http.StatusOK, "")
	first.kill()
	same.awaitLog(t, "taking over")
	same.awaitReady(t, http.StatusOK, "")
	if got := same.admin(t); got != s.adminListen {
		t.Errorf("it listens on %s, want %s", got, s.adminListen)
	}
	if n := strings.Count(same.log(), "the admin server cannot listen"); n != 1 {
		t.Errorf("it says %d times that it cannot listen", n)
	}

	s.adminListen = "127.0.0.1:0"
	first = same
	second := s.start(t, "run")
	second.awaitLog(t, "waiting for it")
	second.awaitReady(t, http.StatusServiceUnavailable, "not connected to slot")
	s.db.Exec(t, `UPDATE a SET v = 'by the first'`)
	s.awaitCaughtUp(t, first)
	s.checkSynced(t)
	s.db.Exec(t, `UPDATE a SET v = 'by somebody' WHERE id < 100`)
	start := time.Now()
	first.kill()
	second.awaitLog(t, "taking over")
	t.Logf("taken over %s after the kill", time.Since(start).Round(time.Millisecond))
	s.db.Exec(t, `UPDATE b SET v = 'by the second'`)
	s.awaitCaughtUp(t, second)
	s.checkSynced(t)
	second.stop(t)
}

// TestSecondInstanceLeaves stops one that waits, and one whose turn comes in order.
func TestSecondInstanceLeaves(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	first := s.start(t, "run")
	s.awaitCaughtUp(t, first)
	second, third := s.start(t, "run"), s.start(t, "run")
	second.awaitLog(t, "waiting for it")
	third.awaitLog(t, "waiting for it")
	second.stop(t)
	first.stop(t)
	third.awaitLog(t, "taking over")
	s.db.Exec(t, `DELETE FROM a WHERE id < 100`)
	s.awaitCaughtUp(t, third)
	s.checkSynced(t)
	third.stop(t)
}
