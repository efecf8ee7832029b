package reindex

import (
	"context"
	"errors"
	"fmt"

	"tidemark/dbsync"
	"tidemark/reindex/control"
)

// openRequests returns the requests that have not ended, by index, each in the order in which
// they were made. Those that cancel are done at once, and those that name no index of ours are
// refused.
func (m *Manager) openRequests(ctx context.Context) (map[*index][]*control.Request, error) {
	var all []*control.Request
	err := m.retry(ctx, "look for requests", func(ctx context.Context) (err error) {
		all, err = m.o.Control.Requests().Open(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	open := make(map[*index][]*control.Request)
	for _, q := range all {
		x := m.byName[q.Index]
		switch {
		case x == nil:
			err = m.endRequest(ctx, q, fmt.Errorf("the running mapping has no index %s", q.Index))
		case q.Kind == control.KindCancel:
			open[x], err = m.cancelRebuild(ctx, x, q, open[x])
		default:
			open[x] = append(open[x], q)
		}
		if err != nil {
			return nil, err
		}
	}
	return open, nil
}

// cancelRebuild does what the request q asks: it gives up the rebuild of an index that is under
// way, and those that were asked for before q and have not begun. before are the requests that
// were made before q; what is left open of them and of q is returned.
func (m *Manager) cancelRebuild(ctx context.Context, x *index, q *control.Request, before []*control.Request) (left []*control.Request, err error) {
	outcome := x.cancel(m.o.Catalog.Tables())
	if errors.Is(outcome, errNotYet) {
		return append(before, q), nil
	}
	// What an earlier process has begun, and Run was going on with, is no worker's to end.
	resumed := outcome == nil && !x.isRunDone()
	for _, other := range before {
		switch {
		case other.Kind != control.KindReindex || other.Phase != control.PhaseWaiting && !resumed:
			left = append(left, other)
			continue
		case resumed:
			err = m.endRequest(ctx, other, errCancelled)
		default:
			waited := false
			err = m.retry(ctx, fmt.Sprintf("cancel request %d", other.ID), func(ctx context.Context) (err error) {
				waited, err = m.o.Control.Requests().CancelWaiting(ctx, other.ID)
				return err
			})
			if err == nil && !waited { // a worker has begun with it just now, or it has ended
				return append(before, q), nil
			}
		}
		if err != nil {
			return nil, err
		}
		outcome = nil
	}
	return left, m.endRequest(ctx, q, outcome)
}

// beginRequest notes that a request is being worked on, and reports whether it is still open.
func (m *Manager) beginRequest(ctx context.Context, q *control.Request) (open bool, err error) {
	err = m.retry(ctx, fmt.Sprintf("begin request %d", q.ID), func(ctx context.Context) (err error) {
		open, err = m.o.Control.Requests().Begin(ctx, q.ID)
		return err
	})
	return open, err
}

// endRequest notes what became of a request: it is done where outcome is nil.
func (m *Manager) endRequest(ctx context.Context, q *control.Request, outcome error) error {
	phase, message := control.PhaseDone, ""
	switch {
	case errors.Is(outcome, errCancelled):
		phase = control.PhaseCancelled
	case outcome != nil:
		phase, message = control.PhaseFailed, dbsync.WithoutValues(outcome)
		m.o.Logger.Error("a request failed", "request", q.ID, "kind", q.Kind, "index", q.Index, "error", outcome)
	}
	return m.retry(ctx, fmt.Sprintf("note the end of request %d", q.ID), func(ctx context.Context) error {
		return m.o.Control.Requests().End(ctx, q.ID, phase, message)
	})
}

// ask makes a request of this instance's own, and waits until its worker has done it.
func (m *Manager) ask(ctx context.Context, q *control.Request) error {
	id, err := m.o.Control.Requests().Add(ctx, q)
	if err != nil {
		return err
	}
	ended, err := m.awaitRequest(ctx, id)
	if err == nil && ended.Phase != control.PhaseDone {
		err = fmt.Errorf("request %d has %s: %s", id, ended.Phase, ended.Message)
	}
	return err
}

// awaitRequest waits until a request has ended. It is this instance that does it.
func (m *Manager) awaitRequest(ctx context.Context, id int64) (*control.Request, error) {
	return m.o.Control.Requests().Await(ctx, id, func(*control.Request) error { return nil })
}
