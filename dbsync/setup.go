package dbsync

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A SetupError reports something about the database that has to be fixed before a
// Syncer can work. Hint is what to do, the exact SQL where there is one.
type SetupError struct {
	Text, Hint string
	Err        error // what the server said, if it said something
}

func (e *SetupError) Error() string {
	text := e.Reason()
	if e.Hint != "" {
		text += " (hint: " + e.Hint + ")"
	}
	return text
}

// Reason is the error without the hint.
func (e *SetupError) Reason() string {
	if e.Err != nil {
		return e.Text + ": " + e.Err.Error()
	}
	return e.Text
}

func (e *SetupError) Unwrap() error { return e.Err }

// setupLock is the advisory lock under which control objects are made, so that two
// instances that start at once do not make them twice. The number is "dbsync" in ASCII.
const setupLock = 0x646273796e63

// setup makes what is missing in the database: control schema, watermark table, slot
// table, publication, slot, and event triggers if they are asked for. What exists is left as it is and checked. It says what it
// did through the logger.
func (s *Syncer) setup(ctx context.Context) error {
	check, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	wrong, err := s.readServer(check)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		return wrong[0]
	}
	return s.locked(ctx, func(conn *pgx.Conn) error {
		p, err := s.makePlan(ctx, conn)
		if err != nil {
			return err
		}
		if len(p.control.steps) > 0 {
			if err := execute(ctx, conn, p.control.steps); err != nil {
				return err
			}
			if p, err = s.makePlan(ctx, conn); err != nil {
				return err
			}
		}
		if err := p.refusal(); err != nil {
			return err
		}
		if p.lost != nil {
			s.log.Warn("the slot is made anew, everything made from its changes has to be made anew", "slot", s.slot, "reason", p.lost)
		}
		if err := execute(ctx, conn, p.forget, p.publication.steps, p.slot.steps, p.eventTriggers.steps); err != nil {
			return err
		}
		if p.generation != "" {
			s.generation, s.promotion = p.generation, p.promotion
		}
		return nil
	})
}

// locked calls f while no other process of any control schema makes or removes anything.
func (s *Syncer) locked(ctx context.Context, f func(conn *pgx.Conn) error) error {
	return WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_advisory_lock($1)", setupLock); err != nil {
			return fmt.Errorf("wait for other instances to finish their setup: %w", err)
		}
		// A crash here ends the session, and the lock with it.
		defer conn.Exec(context.WithoutCancel(ctx), "SELECT pg_catalog.pg_advisory_unlock($1)", setupLock)
		return f(conn)
	})
}
