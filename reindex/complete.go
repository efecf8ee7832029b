package reindex

import (
	"context"
	"fmt"
	"time"

	"tidemark/dbsync"
	"tidemark/reindex/control"
)

// complete puts a physical index whose backfill has come to its end behind the alias. Each step
// can be repeated: a crash between two of them costs their repetition.
func (m *Manager) complete(ctx context.Context, x *index, st *control.State) error {
	body, err := x.Body(m.o.Catalog.Tables())
	if err != nil {
		return err
	}
	settings, err := completeSettings(body)
	if err != nil {
		return err
	}
	// The last rows of the table may have come by the stream.
	if err := m.barrier(ctx); err != nil {
		return err
	}
	if err := m.retry(ctx, "end the backfill of "+st.Building.Physical, func(ctx context.Context) error {
		if err := m.o.Client.PutSettings(ctx, st.Building.Physical, settings); err != nil {
			return err
		}
		return m.o.Client.Refresh(ctx, st.Building.Physical)
	}); err != nil {
		return err
	}
	if err := m.awaitCopies(ctx, st); err != nil {
		return err
	}
	if err := m.checkCount(ctx, x, st); err != nil {
		return err
	}
	if err := m.retry(ctx, "look at the mark of "+st.Building.Physical, func(ctx context.Context) error {
		_, err := m.lookAtMarks(ctx)
		return err
	}); err != nil {
		return err
	}
	if x.isSpoiled(st.Building.Physical) {
		return &dbsync.PermanentError{Err: fmt.Errorf("%s was restored from a snapshot while it was filled, and is not put behind the alias; another one is built", st.Building.Physical)}
	}
	if err := m.retry(ctx, "put "+st.Building.Physical+" behind alias "+st.Name, func(ctx context.Context) error {
		_, err := m.o.Client.MoveAlias(ctx, st.Name, st.Building.Physical, m.owner)
		return err
	}); err != nil {
		return err
	}
	if err := m.retry(ctx, "note that "+st.Building.Physical+" is complete", func(ctx context.Context) error {
		return m.o.Control.States().Finish(ctx, st)
	}); err != nil {
		return err
	}
	st.Live = st.Building
	st.NotBuilding()
	if err := m.enter(x, *st); err != nil {
		return err
	}
	m.o.Logger.Info("index is complete, the alias stands for it", "index", st.Name, "physical", st.Live.Physical, "rows", st.Done)
	return m.dropOld(ctx, x)
}

const (
	// copiesPatience is how long is waited for the copies of an index before its alias moves.
	// An index whose copies are not there yet can be searched, but no node may fail.
	copiesPatience = 10 * time.Minute
	copiesInterval = 20 * time.Second // of one question
)

// awaitCopies waits until the copies of the index that is being completed are there.
func (m *Manager) awaitCopies(ctx context.Context, st *control.State) error {
	for end := time.Now().Add(copiesPatience); ; {
		allocated := false
		err := m.retry(ctx, "wait for the shards of "+st.Building.Physical, func(ctx context.Context) (err error) {
			allocated, err = m.o.Client.AwaitAllocated(ctx, st.Building.Physical, copiesInterval)
			return err
		})
		if err != nil || allocated {
			return err
		}
		if time.Now().After(end) {
			m.o.Logger.Warn("the alias moves before all copies of the index are there", "index", st.Name, "physical", st.Building.Physical, "waited", copiesPatience)
			return nil
		}
	}
}

// dropOld removes the physical indices that the alias does not stand for any more, but
// for as many as the mapping wants to keep.
func (m *Manager) dropOld(ctx context.Context, x *index) error {
	st := x.state()
	passed := false
	return m.retry(ctx, "drop the old indices of "+st.Name, func(ctx context.Context) error {
		standing, err := m.o.Client.Standing(ctx, st.Name)
		if err != nil {
			return err
		}
		var old, left []string
		for _, i := range standing.Physical() {
			physical := i.Name
			switch {
			case !i.IsOf(m.owner): // what somebody else has had before the name was taken over stays
			case physical < st.Live.Physical: // in order of time
				old = append(old, physical)
			case physical != st.Live.Physical && physical != st.Building.Physical: // given up, by a process that ended then
				left = append(left, physical)
			}
		}
		for _, physical := range append(left, old[:max(0, len(old)-x.Reindex.KeepOld)]...) {
			if !passed {
				// What is in a batch already is still written to the index before.
				if err := m.barrier(ctx); err != nil {
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
