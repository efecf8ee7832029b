package dbsync

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Promotion is what became of the database when a standby took the primary's place: the log goes on
// where the standby had it, on another timeline. From Postgres 17 on the standby has a copy of the slot
// (https://www.postgresql.org/docs/17/logicaldecoding-explanation.html#LOGICALDECODING-REPLICATION-SLOTS-SYNCHRONIZATION),
// so that it can be followed from where it was. What the standby did not have is gone, and only what was
// stored can show that it ever was: see [Promotion.Check].
type Promotion struct {
	From, To int32         // timelines
	At       pglogrepl.LSN // where the log of From ended
}

func (p *Promotion) String() string {
	return fmt.Sprintf("a standby was promoted: timeline %d ended at %s, the database is on timeline %d", p.From, p.At, p.To)
}

// Check returns the [*SetBackError] that says that version, of something that was stored before anything
// of the new timeline was, is of a transaction that the promoted standby did not have; nil if it had it.
// what names it.
func (p *Promotion) Check(slot string, version pglogrepl.LSN, what string) error {
	if version < p.At {
		return nil
	}
	return &SetBackError{Slot: slot, Reason: fmt.Sprintf("%s is of position %s, and the standby that was promoted had the log up to %s", what, version, p.At)}
}

// A PromotedError reports that a standby was promoted while a Syncer ran, which ends with it. A new Syncer
// goes on with the slot if the standby had a copy of it: see [Syncer.Promotion].
type PromotedError struct {
	Slot      string
	Promotion Promotion
}

func (e *PromotedError) Error() string {
	return fmt.Sprintf("slot %s: %s: it has to be looked at again what of the slot is there", e.Slot, &e.Promotion)
}

// Permanent marks it for [IsPermanent].
func (e *PromotedError) Permanent() bool { return true }

// Promotion returns the promotion that was taken up when the Syncer was made, nil if there was none. Rows
// that were read again by key, and not taken from the stream, may have had changes in them that the standby
// lacked: who made documents of them compares them with the tables. It is noted when the first call of
// [OnSlot]'s function has returned nil; a crash before has it taken up again.
func (s *Syncer) Promotion() *Promotion { return s.promotion }

// A timelineHistory says at which position each earlier timeline of a database system ended.
type timelineHistory map[int32]pglogrepl.LSN

// parseHistory reads the text of a timeline's history file: a line for each timeline before it, with its
// number and where it ended, and a comment.
func parseHistory(text []byte) (timelineHistory, error) {
	history := make(timelineHistory)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %q of a timeline's history: want a number and a position", strings.TrimSpace(line))
		}
		number, err := strconv.ParseInt(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %q of a timeline's history: %w", strings.TrimSpace(line), err)
		}
		if history[int32(number)], err = pglogrepl.ParseLSN(fields[1]); err != nil {
			return nil, fmt.Errorf("line %q of a timeline's history: %w", strings.TrimSpace(line), err)
		}
	}
	return history, nil
}

// readHistory returns the history of a timeline. A server that does not have it any more has none of any use
// to us: its positions cannot be held against those of before.
func readHistory(ctx context.Context, conn *pgconn.PgConn, timeline int32) (timelineHistory, error) {
	if timeline == 1 {
		return nil, nil
	}
	found, err := pglogrepl.TimelineHistory(ctx, conn, timeline)
	if sqlState(err) == "58P01" { // undefined_file
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the history of timeline %d: %w", timeline, err)
	}
	return parseHistory(found.Content)
}

// promotion returns what has become of a database that was on timeline from and is on timeline to; nil
// where the one does not follow from the other.
func (h timelineHistory) promotion(from, to int32) *Promotion {
	at, ok := h[from]
	if !ok || from >= to {
		return nil
	}
	return &Promotion{From: from, To: to, At: at}
}

// goesOn returns why a slot of a promoted standby cannot be gone on with; nil if it can.
//
// The standby has copied the slot, so it stands where the primary had it, or before. It may stand further
// than the control schema's note, which is written first, but comes to the standby by another way. What is
// further than the standby had the log was made, or moved, after the promotion. A slot on another standby than the
// one that was promoted was copied by nobody, and is where it was.
func (s *Syncer) goesOn(p *Promotion, slot slotState, known *slotRow) error {
	lost := func(format string, args ...any) error {
		return &SlotLostError{Slot: s.slot, Reason: p.String() + ", " + fmt.Sprintf(format, args...), Confirmed: known.confirmed}
	}
	switch {
	case !slot.exists:
		return lost("and it had no copy of the slot")
	case slot.status == "lost":
		return lost("and the server has invalidated its copy of the slot%s", slot.invalidation())
	case s.onStandby() && slot.confirmed > known.confirmed:
		return lost("and the slot on the standby that is followed stands at %s, where the database that was promoted has no note of us", slot.confirmed)
	case !s.onStandby() && !slot.synced:
		return lost("and the slot there is none that the server has copied")
	case slot.confirmed > p.At:
		return lost("and the slot there was made or moved after that: it stands at %s", slot.confirmed)
	}
	return nil
}

// wasPromoted returns the error that ends a run because the server that is reached now is on another
// timeline than the one that was followed. What was received from that one and handed to the Batcher,
// confirmed or not, is held against where its timeline ended.
func (s *Syncer) wasPromoted(ctx context.Context) error {
	conn, err := connectReplication(ctx, s.config, s.maxRow)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	system, err := pglogrepl.IdentifySystem(ctx, conn.PgConn)
	if err != nil {
		return fmt.Errorf("identify the database system: %w", err)
	}
	return s.judgeIdentity(ctx, conn, system)
}

// judgeIdentity returns why the server at the other end of conn is not the one that was followed; nil if it is.
func (s *Syncer) judgeIdentity(ctx context.Context, conn *replicationConn, system pglogrepl.IdentifySystemResult) error {
	if system.SystemID == s.system && system.Timeline == s.timeline {
		return nil
	}
	changed := &ClusterChangedError{Slot: s.slot, OldSystem: s.system, System: system.SystemID, OldTimeline: s.timeline, Timeline: system.Timeline}
	if system.SystemID != s.system {
		return changed
	}
	history, err := readHistory(ctx, conn.PgConn, system.Timeline)
	if err != nil {
		return err
	}
	p := history.promotion(s.timeline, system.Timeline)
	if p == nil {
		return changed
	}
	// Positions do not tell: one without a change may be further than what the standby had.
	if err := p.Check(s.slot, pglogrepl.LSN(s.sent.Load()), "what was received last and has perhaps been stored"); err != nil {
		return err
	}
	return &PromotedError{Slot: s.slot, Promotion: *p}
}

// errNoPrimary says that the server takes no changes now: it may be about to be promoted, or be the wrong one.
var errNoPrimary = errors.New("the server is a standby, where nothing can be noted")

// checkTimeline makes sure that the connection leads to the server that is followed.
func (s *Syncer) checkTimeline(ctx context.Context, conn *pgx.Conn) error {
	var name string
	if err := conn.QueryRow(ctx, "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN '' ELSE "+timelineHex+" END").Scan(&name); err != nil {
		return fmt.Errorf("read the timeline: %w", err)
	}
	switch name {
	case "":
		return errNoPrimary
	case hexTimeline(s.timeline):
		return nil
	}
	if err := s.wasPromoted(ctx); err != nil {
		return err
	}
	return fmt.Errorf("a connection leads to a server on timeline %s, and the stream would come from one on timeline %s", name, hexTimeline(s.timeline))
}

// timelineHex is the timeline of the server that answers as the names of its log files begin.
const timelineHex = "pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn()), 1, 8)"

func hexTimeline(timeline int32) string { return fmt.Sprintf("%08X", uint32(timeline)) }

// noteTimeline notes that the slot is followed on the timeline of now.
func (s *Syncer) noteTimeline(ctx context.Context) error {
	if s.promotion == nil || s.promotionNoted.Load() {
		return nil
	}
	_, err := s.db.ExecContext(ctx, `UPDATE `+s.control(slotTable)+` SET timeline = $3 WHERE slot = $1 AND generation = $2`, s.slot, s.generation, s.timeline)
	if err != nil {
		return fmt.Errorf("note the timeline of slot %s: %w", s.slot, err)
	}
	s.promotionNoted.Store(true)
	s.log.Info("the slot is followed on another timeline, nothing of it is missing", "slot", s.slot, "timeline", s.timeline, "since", s.promotion.At)
	return nil
}
