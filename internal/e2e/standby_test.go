package e2e

import (
	"fmt"
	"strings"
	"testing"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/testenv"
)

// The slot is on a standby, which decodes the log: filling, following, the commands that ask an instance, and those
// that look at the slot work as with one on the primary.
func TestSlotOnStandby(t *testing.T) {
	t.Parallel()
	primary := testenv.StartPostgres(t, testenv.PostgresOptions{Version: "18"})
	s := newSetupOn(t, primary, shared(t))
	s.db.DB.SetMaxIdleConns(0) // the server is stopped for a moment
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, v text); INSERT INTO items SELECT i, 'first ' || i FROM generate_series(1, 1000) i`)
	s.index("items", "items", "")
	standby := testenv.StartStandby(t, primary, testenv.StandbyOptions{Slot: "sb", Settings: map[string]string{"hot_standby_feedback": "on"}})

	s.postgres = `, replication_url: "postgres://127.0.0.1:1/shop?connect_timeout=1"`
	s.write(t)
	if out, code := s.command(t, "check"); code != 1 || !strings.Contains(out, "correct postgres.replication_url") {
		t.Errorf("with a standby that is not there check ends with %d and says\n%s", code, out)
	}
	s.postgres = fmt.Sprintf(", replication_url: %q", standby.URL(s.db.Name))
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	s.db.Exec(t, `UPDATE items SET v = 'second' WHERE id % 3 = 0`, `DELETE FROM items WHERE id % 7 = 0`, `INSERT INTO items SELECT i, 'more' FROM generate_series(2001, 2300) i`)
	if out, code := s.command(t, "verify "+s.alias("items")); code != 0 { // waits until the changes are stored
		t.Errorf("verify ends with %d and says\n%s", code, out)
	}
	s.checkSynced(t)
	var n int
	must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1`, s.slot).Scan(&n))
	if n != 0 {
		t.Error("the slot is on the primary")
	}
	if out, code := s.command(t, "reindex "+s.alias("items")); code != 0 || strings.Contains(out, "no instance") {
		t.Errorf("reindex ends with %d and says\n%s", code, out)
	}
	if out, code := s.command(t, "status"); code != 0 || !strings.Contains(out, s.slot) {
		t.Errorf("status ends with %d and says\n%s", code, out)
	}
	if out, code := s.command(t, "check"); code != 0 || !strings.Contains(out, "slot "+s.slot+" on the standby is at") {
		t.Errorf("check ends with %d and says\n%s", code, out)
	}
	if out, code := s.command(t, "preview "+s.alias("items")+" --id 1"); code != 0 || !strings.Contains(out, "first 1") {
		t.Errorf("preview ends with %d and says\n%s", code, out)
	}
	s.tailOnStandby(t, standby)
	s.db.Exec(t, `UPDATE items SET v = 'last' WHERE id % 5 = 0`)
	i.stop(t)
	s.db.Exec(t, `DELETE FROM items WHERE id % 11 = 0`)
	s.once(t)
	s.checkSynced(t)
}

// tailOnStandby has tail show a change: its temporary slot is on the standby, too.
func (s *setup) tailOnStandby(t *testing.T, standby *testenv.Postgres) {
	t.Helper()
	there, err := dbsync.OpenDB(standby.URL(s.db.Name))
	must(t, err)
	defer there.Close()
	type result struct {
		out  string
		code int
	}
	ended := make(chan result, 1)
	go func() {
		out, code := s.command(t, "tail --count 1")
		ended <- result{out, code}
	}()
	must(t, retry.Poll(t.Context(), func() (made bool, err error) {
		err = there.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name LIKE 'tidemark_tail_%' AND confirmed_flush_lsn IS NOT NULL)`).Scan(&made)
		return made, err
	}))
	s.db.Exec(t, `UPDATE items SET v = 'shown' WHERE id = 1`)
	r := <-ended
	if r.code != 0 || !strings.Contains(r.out, `"do":"store"`) || !strings.Contains(r.out, `"v":"shown"`) {
		t.Errorf("tail ends with %d and says\n%s", r.code, r.out)
	}
}
