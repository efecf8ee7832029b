package dbsync

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

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

// A SetBackError reports that the database was set back to what it was before, with its system
// identifier and its timeline: a volume that was restored from a snapshot, say. Positions in its log
// start over from there, as in [ClusterChangedError], and what was stored meanwhile is of a future
// that never came. docs/set-back.md says what shows it.
type SetBackError struct {
	Slot   string
	Reason string // what was seen that cannot be otherwise
}

func (e *SetBackError) Error() string {
	return fmt.Sprintf("slot %s: %s%s: log positions have started over", e.Slot, setBackMark, e.Reason)
}

// Permanent marks it for [IsPermanent].
func (e *SetBackError) Permanent() bool { return true }

// setBackMark begins the note of why changes are missing where the database was set back.
const setBackMark = "the database was set back: "

// SetBack returns the [*SetBackError] that says that version, of something that was stored, is where
// the server's log has not come to yet; nil if the log has come so far. what names it. The server is
// asked only where it was not known to have come so far. Until a promotion is noted, what the standby did not
// have is such a version, too, see [Syncer.Promotion].
func (s *Syncer) SetBack(ctx context.Context, version pglogrepl.LSN, what string) error {
	if s.promotion != nil && !s.promotionNoted.Load() {
		if err := s.promotion.Check(s.slot, version, what); err != nil {
			return err
		}
	}
	if version <= s.Status().WALEnd {
		return nil
	}
	return CheckSetBack(ctx, s.db, s.slot, version, what)
}

// CheckSetBack is [Syncer.SetBack] for who has no Syncer: the server is asked each time.
func CheckSetBack(ctx context.Context, db *sql.DB, slot string, version pglogrepl.LSN, what string) error {
	var end pglogrepl.LSN
	if err := db.QueryRowContext(ctx, "SELECT "+logEnd).Scan(&end); err != nil {
		return fmt.Errorf("read where the log ends: %w", err)
	}
	if version <= end {
		return nil
	}
	return &SetBackError{Slot: slot, Reason: fmt.Sprintf("%s is of position %s, and the log ends at %s", what, version, end)}
}

// logEnd is where the server's log ends, as far as it is sure to be there after a crash. Nothing that
// comes down the stream is beyond it.
const logEnd = `CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END`

// forgetSlot drops a slot that has lost changes. A crash between its two statements leaves a
// note of a slot that is gone, which is lost as well.
func (s *Syncer) forgetSlot(ctx context.Context, conn *pgx.Conn, slot slotState) error {
	if slot.exists {
		err := s.atSlot(ctx, conn, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1)", s.slot)
			return err
		})
		if err != nil {
			return fmt.Errorf("drop slot %s: %w", s.slot, err)
		}
	}
	if _, err := conn.Exec(ctx, `DELETE FROM `+s.control(slotTable)+` WHERE slot = $1`, s.slot); err != nil {
		return fmt.Errorf("forget slot %s: %w", s.slot, err)
	}
	return nil
}

// lossOf returns why the slot cannot be the one that known describes, and so lacks changes; nil
// when it is that one, or nothing is known. end is where the log ended when both had been read.
func (s *Syncer) lossOf(slot slotState, known *slotRow, end pglogrepl.LSN) error {
	if known == nil {
		return nil
	}
	lost := func(reason string) error {
		return &SlotLostError{Slot: s.slot, Reason: reason, Confirmed: known.confirmed}
	}
	setBack := func(format string, args ...any) error {
		return &SetBackError{Slot: s.slot, Reason: fmt.Sprintf(format, args...)}
	}
	changed := &ClusterChangedError{Slot: s.slot, OldSystem: known.system, System: s.system, OldTimeline: known.timeline, Timeline: s.timeline}
	promotion := s.history.promotion(known.timeline, s.timeline)
	reason, wasSetBack := strings.CutPrefix(known.lost, setBackMark)
	switch {
	case known.system != s.system:
		return changed
	case wasSetBack:
		return &SetBackError{Slot: s.slot, Reason: reason}
	case known.timeline != s.timeline && promotion == nil:
		return changed
	case s.loss != nil && s.generation == "": // at the start; with a new slot it is answered
		return s.loss
	case s.generation == known.generation && known.confirmed < known.before:
		return setBack("the control schema has noted position %s, where it had %s before", known.confirmed, known.before)
	case known.confirmed > end:
		return setBack("the control schema has noted position %s, and the log ends at %s", known.confirmed, end)
	case slot.exists && slot.confirmed > end:
		return setBack("the slot stands at %s, and the log ends at %s", slot.confirmed, end)
	case known.lost != "":
		return lost(known.lost)
	case promotion != nil:
		return s.goesOn(promotion, slot, known)
	case !slot.exists:
		return lost("it does not exist any more")
	case !slot.published:
		return lost("publication " + s.publication + " does not exist any more")
	case slot.status == "lost":
		return lost("the server has invalidated it" + slot.invalidation())
	case slot.confirmed > known.confirmed:
		return lost(fmt.Sprintf("it stands at %s, where this client never was: it was made anew, or moved by somebody else", slot.confirmed))
	}
	return nil
}

// reasonOf returns what is to be noted of a loss, so that no later start overlooks it; "" where
// nothing has to be.
func reasonOf(err error) string {
	var lost *SlotLostError
	var setBack *SetBackError
	switch {
	case errors.As(err, &setBack):
		return setBackMark + setBack.Reason
	case errors.As(err, &lost):
		return lost.Reason
	}
	return ""
}

// noteLost notes that changes are missing although the slot is where it was, so that the
// next start knows. If that fails, it will be found out again.
func (s *Syncer) noteLost(ctx context.Context, reason string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusInterval/2)
	defer cancel()
	_, err := s.db.ExecContext(ctx, `UPDATE `+s.control(slotTable)+` SET lost = $3 WHERE slot = $1 AND generation = $2 AND lost IS NULL`, s.slot, s.generation, reason)
	if err != nil {
		s.log.Warn("the loss of the slot was not noted", "slot", s.slot, "error", err)
	}
}
