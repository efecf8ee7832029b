package dbsync_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// A pair is a primary and a standby that copies its slots.
type pair struct {
	primary, standby *testenv.Postgres
	db               *testenv.Database // on the primary
	both             string            // a connection string that names both, and leads to the one that takes changes
}

func startPair(t *testing.T, version string, synchronized string, setup string) *pair {
	t.Helper()
	p := &pair{primary: testenv.StartPostgres(t, testenv.PostgresOptions{Version: version, Settings: map[string]string{"synchronized_standby_slots": synchronized}})}
	p.db = p.primary.NewDatabase(t)
	p.db.Exec(t, setup)
	p.standby = testenv.StartStandby(t, p.primary, testenv.StandbyOptions{Slot: "sb", Settings: map[string]string{
		"sync_replication_slots": "on", "hot_standby_feedback": "on", "synchronized_standby_slots": ""}})
	u, err := url.Parse(p.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host += "," + p.standby.Addr()
	p.both = u.String() + "&target_session_attrs=read-write"
	return p
}

// newSyncer opens a syncer of table t that connects to whichever of the two takes changes.
func (p *pair) newSyncer(t *testing.T) *syncer {
	t.Helper()
	s := newSyncer(t, p.db, "t")
	s.opts = append(s.opts, dbsync.WithPGConnStr(p.both))
	s.open(t)
	return s
}

// copied waits until the standby has a copy of the slot that outlives its promotion.
func (p *pair) copied(t *testing.T, slot string) {
	t.Helper()
	db := p.standby.Database(t, p.db.Name)
	await(t, "the standby has a copy of the slot", func() bool {
		p.db.Exec(t, "UPDATE t SET v = v WHERE id = 1") // it is complete when the slot has moved while the standby was connected
		return query[int](t, db, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1 AND synced AND NOT temporary", slot) == 1
	})
}

// cutOff has the standby receive nothing any more.
func (p *pair) cutOff(t *testing.T) {
	t.Helper()
	db := p.standby.Database(t, p.db.Name)
	db.Exec(t, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
	await(t, "the standby receives nothing any more", func() bool { return query[int](t, db, "SELECT count(*) FROM pg_stat_wal_receiver") == 0 })
}

// failOver has the standby take the place of the primary, which crashes.
func (p *pair) failOver(t *testing.T) *testenv.Database {
	t.Helper()
	for _, step := range []func(context.Context) error{p.primary.Kill, p.standby.Promote} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return p.standby.Database(t, p.db.Name)
}

// A standby is promoted while a process follows the primary: it ends, and the next one goes on with the slot
// that the standby has copied. Nothing is missing, and nothing is made anew.
func TestPromotion(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"17", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, version, "sb", table(3))
			s := p.newSyncer(t)
			generation := s.Generation()
			done := s.start(t)
			s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
			if !query[bool](t, p.db, "SELECT failover FROM pg_replication_slots WHERE slot_name = $1", s.slot) {
				t.Error("the slot was made without failover")
			}
			p.copied(t, s.slot)
			s.db.Exec(t, "INSERT INTO t SELECT i, 'before' FROM generate_series(10, 500) i", "UPDATE t SET v = 'changed' WHERE id = 1", "DELETE FROM t WHERE id = 2")
			s.check(t, "t")
			found, err := dbsync.Inspect(t.Context(), s.opts...)
			if err != nil || len(found.Failover) > 0 || found.Promotion != nil {
				t.Errorf("with all that is needed there an inspection misses %q, and finds %v, %v", found.Failover, found.Promotion, err)
			}

			s.db = p.failOver(t)
			var promoted *dbsync.PromotedError
			if err := receive(t, "Run ends", done); !errors.As(err, &promoted) || promoted.Promotion.To != 2 {
				t.Fatalf("Run ends with %v, want a promotion", err)
			}
			s.db.Exec(t, "INSERT INTO t SELECT i, 'after' FROM generate_series(501, 900) i", "DELETE FROM t WHERE id = 3", "UPDATE t SET v = 'again' WHERE id = 1")
			if found, err = dbsync.Inspect(t.Context(), s.opts...); err != nil || found.Lost != nil || found.Promotion == nil || !strings.Contains(strings.Join(found.Steps, "\n"), "go on with slot "+s.slot) {
				t.Errorf("an inspection after the promotion finds %+v, %v", found, err)
			}
			s.open(t)
			if s.Generation() != generation {
				t.Error("the slot has another generation")
			}
			if got := s.Promotion(); got == nil || got.From != 1 || got.To != 2 || got.At != promoted.Promotion.At {
				t.Errorf("the promotion is %v, want that of before, %v", got, promoted.Promotion)
			}
			s.run(t)
			s.check(t, "t")
			await(t, "the timeline is noted", func() bool { return query[int](t, s.db, "SELECT timeline FROM dbsync_ctrl.dbsync_slots") == 2 })
			s.Stop()
			s.open(t)
			if s.Promotion() != nil {
				t.Error("a promotion that is noted is taken up again")
			}
			s.run(t)
			s.db.Exec(t, "INSERT INTO t VALUES (1000, 'later')")
			s.check(t, "t")
		})
	}
}

// The last note of a position did not come to the standby. It is behind what the process has noted, and nothing is
// missing: what was between had no change.
func TestPromotionBehindTheNote(t *testing.T) {
	t.Parallel()
	p := startPair(t, "18", "", table(3))
	s := p.newSyncer(t)
	done := s.start(t)
	s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
	p.copied(t, s.slot)
	s.check(t, "t")
	p.cutOff(t)
	noted := func() string { return query[string](t, p.db, "SELECT confirmed::text FROM dbsync_ctrl.dbsync_slots") }
	before := noted()
	s.settle(t)
	await(t, "another position is noted", func() bool { return noted() != before })
	s.db = p.failOver(t)
	if now := query[string](t, s.db, "SELECT confirmed::text FROM dbsync_ctrl.dbsync_slots"); now != before {
		t.Fatalf("the standby has the note of %s, want %s", now, before)
	}
	var promoted *dbsync.PromotedError
	if err := receive(t, "Run ends", done); !errors.As(err, &promoted) {
		t.Fatalf("Run ends with %v, want a promotion", err)
	}
	s.open(t)
	s.run(t)
	s.db.Exec(t, "INSERT INTO t VALUES (7, 'after')")
	s.check(t, "t")
}

// What was handed to the Batcher and the standby did not have is of a future that never came.
func TestPromotionOfStandbyBehind(t *testing.T) {
	t.Parallel()
	p := startPair(t, "18", "", table(3))
	s := p.newSyncer(t)
	done := s.start(t)
	s.settle(t)
	p.copied(t, s.slot)
	p.cutOff(t)
	s.db.Exec(t, "INSERT INTO t VALUES (7, 'lost')")
	s.settle(t)
	if s.store.value("7") != "lost" {
		t.Error("what no standby has was not stored, although nothing waits for standbys")
	}
	s.db = p.failOver(t)
	isSetBack(t, receive(t, "Run ends", done), "the standby that was promoted had the log up to")
	for range 2 { // it is noted
		isSetBack(t, s.tryOpen(t), "the standby that was promoted had the log up to")
	}
	s.open(t, dbsync.WithNewSlot())
	s.run(t)
	s.stored(t, s.window(t, s.selectT(t, "SELECT * FROM t")))
	s.db.Exec(t, "INSERT INTO t VALUES (10)")
	s.settle(t)
}

// Without a copy of the slot that can be trusted a promotion is the loss of the slot.
func TestPromotionWithoutSlot(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		version string
		opts    []dbsync.SyncerOpt
		copies  bool   // the standby has a copy when it is promoted
		then    string // is executed on the promoted server; $SLOT is the slot
		reason  string
	}{
		"not copied":  {"18", []dbsync.SyncerOpt{dbsync.WithoutFailover()}, false, "", "it had no copy of the slot"},
		"made later":  {"18", []dbsync.SyncerOpt{dbsync.WithoutFailover()}, false, "SELECT pg_create_logical_replication_slot('$SLOT', 'pgoutput')", "none that the server has copied"},
		"moved later": {"17", nil, true, "INSERT INTO t VALUES (8); SELECT pg_replication_slot_advance('$SLOT', pg_current_wal_lsn())", "made or moved after that"},
		"before 17":   {"16", nil, false, "", "it had no copy of the slot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &pair{primary: testenv.StartPostgres(t, testenv.PostgresOptions{Version: test.version})}
			p.db = p.primary.NewDatabase(t)
			p.db.Exec(t, table(3))
			settings := map[string]string{"hot_standby_feedback": "on"}
			if test.version >= "17" {
				settings["sync_replication_slots"] = "on"
			}
			p.standby = testenv.StartStandby(t, p.primary, testenv.StandbyOptions{Slot: "sb", Settings: settings})
			s := &syncer{db: p.db, store: newStore(), slot: p.db.Unique("slot")}
			s.opts = append(append(options(t, p.db, "t"), dbsync.WithReplicationSlot(s.slot)), test.opts...)
			s.open(t)
			s.run(t)
			s.settle(t)
			if test.copies {
				p.copied(t, s.slot)
			}
			s.Stop()
			end := logEnd(t, p.db)
			standby := p.standby.Database(t, p.db.Name)
			await(t, "the standby has it all", func() bool {
				return query[bool](t, standby, "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn", end.String())
			})
			s.db = p.failOver(t)
			if test.then != "" {
				s.db.Exec(t, strings.ReplaceAll(test.then, "$SLOT", s.slot))
			}
			s.opts = append(s.opts, dbsync.WithPGConnStr(s.db.URL))
			err := s.tryOpen(t)
			if lost := (*dbsync.SlotLostError)(nil); !errors.As(err, &lost) || !strings.Contains(lost.Reason, test.reason) || !strings.Contains(lost.Reason, "a standby was promoted") {
				t.Errorf("got %v, want a lost slot: %s", err, test.reason)
			}
			s.open(t, dbsync.WithNewSlot())
		})
	}
}

// A slot that is there without failover gets it, and WithoutFailover leaves one as it is.
func TestFailoverIsSet(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t, testenv.PostgresOptions{Version: "17"})
	db := server.NewDatabase(t)
	db.Exec(t, table(3))
	s := &syncer{db: db, store: newStore(), slot: db.Unique("slot")}
	s.opts = append(options(t, db, "t"), dbsync.WithReplicationSlot(s.slot))
	failover := func() bool {
		return query[bool](t, db, "SELECT failover FROM pg_replication_slots WHERE slot_name = $1", s.slot)
	}
	step := "have standbys copy slot " + s.slot
	s.open(t, dbsync.WithoutFailover())
	done := s.start(t)
	s.settle(t)
	s.Stop()
	if err := receive(t, "Run ends", done); err != nil || failover() {
		t.Errorf("WithoutFailover has the slot have failover %v, %v", failover(), err)
	}
	if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || !strings.Contains(strings.Join(found.Steps, "\n"), step) {
		t.Errorf("an inspection finds %q to do, want %q; %v", found.Steps, step, err)
	}
	s.open(t)
	s.run(t)
	s.settle(t)
	if !failover() {
		t.Error("the slot has no failover")
	}
	if found, err := dbsync.Inspect(t.Context(), s.opts...); err != nil || strings.Contains(strings.Join(found.Steps, "\n"), step) {
		t.Errorf("an inspection finds %q to do, %v", found.Steps, err)
	}
	s.db.Exec(t, "INSERT INTO t VALUES (7, 'x')")
	s.settle(t)
	if s.store.value("7") != "x" {
		t.Error("a change after that did not come")
	}
}

// An inspection says what each server lacks so that the slot outlives a promotion.
func TestWhatFailoverLacks(t *testing.T) {
	t.Parallel()
	primary := testenv.StartPostgres(t, testenv.PostgresOptions{Version: "18"})
	db := primary.NewDatabase(t)
	db.Exec(t, table(3))
	s := newSyncer(t, db, "t")
	inspect := func(more ...dbsync.SyncerOpt) string {
		t.Helper()
		found, err := dbsync.Inspect(t.Context(), append(s.opts[:len(s.opts):len(s.opts)], more...)...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(found.Failover, "\n")
	}
	if text := inspect(); text != "" {
		t.Errorf("without a standby an inspection says %q", text)
	}
	standby := testenv.StartStandby(t, primary, testenv.StandbyOptions{Slot: "sb", Settings: map[string]string{"primary_slot_name": ""}})
	both := dbsync.WithPGConnStr(strings.Replace(db.URL, primary.Addr(), primary.Addr()+","+standby.Addr(), 1) + "&target_session_attrs=read-write")
	text := inspect(both)
	for _, part := range []string{"synchronized_standby_slots = 'sb'", standby.Addr() + ": sync_replication_slots is off", standby.Addr() + ": hot_standby_feedback is off", standby.Addr() + ": primary_slot_name is empty"} {
		if !strings.Contains(text, part) {
			t.Errorf("it does not say %q: %s", part, text)
		}
	}
	if strings.Contains(text, "names no database") {
		t.Errorf("primary_conninfo names a database: %s", text)
	}
	set := func(settings ...string) {
		t.Helper()
		for _, setting := range settings {
			standby.Database(t, db.Name).Exec(t, "ALTER SYSTEM SET "+setting)
		}
		standby.Database(t, db.Name).Exec(t, "SELECT pg_reload_conf()")
	}
	host, port, _ := strings.Cut(primary.Addr(), ":")
	set("sync_replication_slots = on", "hot_standby_feedback = on", "primary_slot_name = 'sb'", fmt.Sprintf("primary_conninfo = 'host=%s port=%s user=postgres password=tidemark'", host, port))
	db.Exec(t, "ALTER SYSTEM SET synchronized_standby_slots = 'other'", "SELECT pg_reload_conf()")
	await(t, "it says what is left", func() bool {
		text = inspect(both)
		return !strings.Contains(text, "is off") && strings.Contains(text, "primary_conninfo names no database") && strings.Contains(text, "sb is not in synchronized_standby_slots of the primary, which is other")
	})
	if inspect(both, dbsync.WithoutFailover()) != "" {
		t.Error("who wants no failover is told what it lacks")
	}
}
