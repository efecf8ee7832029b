package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"tidemark/dbsync"
	"tidemark/internal/prepare"
	"tidemark/internal/progress"
	"tidemark/internal/service"
	"tidemark/mapping"
)

// A followedSlot is a slot that an instance follows, one that is running or this process, and
// what there is to work with meanwhile.
type followedSlot struct {
	screen
	config   *mapping.Config
	prepared *prepare.Prepared
	db       *sql.DB
	slotDB   *sql.DB // leads to the server that has the slot

	// applied waits until what the instance has handed over is in the cluster; nil: it is.
	applied func(context.Context) error
}

// A screen is where a command says what it does while it works.
type screen struct {
	log     *slog.Logger
	display *progress.Display
}

// whileFollowed calls do while an instance follows the slot: one that is running, or this
// process. The indices are as the mapping has them.
func whileFollowed(ctx context.Context, config *mapping.Config, indices []*mapping.Index, on screen, do func(context.Context, *followedSlot) error) error {
	prepared, err := prepare.Prepare(ctx, config, on.log)
	if err != nil {
		return err
	}
	defer prepared.Close()
	if err := prepared.Control.Current(); err != nil {
		return err
	}
	if err := prepared.Refusal(); err != nil {
		return err // it might be written to
	}
	if err := keptEqual(ctx, config, prepared, indices); err != nil {
		return err
	}
	db, err := dbsync.OpenSessions(config.Postgres.ConnString(), dbsync.SessionOptions{Name: "tidemark"})
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = prepare.AtSlot(config, db, func(slotDB *sql.DB) error {
		s := &followedSlot{screen: on, config: config, prepared: prepared, db: db, slotDB: slotDB}
		end, err := s.follow(ctx, cancel)
		if err != nil {
			return err
		}
		defer end()
		return prepare.WithApplied(ctx, config, db, on.log, prepare.StartTimeout, func(applied func(context.Context) error) error {
			s.applied = applied
			return do(ctx, s)
		})
	})
	if cause := context.Cause(ctx); err != nil && ctx.Err() != nil && !errors.Is(cause, context.Canceled) {
		return cause // of the service
	}
	return err
}

// isFollowed reports whether an instance follows a slot, by the server that has it. One that does not exist nobody does.
func isFollowed(ctx context.Context, db *sql.DB, slot string) (active bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT coalesce(bool_or(active), false) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, slot).Scan(&active)
	if err != nil {
		return false, fmt.Errorf("ask who follows slot %s: %w", slot, err)
	}
	return active, nil
}

// keptEqual makes sure that the indices are what the mapping makes of them: who looks at them
// must not rebuild them.
func keptEqual(ctx context.Context, config *mapping.Config, prepared *prepare.Prepared, indices []*mapping.Index) error {
	plans, err := prepared.Plan(ctx, config)
	if err != nil {
		return err
	}
	for _, plan := range plans {
		if slices.Contains(indices, plan.Index) && plan.Need.Backfill != "" {
			return fmt.Errorf("index %s needs a backfill first: %s%s", plan.Index.Name, plan.Need.Backfill, withHint("tidemark run"))
		}
	}
	return nil
}

const (
	readyInterval = 100 * time.Millisecond
	// readyPatience is how long it may take until the slot is followed. A backfill has no limit.
	readyPatience = time.Minute
)

// follow makes sure that the slot is followed: by an instance that is running, or by this
// process until end is called, which waits for it. When it ends before, cancel is told why.
func (s *followedSlot) follow(ctx context.Context, cancel context.CancelCauseFunc) (end func(), err error) {
	slot := s.config.Postgres.Slot
	active := func() (bool, error) { return isFollowed(ctx, s.slotDB, slot) }
	if yes, err := active(); yes || err != nil {
		return func() {}, err
	}
	if s.config.Group != "" {
		return nil, &groupNotFedError{s.config.Group, slot}
	}
	s.log.Info("no instance is running: this one follows the slot", "slot", slot)
	run, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := service.Run(run, s.config, s.prepared, service.Options{Logger: s.log, Display: s.display})
		if run.Err() == nil {
			if err == nil {
				err = errors.New("following the slot has ended")
			}
			cancel(err)
		}
	}()
	end = func() { stop(); <-ended }
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for start := time.Now(); ; {
		yes, err := active()
		if err == nil && !yes && time.Since(start) > readyPatience {
			err = fmt.Errorf("slot %s was not followed within %s", slot, readyPatience)
		}
		if yes || err != nil {
			if err != nil {
				end()
				err = errors.Join(context.Cause(ctx), err)
			}
			return end, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			end()
			return nil, context.Cause(ctx)
		}
	}
}
