package dbsync_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// A revenant is a server whose data are set back to what they were, as a volume is that is restored
// from a snapshot: system identifier and timeline stay.
type revenant struct{ *testenv.Postgres }

func startRevenant(t *testing.T) revenant {
	t.Helper()
	return revenant{testenv.StartPostgres(t, testenv.PostgresOptions{})}
}

func (r revenant) step(t *testing.T, steps ...func(context.Context) error) {
	t.Helper()
	for _, step := range steps {
		err := step(t.Context())
		if errors.Is(err, errors.ErrUnsupported) && os.Getenv("TIDEMARK_TEST_REQUIRE") != "1" {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (r revenant) save(t *testing.T) {
	t.Helper()
	r.step(t, r.Stop, r.Snapshot, r.Start)
}

func (r revenant) setBack(t *testing.T) {
	t.Helper()
	r.step(t, r.Stop, r.SetBack, r.Start)
}

// writeLog has the log grow by changes that no publication has.
func writeLog(t *testing.T, db *testenv.Database, megabytes int) {
	t.Helper()
	db.Exec(t, fmt.Sprintf("CREATE TABLE IF NOT EXISTS elsewhere (v text); INSERT INTO elsewhere SELECT repeat('x', 1000) FROM generate_series(1, %d)", 1000*megabytes))
}

func isSetBack(t *testing.T, err error, reason string) {
	t.Helper()
	if e := (*dbsync.SetBackError)(nil); !errors.As(err, &e) || !strings.Contains(e.Reason, reason) || !dbsync.IsPermanent(err) {
		t.Errorf("got %v, want a SetBackError: %s", err, reason)
	}
}

// The server is set back while a process follows it, or is away for a moment: whatever the log has
// come to meanwhile, nothing is received any more, and nothing confirmed that is not there.
func TestSetBackWhileRunning(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before, after int // MB of the log after the copy was taken, and after it was put back
		reason        string
	}{
		"the log is shorter":              {20, 0, ""},
		"the log has passed the position": {1, 20, "the control schema has noted position"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startRevenant(t)
			db := server.NewDatabase(t)
			db.Exec(t, table(3))
			s := newSyncer(t, db, "t")
			proxy := server.NewProxy(t)
			s.opts = append(s.opts, dbsync.WithPGConnStr(proxy.URL(db.URL)))
			s.open(t)
			done := s.start(t)
			s.settle(t)
			server.save(t)
			writeLog(t, db, test.before)
			future := logEnd(t, db)
			db.Exec(t, "INSERT INTO t VALUES (7)")
			await(t, "the position is confirmed", func() bool { return s.Status().Confirmed > future })
			proxy.CutOff()
			server.setBack(t)
			stood := s.confirmed(t)
			writeLog(t, db, test.after)
			proxy.Restore()
			isSetBack(t, receive(t, "Run ends", done), test.reason)
			isSetBack(t, s.Err(), test.reason)
			if at, end := s.confirmed(t), logEnd(t, db); at > end || test.after == 0 && at > stood {
				t.Errorf("the slot stands at %s, from %s before; the log ends at %s", at, stood, end)
			}
			for range 2 { // it is known from now on, although the log grows
				writeLog(t, db, test.before)
				isSetBack(t, s.tryOpen(t), test.reason)
			}
			found, err := dbsync.Inspect(t.Context(), s.opts...)
			if err != nil {
				t.Fatal(err)
			}
			isSetBack(t, found.Lost, test.reason)
			s.open(t, dbsync.WithNewSlot())
			s.run(t)
			s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
			s.db.Exec(t, "INSERT INTO t VALUES (10)")
			s.settle(t)
		})
	}
}

// The position that a process has only heard of, and not noted, is ahead of the log that was set back.
func TestSetBackBehindTheNote(t *testing.T) {
	t.Parallel()
	server := startRevenant(t)
	db := server.NewDatabase(t)
	db.Exec(t, table(3))
	s := newSyncer(t, db, "t")
	proxy := server.NewProxy(t)
	s.opts = append(s.opts, dbsync.WithPGConnStr(proxy.URL(db.URL)))
	s.open(t)
	done := s.start(t)
	s.settle(t)
	proxy.CutOff()
	server.save(t)
	lock := newSession(t, db) // no note can be written
	lock.exec("BEGIN", "SELECT FROM dbsync_ctrl.dbsync_slots FOR UPDATE")
	proxy.Restore()
	writeLog(t, db, 5)
	end := logEnd(t, db)
	await(t, "the position has moved without a note", func() bool { return s.Position() >= end })
	proxy.CutOff()
	server.setBack(t)
	proxy.Restore()
	isSetBack(t, receive(t, "Run ends", done), "everything up to")
	if at, end := s.confirmed(t), logEnd(t, db); at > end {
		t.Errorf("the slot stands at %s, the log ends at %s", at, end)
	}
}

// What stands beyond the end of the log, as an earlier version has left it, is found at the start.
func TestBeyondTheLog(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"the note": "UPDATE dbsync_ctrl.dbsync_slots SET confirmed = 'FFFF/0'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSyncer(t, newDatabase(t, table(3)), "t")
			s.Close()
			s.db.Exec(t, statement)
			isSetBack(t, s.tryOpen(t), "FFFF/0")
		})
	}
}

// No position is noted, nor confirmed after it, that is beyond the end of the log or in a database whose
// note is older than it was.
func TestNothingIsNotedWhereLogStartedOver(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(3)), "t")
	note := "SELECT confirmed::text FROM dbsync_ctrl.dbsync_slots"
	before := query[string](t, s.db, note)
	isSetBack(t, s.Record(t.Context(), logEnd(t, s.db)+1<<30), "were received and stored")
	if now := query[string](t, s.db, note); now != before {
		t.Errorf("%s is noted, %s was", now, before)
	}
	s.db.Exec(t, "UPDATE dbsync_ctrl.dbsync_slots SET confirmed = '0/1'")
	isSetBack(t, s.Record(t.Context(), lsn(t, before)), "has noted position 0/1")
	if now := query[string](t, s.db, note); now != "0/1" {
		t.Errorf("%s is noted", now)
	}
}

// A version that was stored and that the log has not come to yet says that the log started over.
func TestSetBackByVersion(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(3)), "t")
	s.run(t)
	s.settle(t)
	s.db.Exec(t, "INSERT INTO t VALUES (7)") // later than what the syncer was told of the log's end
	if err := s.SetBack(t.Context(), lsn(t, query[string](t, s.db, "SELECT pg_current_wal_flush_lsn()::text")), "a document"); err != nil {
		t.Error(err)
	}
	isSetBack(t, s.SetBack(t.Context(), logEnd(t, s.db)+pglogrepl.LSN(1<<30), "a document"), "a document is of position")
}
