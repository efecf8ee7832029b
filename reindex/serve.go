package reindex

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sourcegraph/conc"

	"tidemark/indexer"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// poke has Serve look for what there is to do.
func (m *Manager) poke() {
	m.wakeServe()
	select {
	case m.look <- struct{}{}: // an index may be complete now
	default:
	}
}

func (m *Manager) wakeServe() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Serve keeps the indices complete when tables are altered, and does what is asked for in
// the table of requests, from Begin on until ctx is done, or, once, until Run and all that
// was asked for are done. Work on different indices goes on at the same time, as far as
// Run's bound lets it.
func (m *Manager) Serve(ctx context.Context, once bool) error {
	select {
	case <-m.begun: // before, what is asked for is another process's to do
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, stop := context.WithCancelCause(ctx)
	var listener conc.WaitGroup
	defer listener.Wait()
	defer stop(nil)
	listener.Go(func() { stop(m.o.Requests.Listen(ctx, m.o.Alarm, m.poke)) })
	listener.Go(func() { stop(m.watchPartitions(ctx)) })
	return m.dispatch(ctx, once)
}

// dispatch hands what there is to do to one worker for each index.
func (m *Manager) dispatch(ctx context.Context, once bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers conc.WaitGroup
	defer workers.Wait()
	free := make(chan string, len(m.o.Documents)) // indices whose worker has ended
	busy := make(map[string]bool)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case index := <-free:
			delete(busy, index)
		case <-m.wake:
		}
		open, err := m.open(ctx)
		if err != nil {
			return err
		}
		idle := m.hasLooked()
		for _, d := range m.o.Documents {
			name := d.Index.Name
			requests := slices.DeleteFunc(slices.Clone(open), func(q *control.Request) bool { return q.Index != name })
			settled, altered := m.isSettled(name)
			idle = idle && settled && !altered && !busy[name] && len(requests) == 0
			if busy[name] || !settled || len(requests) == 0 && !altered {
				continue
			}
			busy[name] = true
			workers.Go(func() {
				err := m.work(ctx, d, requests)
				if err != nil && ctx.Err() == nil {
					cancel(fmt.Errorf("index %s: %w", name, err))
				}
				free <- name
			})
		}
		if once && idle {
			return nil
		}
	}
}

// open returns the requests that have not ended. Those that cancel are done at once, and
// those that name no index of ours are refused.
func (m *Manager) open(ctx context.Context) (left []*control.Request, err error) {
	var open []*control.Request
	err = m.retry(ctx, "look for requests", func(ctx context.Context) error {
		open, err = m.o.Requests.Open(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, q := range open {
		known := slices.ContainsFunc(m.o.Documents, func(d *indexer.Documents) bool { return d.Index.Name == q.Index })
		switch {
		case !known:
			err = m.end(ctx, q, fmt.Errorf("the running mapping has no index %s", q.Index))
		case q.Kind == control.KindCancel:
			if left, err = m.cancelAll(ctx, q, left); errors.Is(err, errNotYet) {
				left, err = append(left, q), nil
			}
		default:
			left = append(left, q)
		}
		if err != nil {
			return nil, err
		}
	}
	return left, nil
}

// errNotYet says that a rebuild is about to begin, and can be cancelled then.
var errNotYet = errors.New("the rebuild has not begun yet")

// cancelAll gives up the rebuild of an index that is under way, and those that were asked
// for before it and have not begun. It returns what is left of the open requests.
func (m *Manager) cancelAll(ctx context.Context, q *control.Request, open []*control.Request) (left []*control.Request, err error) {
	given := m.cancel(q.Index)
	if errors.Is(given, errNotYet) {
		return open, given
	}
	// What an earlier process has begun, and Run was going on with, is no worker's to end.
	settled, _ := m.isSettled(q.Index)
	resumed := given == nil && !settled
	for _, other := range open {
		if other.Kind != control.KindReindex || other.Index != q.Index || other.Phase != control.PhaseWaiting && !resumed {
			left = append(left, other)
			continue
		}
		if err := m.end(ctx, other, errCancelled); err != nil {
			return nil, err
		}
		given = nil
	}
	return left, m.end(ctx, q, given)
}

// cancel gives up the rebuild of an index that is under way.
func (m *Manager) cancel(index string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	st, cancel := m.states[index], m.cancels[index]
	switch {
	case cancel == nil && (m.asked[index] || !m.settled[index] && st.Building.Physical != ""):
		return errNotYet
	case cancel == nil:
		return errors.New("the index is not being rebuilt, or is complete but for its alias")
	case st.Live.Physical == "":
		return errors.New("the index is filled for the first time: there is nothing to go back to")
	case st.Live.Fingerprint != st.Building.Fingerprint && !m.isOfMapping(index, st.Live.Fingerprint):
		return errors.New("the index is rebuilt because the mapping or a table is another one than that of the index in use; put the mapping back instead")
	}
	cancel(errCancelled)
	return nil
}

// isOfMapping reports whether a fingerprint, which an earlier version may have made, is that of
// the mapping of an index and its tables as they are.
func (m *Manager) isOfMapping(index, fingerprint string) bool {
	return slices.ContainsFunc(m.o.Documents, func(d *indexer.Documents) bool {
		return d.Index.Name == index && d.Index.Matches(fingerprint, m.o.Catalog.Tables())
	})
}

// end notes what became of a request: it is done where err is nil.
func (m *Manager) end(ctx context.Context, q *control.Request, err error) error {
	phase, message := control.PhaseDone, ""
	switch {
	case errors.Is(err, errCancelled):
		phase = control.PhaseCancelled
	case err != nil:
		phase, message = control.PhaseFailed, err.Error()
		m.o.Logger.Error("a request failed", "request", q.ID, "kind", q.Kind, "index", q.Index, "error", err)
	}
	return m.retry(ctx, fmt.Sprintf("note the end of request %d", q.ID), func(ctx context.Context) error {
		return m.o.Requests.End(ctx, q.ID, phase, message)
	})
}

// work does what there is to do for one index.
func (m *Manager) work(ctx context.Context, d *indexer.Documents, requests []*control.Request) error {
	release, err := m.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	if m.takeAltered(d.Index.Name) {
		if err := m.follow(ctx, d); err != nil && !errors.Is(err, errCancelled) {
			return err
		}
	}
	rebuilt := false // one rebuild serves all who have asked for it
	var outcome error
	for _, q := range requests {
		open := false
		err := m.retry(ctx, fmt.Sprintf("begin request %d", q.ID), func(ctx context.Context) (err error) {
			open, err = m.o.Requests.Begin(ctx, q.ID)
			return err
		})
		if err != nil {
			return err
		}
		if !open {
			continue // it was cancelled
		}
		switch q.Kind {
		case control.KindRefresh:
			err = m.refresh(ctx, d, q)
		case control.KindReindex:
			if !rebuilt {
				rebuilt, outcome = true, m.rebuild(ctx, d, q)
			}
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
		if err := m.end(ctx, q, err); err != nil {
			return err
		}
	}
	return nil
}

// rebuild rebuilds the index because somebody asked for it. One that an earlier process
// has begun, and Run has completed meanwhile, is not done again.
func (m *Manager) rebuild(ctx context.Context, d *indexer.Documents, q *control.Request) error {
	st := m.State(d.Index.Name)
	if q.Phase == control.PhaseRunning && st.FinishedAt.After(q.CreatedAt) && !st.StartedAt.Before(q.CreatedAt) {
		return nil
	}
	m.mu.Lock()
	m.asked[st.Name] = true
	m.mu.Unlock()
	err := m.start(ctx, d, "it was asked for")
	if err == nil {
		err = m.fill(ctx, d)
	}
	m.mu.Lock()
	delete(m.asked, st.Name) // a cancellable filling has done so already
	m.mu.Unlock()
	m.poke()
	if _, taken := errors.AsType[*control.TakenOverError](err); err == nil || taken || ctx.Err() != nil || m.State(st.Name).Building.Physical == "" {
		return err
	}
	return errors.Join(err, m.abandon(ctx, d))
}

// refresh stores the documents of some rows again.
func (m *Manager) refresh(ctx context.Context, d *indexer.Documents, q *control.Request) error {
	sources := q.Of(d.Index)
	if len(sources) == 0 {
		return fmt.Errorf("the running mapping has no documents of %s in index %s", q.Source, d.Index.Name)
	}
	var done int64
	for _, s := range sources {
		if err := m.refreshSource(ctx, d, s, q, &done); err != nil {
			return err
		}
	}
	return nil
}

// refreshSource stores the documents of rows of one source again.
func (m *Manager) refreshSource(ctx context.Context, d *indexer.Documents, source *mapping.Source, q *control.Request, done *int64) error {
	plan, err := indexer.NewRowPlan(d, source, m.o.Catalog.Tables(), d.Targets()...)
	if err != nil {
		return err
	}
	plan.Live = true
	rows := indexer.NewPager(plan, nil)
	rows.Where = q.Condition
	for _, key := range q.Keys {
		values := make([][]byte, len(key))
		for i, v := range key {
			values[i] = []byte(v)
		}
		rows.Keys = append(rows.Keys, values)
	}
	return m.copy(ctx, rows, func(chunk *stored) error {
		*done += int64(chunk.window.Len())
		return m.retry(ctx, "note the progress of a refresh", func(ctx context.Context) error { return m.o.Requests.Advance(ctx, q.ID, *done) })
	})
}

// start makes the physical index for a rebuild, and has changes written to it from now on.
func (m *Manager) start(ctx context.Context, d *indexer.Documents, why string) error {
	name := d.Index.Name
	return m.retry(ctx, "make a physical index for "+name, func(ctx context.Context) error {
		generation, err := m.generation(ctx, d)
		if err != nil {
			return err
		}
		built, err := m.build(ctx, d, m.State(name), why, generation)
		if err != nil {
			return err
		}
		m.set(built)
		return m.split(d, built)
	})
}
