package dbsync_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// watcher keeps what an Observer is told.
type watcher struct {
	mu     sync.Mutex
	begun  []dbsync.BatchReport
	ended  []dbsync.BatchReport
	errors []error
}

type watchedKey struct{}

func (w *watcher) BatchBegins(ctx context.Context, r *dbsync.BatchReport) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = append(w.begun, *r)
	return context.WithValue(ctx, watchedKey{}, len(w.begun))
}

func (w *watcher) BatchEnds(ctx context.Context, r *dbsync.BatchReport, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	report := *r
	report.Commits = append([]time.Time(nil), r.Commits...)
	if ctx.Value(watchedKey{}) != len(w.begun) {
		err = errors.New("it ends with another context than it begins with")
	}
	w.ended, w.errors = append(w.ended, report), append(w.errors, err)
}

// with returns the report of the batch with so many changes.
func (w *watcher) with(changes int) (dbsync.BatchReport, error, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range w.ended {
		if r.Changes == changes {
			return r, w.errors[i], true
		}
	}
	return dbsync.BatchReport{}, nil, false
}

// An Observer is told what a batch is made of, when each thing was done, and when its transactions
// were committed, those alone that have changes.
func TestObserver(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(3)), "t")
	w := &watcher{}
	s.open(t, dbsync.WithObserver(w))
	var inWrite atomic.Bool
	s.store.before = func(ctx context.Context, _ []dbsync.Operation) error {
		inWrite.Store(ctx.Value(watchedKey{}) != nil)
		return nil
	}
	s.run(t)
	s.settle(t)
	before := time.Now()
	s.db.Exec(t, "UPDATE t SET v = 'x'; UPDATE t SET v = 'y'") // one transaction: six changes, three documents
	await(t, "the batch is reported", func() bool { _, _, ok := w.with(6); return ok })
	after := time.Now()
	r, err, _ := w.with(6)
	if err != nil || !inWrite.Load() {
		t.Errorf("error %v, written with the observer's context: %t", err, inWrite.Load())
	}
	if r.Operations != 3 || r.Messages < 8 || r.Bytes < 100 || r.Position > s.Position() || r.Position == 0 {
		t.Errorf("%+v", r)
	}
	times := []time.Time{before, r.Began, r.Translated, r.Writing, r.Stored, after}
	for i := range times[1:] {
		if times[i+1].Before(times[i]) {
			t.Errorf("time %d of %v is before the one in front of it", i+1, times)
		}
	}
	if r.Translating <= 0 || r.Translating > r.Translated.Sub(r.Began) {
		t.Errorf("translated for %s of %s", r.Translating, r.Translated.Sub(r.Began))
	}
	// Postgres runs on this host.
	if len(r.Commits) != 1 || r.Commits[0].Before(before.Add(-time.Millisecond)) || r.Commits[0].After(after) {
		t.Errorf("committed at %v, want one time from %s to %s", r.Commits, before, after)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range w.ended {
		if r.Changes == 0 && len(r.Commits) > 0 {
			t.Errorf("a batch of watermarks has commits %v", r.Commits)
		}
		if !w.begun[i].Stored.IsZero() {
			t.Errorf("batch %d was stored before it was written", i)
		}
	}
}

// A transaction that comes in several batches is one commit, of the last of them.
func TestObserverOfALargeTransaction(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	w := &watcher{}
	s.open(t, dbsync.WithObserver(w))
	s.MaxMessagesToRead = 100
	s.run(t)
	s.db.Exec(t, "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 1000) i")
	s.check(t, "t")
	w.mu.Lock()
	defer w.mu.Unlock()
	changes, commits, batches := 0, 0, 0
	for _, r := range w.ended {
		changes += r.Changes
		commits += len(r.Commits)
		if r.Changes > 0 {
			batches++
		}
	}
	if changes != 1000 || commits != 1 || batches < 5 {
		t.Errorf("%d changes and %d commits in %d batches", changes, commits, batches)
	}
}

// A batch that is given up is reported with why.
func TestObserverOfABatchThatIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	w := &watcher{}
	s.open(t, dbsync.WithObserver(w))
	refused := &dbsync.PermanentError{Err: errors.New("the store is closed")}
	s.store.before = func(context.Context, []dbsync.Operation) error { return refused }
	done := s.start(t)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')")
	if err := receive(t, "Run ends", done); !errors.Is(err, refused) {
		t.Errorf("Run: %v", err)
	}
	if r, err, ok := w.with(1); !ok || !errors.Is(err, refused) || !r.Stored.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
}

// The lag grows while the store takes nothing, and is over with it. A slot's share of the log is
// known.
func TestLagOfASyncer(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	var cured atomic.Bool
	s.store.before = func(context.Context, []dbsync.Operation) error {
		if cured.Load() {
			return nil
		}
		return errors.New("the store is full")
	}
	s.run(t)
	s.settle(t)
	await(t, "there is no lag", func() bool { return s.Status().Lag == 0 })
	begin := time.Now()
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')")
	await(t, "the lag grows", func() bool { return s.Status().Lag > time.Second })
	if lag, most := s.Status().Lag, time.Since(begin); lag > most+2*time.Second {
		t.Errorf("lag %s after %s", lag, most)
	}
	cured.Store(true)
	s.check(t, "t")
	await(t, "the lag is over", func() bool { return s.Status().Lag == 0 })
	await(t, "the slot's share of the log is known", func() bool { return s.Status().SlotWAL != nil })
	if wal := s.Status().SlotWAL; wal.Kept < 0 || wal.Left != nil {
		t.Errorf("%+v of a server without max_slot_wal_keep_size", wal)
	}

	other := newSyncer(t, s.db, "t")
	other.open(t, dbsync.WithReplicationSlot(s.slot))
	other.start(t)
	before := other.Progress()
	await(t, "another one waits for the slot", func() bool { return other.Progress() > before+3 })
	if status := other.Status(); status.Lag != -1 || status.SlotWAL != nil {
		t.Errorf("the one that waits says of the other's slot %+v", status)
	}
}

// What is left of max_slot_wal_keep_size is known where the server has one.
func TestSlotWALThatIsLeft(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t, testenv.PostgresOptions{Settings: map[string]string{"max_slot_wal_keep_size": "64MB", "wal_keep_size": "0"}})
	db := server.NewDatabase(t)
	db.Exec(t, table(0), "CREATE TABLE other (v text)")
	s := newSyncer(t, db, "t")
	s.run(t)
	await(t, "it is known", func() bool { return s.Status().SlotWAL != nil })
	wal := s.Status().SlotWAL
	if wal.Left == nil || *wal.Left <= 0 || *wal.Left > 128<<20 || wal.Kept > 64<<20 {
		t.Fatalf("kept %d, left %v", wal.Kept, wal.Left)
	}
}

// Progress stands still while a handler hangs, and goes on while the store is away, and while
// nothing is to be done.
func TestProgress(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	t.Cleanup(goOn)
	hung := make(chan struct{})
	s.open(t)
	s.MaxDelayBetweenEmptyPeeks = 100 * time.Millisecond
	s.mirror.hook = func(event string) error {
		if strings.HasPrefix(event, "insert ") && strings.HasSuffix(event, " 7") {
			close(hung)
			<-release
		}
		return nil
	}
	var away atomic.Bool
	var hangs atomic.Pointer[func()]
	s.store.before = func(context.Context, []dbsync.Operation) error {
		if hang := hangs.Load(); hang != nil {
			(*hang)()
		}
		if away.Load() {
			return errors.New("the store is away")
		}
		return nil
	}
	s.run(t)
	goesOn := func(what string) {
		t.Helper()
		from := s.Progress()
		await(t, what, func() bool { return s.Progress() > from+2 })
	}
	goesOn("nothing is to be done")
	away.Store(true)
	s.db.Exec(t, "INSERT INTO t VALUES (1, 'a')")
	s.awaitTrouble(t)
	goesOn("the store is away")
	away.Store(false)
	s.check(t, "t")

	s.db.Exec(t, "INSERT INTO t VALUES (7, 'a')")
	receive(t, "the handler hangs", hung)
	from := s.Progress()
	s.db.Exec(t, "INSERT INTO t VALUES (8, 'a')")
	await(t, "more is received", func() bool { return s.Status().Messages > 4 })
	if now := s.Progress(); now != from {
		t.Errorf("progress from %d to %d while the handler hangs", from, now)
	}
	goOn()
	s.check(t, "t")

	// The store hangs, and more is received meanwhile.
	stored, free := make(chan struct{}), make(chan struct{})
	store := sync.OnceFunc(func() { close(free) })
	t.Cleanup(store)
	hang := sync.OnceFunc(func() {
		close(stored)
		<-free
	})
	hangs.Store(&hang)
	s.db.Exec(t, "INSERT INTO t VALUES (9, 'a')")
	receive(t, "the store hangs", stored)
	await(t, "what follows the slot has seen it", func() bool {
		before := s.Progress()
		received := s.Status().Messages
		s.db.Exec(t, "UPDATE t SET v = v || 'x' WHERE id = 8")
		await(t, "more is received", func() bool { return s.Status().Messages > received })
		return s.Progress() == before
	})
	from = s.Progress()
	for range 5 {
		received := s.Status().Messages
		s.db.Exec(t, "UPDATE t SET v = v || 'y' WHERE id = 8")
		await(t, "more is received", func() bool { return s.Status().Messages > received })
	}
	if now := s.Progress(); now != from {
		t.Errorf("progress from %d to %d while the store hangs", from, now)
	}
	store()
	s.check(t, "t")
}
