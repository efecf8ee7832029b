package dbsync

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// slotState is what the server says of a slot.
type slotState struct {
	exists    bool
	plugin    string
	database  string
	confirmed pglogrepl.LSN
	status    string // wal_status: reserved, extended, unreserved, lost
	invalid   string // why the server has invalidated it, "" if it does not say, which it does from 17 on
	active    bool   // a process follows it at the moment
	failover  bool   // standbys copy it; from 17 on, as what follows
	synced    bool   // it was copied from the primary when this server was a standby
	published bool   // the publication exists
}

// invalidation says why the server has invalidated the slot, in parentheses, as far as it tells.
func (s *slotState) invalidation() string {
	switch s.invalid {
	case "rows_removed":
		return " (rows_removed: the primary has removed rows of the catalog that it needed; hot_standby_feedback prevents that)"
	case "", "wal_removed":
		return " (see max_slot_wal_keep_size)"
	}
	return " (" + s.invalid + ")"
}

// readSlot reads the state of the slot. q leads to the primary.
func (s *Syncer) readSlot(ctx context.Context, q querier) (st slotState, err error) {
	if !s.onStandby() {
		return s.readSlotThere(ctx, q)
	}
	err = WithConn(ctx, s.slotDB, func(conn *pgx.Conn) error {
		st, err = s.readSlotThere(ctx, conn)
		return err
	})
	return st, err
}

// readSlotThere is readSlot where q leads to the server that has the slot.
func (s *Syncer) readSlotThere(ctx context.Context, q querier) (slotState, error) {
	st := slotState{exists: true}
	var confirmed *pglogrepl.LSN
	err := q.QueryRow(ctx, `SELECT coalesce(plugin, ''), coalesce(database, ''), confirmed_flush_lsn, coalesce(wal_status, ''), active,
		EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $2), coalesce(j->>'invalidation_reason', ''),
		coalesce((j->>'failover')::boolean, false), coalesce((j->>'synced')::boolean, false)
		FROM pg_catalog.pg_replication_slots r, LATERAL (SELECT pg_catalog.to_jsonb(r) AS j) versions_differ WHERE slot_name = $1`, s.slot, s.publication).
		Scan(&st.plugin, &st.database, &confirmed, &st.status, &st.active, &st.published, &st.invalid, &st.failover, &st.synced)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return slotState{}, nil
	case err != nil:
		return slotState{}, fmt.Errorf("read the state of slot %s: %w", s.slot, err)
	}
	if confirmed != nil {
		st.confirmed = *confirmed
	}
	return st, nil
}

// planSlot plans to make the slot if it was never made, and makes sure that one that is there
// is the one that was used before, so that no change is missing. younger means that the
// publication has to be made.
func (p *plan) planSlot(ctx context.Context, conn *pgx.Conn, younger bool) error {
	s := p.s
	slot, err := s.readSlot(ctx, conn)
	if err != nil {
		return err
	}
	var free bool
	var known *slotRow
	if p.state.readable && s.system != "" {
		if known, err = s.readSlotRow(ctx, conn); err != nil {
			return err
		}
	}
	if err := conn.QueryRow(ctx, `SELECT `+logEnd).Scan(&p.walEnd); err != nil {
		return fmt.Errorf("read the end of the log: %w", err)
	}
	err = s.atSlot(ctx, conn, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) < pg_catalog.current_setting('max_replication_slots')::int`).Scan(&free)
	})
	if err != nil {
		return fmt.Errorf("look for a place for slot %s: %w", s.slot, err)
	}
	p.found = SlotInspection{Exists: slot.exists, Active: slot.active, Confirmed: slot.confirmed}
	if slot.exists && slot.confirmed > 0 && slot.confirmed < p.walEnd {
		p.found.Retained = int64(p.walEnd - slot.confirmed)
	}
	if slot.exists && (slot.plugin != "pgoutput" || slot.database != s.dbName) {
		p.slot.refuse(s.foreignSlot(slot))
		return nil
	}
	if !slot.exists && !free {
		p.slot.warn(noFreeSlot(nil))
	}

	if p.lost = s.lossOf(slot, known, p.walEnd); p.lost != nil {
		if s.newSlot {
			p.forget = []step{{do: func(ctx context.Context, conn *pgx.Conn) error { return s.forgetSlot(ctx, conn, slot) }}}
			p.slot.step("make slot "+s.slot+" anew", s.createSlot)
		}
		return nil
	}
	if slot.exists && s.wantsFailover() && !slot.failover {
		p.slot.step("have standbys copy slot "+s.slot, doNothing) // when it is connected to
	}
	switch {
	case known != nil:
		p.generation = known.generation
		if known.timeline != s.timeline { // lossOf has found nothing missing
			p.promotion = s.history.promotion(known.timeline, s.timeline)
			p.slot.step(fmt.Sprintf("go on with slot %s from %s: %s", s.slot, slot.confirmed, p.promotion), doNothing)
		}
	case !slot.exists:
		p.slot.step("make slot "+s.slot, s.createSlot)
	case younger:
		p.slot.step("", s.advanceSlot)
	default:
		p.slot.step("", func(ctx context.Context, conn *pgx.Conn) error { return s.noteSlot(ctx, conn, slot.confirmed) })
	}
	return nil
}

// noteSlot notes a slot of a new generation, as the last of all. A crash before it leaves a
// slot without a note: the next start takes it as one that the user made, from where it
// stands.
func (s *Syncer) noteSlot(ctx context.Context, conn *pgx.Conn, confirmed pglogrepl.LSN) error {
	s.generation = newToken()
	_, err := conn.Exec(ctx, `INSERT INTO `+s.control(slotTable)+` (slot, generation, system_identifier, timeline, confirmed, publication, published, published_columns, on_standby)
		VALUES ($1, $2, $3, $4, $5::pg_lsn, $6, $7, coalesce($8::text[], '{}'), $9)
		ON CONFLICT (slot) DO UPDATE SET generation = excluded.generation, system_identifier = excluded.system_identifier,
			timeline = excluded.timeline, confirmed = excluded.confirmed, made_at = now(), confirmed_at = now(), lost = NULL,
			publication = excluded.publication, published = excluded.published, published_columns = excluded.published_columns, on_standby = excluded.on_standby`,
		s.slot, s.generation, s.system, s.timeline, confirmed.String(), s.publication, s.published.list(), s.published.columns, s.onStandby())
	if err != nil {
		return fmt.Errorf("note slot %s in the control schema: %w", s.slot, err)
	}
	return nil
}

func (s *Syncer) foreignSlot(slot slotState) *SetupError {
	text := fmt.Sprintf("slot %s belongs to plugin %s in database %s, not to pgoutput in %s", s.slot, slot.plugin, slot.database, s.dbName)
	if slot.plugin == "" {
		text = fmt.Sprintf("slot %s is one of physical replication", s.slot)
	}
	return &SetupError{Text: text, Hint: "choose another slot name"}
}

func noFreeSlot(err error) *SetupError {
	return &SetupError{Text: "all replication slots of the server are in use", Err: err,
		Hint: "raise max_replication_slots, or drop a slot that nobody needs: SELECT slot_name FROM pg_replication_slots WHERE NOT active;"}
}

// slotRow is what the control schema says of the slot.
type slotRow struct {
	generation string
	system     string
	timeline   int32
	confirmed  pglogrepl.LSN
	before     pglogrepl.LSN // what confirmed is known to have been before it was read; 0: not known
	lost       string        // why changes are missing, "" if none are known to be
}

func (s *Syncer) readSlotRow(ctx context.Context, q querier) (*slotRow, error) {
	row := slotRow{before: pglogrepl.LSN(s.noted.Load())}
	var confirmed string
	err := q.QueryRow(ctx, `SELECT generation, system_identifier, timeline, confirmed::text, coalesce(lost, '') FROM `+s.control(slotTable)+` WHERE slot = $1`, s.slot).
		Scan(&row.generation, &row.system, &row.timeline, &confirmed, &row.lost)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		row.confirmed, err = pglogrepl.ParseLSN(confirmed)
	}
	if err != nil {
		return nil, fmt.Errorf("read the control schema's note of slot %s: %w", s.slot, err)
	}
	return &row, nil
}

// advanceSlot moves a slot that is older than the publication to where the log ends: what
// was written before the publication cannot be read by it.
func (s *Syncer) advanceSlot(ctx context.Context, conn *pgx.Conn) error {
	slow := time.AfterFunc(5*time.Second, func() {
		s.log.Warn("Postgres moves the slot only when the standbys that synchronized_standby_slots names are as far; see pg_replication_slots", "slot", s.slot)
	})
	defer slow.Stop()
	if err := s.awaitReplay(ctx, conn); err != nil {
		return err
	}
	var lsn pglogrepl.LSN
	err := s.atSlot(ctx, conn, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT end_lsn FROM pg_catalog.pg_replication_slot_advance($1, "+logEnd+")", s.slot).Scan(&lsn)
	})
	if err != nil {
		return fmt.Errorf("move slot %s to the end of the log: %w", s.slot, err)
	}
	s.log.Info("moved replication slot to the end of the log, the publication is younger", "slot", s.slot, "position", lsn)
	return s.noteSlot(ctx, conn, lsn)
}

// createSlot makes the slot. Postgres waits in it for every transaction to end that is
// writing at the moment, which is said when it takes long.
func (s *Syncer) createSlot(ctx context.Context, conn *pgx.Conn) error {
	defer s.sayWhenSlow(s.slot)()
	if err := s.awaitReplay(ctx, conn); err != nil {
		return err
	}
	var lsn pglogrepl.LSN
	create := "SELECT lsn FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')"
	if s.wantsFailover() {
		create = "SELECT lsn FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput', false, false, true)"
	}
	stop := s.announceTransactions(ctx)
	err := s.atSlot(ctx, conn, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, create, s.slot).Scan(&lsn) })
	stop()
	switch sqlState(err) {
	case "42501":
		return &SetupError{Text: fmt.Sprintf("role %s may not make a replication slot", s.config.User), Err: err,
			Hint: fmt.Sprintf("ALTER ROLE %s REPLICATION;", quoteIdent(s.config.User))}
	case "53400":
		return noFreeSlot(err)
	}
	if err != nil {
		return fmt.Errorf("make slot %s: %w", s.slot, err)
	}
	s.log.Info("made replication slot", "slot", s.slot, "position", lsn.String(), "on_standby", s.onStandby())
	return s.noteSlot(ctx, conn, lsn)
}

// sayWhenSlow logs why it takes long to make a slot, unless done is called within 5 s.
func (s *Syncer) sayWhenSlow(slot string) (done func() bool) {
	return time.AfterFunc(5*time.Second, func() {
		s.log.Warn("Postgres makes the slot only when the transactions that are writing now have ended; see pg_stat_activity.backend_xid", "slot", slot)
	}).Stop
}

// ReplayStart returns a position of the log that no commit lies before which the slot can still
// bring, to this process or another one, also after a crash of the server: what the slot was told is
// kept on disk at the latest when its restart_lsn moves.
func (s *Syncer) ReplayStart(ctx context.Context) (lsn pglogrepl.LSN, err error) {
	if err := s.slotDB.QueryRowContext(ctx, `SELECT restart_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, s.slot).Scan(&lsn); err != nil {
		return 0, fmt.Errorf("read where slot %s can begin again: %w", s.slot, err)
	}
	return lsn, nil
}

// recordConfirmed notes in the control schema that the slot is about to stand at lsn,
// and returns a snapshot of the moment and where the log ends. Nothing is noted in a database that
// was set back since it was asked last: the statement may run on another server than the one that the
// stream comes from.
func (s *Syncer) recordConfirmed(ctx context.Context, lsn pglogrepl.LSN) (snapshot Snapshot, end pglogrepl.LSN, err error) {
	var text string
	noted := pglogrepl.LSN(s.noted.Load())
	err = s.db.QueryRowContext(ctx, `UPDATE `+s.control(slotTable)+` SET confirmed = greatest(confirmed, $2::pg_lsn), confirmed_at = now()
		WHERE slot = $1 AND generation = $3 AND confirmed >= $4::pg_lsn AND $2::pg_lsn <= `+logEnd+` AND `+timelineHex+` = $5
		RETURNING pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_lsn()`, s.slot, lsn.String(), s.generation, noted.String(), hexTimeline(s.timeline)).Scan(&text, &end)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := s.slotNow(ctx); err != nil {
			return Snapshot{}, 0, err
		}
		return Snapshot{}, 0, &SetBackError{Slot: s.slot, Reason: fmt.Sprintf("changes up to %s were received and stored, and the log has not come so far", lsn)}
	}
	if err != nil {
		return Snapshot{}, 0, fmt.Errorf("note position %s of slot %s: %w", lsn, s.slot, err)
	}
	s.hasNoted(lsn)
	snapshot, err = ParseSnapshot(text)
	return snapshot, end, err
}

// hasNoted takes up that the control schema's note of the slot is of lsn or later.
func (s *Syncer) hasNoted(lsn pglogrepl.LSN) {
	for {
		noted := s.noted.Load()
		if noted >= uint64(lsn) || s.noted.CompareAndSwap(noted, uint64(lsn)) {
			return
		}
	}
}

// A SlotWAL is how much of the log a slot has the server keep.
type SlotWAL struct {
	At     time.Time // when it was looked at
	Status string    // wal_status: reserved, extended, unreserved, lost
	Kept   int64     // bytes between what the slot needs and the end of the log

	// Left is how many bytes more may be written until the server gives the slot up, see
	// max_slot_wal_keep_size; 0 or less: it may at its next checkpoint. nil: it never does.
	Left *int64
}

// readWALEnd returns where the primary's log ends, and how much of its log the server that has the slot
// keeps for it; nil where there is no slot.
func (s *Syncer) readWALEnd(ctx context.Context) (end pglogrepl.LSN, wal *SlotWAL, err error) {
	var restart *pglogrepl.LSN
	var left *int64
	var status string
	// A standby's log ends where it has received it up to, by streaming or from the archive.
	const look = `SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN coalesce(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()) ELSE pg_catalog.pg_current_wal_lsn() END,
		restart_lsn, safe_wal_size, coalesce(wal_status, '')
		FROM (VALUES ($1::text)) AS ours (slot) LEFT JOIN pg_catalog.pg_replication_slots ON slot_name = slot`
	if err := s.slotDB.QueryRowContext(ctx, look, s.slot).Scan(&end, &restart, &left, &status); err != nil {
		return 0, nil, fmt.Errorf("read where the log ends: %w", err)
	}
	if restart != nil {
		wal = &SlotWAL{At: time.Now(), Status: status, Kept: max(0, int64(end)-int64(*restart)), Left: left}
	}
	if s.slotDB != s.db {
		if err := s.db.QueryRowContext(ctx, `SELECT pg_catalog.pg_current_wal_lsn()`).Scan(&end); err != nil {
			return 0, nil, fmt.Errorf("read where the log ends: %w", err)
		}
	}
	return end, wal, nil
}
