package dbsync_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// A batch that is not stored is repeated, and the slot does not move meanwhile.
func TestBatchIsRepeated(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	s.run(t)
	s.settle(t)
	var mu sync.Mutex
	var batches []string
	attempts := make(chan int, 10)
	s.store.before = func(_ context.Context, ops []dbsync.Operation) error {
		mu.Lock()
		defer mu.Unlock()
		batches = append(batches, fmt.Sprint(ops))
		attempts <- len(batches)
		if len(batches) <= 3 {
			return errTransient
		}
		return nil
	}
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
	end := logEnd(t, s.db)
	for range 3 {
		receive(t, "an attempt", attempts)
		if at := s.confirmed(t); at >= end || s.Position() >= end {
			t.Errorf("the slot stands at %s, the batch before %s is not stored", at, end)
		}
	}
	s.check(t, "t")
	await(t, "the slot moves", func() bool { return s.confirmed(t) >= end })
	mu.Lock()
	defer mu.Unlock()
	for _, b := range batches[:4] {
		if b != batches[0] {
			t.Errorf("an attempt has other operations:\n%s\n%s", b, batches[0])
		}
	}
}

// After a handler's error the same messages come again. Where they begin inside a
// transaction its Begin comes first.
func TestMessagesComeAgain(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	s.MaxMessagesToRead = 50
	var events, batch, failed, again []string
	failures := 0
	received := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(received) })
	defer goOn()
	s.mirror.hook = func(event string) error {
		<-received // so that batches are full, however slowly the messages come
		events = append(events, event)
		switch strings.Fields(event)[1] {
		case "0", "-1":
			batch = nil
		}
		batch = append(batch, event)
		switch {
		case failures == 0 && len(batch) > 2 && strings.HasPrefix(batch[0], "insert"):
			failures++
			failed = batch
			return errTransient
		case failures == 1 && event == failed[len(failed)-1]:
			failures++
			again = batch
		}
		return nil
	}
	s.run(t)
	s.db.Exec(t, "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 300) i")
	await(t, "the queue is full", func() bool { return s.Status().Messages == 3*s.MaxMessagesToRead })
	goOn()
	s.check(t, "t")
	s.Stop()
	if !slices.Contains(events, "begin -1") {
		t.Errorf("the transaction did not begin again: %q", events)
	}
	if len(failed) == 0 || !slices.Equal(again, failed) {
		t.Errorf("the messages came again as\n%q, first as\n%q", again, failed)
	}
}

func TestPermanentErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("never")
	for name, arrange := range map[string]func(s *syncer){
		"handler": func(s *syncer) {
			s.mirror.hook = func(string) error { return &dbsync.PermanentError{Err: cause} }
		},
		"handler, wrapped": func(s *syncer) {
			s.mirror.hook = func(string) error { return fmt.Errorf("more: %w", &dbsync.PermanentError{Err: cause}) }
		},
		"batcher": func(s *syncer) {
			s.store.before = func(context.Context, []dbsync.Operation) error { return &dbsync.PermanentError{Err: cause} }
		},
		"on slot": func(s *syncer) {
			s.opts = append(s.opts, dbsync.OnSlot(func(context.Context) error { return &dbsync.PermanentError{Err: cause} }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSyncer(t, newDatabase(t, table(0)), "t")
			arrange(s)
			if name == "on slot" {
				s.open(t)
			}
			done := s.start(t)
			s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')")
			end := logEnd(t, s.db)
			err := receive(t, "Run ends", done)
			if !errors.Is(err, cause) || !errors.Is(s.Err(), cause) || s.IsRunning() {
				t.Errorf("Run returned %v, Err %v, running %v", err, s.Err(), s.IsRunning())
			}
			s.inactive(t)
			if at := s.confirmed(t); at >= end {
				t.Errorf("the slot stands at %s, behind %s is nothing stored", at, end)
			}
			// The cause gone, it goes on from where it was.
			s.opts = append(s.opts, dbsync.OnSlot(nil))
			s.store.before = nil
			s.open(t)
			s.run(t)
			s.check(t, "t")
		})
	}
}

// ErrStopProcessingMessages in the middle of a transaction: what came before is stored,
// and the transaction comes again.
func TestStopByHandler(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	stop := true
	s.mirror.hook = func(event string) error {
		if strings.HasSuffix(event, " 5") && stop {
			stop = false
			return fmt.Errorf("enough: %w", dbsync.ErrStopProcessingMessages)
		}
		return nil
	}
	done := s.start(t)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')", "INSERT INTO t SELECT i, 'b' FROM generate_series(2, 9) i")
	if err := receive(t, "Run ends", done); err != nil || s.Err() != nil {
		t.Errorf("Run returned %v, Err %v", err, s.Err())
	}
	// The handler had marked 5 when it stopped.
	if got := s.store.rows("t"); len(got) < 4 || len(got) > 5 {
		t.Errorf("stored are %v", got)
	}
	clear(s.store.docs)
	s.open(t)
	s.run(t)
	s.settle(t)
	if got := s.store.rows("t"); len(got) != 8 {
		t.Errorf("of the second transaction came again %v", got)
	}
}

// Start is Run for callers that do not look at its error.
func TestStart(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	s.Stop() // of one that does not run
	ended := make(chan struct{})
	go func() { defer close(ended); s.Start() }()
	await(t, "it runs", s.IsRunning)
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run of one that runs gave no error")
	}
	if _, err := s.GetMessages(1, false, nil); err == nil {
		t.Error("GetMessages of one that runs gave no error")
	}
	if err := s.Forward(0); err == nil {
		t.Error("Forward of one that runs gave no error")
	}
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')")
	s.check(t, "t")
	s.Stop()
	receive(t, "Start returns", ended)
	if err := s.Err(); err != nil {
		t.Error(err)
	}
	s.MaxMessagesToRead = 0
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "MaxMessagesToRead") {
		t.Errorf("Run with MaxMessagesToRead 0: %v", err)
	}
}

// Stop waits for the batch under way, and has it confirmed.
func TestStopFinishesBatch(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	writing, proceed := make(chan struct{}, 1), make(chan struct{})
	s.store.before = func(_ context.Context, ops []dbsync.Operation) error {
		if slices.ContainsFunc(ops, func(op dbsync.Operation) bool { return op.ID == "2" }) {
			writing <- struct{}{}
			<-proceed
		}
		return nil
	}
	// Both transactions have arrived whole before the first is begun, so the batch that is
	// written has the end of the second.
	arrived := make(chan struct{})
	release := sync.OnceFunc(func() { close(arrived) })
	s.mirror.hook = func(event string) error {
		if strings.HasPrefix(event, "begin") {
			<-arrived
		}
		return nil
	}
	done := s.start(t)
	t.Cleanup(release)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (2, 'b')")
	const messages = 4 + 3 // begin, insert and commit of each, and once the description of the table
	await(t, "both transactions", func() bool { return s.Status().Messages >= messages })
	release()
	receive(t, "the batch", writing)
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.Stop() }()
	select {
	case <-stopped:
		t.Error("Stop did not wait for the batch")
	case <-time.After(100 * time.Millisecond):
	}
	close(proceed)
	receive(t, "Stop", stopped)
	if err := receive(t, "Run", done); err != nil {
		t.Error(err)
	}
	if got := s.store.rows("t"); len(got) != 2 {
		t.Errorf("stored are %v", got)
	}
	s.open(t)
	if msgs, err := s.GetMessages(100, false, nil); err != nil || len(msgs) > 0 {
		t.Errorf("what is stored comes again: %v, %v", msgs, err)
	}
}

// A batch that hangs does not keep the process from ending. It comes again.
func TestStopGivesUpHangingBatch(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	writing := make(chan struct{}, 1)
	s.store.before = func(ctx context.Context, _ []dbsync.Operation) error {
		writing <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	done := s.start(t)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')")
	receive(t, "the batch", writing)
	begin := time.Now()
	s.Stop()
	if took := time.Since(begin); took < 5*time.Second || took > 10*time.Second {
		t.Errorf("Stop took %s, want 8s", took)
	}
	if err := receive(t, "Run", done); err != nil {
		t.Error(err)
	}
	if msgs, err := s.GetMessages(100, false, nil); err != nil || len(msgs) != 4 || msgs[2].Data == nil {
		t.Errorf("the messages that were given up are %v, %v", msgs, err)
	}
	s.store.before = nil
	s.run(t)
	s.check(t, "t")
}

// What the server reports while something waits to be stored is not confirmed; while
// nothing waits it is, in time.
func TestKeepalives(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)+"; CREATE TABLE other (n int)"), "t")
	proceed, writing := make(chan struct{}), make(chan struct{}, 1)
	s.store.before = func(context.Context, []dbsync.Operation) error {
		select {
		case writing <- struct{}{}:
		default:
		}
		<-proceed
		return nil
	}
	s.run(t)
	before := logEnd(t, s.db)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')")
	end := logEnd(t, s.db)
	receive(t, "the batch", writing)
	for range 20 {
		s.db.Exec(t, "INSERT INTO other SELECT generate_series(1, 100)")
		time.Sleep(60 * time.Millisecond) // longer than confirmInterval in all
	}
	if at := s.confirmed(t); at >= end || s.Position() >= end {
		t.Errorf("the slot stands at %s, the position is %s; the batch from %s to %s is not stored", at, s.Position(), before, end)
	}
	close(proceed)
	s.settle(t)
	s.db.Exec(t, "INSERT INTO other SELECT generate_series(1, 100)")
	end = logEnd(t, s.db)
	await(t, "the idle slot advances", func() bool { return s.confirmed(t) >= end })
	// Not once a second for ever, because of its own notes.
	at := query[string](t, s.db, "SELECT confirmed_at::text FROM dbsync_ctrl.dbsync_slots")
	time.Sleep(3 * time.Second)
	if now := query[string](t, s.db, "SELECT confirmed_at::text FROM dbsync_ctrl.dbsync_slots"); now != at {
		t.Errorf("the idle slot was noted at %s and %s", at, now)
	}
}

// Whatever breaks in the middle of a large transaction: the store is equal afterwards.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t, testenv.PostgresOptions{})
	const restart = "server restarted"
	for name, breakIt := range map[string]func(t *testing.T, s *syncer, proxy *testenv.TCPProxy){
		"cut": func(_ *testing.T, _ *syncer, proxy *testenv.TCPProxy) { proxy.Cut() },
		"cut off": func(t *testing.T, s *syncer, proxy *testenv.TCPProxy) {
			proxy.CutOff()
			await(t, "it has noticed", func() bool { return !s.Status().Connected })
			proxy.Restore()
		},
		"walsender terminated": func(t *testing.T, s *syncer, _ *testenv.TCPProxy) { s.terminate(t) },
		"all sessions terminated": func(t *testing.T, s *syncer, _ *testenv.TCPProxy) {
			query[int](t, s.db, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'dbsync'")
		},
		"server killed": func(t *testing.T, s *syncer, _ *testenv.TCPProxy) {
			if err := errors.Join(server.Kill(t.Context()), server.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
		},
		restart: func(t *testing.T, s *syncer, _ *testenv.TCPProxy) {
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := server.NewDatabase(t)
			db.Exec(t, table(0))
			proxy := server.NewProxy(t)
			s := newSyncer(t, db, "t")
			s.opts = append(s.opts, dbsync.WithPGConnStr(proxy.URL(db.URL)))
			s.open(t)
			s.MaxMessagesToRead = 500
			begun, proceed := make(chan struct{}), make(chan struct{})
			batches := 0
			s.store.before = func(context.Context, []dbsync.Operation) error {
				if batches++; batches == 3 {
					close(begun)
					<-proceed
				}
				return nil
			}
			s.run(t)
			db.Exec(t, "INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 6000) i; UPDATE t SET v = 'y' WHERE id % 2 = 0; DELETE FROM t WHERE id % 3 = 0")
			receive(t, "the middle of the transaction", begun)
			if name == restart { // the server does not end in order before we have taken its last word
				close(proceed)
			}
			breakIt(t, s, proxy)
			if name != restart {
				close(proceed)
			}
			db.DB.SetMaxIdleConns(0) // those that there are broke
			db.Exec(t, "INSERT INTO t VALUES (50001, 'after')")
			s.check(t, "t")
		})
	}
}

// A process that finds the slot in use waits, and takes over.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	s.run(t)
	s.settle(t)
	var calls int
	second := &syncer{db: s.db, slot: s.slot, store: s.store, opts: append(s.opts[:len(s.opts):len(s.opts)],
		dbsync.OnSlot(func(context.Context) error { calls++; return nil }))}
	second.open(t)
	second.run(t)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')")
	s.check(t, "t")
	if second.Status().Connected {
		t.Error("two follow one slot")
	}
	s.Stop()
	s.db.Exec(t, "INSERT INTO t VALUES (2, 'b')")
	second.check(t, "t")
	if calls != 1 {
		t.Errorf("OnSlot was called %d times", calls)
	}
	if second.Generation() != s.Generation() {
		t.Error("the slot has another generation")
	}
}

// A process that does not wait for ever is told that another one has the slot. One that has
// had it waits as long as it takes.
func TestSlotTimeout(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	s.run(t)
	s.settle(t)
	second := &syncer{db: s.db, slot: s.slot, store: s.store, opts: append(s.opts[:len(s.opts):len(s.opts)], dbsync.WithSlotTimeout(time.Millisecond))}
	second.open(t)
	if err := second.Run(t.Context()); !errors.Is(err, dbsync.ErrSlotInUse) {
		t.Fatalf("Run: %v", err)
	}
	s.Stop()
	second.run(t)
	second.settle(t)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')", fmt.Sprintf("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '%s'", s.slot))
	second.check(t, "t")
}

// A position is noted before the server is told, over broken connections, too: a crash
// must not make the slot look like one that somebody else has moved.
func TestNoteIsAheadOfSlot(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	for i := range 4 {
		s.db.Exec(t, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
		if _, err := s.GetMessages(100, true, nil); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			s.terminate(t) // before it is noted
			await(t, "it has noticed", func() bool { return !s.Status().Connected })
		}
		at := s.confirmed(t)
		if note := lsn(t, query[string](t, s.db, "SELECT confirmed::text FROM dbsync_ctrl.dbsync_slots")); at > note {
			t.Fatalf("the slot stands at %s, noted is %s", at, note)
		}
	}
	// The process is killed: nothing is closed.
	if err := (&syncer{db: s.db, store: s.store, opts: s.opts}).tryOpen(t); err != nil {
		t.Error(err)
	}
}

// The connection ends while it is begun, by who has to hold the slot for it: another one is made, and
// it begins on that.
func TestConnectionEndsWhileItBegins(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	calls := 0
	s.opts = append(s.opts, dbsync.OnSlot(func(ctx context.Context) error {
		if calls++; calls == 1 {
			s.db.Exec(t, fmt.Sprintf("SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = '%s'", s.slot))
			await(t, "the end of the stream is noticed", func() bool { return !s.Status().Connected })
		}
		return s.HoldsSlot(ctx)
	}))
	s.open(t)
	s.run(t)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')")
	s.check(t, "t")
	if calls < 2 {
		t.Errorf("OnSlot was called %d times", calls)
	}
}

// batchTimes has a Syncer's store note when each batch is written, and returns a function that
// returns how many there were up to when the stream was idle, and how long that took.
func batchTimes(t *testing.T, s *syncer) (stop func() (batches int, took time.Duration)) {
	t.Helper()
	var mu sync.Mutex
	var times []time.Time
	s.store.before = func(context.Context, []dbsync.Operation) error {
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Now())
		return nil
	}
	return func() (int, time.Duration) {
		s.check(t, "t")
		mu.Lock()
		defer mu.Unlock()
		return len(times), times[len(times)-1].Sub(times[0])
	}
}

// Small transactions that wait in the log share batches, all of which are full, but for the last.
func TestBatchesFill(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	const transactions = 5000
	s.db.Exec(t, fmt.Sprintf("CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..%d LOOP INSERT INTO t VALUES (i, 'a'); COMMIT; END LOOP; END $$", transactions), "CALL fill()")
	s.MaxMessagesToRead = 3000
	s.SetPatience(time.Hour)
	stop := batchTimes(t, s)
	s.run(t)
	batches, _ := stop()
	if got := s.Status(); got.Changes != transactions || got.Batches != int64(batches) {
		t.Errorf("the status says %d changes in %d batches, there were %d and %d", got.Changes, got.Batches, transactions, batches)
	}
	// Begin, insert and commit of each.
	if want := 3*transactions/s.MaxMessagesToRead + 1; batches > want {
		t.Errorf("%d batches, want %d", batches, want)
	}
}

// A change that comes alone is written when the server says that this was all, and waits for nothing
// else.
func TestLoneChange(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(1)), "t")
	s.SetPatience(time.Hour)
	s.run(t)
	for i := range 5 {
		s.db.Exec(t, fmt.Sprintf("UPDATE t SET v = 'lone %d'", i))
		await(t, "the change", func() bool { return s.store.value("1") == fmt.Sprintf("lone %d", i) })
	}
}

// What the server sends without end is written meanwhile.
func TestPatience(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(1)+"; CREATE TABLE other (n int)"), "t")
	const batch = 1_000_000
	s.MaxMessagesToRead = batch
	s.SetPatience(0)
	stop := batchTimes(t, s)
	s.db.Exec(t, "CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..5000 LOOP UPDATE t SET v = i; COMMIT; END LOOP; END $$", "CALL fill()")
	s.run(t)
	if batches, _ := stop(); batches < 2 {
		t.Errorf("%d batches, want each read of the stream written", batches)
	}
}

// Changes that come one by one, faster than it is worth to write each by itself, share batches.
func TestChangesShareBatches(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(1)), "t")
	stop := batchTimes(t, s)
	s.run(t)
	s.settle(t)
	session := newSession(t, s.db)
	begun, changes := time.Now(), 0
	for ; time.Since(begun) < 50*dbsync.ReceiveGap || changes < 100; changes++ {
		session.exec(fmt.Sprintf("UPDATE t SET v = '%d'", changes))
	}
	batches, took := stop()
	t.Logf("%d changes, %d batches within %s", changes, batches, took)
	if most := 3 + int(took/dbsync.ReceiveGap); batches > most {
		t.Errorf("%d changes came in %d batches within %s, want at most %d", changes, batches, took, most)
	}
}
