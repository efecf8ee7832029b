package dbsync

import (
	"context"
	"fmt"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// A SlotLostError reports that changes are missing: the slot is gone, was invalidated,
// or is not the one that was used before. Everything that was made from its changes has
// to be made anew; [WithNewSlot] begins that.
//
// It is found out by lossOf when the setup is planned, by the stream and when a connection is
// made anew, while running; noteLost notes it, so that no later start overlooks it.
type SlotLostError struct {
	Slot   string
	Reason string
	// Confirmed is the position up to which changes were received and stored.
	Confirmed pglogrepl.LSN
}

func (e *SlotLostError) Error() string {
	return fmt.Sprintf("replication slot %s: %s; changes after %s are missing", e.Slot, e.Reason, e.Confirmed)
}

// Permanent marks it for [IsPermanent].
func (e *SlotLostError) Permanent() bool { return true }

// A ClusterChangedError reports that the database is not the one that the slot was made
// in, or was restored: positions in its log have started over, and say nothing about
// what is newer than what was stored before.
type ClusterChangedError struct {
	Slot                  string
	OldSystem, System     string
	OldTimeline, Timeline int32
}

func (e *ClusterChangedError) Error() string {
	if e.OldSystem != e.System {
		return fmt.Sprintf("slot %s was made in database system %s, this is %s: log positions have started over", e.Slot, e.OldSystem, e.System)
	}
	return fmt.Sprintf("slot %s was made on timeline %d, the database is on timeline %d after a restore or a failover: log positions have started over",
		e.Slot, e.OldTimeline, e.Timeline)
}

// Permanent marks it for [IsPermanent].
func (e *ClusterChangedError) Permanent() bool { return true }

// forgetSlot drops a slot that has lost changes. A crash between its two statements leaves a
// note of a slot that is gone, which is lost as well.
func (s *Syncer) forgetSlot(ctx context.Context, conn *pgx.Conn, slot slotState) error {
	if slot.exists {
		if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1)", s.slot); err != nil {
			return fmt.Errorf("drop slot %s: %w", s.slot, err)
		}
	}
	if _, err := conn.Exec(ctx, `DELETE FROM `+s.control(slotTable)+` WHERE slot = $1`, s.slot); err != nil {
		return fmt.Errorf("forget slot %s: %w", s.slot, err)
	}
	return nil
}

// lossOf returns why the slot cannot be the one that known describes, and so lacks changes; nil
// when it is that one, or nothing is known.
func (s *Syncer) lossOf(slot slotState, known *slotRow) error {
	if known == nil {
		return nil
	}
	lost := func(reason string) error {
		return &SlotLostError{Slot: s.slot, Reason: reason, Confirmed: known.confirmed}
	}
	switch {
	case known.system != s.system || known.timeline != s.timeline:
		return &ClusterChangedError{Slot: s.slot, OldSystem: known.system, System: s.system, OldTimeline: known.timeline, Timeline: s.timeline}
	case !slot.exists:
		return lost("it does not exist any more")
	case !slot.published:
		return lost("publication " + s.publication + " does not exist any more")
	case slot.status == "lost":
		return lost("the server has invalidated it (see max_slot_wal_keep_size)")
	case known.lost != "":
		return lost(known.lost)
	case slot.confirmed > known.confirmed:
		return lost(fmt.Sprintf("it stands at %s, where this client never was: it was made anew, or moved by somebody else", slot.confirmed))
	}
	return nil
}

// noteLost notes that changes are missing although the slot is where it was, so that the
// next start knows. If that fails, the stream will say it again.
func (s *Syncer) noteLost(ctx context.Context, reason string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusInterval/2)
	defer cancel()
	_, err := s.db.ExecContext(ctx, `UPDATE `+s.control(slotTable)+` SET lost = $3 WHERE slot = $1 AND generation = $2 AND lost IS NULL`, s.slot, s.generation, reason)
	if err != nil {
		s.log.Warn("the loss of the slot was not noted", "slot", s.slot, "error", err)
	}
}
