package reindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// What is proven of an index: that it was compared with its tables, row by row and document by
// document. A walk does that, by package verify, in the background and slowly. Each index is walked
// through again and again; and at once when something has happened that the stream does not show
// and the catalog does not explain: it is unproven until that walk has come to its end. One index
// is walked through at a time, and none while it is being filled or its table was altered.

const (
	// startPause is how long after the start the first walk begins that nothing asks for: there is
	// enough to be caught up with.
	startPause = 5 * time.Minute

	// undecidedPause is how long an unproven index is left alone after a walk that could not compare
	// all of it.
	undecidedPause = 10 * time.Minute

	// busyPause is how long a walk waits that others were in the way of.
	busyPause = time.Minute

	// The pauses between attempts of a walk that has failed.
	firstWalkPause, lastWalkPause = time.Second, 10 * time.Minute

	// loggedDifferences is how many differences a walk logs one by one.
	loggedDifferences = 20
)

// errWalkStopped ends a walk that makes no sense any more, or has to begin anew.
var errWalkStopped = errors.New("the walk is not gone on with")

// A ProofStatus is what is proven of an index, and what this process has found.
type ProofStatus struct {
	control.Proof
	Found, Repaired int64 // differences, since the start of the process
}

// Proof returns what is proven of an index. Before Begin, and of an index that is not in the
// mapping, it is nothing.
func (m *Manager) Proof(name string) ProofStatus {
	x := m.byName[name]
	if x == nil {
		return ProofStatus{}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	s := ProofStatus{x.proof, x.found, x.repaired}
	if x.known != nil {
		s.Proof = x.proof.Of(x.known)
	}
	return s
}

// Compare has an index compared with its tables at once, by the rules and at the pace of every
// comparison, and not when it is due by itself. One that is under way goes on, and is enough. Its
// error says why the index cannot be compared now. That it was asked for is kept in memory: an
// instance that ends before forgets it.
func (m *Manager) Compare(name string) error {
	x := m.byName[name]
	if x == nil {
		return fmt.Errorf("the running mapping has no index %s", name)
	}
	if !m.hasBegun() {
		return fmt.Errorf("index %s cannot be compared: this instance does not follow the slot yet", name)
	}
	if err := x.ask(); err != nil {
		return err
	}
	m.proofWake.raise()
	return nil
}

// ask notes that somebody wants the index compared.
func (x *index) ask() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.known == nil || x.known.Live.Physical == "" || x.known.Building.Physical != "":
		return fmt.Errorf("index %s is being filled, and can be compared with its tables when that is done", x.Name)
	case x.held || x.missed:
		return fmt.Errorf("index %s misses changes: it is to be filled again, and not to be compared", x.Name)
	case x.failure != "":
		return fmt.Errorf("index %s cannot be compared now: %s", x.Name, x.failure)
	}
	x.asked = true // what else is in the way is over in a moment
	return nil
}

// endAsk notes that what was asked for is done.
func (x *index) endAsk() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = false
}

// unprove notes that an index may differ from its tables by something that the stream does not
// show, and why: it is walked through at once. A walk under way begins anew.
func (m *Manager) unprove(ctx context.Context, x *index, why string) error {
	err := m.noteProof(x, func() (control.Proof, error) {
		st := x.state()
		return m.o.Control.Proofs().Unprove(ctx, &st, why)
	})
	if err != nil {
		return err
	}
	x.stopWalk()
	m.o.Logger.Warn("an index is unproven until it was compared with its tables", "index", x.Name, "why", why)
	m.proofWake.raise()
	return nil
}

// Tied notes that every index is unproven, because a transaction was too large for its changes to have
// versions of their own.
func (m *Manager) Tied(ctx context.Context) error {
	return m.Unprove(ctx, "a transaction had more changes than versions can tell apart")
}

// Unprove notes that every index is unproven: each is compared with its tables.
func (m *Manager) Unprove(ctx context.Context, why string) error {
	for _, x := range m.indices {
		if err := m.unprove(ctx, x, why); err != nil {
			return err
		}
	}
	return nil
}

// beginProof takes up what was noted of an index before this process. A walk that nothing asks for
// any more, as they were switched off, is given up, and so is one that went through other tables, or in another
// order: by the number of a table it would go on in another one, and leave rows out.
func (m *Manager) beginProof(ctx context.Context, x *index) error {
	return m.noteProof(x, func() (control.Proof, error) {
		p, err := m.o.Control.Proofs().Read(ctx, x.Name)
		st := x.state()
		unwanted := !p.IsUnproven() && m.o.Verify.Every == 0
		if err == nil && p.Walk.UnderWay() && (unwanted || !sameOrder(x.Index, st.Live.Mapping)) {
			p, err = m.o.Control.Proofs().GiveUp(ctx, x.Name, &p.Walk)
		}
		return p, err
	})
}

// readProof reads what was noted of an index.
func (m *Manager) readProof(ctx context.Context, x *index) error {
	return m.noteProof(x, func() (control.Proof, error) { return m.o.Control.Proofs().Read(ctx, x.Name) })
}

// noteProof calls what changes or reads the note of an index in the control schema, and has what
// is known here be the same, one after the other.
func (m *Manager) noteProof(x *index, note func() (control.Proof, error)) error {
	x.noting.Lock()
	defer x.noting.Unlock()
	p, err := note()
	if err == nil {
		x.mu.Lock()
		x.proof = p
		x.mu.Unlock()
	}
	return err
}

// A walkTrouble is how often walks of an index, or passes of fan-outs, have failed in a row.
type walkTrouble struct {
	failures int
	pause    interface{ NextBackOff() time.Duration }
	until    time.Time   // no walk begins before
	hold     *retry.Hold // of the alarm, from the third failure on
	last     error
}

// end says that a walk was possible.
func (t *walkTrouble) end() {
	t.hold.Release()
	*t = walkTrouble{}
}

// walkAll has one index after the other walked through whenever that is due, until ctx is done.
// An error of a walk ends none but that one.
func (m *Manager) walkAll(ctx context.Context, end until) error {
	trouble := make(map[*index]*walkTrouble)
	for _, x := range m.indices {
		trouble[x] = &walkTrouble{}
		defer func() { trouble[x].end() }()
	}
	begun := time.Now()
	for {
		x, at := m.nextWalk(begun, end, trouble)
		if wait := time.Until(at); x == nil || wait > 0 {
			var due <-chan time.Time // never
			if x != nil {
				due = time.After(wait)
			}
			select {
			case <-due:
			case <-m.proofWake:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		err := m.walk(ctx, x, end)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.serveWake.raise() // for who waits for it
		setBack, isSetBack := errors.AsType[*dbsync.SetBackError](err)
		switch t := trouble[x]; {
		case isSetBack:
			return setBack // nothing that is written from here on can be right
		case err == nil:
			t.end()
		case errors.Is(err, verify.ErrBusy):
			t.until = time.Now().Add(busyPause)
			m.o.Logger.Info("an index is compared later", "index", x.Name, "reason", err)
		default:
			m.walkFailed(x, t, err)
		}
	}
}

// walkFailed takes up that a walk of an index has failed: it is tried again, later each time.
func (m *Manager) walkFailed(x *index, t *walkTrouble, err error) {
	if t.failures++; t.failures == 1 {
		t.pause = retry.NewBackoff(firstWalkPause, lastWalkPause)
	}
	pause := t.pause.NextBackOff()
	t.until = time.Now().Add(pause)
	m.o.Logger.Warn("an index could not be compared with its tables, trying again", "index", x.Name, "error", err, "pause", pause)
	if t.failures >= retry.Patience {
		t.hold = m.o.Alarm.Keep(t.hold, "compare index "+x.Name+" with its tables", dbsync.WithoutValues(err))
	}
}

// nextWalk returns the index whose walk is due first, and when; nil: none is.
func (m *Manager) nextWalk(begun time.Time, end until, trouble map[*index]*walkTrouble) (next *index, at time.Time) {
	for _, x := range m.indices {
		due, ok := x.walkDue(m.o.Verify, begun, end)
		if !ok {
			continue
		}
		if after := trouble[x].until; due.Before(after) {
			due = after
		}
		if next == nil || due.Before(at) {
			next, at = x, due
		}
	}
	return next, at
}

// walkDue returns when a walk of an index is to begin, or to go on, in a process that has begun
// then; false: not before something else happens.
func (x *index) walkDue(how mapping.Verify, begun time.Time, end until) (at time.Time, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.canBeWalked() {
		return time.Time{}, false
	}
	p := x.proof.Of(x.known)
	periodic := how.Every > 0 && end != untilIdle
	switch {
	case p.OwesWalk() || x.asked:
		return time.Time{}, true
	case periodic && p.Walk.UnderWay():
		return time.Time{}, true
	case p.IsUnproven() && end != untilIdle:
		at = p.Last.FinishedAt.Add(undecidedPause)
		return at, true
	case !periodic:
		return time.Time{}, false
	}
	at = p.Last.BeganAt
	if at.Before(x.known.FinishedAt) {
		at = x.known.FinishedAt // it was filled then
	}
	at = at.Add(how.Every)
	if first := begun.Add(min(how.Every, startPause)); at.Before(first) {
		at = first
	}
	return at, true
}

// canBeWalked reports whether the index is complete, and its documents are made as its tables are.
// x.mu is held.
func (x *index) canBeWalked() bool {
	return x.runDone && !x.altered && !x.conforming && !x.missed && x.failure == "" && !x.held && x.known != nil && x.known.Live.Physical != "" && x.known.Building.Physical == ""
}

// owesWalk reports whether the index is unproven, and no walk has come to its end since.
func (x *index) owesWalk() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.proof
	if x.known != nil {
		p = p.Of(x.known)
	}
	return p.OwesWalk()
}

// startWalk returns the context of a walk, which stopWalk ends, and what the walk is about; done is
// called at its end. false: the index cannot be walked through now.
func (x *index) startWalk(ctx context.Context) (walk context.Context, done func(), st control.State, p control.Proof, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.canBeWalked() {
		return nil, nil, st, p, false
	}
	walk, stop := context.WithCancelCause(ctx)
	x.walking = stop
	return walk, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.walking = nil
		stop(nil)
	}, *x.known, x.proof.Of(x.known), true
}

// stopWalk ends the walk of the index that is under way.
func (x *index) stopWalk() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stopWalkLocked()
}

// stopWalkLocked is stopWalk while x.mu is held.
func (x *index) stopWalkLocked() {
	if x.walking != nil {
		x.walking(errWalkStopped)
	}
}

// walk compares an index with its tables, from where its walk stands on, and repairs what differs
// if that is wanted. It returns nil when the walk has come to its end, or is to begin anew.
func (m *Manager) walk(ctx context.Context, x *index, end until) error {
	walk, done, st, p, ok := x.startWalk(ctx)
	if !ok {
		return nil
	}
	defer done()
	err := m.walkOn(walk, x, end, &st, p)
	switch {
	case errors.Is(context.Cause(walk), errWalkStopped):
		return nil
	case errors.Is(err, control.ErrWalkOver): // another process is at it
		return m.readProof(walk, x)
	}
	return err
}

func (m *Manager) walkOn(ctx context.Context, x *index, end until, st *control.State, p control.Proof) error {
	pace := cmp.Or(m.o.Verify.RowsPerSecond, mapping.DefaultVerifyRowsPerSecond)
	if end == untilIdle {
		pace = 0 // somebody waits for it
	}
	tables := m.o.Catalog.Tables()
	what := "an index is compared with its tables"
	if p.Walk.UnderWay() {
		what = "an index is compared with its tables, from where that ended"
	} else {
		total := verify.EstimateTotal(ctx, m.o.Client, x.Index, tables, st.Live.Physical)
		err := m.noteProof(x, func() (_ control.Proof, err error) {
			p, err = m.o.Control.Proofs().Begin(ctx, st, total)
			return p, err
		})
		if err != nil {
			return err
		}
	}
	at := p.Walk
	m.o.Logger.Info(what, "index", x.Name, "physical", p.Physical, "walk", at.Number, "phase", at.Phase, "rows", at.Rows, "documents", at.Documents, "why", p.Unproven.Why)
	found := differenceLog{m: m, x: x}
	watermarks, _ := m.o.Syncer.WatermarkTable()
	_, err := verify.Run(ctx, x.Present(m.o.Catalog.Present()), verify.Options{
		DB: m.o.Syncer.DB(), SlotDB: m.o.Syncer.SlotDB(), Client: m.o.Client, Bulk: m.o.Bulk, Applied: m.o.Applied, Schema: m.o.Control.Name(), WatermarkSchema: watermarks, Slot: m.o.Control.Slot(), Tables: tables, Logger: m.o.Logger, Alarm: m.o.Alarm,
		Progress: verify.NoProgress{}, Repair: m.o.Verify.OnDifference != mapping.OnDifferenceReport, Found: found.add,
		Walk: &verify.Walk{Physical: p.Physical, At: at, RowsPerSecond: pace, Note: func(ctx context.Context, now control.Walk) error {
			at = now
			return m.noteWalk(ctx, x, &at)
		}},
	})
	tooDifferent, isTooDifferent := errors.AsType[*verify.TooDifferentError](err)
	if err != nil && !isTooDifferent {
		return err
	}
	if isTooDifferent {
		at = tooDifferent.At
		if err := m.rebuildInstead(ctx, x, tooDifferent); err != nil {
			return err
		}
	}
	err = m.noteProof(x, func() (_ control.Proof, err error) {
		p, err = m.o.Control.Proofs().Finish(ctx, x.Name, &at)
		return p, err
	})
	if err != nil {
		return err
	}
	x.endAsk()
	l := p.Last
	m.o.Logger.Info("an index was compared with its tables", "index", x.Name, "physical", p.Physical, "walk", l.Number, "rows", l.Rows, "documents", l.Documents,
		"differences", l.Found, "repaired", l.Repaired, "undecided", l.Undecided, "took", l.FinishedAt.Sub(l.BeganAt).Round(time.Millisecond))
	return nil
}

// noteWalk notes how far the walk of an index is.
func (m *Manager) noteWalk(ctx context.Context, x *index, at *control.Walk) error {
	x.noting.Lock()
	defer x.noting.Unlock()
	err := retry.Do(ctx, m.o.Alarm, "note how far index "+x.Name+" is compared", func(ctx context.Context) error {
		return m.o.Control.Proofs().Advance(ctx, x.Name, at)
	})
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.proof.Walk = *at
	x.mu.Unlock()
	return nil
}

// rebuildInstead asks for a rebuild of an index that differs so much that repairing it document by
// document would cost more, where differences are repaired.
func (m *Manager) rebuildInstead(ctx context.Context, x *index, why error) error {
	if m.o.Verify.OnDifference == mapping.OnDifferenceReport {
		m.o.Logger.Error("an index differs from its tables, and the rest of it was not compared", "index", x.Name, "error", why)
		return nil
	}
	m.o.Logger.Error("an index differs so much from its tables that it is rebuilt", "index", x.Name, "error", why)
	_, err := m.o.Control.Requests().Add(ctx, &control.Request{Kind: control.KindReindex, Index: x.Name})
	return err
}

// A differenceLog counts the differences of one walk in one process, and logs the first ones.
type differenceLog struct {
	m      *Manager
	x      *index
	logged int
}

func (l *differenceLog) add(d verify.Difference) error {
	l.x.mu.Lock()
	l.x.found++
	if d.Repaired {
		l.x.repaired++
	}
	l.x.mu.Unlock()
	if l.logged++; l.logged <= loggedDifferences {
		l.m.o.Logger.Warn("a document differs from its row", "index", l.x.Name, "id", d.ID, "kind", d.Kind, "path", d.Path, "repaired", d.Repaired)
	}
	if l.logged == loggedDifferences+1 {
		l.m.o.Logger.Warn(fmt.Sprintf("more than %d documents differ from their rows; the others are counted, and not logged one by one", loggedDifferences), "index", l.x.Name)
	}
	return nil
}
