package reindex

import (
	"context"
	"errors"
	"fmt"

	"tidemark/dbsync"
	"tidemark/indexer"
)

// fill reads the tables of an index chunk by chunk into the physical index that is being
// built, and puts that behind the alias. The next chunk is read while the last one is
// being written.
func (m *Manager) fill(ctx context.Context, d *indexer.Documents) error {
	st := *m.State(d.Index.Name)
	bar := m.bar(&st)
	defer bar.Stop()

	for ; st.Source < len(d.Index.Sources); st.Source, st.Cursor = st.Source+1, nil {
		if err := m.fillSource(ctx, d, &st, bar); err != nil {
			return err
		}
	}
	if err := m.complete(ctx, d, &st); err != nil {
		return err
	}
	bar.Done()
	return nil
}

// fillSource reads one table.
func (m *Manager) fillSource(ctx context.Context, d *indexer.Documents, st *State, bar Bar) error {
	plan, err := indexer.NewRowPlan(d, d.Index.Sources[st.Source], m.o.Catalog.Tables(), indexer.WriteAlias(st.Name, st.Building))
	if err != nil {
		return err
	}
	rows := newChunks(plan, st.Cursor)
	var before *stored
	for more := true; more; {
		w, err := m.read(ctx, rows)
		if err != nil {
			return err
		}
		if more, err = rows.read(w); err != nil {
			return err
		}
		if err := m.advance(ctx, st, before, bar); err != nil {
			return err
		}
		before = &stored{window: w, cursor: rows.cursor}
	}
	return m.advance(ctx, st, before, bar)
}

// read reads the next chunk. A table that was altered meanwhile is read as it is now; a row
// that Postgres can make no document of becomes a dead letter.
func (m *Manager) read(ctx context.Context, rows *chunks) (*dbsync.Window, error) {
	sel, loaded := rows.next(), false
	for {
		w, err := m.o.Syncer.OpenWindow(ctx, sel)
		_, gone := errors.AsType[*dbsync.NoTableError](err)
		switch {
		case !gone && !indexer.IsRefusedStatement(err):
			return w, err
		case !loaded:
			loaded = true
			if rows.plan, err = m.o.Catalog.Reload(ctx, m.o.Syncer.DB(), rows.plan); err != nil {
				return nil, err
			}
			sel = rows.next()
		case indexer.IsDataError(err):
			only, err := rows.narrow(err)
			if err != nil {
				return nil, err
			}
			if sel = rows.next(); only != nil {
				sel = *only
			}
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

// advance waits until a chunk is stored, and notes that. A crash before the note costs
// the chunk's being read and written again.
func (m *Manager) advance(ctx context.Context, st *State, chunk *stored, bar Bar) error {
	if chunk == nil {
		return nil
	}
	if err := m.o.Syncer.AwaitStored(ctx, chunk.window); err != nil {
		return err
	}
	if chunk.window.Len() == 0 {
		return nil
	}
	st.Cursor = st.Cursor[:0:0]
	for _, v := range chunk.cursor {
		st.Cursor = append(st.Cursor, string(v))
	}
	st.Done += int64(chunk.window.Len())
	if err := m.retry(ctx, "note the progress of "+st.Building, func(ctx context.Context) error {
		return m.o.States.advance(ctx, st)
	}); err != nil {
		return err
	}
	noted := *st
	m.set(&noted)
	bar.Add(int64(chunk.window.Len()))
	m.o.Logger.Debug("stored a chunk", "index", st.Name, "rows", chunk.window.Len(), "dropped", chunk.window.Dropped(), "done", st.Done)
	return nil
}

// complete puts a physical index that was filled behind the alias. Each step can be
// repeated: a crash between two of them costs their repetition.
func (m *Manager) complete(ctx context.Context, d *indexer.Documents, st *State) error {
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
	var old []string
	err = m.retry(ctx, "put "+st.Building+" behind alias "+st.Name, func(ctx context.Context) error {
		if err := m.o.Client.PutSettings(ctx, st.Building, settings); err != nil {
			return err
		}
		if err := m.o.Client.Refresh(ctx, st.Building); err != nil {
			return err
		}
		moved, err := m.o.Client.MoveAlias(ctx, st.Name, st.Building)
		old = append(old, moved...)
		return err
	})
	if err != nil {
		return err
	}
	if err := m.retry(ctx, "note that "+st.Building+" is complete", func(ctx context.Context) error {
		return m.o.States.finish(ctx, st)
	}); err != nil {
		return err
	}
	finished := *st
	finished.Live, finished.LiveFingerprint = st.Building, st.BuildingFingerprint
	finished.Building, finished.BuildingFingerprint, finished.Source, finished.Cursor = "", "", 0, nil
	m.set(&finished)
	d.SetTargets(targets(&finished)...)
	m.o.Logger.Info("index is complete, the alias stands for it", "index", st.Name, "physical", finished.Live, "rows", st.Done)
	return m.dropOld(ctx, d, &finished)
}

// dropOld removes the physical indices that the alias does not stand for any more, but
// for as many as the mapping wants to keep.
func (m *Manager) dropOld(ctx context.Context, d *indexer.Documents, st *State) error {
	passed := false
	return m.retry(ctx, "drop the old indices of "+st.Name, func(ctx context.Context) error {
		all, err := m.o.Client.PhysicalIndices(ctx, st.Name)
		if err != nil {
			return err
		}
		var old []string
		for _, physical := range all {
			if physical < st.Live { // in order of time
				old = append(old, physical)
			}
		}
		for _, physical := range old[:max(0, len(old)-d.Index.Reindex.KeepOld)] {
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

// retry repeats what may fail in passing, at either server.
func (m *Manager) retry(ctx context.Context, what string, f func(ctx context.Context) error) error {
	err := indexer.Retry(ctx, m.o.Alarm, what, func(ctx context.Context) error {
		err := f(ctx)
		if err != nil && !isLasting(err) {
			return &indexer.LostError{Err: err}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// bar returns what shows the progress of an index.
func (m *Manager) bar(st *State) Bar {
	if m.o.Progress == nil {
		return noBar{}
	}
	return m.o.Progress.Begin(st.Name, st.Done, st.Total)
}

type noBar struct{}

func (noBar) Add(int64) {}
func (noBar) Done()     {}
func (noBar) Stop()     {}
