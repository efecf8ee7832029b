package dbsync

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Teardown takes the options of [NewSyncer] and removes what belongs to the slot: the slot, what
// the control schema notes of it, and its tables from the publication. A publication that a Syncer
// made is dropped when no other slot needs it; one that somebody else made is left alone. So is
// the control schema, in which there may be more than this package knows.
//
// Its error is [ErrSlotInUse] while a process follows the slot, and nothing is changed then. What
// is gone already does no harm: after any other error Teardown can be called again.
func Teardown(ctx context.Context, opts ...SyncerOpt) error {
	s, err := openSyncer(opts)
	if err != nil {
		return err
	}
	defer s.closeSessions()
	check, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	if _, err := s.readServer(check); err != nil { // what keeps a Syncer from working does not matter here
		return err
	}
	return s.locked(ctx, func(conn *pgx.Conn) error {
		p := &plan{s: s}
		if err := p.planControl(ctx, conn); err != nil {
			return err
		}
		if err := stopping(p.control.wrong); err != nil {
			return err // what other slots need could not be read
		}
		// The slot is the first to go: without it the tables are not needed any more, whatever is
		// noted, and a crash leaves nothing that keeps the server's log.
		if err := s.dropSlot(ctx, conn); err != nil {
			return err
		}
		if err := s.unpublish(ctx, conn, p.state.notes); err != nil {
			return err
		}
		return s.forgetNotes(ctx, conn, p.state)
	})
}

// dropSlot drops the slot if it is there.
func (s *Syncer) dropSlot(ctx context.Context, conn *pgx.Conn) error {
	slot, err := s.readSlot(ctx, conn)
	if err != nil || !slot.exists {
		return err
	}
	if slot.plugin != "pgoutput" || slot.database != s.dbName {
		return s.foreignSlot(slot)
	}
	err = s.atSlot(ctx, conn, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1)", s.slot)
		return err
	})
	if sqlState(err) == "55006" { // object_in_use
		return fmt.Errorf("drop slot %s: %w", s.slot, ErrSlotInUse)
	}
	if err != nil {
		return fmt.Errorf("drop slot %s: %w", s.slot, err)
	}
	s.log.Info("dropped replication slot", "slot", s.slot)
	return nil
}

// unpublish takes the tables that only this slot needed out of the publication, or drops it when
// no slot needs it.
func (s *Syncer) unpublish(ctx context.Context, conn *pgx.Conn, notes slotNotes) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_catalog.pg_advisory_xact_lock($1)", publishLock); err != nil {
			return fmt.Errorf("wait for others to change publication %s: %w", s.publication, err)
		}
		look, err := s.lookAtPublication(ctx, tx, wanted{}, notes)
		if err != nil || !look.ours {
			return err
		}
		for _, statement := range s.unpublishStatements(look) {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return s.publicationError(err, "change", statement)
			}
			s.log.Info("took the tables of the slot out of the publication", "publication", s.publication, "statement", statement)
		}
		if notes != currentNotes {
			return nil
		}
		return s.forgetMemberships(ctx, tx)
	})
}

// unpublishStatements are those by which a publication of ours loses what only this slot needed.
func (s *Syncer) unpublishStatements(look *publicationLook) []string {
	needed := look.unknown
	var c publicationChange
	for _, t := range look.tables {
		switch {
		case t.other:
			needed = true
		case !look.unknown && t.member != 0:
			c.removed = append(c.removed, t.name)
		}
	}
	if !needed {
		return []string{"DROP PUBLICATION " + quoteIdent(s.publication)}
	}
	return c.statements(s.publication)
}

// A TeardownPlan is what [Teardown] would find, and do.
type TeardownPlan struct {
	Slot SlotInspection

	System     string // the database system's identifier; "" if the role may not ask
	Generation string // of the slot, see [Syncer.Generation]; "": nothing is noted of it

	// Unpublish are the statements on the publication; none where somebody else made it, or it is gone.
	Unpublish []string

	// Others are the slots beside this one that the control schema has notes of.
	Others []string
}

// PlanTeardown takes the options of [Teardown], and says what that would do. It changes nothing.
func PlanTeardown(ctx context.Context, opts ...SyncerOpt) (*TeardownPlan, error) {
	s, err := openSyncer(opts)
	if err != nil {
		return nil, err
	}
	defer s.closeSessions()
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	if _, err := s.readServer(ctx); err != nil { // what keeps a Syncer from working does not matter here
		return nil, err
	}
	t := &TeardownPlan{System: s.system}
	err = WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		p := &plan{s: s}
		if err := p.planControl(ctx, conn); err != nil {
			return err
		}
		if err := stopping(p.control.wrong); err != nil {
			return err
		}
		slot, err := s.readSlot(ctx, conn)
		if err != nil {
			return err
		}
		if slot.exists && (slot.plugin != "pgoutput" || slot.database != s.dbName) {
			return s.foreignSlot(slot)
		}
		t.Slot = SlotInspection{Exists: slot.exists, Active: slot.active, Confirmed: slot.confirmed}
		look, err := s.lookAtPublication(ctx, conn, wanted{}, p.state.notes)
		if err != nil {
			return err
		}
		if look.ours {
			t.Unpublish = s.unpublishStatements(look)
		}
		if p.state.notes == noNotes {
			return nil
		}
		rows, err := conn.Query(ctx, `SELECT slot FROM `+s.control(slotTable)+` WHERE slot <> $1 ORDER BY slot`, s.slot)
		if err == nil {
			t.Others, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			return fmt.Errorf("read which slots the control schema has notes of: %w", err)
		}
		if p.state.notes == currentNotes {
			row, err := s.readSlotRow(ctx, conn)
			if err != nil || row == nil {
				return err
			}
			t.Generation = row.generation
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// forgetNotes deletes what the control schema notes of the slot.
func (s *Syncer) forgetNotes(ctx context.Context, conn *pgx.Conn, have controlState) error {
	var tables []string
	if have.notes != noNotes {
		tables = append(tables, slotTable)
	}
	if have.watermarks {
		tables = append(tables, s.wmTable)
	}
	for _, table := range tables {
		if _, err := conn.Exec(ctx, `DELETE FROM `+s.control(table)+` WHERE slot = $1`, s.slot); err != nil {
			return fmt.Errorf("forget slot %s: %w", s.slot, err)
		}
	}
	return nil
}
