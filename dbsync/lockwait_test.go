package dbsync_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// A lock that a migration holds is waited for, and Status says who has it as long as it does.
func TestLockWait(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, "CREATE TABLE t (id int PRIMARY KEY)")
	s := newSyncer(t, db, "public.t")
	tx, err := db.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "LOCK TABLE t IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	s.start(t)
	go func() {
		read <- s.ReadVisible(t.Context(), nil, []string{`"public"."t"`}, func(*pgconn.PgConn) error { return nil })
	}()
	await(t, "Status says it", func() bool {
		w := s.Status().LockWait
		return w != nil && strings.Contains(w.Text, "ACCESS EXCLUSIVE on t: LOCK TABLE") && !strings.Contains(w.Text, "IN ACCESS")
	})
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
	if w := s.Status().LockWait; w != nil {
		t.Errorf("when it is over Status says %s", w.Text)
	}
}
