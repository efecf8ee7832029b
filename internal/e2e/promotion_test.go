package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"tidemark/testenv"
)

// A replicated is a setup whose database has a standby that copies its slots, and whose file names both.
type replicated struct {
	*setup
	primary, standby *testenv.Postgres
}

func newReplicated(t *testing.T, synchronized string) *replicated {
	t.Helper()
	p := &replicated{primary: testenv.StartPostgres(t, testenv.PostgresOptions{Version: "18", Settings: map[string]string{"synchronized_standby_slots": synchronized}})}
	p.setup = newSetupOn(t, p.primary, shared(t))
	p.db.DB.SetMaxIdleConns(0) // the server is stopped now and then
	p.db.Exec(t, `CREATE TABLE kinds (id int PRIMARY KEY, name text); INSERT INTO kinds SELECT i, 'kind ' || i FROM generate_series(1, 5) i`,
		`CREATE TABLE items (id int PRIMARY KEY, v text, kind int REFERENCES kinds); INSERT INTO items SELECT i, 'first ' || i, 1 + i % 5 FROM generate_series(1, 1000) i`)
	p.index("items", "items", `, include: {kind_of: {table: kinds, on: {kind: id}, fields: [name]}}`,
		testenv.WithQuery(`SELECT i.id, json_build_object('id', i.id, 'v', i.v, 'kind', i.kind, 'kind_of', json_build_object('name', k.name)) FROM items i JOIN kinds k ON k.id = i.kind`))
	p.standby = testenv.StartStandby(t, p.primary, testenv.StandbyOptions{Slot: "sb", Settings: map[string]string{
		"sync_replication_slots": "on", "hot_standby_feedback": "on", "synchronized_standby_slots": ""}})
	p.postgresURL = strings.Replace(p.db.URL, p.primary.Addr(), p.primary.Addr()+","+p.standby.Addr(), 1) + "&target_session_attrs=read-write"
	return p
}

// copied waits until the standby has a copy of the slot, which has to move for that.
func (p *replicated) copied(t *testing.T, i *instance) {
	t.Helper()
	db := p.standby.Database(t, p.db.Name)
	i.poll(t, "the standby has a copy of the slot", func(ctx context.Context) error {
		p.db.Exec(t, `UPDATE items SET v = v WHERE id = 1`)
		var n int
		if err := db.DB.QueryRowContext(ctx, `SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND synced AND NOT temporary`, p.slot).Scan(&n); err != nil || n == 1 {
			return err
		}
		return fmt.Errorf("it has none")
	})
}

// failOver has the standby take the place of the primary, which crashes.
func (p *replicated) failOver(t *testing.T) {
	t.Helper()
	must(t, p.primary.Kill(t.Context()))
	must(t, p.standby.Promote(t.Context()))
	p.db = p.standby.Database(t, p.db.Name)
}

func (p *replicated) physical(t *testing.T) (names []string) {
	t.Helper()
	all, err := p.search.Indices(t.Context(), p.prefix+"*")
	must(t, err)
	for _, ix := range all {
		names = append(names, ix.Name)
	}
	return names
}

// The primary crashes under a running instance and its standby is promoted: the instance goes on with it by
// itself. No change is missing, no index is made anew, and each is compared with its tables.
func TestPromotion(t *testing.T) {
	t.Parallel()
	p := newReplicated(t, "sb")
	i := p.start(t, "run")
	p.awaitComplete(t, i)
	p.copied(t, i)
	p.db.Exec(t, `UPDATE items SET v = 'second' WHERE id % 3 = 0`, `DELETE FROM items WHERE id % 7 = 0`)
	p.awaitCaughtUp(t, i)
	if out, code := p.command(t, "check"); code != 0 || strings.Contains(out, "after the failure of the primary") {
		t.Errorf("with all that is needed in place check ends with %d and says\n%s", code, out)
	}
	before := p.physical(t)
	p.db.Exec(t, `INSERT INTO items SELECT i, 'just before', 1 FROM generate_series(2001, 2300) i`, `UPDATE kinds SET name = 'renamed' WHERE id = 2`)
	p.failOver(t)
	i.awaitLog(t, "this instance begins anew with it")
	p.db.Exec(t, `UPDATE items SET v = 'third' WHERE id % 5 = 0`, `DELETE FROM items WHERE id % 11 = 0`, `INSERT INTO items SELECT i, 'after', 3 FROM generate_series(3001, 3100) i`,
		`UPDATE kinds SET name = 'renamed again' WHERE id = 3`)
	p.awaitCaughtUp(t, i)
	p.checkSynced(t)
	if after := p.physical(t); len(after) != 1 || after[0] != before[0] {
		t.Errorf("the physical indices are %v, and were %v", after, before)
	}
	i.poll(t, "the index was compared with its tables", func(ctx context.Context) error {
		var why string
		var due bool
		err := p.db.DB.QueryRowContext(ctx, `SELECT unproven_why, unproven_since IS NOT NULL FROM dbsync_ctrl.proofs WHERE index_name = $1`, p.alias("items")).Scan(&why, &due)
		if err == nil && due {
			err = fmt.Errorf("it is unproven: %s", why)
		}
		return err
	})
	if !strings.Contains(i.log(), "a standby was promoted: timeline 1 ended at") {
		t.Error("it was not said why the index is compared")
	}
	i.stop(t)
}

// A standby that lacks what was stored is promoted while no instance runs: the documents say so.
func TestPromotionOfStandbyBehind(t *testing.T) {
	t.Parallel()
	p := newReplicated(t, "")
	i := p.start(t, "run")
	p.awaitComplete(t, i)
	p.copied(t, i)
	if out, code := p.command(t, "check"); code != 0 || !strings.Contains(out, "after the failure of the primary: synchronized_standby_slots is empty") {
		t.Errorf("check ends with %d and says\n%s", code, out)
	}
	standby := p.standby.Database(t, p.db.Name)
	standby.Exec(t, `ALTER SYSTEM SET primary_conninfo = ''`, `SELECT pg_reload_conf()`)
	i.poll(t, "the standby receives nothing any more", func(ctx context.Context) error {
		var n int
		if err := standby.DB.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_wal_receiver`).Scan(&n); err != nil || n == 0 {
			return err
		}
		return fmt.Errorf("it does")
	})
	p.db.Exec(t, `UPDATE items SET v = 'of a future' WHERE id <= 50`)
	p.awaitCaughtUp(t, i)
	i.stop(t)
	p.failOver(t)
	p.db.Exec(t, `CREATE TABLE elsewhere (v text); INSERT INTO elsewhere SELECT repeat('x', 1000) FROM generate_series(1, 5000)`) // the log grows beyond what was stored
	const said = "the standby that was promoted had the log up to"
	if out, code := p.command(t, "check"); code != 1 || !strings.Contains(out, said) {
		t.Errorf("check ends with %d and says\n%s", code, out)
	}
	for range 2 {
		p.start(t, "run", "--once").fail(t, 1, said, "on_slot_lost: reindex")
	}
	p.top = "on_slot_lost: reindex"
	p.once(t)
	p.checkSynced(t)
}
