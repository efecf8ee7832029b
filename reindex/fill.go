package reindex

import (
	"context"
	"errors"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// errCancelled ends a filling that somebody has asked to give up.
var errCancelled = errors.New("the rebuild was cancelled")

// fill reads the tables of an index chunk by chunk into the physical index that is being
// built, and puts that behind the alias. When it is cancelled it removes what it has built,
// and returns errCancelled.
func (m *Manager) fill(ctx context.Context, d *indexer.Documents) error {
	st := *m.State(d.Index.Name)
	bar := m.bar(&st)
	defer bar.Stop()
	if err := m.retry(ctx, "note that the filling of "+st.Building.Physical+" goes on", func(ctx context.Context) error {
		return m.o.States.Resume(ctx, &st)
	}); err != nil {
		return err
	}

	work, done := m.cancellable(ctx, st.Name)
	defer done()
	for ; st.Source < len(d.Index.Sources); st.Source, st.Cursor = st.Source+1, nil {
		err := m.fillSource(work, d, &st, bar)
		if errors.Is(context.Cause(work), errCancelled) {
			return errors.Join(errCancelled, m.abandon(ctx, d))
		}
		if err != nil {
			return err
		}
	}
	done() // from here on it is not given up
	err := m.complete(ctx, d, &st)
	if wrong, ok := errors.AsType[*CountError](err); ok {
		return errors.Join(wrong, m.abandon(ctx, d)) // going on with it would end so for ever
	}
	if err != nil {
		return err
	}
	bar.Done()
	return nil
}

// fillSource reads one table.
func (m *Manager) fillSource(ctx context.Context, d *indexer.Documents, st *control.State, bar verify.Bar) error {
	plan, err := indexer.NewRowPlan(d, d.Index.Sources[st.Source], m.o.Catalog.Tables(), search.WriteAlias(st.Name, st.Building.Physical))
	if err != nil {
		return err
	}
	return m.copy(ctx, indexer.NewPager(plan, st.Cursor), func(chunk *stored) error {
		st.Cursor = st.Cursor[:0:0]
		for _, v := range chunk.cursor {
			st.Cursor = append(st.Cursor, string(v))
		}
		st.Done += int64(chunk.window.Len())
		if err := m.retry(ctx, "note the progress of "+st.Building.Physical, func(ctx context.Context) error {
			return m.o.States.Advance(ctx, st)
		}); err != nil {
			return err
		}
		noted := *st
		m.set(&noted)
		bar.Add(int64(chunk.window.Len()))
		m.o.Logger.Debug("stored a chunk", "index", st.Name, "rows", chunk.window.Len(), "dropped", chunk.window.Dropped(), "done", st.Done)
		return nil
	})
}

// copy reads rows chunk by chunk and has them written. The next chunk is read while the
// last one is being written; note is called when one is stored. A crash before the note
// costs the chunk's being read and written again. Of one table one chunk is read at a time.
func (m *Manager) copy(ctx context.Context, rows *indexer.Pager, note func(chunk *stored) error) error {
	release, err := m.exclusive(ctx, rows.Plan.Source.Table)
	if err != nil {
		return err
	}
	defer release()
	limit := indexer.Limiter(rows.Plan.Source.Index.Reindex.MaxRowsPerSecond)
	advance := func(chunk *stored) error {
		if chunk == nil {
			return nil
		}
		if err := m.o.Syncer.AwaitStored(ctx, chunk.window); err != nil {
			return err
		}
		if chunk.window.Len() == 0 {
			return nil
		}
		return note(chunk)
	}
	var before *stored
	for more := true; more; {
		w, err := m.read(ctx, rows)
		if err != nil {
			return err
		}
		if more, err = rows.Read(w); err != nil {
			return err
		}
		if err := advance(before); err != nil {
			return err
		}
		before = &stored{window: w, cursor: rows.Cursor}
		if err := limit.WaitN(ctx, w.Len()); err != nil {
			return err
		}
	}
	return advance(before)
}

// exclusive waits until nobody else reads the table. The rows that change meanwhile are
// remembered by one key for each table.
func (m *Manager) exclusive(ctx context.Context, table catalog.TableName) (release func(), err error) {
	m.mu.Lock()
	held := m.reading[table]
	if held == nil {
		held = make(chan struct{}, 1)
		m.reading[table] = held
	}
	m.mu.Unlock()
	select {
	case held <- struct{}{}:
		return func() { <-held }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// cancellable returns the context for the filling of an index, which Cancel ends.
func (m *Manager) cancellable(ctx context.Context, index string) (_ context.Context, done func()) {
	work, cancel := context.WithCancelCause(ctx)
	m.mu.Lock()
	m.cancels[index] = cancel
	delete(m.asked, index)
	m.mu.Unlock()
	m.poke() // somebody may have asked to cancel it already
	return work, func() {
		m.mu.Lock()
		delete(m.cancels, index)
		m.mu.Unlock()
		cancel(nil)
	}
}

// abandon gives up what is being filled: nothing more is written to it, and it is removed.
func (m *Manager) abandon(ctx context.Context, d *indexer.Documents) error {
	st := *m.State(d.Index.Name)
	building := st.Building.Physical
	if err := m.retry(ctx, "note that "+building+" is given up", func(ctx context.Context) error {
		return m.o.States.Abandon(ctx, &st)
	}); err != nil {
		return err
	}
	st.NotBuilding()
	m.set(&st)
	if err := m.split(d, &st); err != nil {
		return err
	}
	// What is in a batch already is still written to it.
	if err := m.o.Syncer.Barrier(ctx); err != nil {
		return err
	}
	m.o.Logger.Info("a rebuild is given up", "index", st.Name, "physical", building)
	return m.retry(ctx, "drop "+building, func(ctx context.Context) error { return m.drop(ctx, st.Name, building) })
}

// read reads the next chunk. A table that was altered meanwhile is read as it is now; a row
// that Postgres can make no document of becomes a dead letter.
func (m *Manager) read(ctx context.Context, rows *indexer.Pager) (*dbsync.Window, error) {
	sel, loaded, refusing := rows.Next(), false, false
	for {
		w, err := m.o.Syncer.OpenWindow(ctx, sel)
		_, gone := errors.AsType[*dbsync.NoTableError](err)
		switch {
		case !gone && !indexer.IsRefusedStatement(err):
			return w, err
		case !loaded:
			loaded = true
			if rows.Plan, err = m.o.Catalog.Reload(ctx, m.o.Syncer.DB(), rows.Plan); err != nil {
				return nil, err
			}
			sel = rows.Next()
		case indexer.IsDataError(err) && !refusing:
			sel, refusing = rows.Narrow(err) // what the condition is to blame for comes again
		default:
			return nil, err
		}
	}
}

// stored is a chunk that was handed on, and the key of its last row.
type stored struct {
	window *dbsync.Window
	cursor [][]byte
}

// complete puts a physical index that was filled behind the alias. Each step can be
// repeated: a crash between two of them costs their repetition.
func (m *Manager) complete(ctx context.Context, d *indexer.Documents, st *control.State) error {
	body, err := d.Index.Body(m.o.Catalog.Tables())
	if err != nil {
		return err
	}
	settings, err := filledSettings(body)
	if err != nil {
		return err
	}
	// The last rows of the table may have come by the stream.
	if err := m.o.Syncer.Barrier(ctx); err != nil {
		return err
	}
	if err := m.retry(ctx, "end the filling of "+st.Building.Physical, func(ctx context.Context) error {
		if err := m.o.Client.PutSettings(ctx, st.Building.Physical, settings); err != nil {
			return err
		}
		return m.o.Client.Refresh(ctx, st.Building.Physical)
	}); err != nil {
		return err
	}
	if err := m.awaitCluster(ctx, st); err != nil {
		return err
	}
	if err := m.checkCount(ctx, d, st); err != nil {
		return err
	}
	if err := m.retry(ctx, "put "+st.Building.Physical+" behind alias "+st.Name, func(ctx context.Context) error {
		_, err := m.o.Client.MoveAlias(ctx, st.Name, st.Building.Physical)
		return err
	}); err != nil {
		return err
	}
	if err := m.retry(ctx, "note that "+st.Building.Physical+" is complete", func(ctx context.Context) error {
		return m.o.States.Finish(ctx, st)
	}); err != nil {
		return err
	}
	finished := *st
	finished.Live = st.Building
	finished.NotBuilding()
	m.set(&finished)
	if err := m.split(d, &finished); err != nil {
		return err
	}
	m.o.Logger.Info("index is complete, the alias stands for it", "index", st.Name, "physical", finished.Live.Physical, "rows", st.Done)
	return m.dropOld(ctx, d, &finished)
}

// dropOld removes the physical indices that the alias does not stand for any more, but
// for as many as the mapping wants to keep.
func (m *Manager) dropOld(ctx context.Context, d *indexer.Documents, st *control.State) error {
	passed := false
	return m.retry(ctx, "drop the old indices of "+st.Name, func(ctx context.Context) error {
		all, err := m.o.Client.PhysicalIndices(ctx, st.Name)
		if err != nil {
			return err
		}
		var old, left []string
		for _, physical := range all {
			switch {
			case physical < st.Live.Physical: // in order of time
				old = append(old, physical)
			case physical != st.Live.Physical && physical != st.Building.Physical: // given up, by a process that ended then
				left = append(left, physical)
			}
		}
		for _, physical := range append(left, old[:max(0, len(old)-d.Index.Reindex.KeepOld)]...) {
			if !passed {
				// What is in a batch already is still written to the index before.
				if err := m.o.Syncer.Barrier(ctx); err != nil {
					return err
				}
				passed = true
			}
			if err := m.drop(ctx, st.Name, physical); err != nil {
				return err
			}
		}
		return nil
	})
}

// retry repeats what may fail in passing, at either server, see [retry.Do].
func (m *Manager) retry(ctx context.Context, what string, f func(ctx context.Context) error) error {
	return retry.Do(ctx, m.o.Alarm, what, f)
}

// bar returns what shows the progress of an index.
func (m *Manager) bar(st *control.State) verify.Bar {
	if m.o.Progress == nil {
		return noBar{}
	}
	return m.o.Progress.Begin(st.Name, st.Done, st.Total)
}

type noBar struct{}

func (noBar) Add(int64) {}
func (noBar) Done()     {}
func (noBar) Stop()     {}
