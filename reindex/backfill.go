package reindex

import (
	"context"
	"errors"

	"tidemark/indexer"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// backfill reads the tables of an index chunk by chunk into the physical index that is being
// built, and puts that behind the alias. When it is cancelled it removes what it has built,
// and returns errCancelled.
func (m *Manager) backfill(ctx context.Context, x *index) error {
	st := x.state()
	bar := m.o.Progress.Begin(st.Name, verify.Rows{Stored: st.Done, Estimated: st.Total})
	defer bar.Stop()
	if err := m.retry(ctx, "note that the backfill of "+st.Building.Physical+" goes on", func(ctx context.Context) error {
		return m.o.Control.States().Resume(ctx, &st)
	}); err != nil {
		return err
	}

	work, done := x.cancellable(ctx)
	defer done()
	m.wake() // somebody may have asked to cancel it already
	for ; st.Source < len(x.Sources); st.Source, st.Cursor = st.Source+1, nil {
		err := m.backfillSource(work, x, &st, bar)
		if errors.Is(context.Cause(work), errCancelled) {
			return errors.Join(errCancelled, m.abandon(ctx, x))
		}
		if err != nil {
			return err
		}
	}
	done() // from here on it is not given up
	err := m.complete(ctx, x, &st)
	if wrong, ok := errors.AsType[*CountError](err); ok {
		return errors.Join(wrong, m.abandon(ctx, x)) // going on with it would end so for ever
	}
	if err != nil {
		return err
	}
	bar.Done()
	return nil
}

// backfillSource reads the table that st is at. It notes in st, in the control schema and in the
// index what is stored.
func (m *Manager) backfillSource(ctx context.Context, x *index, st *control.State, bar verify.Bar) error {
	plan, err := indexer.NewRowPlan(x.documents, x.Sources[st.Source], m.o.Catalog.Tables(), m.targets(st.Name, st.Building)...)
	if err != nil {
		return err
	}
	rows := indexer.NewPager(plan, st.Cursor)
	// What was streamed before the index was there, and is not seen yet, has not gone to it.
	rows.Since = m.o.Syncer.Moment()
	return m.copyRows(ctx, rows, func(c *chunk) error {
		st.Cursor = indexer.KeyTexts(c.cursor)
		rows := int64(c.window.Len())
		st.Done += rows
		if err := m.retry(ctx, "note the progress of "+st.Building.Physical, func(ctx context.Context) error {
			return m.o.Control.States().Advance(ctx, st)
		}); err != nil {
			return err
		}
		x.set(*st)
		x.addFilled(rows)
		bar.Add(rows)
		m.o.Logger.Debug("stored a chunk", "index", st.Name, "rows", rows, "dropped", c.window.Dropped(), "rows_done", st.Done)
		return nil
	})
}

// abandon gives up what is being built: nothing more is written to it, and it is removed.
func (m *Manager) abandon(ctx context.Context, x *index) error {
	st := x.state()
	building := st.Building.Physical
	if err := m.retry(ctx, "note that "+building+" is given up", func(ctx context.Context) error {
		return m.o.Control.States().Abandon(ctx, &st)
	}); err != nil {
		return err
	}
	st.NotBuilding()
	if err := m.enter(x, st); err != nil {
		return err
	}
	// What is in a batch already is still written to it.
	if err := m.barrier(ctx); err != nil {
		return err
	}
	m.o.Logger.Info("a rebuild is given up", "index", st.Name, "physical", building)
	return m.retry(ctx, "drop "+building, func(ctx context.Context) error { return m.drop(ctx, st.Name, building) })
}
