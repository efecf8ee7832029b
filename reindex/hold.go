package reindex

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/reindex/control"
)

// An index that cannot be as it should concerns nobody else: it has an alarm of its own, which
// turns /readyz, and the others go on. Where no documents can be made of its tables it is *held*:
// its documents stay as they are, and when they can be made again it is built anew. Where work on
// it failed, the index in use goes on, and the work is tried again after a pause, or when the
// catalog has changed.

const (
	firstPause = time.Minute
	lastPause  = 32 * time.Minute
)

// Missed has an index held whose documents cannot be made of a change of the stream: for
// [indexer.HandlerOptions].
func (m *Manager) Missed(ctx context.Context, d *indexer.Documents, why *indexer.UnfitError) error {
	x := m.byName[d.Index.Name]
	if err := m.hold(ctx, x, dbsync.WithoutValues(why.Err)); err != nil {
		return err
	}
	x.setAltered()
	m.wake()
	return nil
}

// Doubted has an index compared with its tables, of whose documents some could not be found when a
// row changed that is in them: for [indexer.HandlerOptions].
func (m *Manager) Doubted(ctx context.Context, d *indexer.Documents, why string) error {
	return m.unprove(ctx, m.byName[d.Index.Name], why)
}

// hold leaves the documents of an index as they are, with an alarm that says why. The index misses
// changes from here on, so the control schema has no generation of it when hold returns, and
// whatever process comes builds it anew. A crash before costs nothing: it has missed none yet.
func (m *Manager) hold(ctx context.Context, x *index, why string) error {
	if !x.hasMissed() {
		if err := m.o.Control.States().Miss(ctx, x.Name); err != nil {
			return err
		}
		x.setMissed(true)
	}
	m.holdBack(x, why)
	return nil
}

// holdFor holds an index for what it needs. One whose tables are gone misses nothing, since no row is left: the
// control schema goes on saying which slot it is of, by which dropGone finds it.
func (m *Manager) holdFor(ctx context.Context, x *index, need Need) error {
	if need.Gone {
		m.holdBack(x, need.Hold)
		return nil
	}
	return m.hold(ctx, x, need.Hold)
}

// holdBack has nothing more written to an index, and its alarm say why.
func (m *Manager) holdBack(x *index, why string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.held = true
	x.stopWalkLocked()
	x.documents.SetTargets()
	if x.old != nil {
		x.old.SetTargets()
	}
	m.raise(x, why)
}

// checkHeld returns an error if the index is held, and no documents can be made of its tables yet.
func (m *Manager) checkHeld(ctx context.Context, x *index) error {
	if !x.isHeld() {
		return nil
	}
	st := x.state()
	need, err := m.needNow(ctx, x, &st, m.o.Catalog.Present())
	if err == nil && need.Hold != "" {
		err = fmt.Errorf("no documents can be made of its tables: %s; it is built anew when they can", need.Hold)
	}
	return err
}

// fail notes that work on an index failed. It is tried again when the pause is over.
func (m *Manager) fail(x *index, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pause = min(max(2*x.pause, firstPause), lastPause)
	x.retryAt = time.Now().Add(x.pause)
	m.raise(x, fmt.Sprintf("%s (tried again in %s, or when the catalog changes)", dbsync.WithoutValues(err), x.pause))
}

// raise raises the alarm of an index. x.mu is held.
func (m *Manager) raise(x *index, text string) {
	x.alarm = m.o.Alarm.Keep(x.alarm, "index "+x.Name, text)
	x.failure = text
}

// release ends what hold and fail began. It reports whether work on the index had failed.
func (m *Manager) release(x *index) (hadFailed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	hadFailed = !x.retryAt.IsZero()
	x.held, x.failure = false, ""
	x.retryAt, x.pause = time.Time{}, 0
	x.alarm.Release()
	x.alarm = nil
	return hadFailed
}

// failed decides what becomes of an error of the work on one index. What it returns ends the
// process: that another one has taken over, that this one is to end, and what repeating may cure
// and was not repeated.
func (m *Manager) failed(ctx context.Context, x *index, err error) error {
	if err == nil {
		return nil
	}
	_, taken := errors.AsType[*control.TakenOverError](err)
	if taken || ctx.Err() != nil || !dbsync.IsPermanent(err) {
		return err
	}
	if unfit, ok := errors.AsType[*indexer.UnfitError](err); ok {
		if err := m.hold(ctx, x, dbsync.WithoutValues(unfit.Err)); err != nil {
			return err
		}
	}
	m.fail(x, err)
	return nil
}

// failures returns an error that names the indices that are not as they should be, nil if there
// are none.
func (m *Manager) failures() error {
	var all []error
	for _, x := range m.indices {
		x.mu.Lock()
		if x.failure != "" {
			all = append(all, fmt.Errorf("index %s: %s", x.Name, x.failure))
		}
		x.mu.Unlock()
	}
	return errors.Join(all...)
}

// hasMissed reports whether the index misses changes.
func (x *index) hasMissed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.missed
}

func (x *index) setMissed(missed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.missed = missed
}

// waits reports whether what failed is not to be tried again yet.
func (x *index) waits(now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return now.Before(x.retryAt)
}

// isDue reports whether what failed is to be tried again.
func (x *index) isDue(now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.retryAt.IsZero() && !now.Before(x.retryAt)
}

// hurry has what failed be tried again at once.
func (x *index) hurry() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.retryAt.IsZero() {
		x.retryAt = time.Now()
	}
}
