package reindex

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"

	"tidemark/indexer"
)

// poke has Serve look for what there is to do.
func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Serve keeps the indices complete when tables are altered, and does what is asked for in
// the table of requests, until ctx is done. Work on different indices goes on at the same
// time, as far as Run's bound lets it.
func (m *Manager) Serve(ctx context.Context) error {
	p := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	p.Go(func(ctx context.Context) error { return m.o.Requests.Listen(ctx, m.o.Alarm, m.poke) })
	p.Go(m.dispatch)
	return p.Wait()
}

// dispatch hands what there is to do to one worker for each index.
func (m *Manager) dispatch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers conc.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, parallel)
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
		for _, d := range m.o.Documents {
			name := d.Index.Name
			requests := slices.DeleteFunc(slices.Clone(open), func(q *Request) bool { return q.Index != name })
			if busy[name] || len(requests) == 0 && !m.isAltered(name) {
				continue
			}
			busy[name] = true
			workers.Go(func() {
				err := m.work(ctx, d, requests, slots)
				if err != nil && ctx.Err() == nil {
					cancel(fmt.Errorf("index %s: %w", name, err))
				}
				free <- name
			})
		}
	}
}

// open returns the requests that have not ended. Those that cancel are done at once, and
// those that name no index of ours are refused.
func (m *Manager) open(ctx context.Context) (open []*Request, err error) {
	err = m.retry(ctx, "look for requests", func(ctx context.Context) error {
		open, err = m.o.Requests.Open(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var left []*Request
	for _, q := range open {
		known := slices.ContainsFunc(m.o.Documents, func(d *indexer.Documents) bool { return d.Index.Name == q.Index })
		switch {
		case !known:
			err = m.end(ctx, q, fmt.Errorf("the running mapping has no index %s", q.Index))
		case q.Kind == KindCancel:
			err = m.end(ctx, q, m.cancel(q.Index))
		default:
			left = append(left, q)
		}
		if err != nil {
			return nil, err
		}
	}
	return left, nil
}

// cancel gives up the rebuild of an index that is under way.
func (m *Manager) cancel(index string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	st, cancel := m.states[index], m.cancels[index]
	switch {
	case cancel == nil:
		return errors.New("the index is not being rebuilt")
	case st.Live == "":
		return errors.New("the index is filled for the first time: there is nothing to go back to")
	case st.LiveFingerprint != st.BuildingFingerprint:
		return errors.New("the index is rebuilt because the mapping or a table is another one than that of the index in use; put the mapping back instead")
	}
	cancel(errCancelled)
	return nil
}

// end notes what became of a request: it is done where err is nil.
func (m *Manager) end(ctx context.Context, q *Request, err error) error {
	phase, message := PhaseDone, ""
	switch {
	case errors.Is(err, errCancelled):
		phase = PhaseCancelled
	case err != nil:
		phase, message = PhaseFailed, err.Error()
		m.o.Logger.Error("a request failed", "request", q.ID, "kind", q.Kind, "index", q.Index, "error", err)
	}
	return m.retry(ctx, fmt.Sprintf("note the end of request %d", q.ID), func(ctx context.Context) error {
		return m.o.Requests.end(ctx, q.ID, phase, message)
	})
}

// work does what there is to do for one index.
func (m *Manager) work(ctx context.Context, d *indexer.Documents, requests []*Request, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if changes := m.takeAltered(d.Index.Name); len(changes) > 0 {
		if err := m.follow(ctx, d, changes); err != nil && !errors.Is(err, errCancelled) {
			return err
		}
	}
	rebuilt := false // one rebuild serves all who have asked for it
	for _, q := range requests {
		var err error
		switch q.Kind {
		case KindRefresh:
			err = m.refresh(ctx, d, q)
		case KindReindex:
			if !rebuilt {
				rebuilt, err = true, m.rebuild(ctx, d, q)
			}
		default:
			err = fmt.Errorf("this version does not know what %q is", q.Kind)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx) // the next process goes on with it
		}
		if err := m.end(ctx, q, err); err != nil {
			return err
		}
	}
	return nil
}

// rebuild rebuilds the index because somebody asked for it. One that an earlier process
// has begun, and Run has completed meanwhile, is not done again.
func (m *Manager) rebuild(ctx context.Context, d *indexer.Documents, q *Request) error {
	st := m.State(d.Index.Name)
	if q.Phase == PhaseRunning && st.FinishedAt.After(q.CreatedAt) && !st.StartedAt.Before(q.CreatedAt) {
		return nil
	}
	if err := m.retry(ctx, "begin the rebuild of "+st.Name, func(ctx context.Context) error { return m.o.Requests.begin(ctx, q.ID) }); err != nil {
		return err
	}
	if err := m.start(ctx, d, "it was asked for"); err != nil {
		return err
	}
	return m.fill(ctx, d)
}

// refresh stores the documents of some rows again.
func (m *Manager) refresh(ctx context.Context, d *indexer.Documents, q *Request) error {
	source := d.Index.Sources[0]
	for _, s := range d.Index.Sources {
		if s.Table.String() == q.Source {
			source = s
		}
	}
	plan, err := indexer.NewRowPlan(d, source, m.o.Catalog.Tables(), d.Targets()...)
	if err != nil {
		return err
	}
	plan.Live = true
	rows := newChunks(plan, nil)
	rows.where = q.Condition
	for _, key := range q.Keys {
		values := make([][]byte, len(key))
		for i, v := range key {
			values[i] = []byte(v)
		}
		rows.keys = append(rows.keys, values)
	}
	if err := m.retry(ctx, "begin the refresh of "+d.Index.Name, func(ctx context.Context) error { return m.o.Requests.begin(ctx, q.ID) }); err != nil {
		return err
	}
	var done int64
	return m.copy(ctx, rows, func(chunk *stored) error {
		done += int64(chunk.window.Len())
		return m.retry(ctx, "note the progress of a refresh", func(ctx context.Context) error { return m.o.Requests.advance(ctx, q.ID, done) })
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
		built, err := m.build(ctx, d, m.State(name), why, d.Index.Fingerprint(m.o.Catalog.Tables()), generation)
		if err != nil {
			return err
		}
		m.set(built)
		return m.split(d, built)
	})
}
