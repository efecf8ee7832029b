package control

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// newMigrated returns a database with the control schema ctrl.
func newMigrated(t *testing.T) *testenv.Database {
	t.Helper()
	db := testenv.NewDatabase(t)
	db.Exec(t, "CREATE SCHEMA ctrl")
	if err := Migrate(searchtest.Within(t, time.Minute), db.DB, "ctrl", searchtest.Logger(t)); err != nil {
		t.Fatal(err)
	}
	return db
}

// dump returns all rows of the tables that a process notes things in.
func dump(t *testing.T, db *sql.DB) string {
	t.Helper()
	var text string
	err := db.QueryRowContext(t.Context(), `SELECT pg_catalog.concat_ws(E'\n', query_to_xml('TABLE ctrl.indices', true, true, ''), query_to_xml('TABLE ctrl.proofs', true, true, ''),
		query_to_xml('TABLE ctrl.recoveries', true, true, ''), query_to_xml('TABLE ctrl.physical_indices', true, true, ''), query_to_xml('TABLE ctrl.requests', true, true, ''),
		query_to_xml('TABLE ctrl.fan_outs', true, true, ''), query_to_xml('TABLE ctrl.fan_out_passes', true, true, ''), query_to_xml('TABLE ctrl.dead_letters', true, true, ''))`).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Nothing lands that is noted by a process after another one has begun to note, whatever it is.
func TestEpoch(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	db := newMigrated(t)
	first, second, asks, other := Open(db.DB, "ctrl", "s"), Open(db.DB, "ctrl", "s"), Open(db.DB, "ctrl", "s"), Open(db.DB, "ctrl", "other")
	begin := func(s *Schema) {
		t.Helper()
		if err := s.BeginEpoch(ctx); err != nil {
			t.Fatal(err)
		}
	}
	begin(first)
	begin(other)
	st := &State{Name: "i", Live: Version{Physical: "i-1"}, Building: Version{Physical: "i-2"}}
	var (
		proof Proof
		mark  Marking
		pass  *FanOutPass
		id    int64
		err   error
	)
	group := FanOutGroup{Index: "i", Physical: "i-2", Source: "public.t ", Path: "p"}
	refused := []search.Refused{{Operation: dbsync.Operation{Index: "i", ID: "1", Version: 7}, Err: &search.DocError{Index: "i", ID: "1", Status: 400, Type: "t", Reason: "r"}}}
	notes := []struct {
		name string
		note func(s *Schema) error
	}{
		{"States.Begin", func(s *Schema) error { return s.States().Begin(ctx, st, nil) }},
		{"States.Adopt", func(s *Schema) error {
			adopted := &State{Name: "i", Live: Version{Physical: "i-1"}}
			if err := s.States().Abandon(ctx, st); err != nil {
				return err
			}
			return s.States().Adopt(ctx, adopted)
		}},
		{"States.Begin again", func(s *Schema) error { return s.States().Begin(ctx, st, nil) }},
		{"States.Resume", func(s *Schema) error { return s.States().Resume(ctx, st) }},
		{"States.Advance", func(s *Schema) error { return s.States().Advance(ctx, st) }},
		{"States.NotePartitions", func(s *Schema) error { return s.States().NotePartitions(ctx, st) }},
		{"States.Miss", func(s *Schema) error { return s.States().Miss(ctx, "i") }},
		{"States.Spoil", func(s *Schema) error { return s.States().Spoil(ctx, "i", "i-1") }},
		{"States.Forget", func(s *Schema) error { _, err := s.States().Forget(ctx, "generation", nil); return err }},
		{"Proofs.Unprove", func(s *Schema) error { _, err := s.Proofs().Unprove(ctx, st, "why"); return err }},
		{"Proofs.Begin", func(s *Schema) error { proof, err = s.Proofs().Begin(ctx, st, 1); return err }},
		{"Proofs.Advance", func(s *Schema) error { return s.Proofs().Advance(ctx, "i", &Walk{Number: 1}) }},
		{"Proofs.Finish", func(s *Schema) error { _, err := s.Proofs().Finish(ctx, "i", &Walk{Number: 1}); return err }},
		{"Proofs.Begin again", func(s *Schema) error { proof, err = s.Proofs().Begin(ctx, st, 1); return err }},
		{"Proofs.GiveUp", func(s *Schema) error { _, err := s.Proofs().GiveUp(ctx, "i", &proof.Walk); return err }},
		{"Proofs.Forget", func(s *Schema) error { return s.Proofs().Forget(ctx, []string{"i"}) }},
		{"Recoveries.Note", func(s *Schema) error { return s.Recoveries().Note(ctx, &Recovery{Index: "i", Physical: "i-1"}) }},
		{"Recoveries.Keep", func(s *Schema) error { return s.Recoveries().Keep(ctx, "i", nil) }},
		{"Markings.Add", func(s *Schema) error { mark, err = s.Markings().Add(ctx, "i", "i-1"); return err }},
		{"Markings.Note", func(s *Schema) error {
			now := mark
			now.Incarnation = "x"
			return s.Markings().Note(ctx, "i", mark, now)
		}},
		{"Markings.Forget", func(s *Schema) error { return s.Markings().Forget(ctx, "i-1") }},
		{"Requests.Add", func(s *Schema) error {
			id, err = s.Requests().Add(ctx, &Request{Kind: KindReindex, Index: "i"})
			return err
		}},
		{"Requests.Begin", func(s *Schema) error { _, err := s.Requests().Begin(ctx, id); return err }},
		{"Requests.Advance", func(s *Schema) error { return s.Requests().Advance(ctx, id, 5) }},
		{"Requests.CancelWaiting", func(s *Schema) error { _, err := s.Requests().CancelWaiting(ctx, id); return err }},
		{"Requests.End", func(s *Schema) error { return s.Requests().End(ctx, id, PhaseDone, "") }},
		{"FanOuts.Ask", func(s *Schema) error { return s.FanOuts().Ask(ctx, []FanOut{{group, []string{"1"}}}) }},
		{"FanOuts.Begin", func(s *Schema) error { pass, err = s.FanOuts().Begin(ctx, group, "runner"); return err }},
		{"FanOuts.Advance", func(s *Schema) error { return s.FanOuts().Advance(ctx, pass) }},
		{"FanOuts.End", func(s *Schema) error { return s.FanOuts().End(ctx, pass) }},
		{"FanOuts.Ask again", func(s *Schema) error { return s.FanOuts().Ask(ctx, []FanOut{{group, []string{"1"}}}) }},
		{"FanOuts.Drop", func(s *Schema) error { return s.FanOuts().Drop(ctx, group) }},
		{"FanOuts.Forget", func(s *Schema) error { return s.FanOuts().Forget(ctx, nil) }},
		{"DeadLetters.Keep", func(s *Schema) error { return s.DeadLetters(retry.NewAlarm(searchtest.Logger(t))).Keep(ctx, refused) }},
		{"DeadLetters.Drop", func(s *Schema) error {
			_, err := s.DeadLetters(retry.NewAlarm(searchtest.Logger(t))).Drop(ctx, LetterFilter{})
			return err
		}},
	}
	begin(second)
	if err := first.BeginEpoch(ctx); !isTakenOver(err) {
		t.Errorf("the first one, connected again: %v", err)
	}
	begin(second) // connected again, and nobody was there in between
	for _, n := range notes {
		was := dump(t, db.DB)
		saved := *st
		if err := n.note(first); !isTakenOver(err) {
			t.Errorf("%s by the first one: %v", n.name, err)
		}
		if now := dump(t, db.DB); now != was {
			t.Errorf("%s by the first one has changed\n%s\nto\n%s", n.name, was, now)
		}
		*st = saved
		if err := n.note(second); err != nil {
			t.Errorf("%s by the second one: %v", n.name, err)
		}
	}
	// Who follows no slot asks, and drops what is given up.
	if _, err := asks.Requests().Add(ctx, &Request{Kind: KindReindex, Index: "i"}); err != nil {
		t.Error(err)
	}
	if err := other.States().Begin(ctx, &State{Name: "o"}, nil); err != nil {
		t.Errorf("of another slot: %v", err)
	}
	// A control schema that is gone, or is one from before, is nobody's.
	db.Exec(t, `DELETE FROM ctrl.epochs`)
	if err := second.BeginEpoch(ctx); !isTakenOver(err) {
		t.Errorf("where the schema does not know it: %v", err)
	}
}

func isTakenOver(err error) bool {
	return errors.As(err, new(*TakenOverError)) && dbsync.IsPermanent(err)
}

// Who begins an epoch waits for what is just being noted, and sees it; a process that is stopped in
// the middle of a note is not waited for.
func TestEpochWaitsForNotes(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	db := newMigrated(t)
	first, second := Open(db.DB, "ctrl", "s"), Open(db.DB, "ctrl", "s")
	if err := first.BeginEpoch(ctx); err != nil {
		t.Fatal(err)
	}
	waits := func() {
		t.Helper()
		err := retry.Poll(ctx, func() (waits bool, err error) {
			err = db.DB.QueryRowContext(ctx, `SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%epochs%'`).Scan(&waits)
			return waits, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	begun := make(chan error, 1)
	err := first.note(ctx, func(tx pgx.Tx) error {
		go func() { begun <- second.BeginEpoch(ctx) }()
		waits()
		_, err := tx.Exec(ctx, `INSERT INTO ctrl.indices (name) VALUES ('noted')`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	if st, err := second.States().Read(ctx, "noted"); err != nil || st == nil {
		t.Errorf("what was noted before: %v, %v", st, err)
	}
	third := Open(db.DB, "ctrl", "s")
	err = second.note(ctx, func(tx pgx.Tx) error {
		go func() { begun <- third.BeginEpoch(ctx) }()
		waits()
		if err := <-begun; err != nil { // while this one is stopped, so to speak
			t.Error(err)
		}
		_, err := tx.Exec(ctx, `INSERT INTO ctrl.indices (name) VALUES ('late')`)
		return err
	})
	if err == nil {
		t.Error("a note counts that was begun by a process which is not waited for")
	}
	if st, err := third.States().Read(ctx, "late"); err != nil || st != nil {
		t.Errorf("what is noted late: %v, %v", st, err)
	}
}
