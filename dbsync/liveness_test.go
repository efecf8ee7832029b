package dbsync_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// A stuck is a statement over a proxy that waits for a lock of the test's.
type stuck struct {
	db     *testenv.Database
	proxy  *testenv.TCPProxy
	pid    int
	lock   *sql.Conn
	done   chan error
	before int // connections that were made when it began
}

// newStuck starts one, with a short patience for silence. These tests run one by one: the patience is that of all.
func newStuck(t *testing.T) *stuck {
	t.Helper()
	t.Cleanup(dbsync.SetSilence(100*time.Millisecond, 50*time.Millisecond, 2*time.Second))
	db := testenv.NewDatabase(t)
	s := &stuck{db: db, proxy: db.Postgres.NewProxy(t), done: make(chan error, 1)}
	var err error
	if s.lock, err = db.DB.Conn(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.lock.Close() })
	if _, err := s.lock.ExecContext(t.Context(), "SELECT pg_advisory_lock(7)"); err != nil {
		t.Fatal(err)
	}
	pool, err := dbsync.OpenDB(s.proxy.URL(db.URL))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	pool.SetMaxOpenConns(1)
	s.pid = backend(t, pool)
	s.before = s.proxy.Attempts()
	go func() {
		_, err := pool.ExecContext(t.Context(), "SELECT pg_advisory_lock(7)")
		s.done <- err
	}()
	await(t, "the statement waits", func() bool {
		return query[bool](t, db, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'advisory')", s.pid)
	})
	return s
}

// awaitQuestions waits until the server has been asked n times more for the statement's process.
func (s *stuck) awaitQuestions(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	want := s.proxy.Attempts() + n
	if err := s.proxy.Await(ctx, func(p *testenv.TCPProxy) bool { return p.Attempts() > want }); err != nil {
		t.Fatalf("nobody asks whether the server is there: %v", err)
	}
}

// dead waits for the end of the connection.
func (s *stuck) dead(t *testing.T, reason string) {
	t.Helper()
	err := receive(t, "the end of the connection", s.done)
	if lost := (*dbsync.HalfOpenError)(nil); !errors.As(err, &lost) || lost.Reason != reason {
		t.Errorf("it ends with %v, want: %s", err, reason)
	}
	if dbsync.IsPermanent(err) {
		t.Error("it is not tried again")
	}
}

// unlock lets the statement go on.
func (s *stuck) unlock(t *testing.T) {
	t.Helper()
	if _, err := s.lock.ExecContext(t.Context(), "SELECT pg_advisory_unlock(7)"); err != nil {
		t.Fatal(err)
	}
}

func (s *stuck) waits(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.done:
		t.Fatalf("the statement was ended while the server works on it: %v", err)
	default:
	}
}

// A statement that waits for a lock is left alone, however often the server is asked.
func TestSlowStatement(t *testing.T) {
	s := newStuck(t)
	s.awaitQuestions(t, 10)
	s.waits(t)
	s.unlock(t)
	if err := receive(t, "the statement", s.done); err != nil {
		t.Error(err)
	}
}

// The server's answer does not come through: its process waits for the next statement.
func TestAnswerLost(t *testing.T) {
	s := newStuck(t)
	s.proxy.Strand()
	s.awaitQuestions(t, 5)
	s.waits(t)
	s.unlock(t)
	s.dead(t, "its process in the server waits for us, and nothing comes through")
}

// The server's process has ended, and the end of the connection does not come through.
func TestProcessGone(t *testing.T) {
	s := newStuck(t)
	s.proxy.Strand()
	query[bool](t, s.db, "SELECT pg_terminate_backend($1)", s.pid)
	s.dead(t, "its process in the server is gone")
}

// Nothing comes from the server any more, over no connection.
func TestServerSilent(t *testing.T) {
	s := newStuck(t)
	s.proxy.Freeze()
	defer s.proxy.Thaw()
	s.dead(t, "the server has not answered for a while, not over another connection either")
}

// A server that refuses the connection for the question has answered.
func TestServerRefuses(t *testing.T) {
	s := newStuck(t)
	other, err := pgx.Connect(t.Context(), s.db.Postgres.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	allow := func(whether bool) {
		if _, err := other.Exec(context.Background(), fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %t", s.db.Name, whether)); err != nil {
			t.Error(err)
		}
	}
	defer other.Close(context.Background())
	allow(false)
	defer allow(true)
	s.awaitQuestions(t, 10)
	s.waits(t)
}
