package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"tidemark/testenv"
)

// A kind is one of the faults. An error of begin or end is the nemesis' own, or says that a
// server that another fault took away is not there: it is told, and the round goes on.
type kind struct {
	name   string
	weight int // its share of what is drawn
	draw   func(d *drawer, f *fault)
	begin  func(ctx context.Context, s *stage, f *fault) error
	end    func(ctx context.Context, s *stage, f *fault) error // nil: it has no end of its own

	amid    bool // it may wait until a large bulk request is on its way
	heavy   bool // no other heavy one is in the same round
	lenient bool // index and table may differ for longer after it than writing takes
}

// kinds are all there are, the mild ones with the larger weights: those of Kafka where operations go through
// it.
func kinds(throughKafka bool) []*kind {
	all := []*kind{
		{name: "kill", weight: 8, draw: drawKill, begin: beginKill, end: endKill, amid: true},
		{name: "terminate", weight: 3, draw: drawWho, begin: beginSignal(syscall.SIGTERM)},
		{name: "pause", weight: 8, draw: drawPause, begin: beginPause, end: endPause, amid: true},
		{name: "walsender", weight: 6, draw: drawTimes(1, 4), begin: beginWalsender, amid: true},
		{name: "sessions", weight: 4, draw: drawWho, begin: beginSessions, amid: true},
		{name: "cut", weight: 6, draw: drawLink(0, 0), begin: beginCut, amid: true},
		{name: "cut-off", weight: 5, draw: drawLink(time.Second, 6*time.Second), begin: beginCutOff, end: endLink, amid: true},
		{name: "half-open", weight: 6, draw: drawDirection, begin: beginHalfOpen, end: endLink, amid: true},
		{name: "slow", weight: 5, draw: drawSlow, begin: beginSlow, end: endLink},
		{name: "narrow", weight: 4, draw: drawNarrow, begin: beginNarrow, end: endLink},
		{name: "broken-off", weight: 4, draw: drawBrokenOff, begin: beginBrokenOff, end: endLink},
		{name: "late", weight: 8, draw: drawLate, begin: beginLate, end: endLate},
		{name: "twice", weight: 5, draw: drawLate, begin: beginTwice, end: endLate},
		{name: "lost", weight: 6, draw: drawTimes(1, 6), begin: inject(func(f *fault) *testenv.Fault { return testenv.LoseAnswer(f.times, testenv.Bulk) })},
		{name: "lost-any", weight: 3, draw: drawTimes(1, 6), begin: inject(func(f *fault) *testenv.Fault { return testenv.LoseAnswer(f.times, nil) })},
		{name: "dropped", weight: 3, draw: drawTimes(1, 6), begin: inject(func(f *fault) *testenv.Fault { return testenv.Drop(f.times, testenv.Bulk) })},
		{name: "refused", weight: 6, draw: drawRefused, begin: inject(refused)},
		{name: "items-refused", weight: 6, draw: drawItemsRefused, begin: inject(itemsRefused)},
		{name: "reindex", weight: 4, draw: drawReindex, begin: beginReindex},
		{name: "cancel", weight: 3, draw: drawCancel, begin: beginReindex, end: endCancel},
		{name: "mapping", weight: 3, draw: drawMapping, begin: beginMapping, lenient: true},
		{name: "alter", weight: 5, draw: drawAlter, begin: beginAlter, end: endAlter, lenient: true},
		{name: "search-killed", weight: 2, draw: drawLasts(0, 3*time.Second), begin: beginSearchKilled, end: endSearchKilled, heavy: true},
		{name: "postgres-killed", weight: 3, draw: drawLasts(0, 3*time.Second), begin: beginPostgresKilled, end: endPostgresKilled, heavy: true},
		{name: "backend-killed", weight: 2, begin: beginBackendKilled},
		{name: "slot-dropped", weight: 1, begin: beginSlotDropped, heavy: true, lenient: true},
		{name: "index-deleted", weight: 1, draw: drawIndexDeleted, begin: beginIndexDeleted, end: endRestart, heavy: true, lenient: true},
		{name: "database-set-back", weight: 1, draw: drawSetBack, begin: beginDatabaseSetBack, end: endDatabaseSetBack, heavy: true, lenient: true},
		{name: "indices-set-back", weight: 1, draw: drawSetBack, begin: beginIndicesSetBack, end: endIndicesSetBack, heavy: true, lenient: true},
	}
	if throughKafka {
		all = append(all, kafkaKinds()...)
	}
	return all
}

// chooseKinds returns those kinds that are named, or all but those that are not wanted.
func (o options) chooseKinds() ([]*kind, error) {
	all := kinds(o.kafka)
	known := func(list string) ([]string, error) {
		if list == "" {
			return nil, nil
		}
		names := strings.Split(list, ",")
		for _, name := range names {
			if !slices.ContainsFunc(all, func(k *kind) bool { return k.name == name }) {
				var there []string
				for _, k := range all {
					there = append(there, k.name)
				}
				return nil, fmt.Errorf("no fault %q: there are %s", name, strings.Join(there, ","))
			}
		}
		return names, nil
	}
	wanted, err := known(o.faults)
	if err != nil {
		return nil, err
	}
	unwanted, err := known(o.without)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(k *kind) bool {
		return wanted != nil && !slices.Contains(wanted, k.name) || slices.Contains(unwanted, k.name)
	}), nil
}

func drawLasts(least, most time.Duration) func(d *drawer, f *fault) {
	return func(d *drawer, f *fault) { f.lasts = d.time(max(least, 100*time.Millisecond), most) }
}

func drawTimes(least, most int) func(d *drawer, f *fault) {
	return func(d *drawer, f *fault) { f.times = d.between(least, most) }
}

func drawWho(d *drawer, f *fault) { f.who = one(d, "active", "active", "active", "passive", "both") }

// Instances.

func drawKill(d *drawer, f *fault) {
	drawWho(d, f)
	f.lasts = d.time(100*time.Millisecond, 4*time.Second)
}

// A fault that is about the one that is active then must find the same one at its end.
func chooseOnce(ctx context.Context, s *stage, f *fault) []*instance {
	chosen := s.chosen(ctx, f.who)
	if len(chosen) == 1 {
		f.who = chosen[0].name
	}
	return chosen
}

func beginKill(ctx context.Context, s *stage, f *fault) (err error) {
	for _, i := range chooseOnce(ctx, s, f) {
		err = errors.Join(err, i.kill())
	}
	return err
}

func endKill(ctx context.Context, s *stage, f *fault) error {
	for _, i := range s.chosen(ctx, f.who) {
		i.lift()
	}
	return nil
}

func beginSignal(sig syscall.Signal) func(ctx context.Context, s *stage, f *fault) error {
	return func(ctx context.Context, s *stage, f *fault) (err error) {
		for _, i := range s.chosen(ctx, f.who) {
			err = errors.Join(err, i.restart(sig))
		}
		return err
	}
}

// Longer than wal_sender_timeout: the other one takes over meanwhile.
func drawPause(d *drawer, f *fault) {
	f.who = one(d, "active", "active", "active", "both")
	f.lasts = d.time(500*time.Millisecond, 14*time.Second)
}

func beginPause(ctx context.Context, s *stage, f *fault) (err error) {
	for _, i := range chooseOnce(ctx, s, f) {
		err = errors.Join(err, i.box.Signal(syscall.SIGSTOP))
	}
	return err
}

func endPause(ctx context.Context, s *stage, f *fault) (err error) {
	for _, i := range s.chosen(ctx, f.who) {
		err = errors.Join(err, i.box.Signal(syscall.SIGCONT))
	}
	return err
}

// Sessions of Postgres.

func beginWalsender(ctx context.Context, s *stage, f *fault) error {
	for n := range f.times {
		if n > 0 {
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return err
			}
		}
		if err := s.exec(ctx, s.url, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL`); err != nil {
			return err
		}
	}
	return nil
}

func beginSessions(ctx context.Context, s *stage, f *fault) (err error) {
	for _, i := range s.chosen(ctx, f.who) {
		err = errors.Join(err, s.exec(ctx, s.url, fmt.Sprintf(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE split_part(application_name, ' ', 1) = '%s' AND backend_type = 'client backend'`, i.name)))
	}
	return err
}

// beginBackendKilled has Postgres end all sessions and recover, as after any crash of one.
func beginBackendKilled(ctx context.Context, s *stage, _ *fault) error {
	if s.postgres.PID() == 0 {
		return errors.New("the processes of Postgres are in a container")
	}
	var pid int
	if err := s.query(ctx, `SELECT coalesce((SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1), 0)`, []any{slot}, &pid); err != nil || pid == 0 {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// The network.

func drawLink(least, most time.Duration) func(d *drawer, f *fault) {
	return func(d *drawer, f *fault) {
		drawWho(d, f)
		f.side = one(d, "postgres", "search")
		if most > 0 {
			f.lasts = d.time(least, most)
		}
	}
}

func beginCut(ctx context.Context, s *stage, f *fault) (err error) {
	for _, l := range s.chosenLinks(ctx, f) {
		err = errors.Join(err, l.cut())
	}
	return err
}

// linksOnce are the same at the end.
func linksOnce(ctx context.Context, s *stage, f *fault) []*link {
	chooseOnce(ctx, s, f)
	return s.chosenLinks(ctx, f)
}

func beginCutOff(ctx context.Context, s *stage, f *fault) error {
	for _, l := range linksOnce(ctx, s, f) {
		l.cutOff()
	}
	return nil
}

// endLink takes off everything that a link has got by now.
func endLink(ctx context.Context, s *stage, f *fault) (err error) {
	for _, l := range s.chosenLinks(ctx, f) {
		err = errors.Join(err, l.heal())
	}
	return err
}

const (
	upstream   = "upstream"
	downstream = "downstream"
)

func drawDirection(d *drawer, f *fault) {
	drawLink(2*time.Second, 12*time.Second)(d, f)
	f.text = one(d, upstream, downstream, "both ways")
}

// beginHalfOpen has bytes vanish while the connections stand.
func beginHalfOpen(ctx context.Context, s *stage, f *fault) (err error) {
	for _, l := range linksOnce(ctx, s, f) {
		for _, stream := range []string{upstream, downstream} {
			if f.text == stream || f.text == "both ways" {
				err = errors.Join(err, l.poison("timeout", stream, map[string]int{"timeout": 0}))
			}
		}
	}
	return err
}

func drawSlow(d *drawer, f *fault) {
	drawLink(2*time.Second, 10*time.Second)(d, f)
	f.amount = d.between(20, 900)
}

// beginSlow delays all bytes by milliseconds.
func beginSlow(ctx context.Context, s *stage, f *fault) (err error) {
	for _, l := range linksOnce(ctx, s, f) {
		for _, stream := range []string{upstream, downstream} {
			err = errors.Join(err, l.poison("latency", stream, map[string]int{"latency": f.amount, "jitter": f.amount / 2}))
		}
	}
	return err
}

func drawNarrow(d *drawer, f *fault) {
	drawLink(2*time.Second, 10*time.Second)(d, f)
	f.amount = d.between(5, 300)
	f.text = one(d, upstream, downstream)
}

// beginNarrow lets so many KiB a second pass.
func beginNarrow(ctx context.Context, s *stage, f *fault) (err error) {
	for _, l := range linksOnce(ctx, s, f) {
		err = errors.Join(err, l.poison("bandwidth", f.text, map[string]int{"rate": f.amount}))
	}
	return err
}

func drawBrokenOff(d *drawer, f *fault) {
	drawLink(time.Second, 4*time.Second)(d, f)
	f.amount = d.between(200, 200_000)
	f.text = one(d, upstream, downstream)
}

// beginBrokenOff has each connection end after so many bytes, in the midst of whatever it is.
func beginBrokenOff(ctx context.Context, s *stage, f *fault) (err error) {
	for _, l := range linksOnce(ctx, s, f) {
		err = errors.Join(err, l.poison("limit_data", f.text, map[string]int{"bytes": f.amount}))
	}
	return err
}

// Requests.

func inject(what func(f *fault) *testenv.Fault) func(ctx context.Context, s *stage, f *fault) error {
	return func(_ context.Context, s *stage, f *fault) error {
		s.inject(f, what(f))
		return nil
	}
}

func drawLate(d *drawer, f *fault) {
	f.times, f.choice = d.between(1, 6), d.odds(2)
	f.lasts = d.time(500*time.Millisecond, 9*time.Second)
	if d.odds(2) {
		f.amount = largeBulk
	}
}

// largeBulk is how many items a request has that is taken for one of a large transaction.
const largeBulk = 200

func isLarge(r *testenv.Request) bool { return len(r.Items) >= largeBulk }

// beginLate has bulk requests come to the server when the fault is lifted, or a second before
// that; the client got 504 by choice, or a broken connection. They have amount items at least.
func beginLate(_ context.Context, s *stage, f *fault) error {
	s.inject(f, testenv.Late(max(f.lasts-time.Second, f.lasts/2), f.choice, f.times, func(r *testenv.Request) bool { return r.IsBulk() && len(r.Items) >= f.amount }))
	return nil
}

// beginTwice has copies of bulk requests come again.
func beginTwice(_ context.Context, s *stage, f *fault) error {
	s.inject(f, testenv.Twice(max(f.lasts-time.Second, f.lasts/2), f.times*3, func(r *testenv.Request) bool { return r.IsBulk() && len(r.Items) >= f.amount }))
	return nil
}

func endLate(_ context.Context, s *stage, f *fault) error {
	s.liftLate(f)
	return nil
}

func drawRefused(d *drawer, f *fault) {
	f.status, f.times = one(d, http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusRequestEntityTooLarge, http.StatusBadGateway), d.between(1, 5)
}

func refused(f *fault) *testenv.Fault {
	match := testenv.Bulk
	if f.status == http.StatusRequestEntityTooLarge {
		// One document that is too large by itself is refused for good, and rightly.
		match = func(r *testenv.Request) bool { return r.IsBulk() && len(r.Items) > 1 }
	}
	return testenv.Answer(f.status, f.times, match)
}

func drawItemsRefused(d *drawer, f *fault) {
	f.status, f.times, f.amount = one(d, http.StatusTooManyRequests, http.StatusServiceUnavailable), d.between(1, 5), d.between(1, 4)
}

func itemsRefused(f *fault) *testenv.Fault {
	return testenv.AnswerItems(f.status, f.times, func(i testenv.Item) bool { return len(i.ID)%f.amount == 0 })
}

// Operators.

func drawIndex(d *drawer, f *fault) { f.index = indices[d.IntN(len(indices)-1)].name } // markers comes last

func drawReindex(d *drawer, f *fault) {
	if drawIndex(d, f); d.odds(6) {
		f.index = "all"
	}
}

func beginReindex(ctx context.Context, s *stage, f *fault) error {
	return s.command(ctx, "reindex", f.index, "--no-wait")
}

func drawCancel(d *drawer, f *fault) {
	drawReindex(d, f)
	f.lasts = d.time(100*time.Millisecond, 2*time.Second)
}

func endCancel(ctx context.Context, s *stage, f *fault) error {
	return s.command(ctx, "reindex", f.index, "--cancel", "--no-wait")
}

func drawMapping(d *drawer, f *fault) {
	ix := indices[d.IntN(len(indices)-1)]
	f.index, f.amount, f.choice = ix.name, d.IntN(len(ix.variants)), d.odds(3)
	f.who = one(d, "both", "both", "active", "passive")
}

// beginMapping gives an index its form number amount. Both files have it; one instance may not
// have been told.
func beginMapping(ctx context.Context, s *stage, f *fault) (err error) {
	s.mapping.variant[f.index] = f.amount
	if err := s.writeMapping(); err != nil {
		return err
	}
	for _, i := range s.chosen(ctx, f.who) {
		if f.choice {
			err = errors.Join(err, i.restart(syscall.SIGKILL))
		} else {
			err = errors.Join(err, i.box.Signal(syscall.SIGHUP))
		}
	}
	return err
}

// An alteration is a statement of the catalog, and one that undoes what would keep an index away.
type alteration struct{ name, statement, after string }

// block has a statement do nothing where what it is about is not there, or already done.
func block(statement string) string {
	return `DO $$ BEGIN ` + statement + `; EXCEPTION WHEN undefined_column OR duplicate_column OR undefined_table OR duplicate_table OR object_not_in_prerequisite_state
		OR invalid_object_definition OR wrong_object_type OR undefined_object OR cannot_coerce OR datatype_mismatch OR invalid_text_representation OR numeric_value_out_of_range OR invalid_table_definition THEN NULL; END $$`
}

var alterations = []alteration{
	{"a column is added", block(`ALTER TABLE things ADD COLUMN n1 int`), ""},
	{"a column is added with a default", block(`ALTER TABLE things ADD COLUMN n2 text DEFAULT 'new'`), ""},
	{"a column is added and filled", block(`ALTER TABLE things ADD COLUMN n3 int; UPDATE things SET n3 = id WHERE id % 3 = 0`), ""},
	{"a column is dropped", block(`ALTER TABLE things DROP COLUMN n1`), ""},
	{"another column is dropped", block(`ALTER TABLE things DROP COLUMN n2`), ""},
	{"a column is renamed", block(`ALTER TABLE things RENAME COLUMN a TO a2`), ""},
	{"a column is renamed back", block(`ALTER TABLE things RENAME COLUMN a2 TO a`), ""},
	{"a type becomes bigint", block(`ALTER TABLE things ALTER COLUMN b TYPE bigint`), ""},
	{"a type becomes text", block(`ALTER TABLE things ALTER COLUMN b TYPE text USING 'b' || b`), ""},
	{"a type becomes int", block(`ALTER TABLE things ALTER COLUMN b TYPE int USING id`), ""},
	{"a table is renamed for a while", block(`ALTER TABLE things RENAME TO things_away`), block(`ALTER TABLE things_away RENAME TO things`)},
	{"a partition is detached for a while", block(`ALTER TABLE events DETACH PARTITION events_1`), block(`ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM (1000) TO (2000)`)},
	{"a partition is detached, changed, and attached", block(`ALTER TABLE events DETACH PARTITION events_2`), block(`UPDATE events_2 SET at = at + 1; ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (2000) TO (3000)`)},
	{"a partition comes", block(`CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (3000) TO (4000); INSERT INTO events SELECT i, 'new', i FROM generate_series(3000, 3200) i`), ""},
	{"a partition goes", block(`DROP TABLE events_3`), ""},
	{"a table is truncated", `TRUNCATE events`, `INSERT INTO events SELECT i, 'after', i FROM generate_series(0, 2999, 5) i ON CONFLICT DO NOTHING`},
	{"a related table is truncated", `TRUNCATE lines`, `INSERT INTO lines SELECT o, 1, 'after', 1 FROM generate_series(1, 1000) o ON CONFLICT DO NOTHING`},
	{"a table is written anew", block(`ALTER TABLE things ALTER COLUMN z TYPE int USING z + 1`), ""},
}

func drawAlter(d *drawer, f *fault) {
	f.amount = d.IntN(len(alterations))
	f.text = alterations[f.amount].name
	f.lasts = d.time(500*time.Millisecond, 6*time.Second)
}

func beginAlter(ctx context.Context, s *stage, f *fault) error {
	return s.alter(ctx, alterations[f.amount].statement)
}

func endAlter(ctx context.Context, s *stage, f *fault) error {
	if after := alterations[f.amount].after; after != "" {
		return s.alter(ctx, after)
	}
	return nil
}

// alter tries for a while: rows are changed all the time, and servers come back.
func (s *stage) alter(ctx context.Context, statement string) (err error) {
	for range 20 {
		if err = s.exec(ctx, s.url, `SET lock_timeout = '2s'; SET deadlock_timeout = '5s'`, statement); err == nil || judge(errors.Unwrap(err)) == final {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// Servers.

func beginSearchKilled(ctx context.Context, s *stage, _ *fault) error {
	s.passLate() // the server forgets what was deleted: nothing on the way from before is kept for afterwards
	return s.search.Kill(ctx)
}

func endSearchKilled(ctx context.Context, s *stage, _ *fault) error { return s.search.Start(ctx) }

func beginPostgresKilled(ctx context.Context, s *stage, _ *fault) error { return s.postgres.Kill(ctx) }

func endPostgresKilled(ctx context.Context, s *stage, _ *fault) error { return s.postgres.Start(ctx) }

// What is lost.

func beginSlotDropped(ctx context.Context, s *stage, _ *fault) error {
	s.watch.suspend()
	return s.exec(ctx, s.url, fmt.Sprintf(`
		DO $$ DECLARE tries int := 0; BEGIN
			LOOP
				PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '%[1]s' AND active_pid IS NOT NULL;
				BEGIN PERFORM pg_drop_replication_slot('%[1]s'); RETURN;
				EXCEPTION WHEN object_in_use THEN tries := tries + 1; IF tries > 2000 THEN RAISE; END IF;
				WHEN undefined_object THEN RETURN; END;
				PERFORM pg_sleep(0.005);
			END LOOP;
		END $$`, slot))
}

func drawIndexDeleted(d *drawer, f *fault) {
	drawIndex(d, f)
	f.lasts = d.time(time.Second, 5*time.Second)
}

func beginIndexDeleted(ctx context.Context, s *stage, f *fault) error {
	s.watch.suspend()
	physical, err := s.search.Indices(ctx, f.index)
	if err != nil {
		return err
	}
	for _, p := range physical {
		err = errors.Join(err, s.call(ctx, http.MethodDelete, "/"+p.Name, ""))
	}
	return err
}

// endRestart is what the alarm of an index that is gone asks for.
func endRestart(_ context.Context, s *stage, _ *fault) (err error) {
	for _, i := range s.instances() {
		err = errors.Join(err, i.restart(syscall.SIGTERM))
	}
	return err
}

// choice has the instances be down while it is set back. The snapshot is taken early, so that
// much is changed after it.
func drawSetBack(d *drawer, f *fault) {
	f.choice = d.odds(2)
	f.at = d.time(0, span/4)
	f.lasts = d.time(3*time.Second, 8*time.Second)
}

func beginDatabaseSetBack(ctx context.Context, s *stage, _ *fault) error {
	s.watch.suspend()
	if err := s.postgres.Stop(ctx); err != nil {
		return err
	}
	return errors.Join(s.postgres.Snapshot(ctx), s.postgres.Start(ctx))
}

func endDatabaseSetBack(ctx context.Context, s *stage, f *fault) error {
	// Those that run notice it when they connect again.
	return s.whileDown(f.choice, func() error {
		return errors.Join(s.postgres.Kill(ctx), s.postgres.SetBack(ctx), s.postgres.Start(ctx))
	})
}

func beginIndicesSetBack(ctx context.Context, s *stage, _ *fault) error {
	s.watch.suspend()
	status, answer, err := s.search.Do(ctx, http.MethodDelete, "/_snapshot/chaos/one", nil)
	if err != nil || status != http.StatusOK && status != http.StatusNotFound {
		return fmt.Errorf("delete a snapshot: %d %s: %w", status, answer, err)
	}
	return s.call(ctx, http.MethodPut, "/_snapshot/chaos/one?wait_for_completion=true", `{"include_global_state":false}`)
}

func endIndicesSetBack(ctx context.Context, s *stage, f *fault) error {
	s.passLate()
	err := s.whileDown(f.choice, func() error {
		err := s.search.DeleteIndices(ctx, "*")
		return errors.Join(err, s.call(ctx, http.MethodPost, "/_snapshot/chaos/one/_restore?wait_for_completion=true", `{"include_global_state":false}`))
	})
	s.watch.suspend() // versions of before are no measure any more
	if !f.choice {
		err = errors.Join(err, endRestart(ctx, s, f)) // which an index that is gone asks for
	}
	return err
}

// whileDown does something while both instances are down, or as they are.
func (s *stage) whileDown(down bool, do func() error) (err error) {
	if !down {
		return do()
	}
	for _, i := range s.instances() {
		err = errors.Join(err, i.kill())
	}
	err = errors.Join(err, do())
	for _, i := range s.instances() {
		i.lift()
	}
	return err
}
