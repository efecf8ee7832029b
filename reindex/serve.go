package reindex

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sourcegraph/conc"

	"tidemark/reindex/control"
)

// A signal says that there may be something to do. Raised more than once before somebody waits
// for it, it is one.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// wake has Serve look for what there is to do, and has the catalog looked at and walks begin: an
// index may be complete now.
func (m *Manager) wake() {
	m.serveWake.raise()
	m.lookWake.raise()
	m.proofWake.raise()
}

// until is how long Serve goes on.
type until int

const (
	untilStopped until = iota // until its context is done
	untilIdle                 // until there is nothing left to do
)

// Serve keeps the indices complete when tables are altered, and does what is asked for in
// the table of requests, from Begin on until ctx is done. Work on different indices goes on at
// the same time, as far as Run's bound lets it.
func (m *Manager) Serve(ctx context.Context) error { return m.serve(ctx, untilStopped) }

// ServeUntilIdle does what Serve does, until Run and all that was asked for are done,
// every index that was unproven was compared with its tables, and the indices have everything that
// was committed before that.
func (m *Manager) ServeUntilIdle(ctx context.Context) error { return m.serve(ctx, untilIdle) }

func (m *Manager) serve(ctx context.Context, end until) error {
	select {
	case <-m.begun: // before, what is asked for is another process's to do
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, stop := context.WithCancelCause(ctx)
	var watchers conc.WaitGroup
	defer watchers.Wait()
	defer stop(nil)
	watchers.Go(func() { stop(m.o.Control.Requests().Listen(ctx, m.o.Alarm, m.serveWake.raise)) })
	watchers.Go(func() { stop(m.watch(ctx)) })
	watchers.Go(func() { stop(m.walkAll(ctx, end)) })
	watchers.Go(func() { stop(m.fanOutAll(ctx)) })
	watchers.Go(func() { stop(m.guard(ctx)) })
	watchers.Go(func() { stop(m.watchRecoveries(ctx)) })
	return m.dispatch(ctx, end)
}

// dispatch hands what there is to do to one worker for each index.
func (m *Manager) dispatch(ctx context.Context, end until) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers conc.WaitGroup
	defer workers.Wait()
	free := make(chan *index, len(m.indices)) // whose worker has ended; no worker waits
	busy := make(map[*index]bool)             // that have a worker
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case x := <-free:
			delete(busy, x)
		case <-m.serveWake:
		}
		open, err := m.openRequests(ctx)
		if err != nil {
			return err
		}
		idle := m.looked.Load()
		for _, x := range m.indices {
			requests := open[x]
			runDone, pending := x.isRunDone(), len(requests) > 0 || x.isAltered() && !x.waits(time.Now())
			idle = idle && runDone && !pending && !busy[x] && !x.owesWalk()
			if busy[x] || !runDone || !pending {
				continue
			}
			busy[x] = true
			workers.Go(func() {
				err := m.work(ctx, x, requests)
				if err != nil && ctx.Err() == nil {
					cancel(fmt.Errorf("index %s: %w", x.Name, err))
				}
				free <- x
			})
		}
		if end != untilIdle || !idle || m.owesFanOuts() {
			continue
		}
		if err := m.barrier(ctx); err != nil {
			return err
		}
		if !m.owesFanOuts() { // of what was committed meanwhile
			return errors.Join(m.failures(), m.stuckFanOuts())
		}
	}
}

// work does what there is to do for one index.
func (m *Manager) work(ctx context.Context, x *index, requests []*control.Request) error {
	release, err := acquire(ctx, m.working)
	if err != nil {
		return err
	}
	defer release()
	if !x.waits(time.Now()) && x.takeAltered() {
		err := m.conform(ctx, x)
		x.endConform()
		m.proofWake.raise()
		if err != nil {
			return err
		}
	}
	rebuilt := false // one rebuild serves all who have asked for it
	var outcome error
	for _, q := range requests {
		if q.Kind == control.KindReindex {
			x.startRebuild() // before it is noted that it has begun: who cancels it sees one or the other
		}
		open, err := m.beginRequest(ctx, q)
		if err != nil {
			return err
		}
		if !open {
			x.endRebuild()
			continue // it was cancelled
		}
		switch q.Kind {
		case control.KindRefresh:
			err = m.refresh(ctx, x, q)
		case control.KindReindex:
			if !rebuilt {
				rebuilt, outcome = true, m.rebuild(ctx, x, q)
			}
			x.endRebuild()
			err = outcome
		default:
			err = fmt.Errorf("this version does not know what %q is", q.Kind)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx) // the next process goes on with it
		}
		if taken, ok := errors.AsType[*control.TakenOverError](err); ok {
			return taken // it is the other process's
		}
		if err := m.endRequest(ctx, q, err); err != nil {
			return err
		}
	}
	return nil
}
