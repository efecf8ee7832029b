package reindex

import (
	"context"
	"errors"

	"tidemark/reindex/control"
)

// rebuild rebuilds the index because somebody asked for it. One that an earlier process
// has begun, and Run has completed meanwhile, is not done again.
func (m *Manager) rebuild(ctx context.Context, x *index, q *control.Request) error {
	st := x.state()
	if q.Phase == control.PhaseRunning && st.FinishedAt.After(q.CreatedAt) && !st.StartedAt.Before(q.CreatedAt) {
		return nil
	}
	if err := m.checkHeld(ctx, x); err != nil {
		return err
	}
	err := m.buildBeside(ctx, x, "it was asked for")
	if err == nil {
		err = m.backfill(ctx, x)
	}
	x.endRebuild()
	m.wake() // for who waits to cancel it
	if _, taken := errors.AsType[*control.TakenOverError](err); err == nil || taken || ctx.Err() != nil || x.state().Building.Physical == "" {
		return err
	}
	return errors.Join(err, m.abandon(ctx, x))
}
