package dbsync

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// A SetupError reports something about the database that has to be fixed before a
// Syncer can work. Hint is what to do, the exact SQL where there is one.
type SetupError struct {
	Text, Hint string
	Err        error // what the server said, if it said something
}

func (e *SetupError) Error() string {
	text := e.Text
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		text += " (hint: " + e.Hint + ")"
	}
	return text
}

func (e *SetupError) Unwrap() error { return e.Err }

// setupLock is the advisory lock under which control objects are made, so that two
// instances that start at once do not make them twice; see migrateLock, too. The number is
// "dbsync" in ASCII.
const setupLock = 0x646273796e63

// setup makes what is missing in the database: control schema, watermark table, slot
// table, publication, slot. What exists is left as it is and checked. It says what it
// did through the logger.
func (s *Syncer) setup(ctx context.Context) error {
	check, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	if err := s.checkServer(check); err != nil {
		return err
	}
	return WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_advisory_lock($1)", setupLock); err != nil {
			return fmt.Errorf("wait for other instances to finish their setup: %w", err)
		}
		// A crash here ends the session, and the lock with it.
		defer conn.Exec(context.WithoutCancel(ctx), "SELECT pg_catalog.pg_advisory_unlock($1)", setupLock)
		if err := s.setupControl(ctx, conn); err != nil {
			return err
		}
		if err := s.checkSlot(ctx, conn); err != nil {
			return err
		}
		madePublication, err := s.setupPublication(ctx, conn)
		if err != nil {
			return err
		}
		return s.setupSlot(ctx, conn, madePublication)
	})
}

// checkServer finds out about the server what everything else depends on.
func (s *Syncer) checkServer(ctx context.Context) error {
	wrong, err := s.readServer(ctx)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		return wrong[0]
	}
	return s.identify(ctx)
}

// readServer reads what the server is, and returns why it cannot be used.
func (s *Syncer) readServer(ctx context.Context) (wrong []*SetupError, err error) {
	var level string
	var standby bool
	err = s.db.QueryRowContext(ctx, `SELECT pg_catalog.current_setting('server_version_num')::int,
		pg_catalog.current_setting('wal_level'), pg_catalog.pg_is_in_recovery(), pg_catalog.current_database()`).
		Scan(&s.serverVersion, &level, &standby, &s.dbName)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	if s.serverVersion < 140000 {
		wrong = append(wrong, &SetupError{Text: fmt.Sprintf("the server is Postgres %d, 14 is the oldest that works", s.serverVersion/10000), Hint: "upgrade the server"})
	}
	if level != "logical" {
		wrong = append(wrong, &SetupError{Text: fmt.Sprintf("wal_level is %s, logical replication needs logical", level),
			Hint: "ALTER SYSTEM SET wal_level = logical; then restart Postgres"})
	}
	if standby {
		wrong = append(wrong, &SetupError{Text: "the server is a standby, where no watermark can be written", Hint: "connect to the primary"})
	}
	return wrong, nil
}

// identify reads the identity of the database system over a replication connection,
// which shows that one can be had.
func (s *Syncer) identify(ctx context.Context) error {
	conn, err := connectReplication(ctx, s.config)
	if err != nil {
		if sqlState(err) == "42501" || sqlState(err) == "28000" {
			return &SetupError{Text: fmt.Sprintf("role %s may not open a replication connection", s.config.User), Err: err,
				Hint: fmt.Sprintf("ALTER ROLE %s REPLICATION; and a line for the database in pg_hba.conf", quoteIdent(s.config.User))}
		}
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return fmt.Errorf("identify the database system: %w", err)
	}
	s.system, s.timeline = system.SystemID, system.Timeline
	return nil
}

// setupControl makes the control schema with the slot table, or brings that up to date, and the
// watermark table.
func (s *Syncer) setupControl(ctx context.Context, conn *pgx.Conn) error {
	make := func(what, exists, statement string) error {
		var there bool
		if err := conn.QueryRow(ctx, exists).Scan(&there); err != nil {
			return fmt.Errorf("look for %s: %w", what, err)
		}
		if there {
			return nil
		}
		if _, err := conn.Exec(ctx, statement); err != nil {
			if sqlState(err) == "42501" {
				return &SetupError{Text: fmt.Sprintf("role %s may not make %s", s.config.User, what), Err: err,
					Hint: "run as a role that may: " + statement}
			}
			return fmt.Errorf("make %s: %w", what, err)
		}
		s.log.Info("made "+what, "statement", strings.Join(strings.Fields(statement), " "))
		return nil
	}
	lit := func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
	relation := func(name string) string {
		return fmt.Sprintf("SELECT pg_catalog.to_regclass(%s) IS NOT NULL", lit(s.control(name)))
	}
	if err := make("control schema "+s.namespace,
		fmt.Sprintf("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s)", lit(s.namespace)),
		"CREATE SCHEMA "+quoteIdent(s.namespace)); err != nil {
		return err
	}
	if err := s.schemaPart().Migrate(ctx, conn, s.log); err != nil {
		return err
	}
	// It has the name that this Syncer was given, so it is no part of the versions. One row per
	// slot. Every watermark is an update of it, so it stays on its page.
	return make("watermark table "+s.wmTable, relation(s.wmTable), s.watermarkTable())
}

// schemaPart is the part of the control schema that is kept by this package: the slot table.
//
// Setup migrates it before the slot is ours, so that an earlier version may still follow the
// slot: steps only add what that one does not look at.
func (s *Syncer) schemaPart() *SchemaPart {
	return &SchemaPart{Schema: s.namespace, Name: "dbsync", Steps: []Migration{
		{Name: "table of slots, of this or any earlier version", Up: setupSlotTable},
	}}
}

// setupSlotTable makes the slot table, or gives one of an earlier version the columns it lacks.
func setupSlotTable(ctx context.Context, tx pgx.Tx) error {
	have, err := Columns(ctx, tx, slotTable)
	if err != nil {
		return err
	}
	var statements []string
	if len(have) == 0 {
		// confirmed is written before the server is told, so a slot that stands further was
		// made anew or moved by somebody else, and changes are missing.
		statements = append(statements, `CREATE TABLE `+slotTable+` (slot text PRIMARY KEY, generation text NOT NULL,
			system_identifier text NOT NULL, timeline int NOT NULL, confirmed pg_lsn NOT NULL, lost text,
			made_at timestamptz NOT NULL DEFAULT now(), confirmed_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)`)
	} else {
		if !have["generation"] { // any that no other slot has
			statements = append(statements, `ALTER TABLE `+slotTable+` ADD COLUMN generation text NOT NULL DEFAULT upper(replace(gen_random_uuid()::text, '-', ''))`,
				`ALTER TABLE `+slotTable+` ALTER COLUMN generation DROP DEFAULT`)
		}
		if !have["lost"] { // a slot that was lost was noted by a position before all others
			statements = append(statements, `ALTER TABLE `+slotTable+` ADD COLUMN lost text`,
				`UPDATE `+slotTable+` SET lost = 'changes were missing already in an earlier version' WHERE confirmed = '0/0'`)
		}
	}
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// watermarkTable is the statement that makes the watermark table.
func (s *Syncer) watermarkTable() string {
	return "CREATE TABLE " + s.control(s.wmTable) +
		" (slot text PRIMARY KEY, token text NOT NULL, at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)"
}

// slotTable holds what is known of each slot, in the control schema.
const slotTable = "dbsync_slots"

// control returns the quoted name of a table in the control schema.
func (s *Syncer) control(table string) string { return pgx.Identifier{s.namespace, table}.Sanitize() }

// A SlotLostError reports that changes are missing: the slot is gone, was invalidated,
// or is not the one that was used before. Everything that was made from its changes has
// to be made anew; [WithNewSlot] begins that.
type SlotLostError struct {
	Slot   string
	Reason string
	// Confirmed is the position up to which changes were received and stored.
	Confirmed pglogrepl.LSN
}

func (e *SlotLostError) Error() string {
	return fmt.Sprintf("replication slot %s: %s; changes after %s are missing", e.Slot, e.Reason, e.Confirmed)
}

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

// slotState is what the server says of a slot.
type slotState struct {
	exists    bool
	plugin    string
	database  string
	confirmed pglogrepl.LSN
	status    string // wal_status: reserved, extended, unreserved, lost
	temporary bool
	published bool // the publication exists
}

func (s *Syncer) readSlot(ctx context.Context, q querier) (slotState, error) {
	st := slotState{exists: true}
	var confirmed *string
	var database, status *string
	err := q.QueryRow(ctx, `SELECT coalesce(plugin, ''), database, confirmed_flush_lsn::text, wal_status, temporary,
		EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $2)
		FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, s.slot, s.publication).
		Scan(&st.plugin, &database, &confirmed, &status, &st.temporary, &st.published)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return slotState{}, nil
	case err != nil:
		return slotState{}, fmt.Errorf("read the state of slot %s: %w", s.slot, err)
	}
	if database != nil {
		st.database = *database
	}
	if status != nil {
		st.status = *status
	}
	if confirmed != nil {
		if st.confirmed, err = pglogrepl.ParseLSN(*confirmed); err != nil {
			return slotState{}, fmt.Errorf("read the state of slot %s: %w", s.slot, err)
		}
	}
	return st, nil
}

// querier is what pgx connections and transactions have in common.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// checkSlot makes sure that the slot, if there is one, is the one that was used before,
// so that no change is missing. One that is not is dropped where that is allowed.
func (s *Syncer) checkSlot(ctx context.Context, conn *pgx.Conn) error {
	slot, err := s.readSlot(ctx, conn)
	if err != nil {
		return err
	}
	if slot.exists && (slot.plugin != "pgoutput" || slot.database != s.dbName) {
		return s.foreignSlot(slot)
	}
	known, err := s.readSlotRow(ctx, conn)
	if err != nil {
		return err
	}
	lost := s.judgeSlot(slot, known)
	if lost == nil || !s.newSlot {
		return lost
	}
	s.log.Warn("the slot is made anew, everything made from its changes has to be made anew", "slot", s.slot, "reason", lost)
	// A crash between the two leaves a note of a slot that is gone, which is lost as well.
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

// setupSlot makes the slot if it was never made.
func (s *Syncer) setupSlot(ctx context.Context, conn *pgx.Conn, madePublication bool) error {
	slot, err := s.readSlot(ctx, conn)
	if err != nil {
		return err
	}
	known, err := s.readSlotRow(ctx, conn)
	if err != nil {
		return err
	}
	if known != nil {
		s.generation = known.generation
		return nil
	}

	// The row is written last. A crash before it leaves a slot without a row: the next
	// start takes it as one that the user made, from where it stands.
	switch {
	case !slot.exists:
		slot.confirmed, err = s.createSlot(ctx, conn)
	case madePublication:
		slot.confirmed, err = s.advanceSlot(ctx, conn)
	}
	if err != nil {
		return err
	}
	s.generation = newToken()
	_, err = conn.Exec(ctx, `INSERT INTO `+s.control(slotTable)+` (slot, generation, system_identifier, timeline, confirmed) VALUES ($1, $2, $3, $4, $5::pg_lsn)
		ON CONFLICT (slot) DO UPDATE SET generation = excluded.generation, system_identifier = excluded.system_identifier,
			timeline = excluded.timeline, confirmed = excluded.confirmed, made_at = now(), confirmed_at = now(), lost = NULL`,
		s.slot, s.generation, s.system, s.timeline, slot.confirmed.String())
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
	lost       string // why changes are missing, "" if none are known to be
}

func (s *Syncer) readSlotRow(ctx context.Context, q querier) (*slotRow, error) {
	var row slotRow
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

// judgeSlot says why the slot cannot be the one that known describes, nil when it is.
func (s *Syncer) judgeSlot(slot slotState, known *slotRow) error {
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

// advanceSlot moves a slot that is older than the publication to where the log ends: what
// was written before the publication cannot be read by it.
func (s *Syncer) advanceSlot(ctx context.Context, conn *pgx.Conn) (lsn pglogrepl.LSN, err error) {
	var text string
	err = conn.QueryRow(ctx, "SELECT end_lsn::text FROM pg_catalog.pg_replication_slot_advance($1, pg_catalog.pg_current_wal_flush_lsn())", s.slot).Scan(&text)
	if err == nil {
		lsn, err = pglogrepl.ParseLSN(text)
	}
	if err != nil {
		return 0, fmt.Errorf("move slot %s to the end of the log: %w", s.slot, err)
	}
	s.log.Info("moved replication slot to the end of the log, the publication is younger", "slot", s.slot, "lsn", lsn)
	return lsn, nil
}

// createSlot makes the slot. Postgres waits in it for every transaction to end that is
// writing at the moment, which is said when it takes long.
func (s *Syncer) createSlot(ctx context.Context, conn *pgx.Conn) (pglogrepl.LSN, error) {
	slow := time.AfterFunc(5*time.Second, func() {
		s.log.Warn("Postgres makes the slot only when the transactions that are writing now have ended; see pg_stat_activity.backend_xid", "slot", s.slot)
	})
	defer slow.Stop()
	var text string
	err := conn.QueryRow(ctx, "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')", s.slot).Scan(&text)
	switch sqlState(err) {
	case "42501":
		return 0, &SetupError{Text: fmt.Sprintf("role %s may not make a replication slot", s.config.User), Err: err,
			Hint: fmt.Sprintf("ALTER ROLE %s REPLICATION;", quoteIdent(s.config.User))}
	case "53400":
		return 0, noFreeSlot(err)
	}
	if err != nil {
		return 0, fmt.Errorf("make slot %s: %w", s.slot, err)
	}
	lsn, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return 0, fmt.Errorf("make slot %s: %w", s.slot, err)
	}
	s.log.Info("made replication slot", "slot", s.slot, "lsn", lsn.String())
	return lsn, nil
}

// recordConfirmed notes in the control schema that the slot is about to stand at lsn,
// and returns a snapshot of the moment and where the log ends.
func (s *Syncer) recordConfirmed(ctx context.Context, lsn pglogrepl.LSN) (snapshot Snapshot, end pglogrepl.LSN, err error) {
	var text string
	err = s.db.QueryRowContext(ctx, `UPDATE `+s.control(slotTable)+` SET confirmed = greatest(confirmed, $2::pg_lsn), confirmed_at = now()
		WHERE slot = $1 RETURNING pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_lsn()`, s.slot, lsn.String()).Scan(&text, &end)
	if errors.Is(err, sql.ErrNoRows) {
		return Snapshot{}, 0, &SlotLostError{Slot: s.slot, Reason: "the control schema's note of it is gone", Confirmed: lsn}
	}
	if err != nil {
		return Snapshot{}, 0, fmt.Errorf("note position %s of slot %s: %w", lsn, s.slot, err)
	}
	snapshot, err = ParseSnapshot(text)
	return snapshot, end, err
}

// readWALEnd returns where the server's log ends.
func (s *Syncer) readWALEnd(ctx context.Context) (end pglogrepl.LSN, err error) {
	if err := s.db.QueryRowContext(ctx, "SELECT pg_catalog.pg_current_wal_lsn()").Scan(&end); err != nil {
		return 0, fmt.Errorf("read where the log ends: %w", err)
	}
	return end, nil
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

// publicationMark is the comment by which a publication is known as ours to change.
const publicationMark = "kept by dbsync"

// setupPublication makes the publication, keeps one that it made equal to the tables
// asked for, and checks one that somebody else made.
func (s *Syncer) setupPublication(ctx context.Context, conn *pgx.Conn) (made bool, err error) {
	var tables []string
	for _, name := range append(s.tables, s.control(s.wmTable)) {
		quoted, err := quoteTable(name)
		if err != nil {
			return false, &SetupError{Text: "publication " + s.publication, Err: err}
		}
		tables = append(tables, quoted)
	}
	list := strings.Join(tables, ", ")

	pub, err := s.readPublication(ctx, conn)
	if err != nil {
		return false, err
	}
	if !pub.exists {
		return true, s.createPublication(ctx, conn, list)
	}
	if !pub.complete {
		return false, s.incompletePublication()
	}
	missing, extra, err := s.comparePublication(ctx, conn, tables)
	if err != nil {
		return false, err
	}
	if pub.ours && len(s.tables) > 0 {
		if len(missing)+len(extra) == 0 {
			return false, nil
		}
		// What changes before this commits is not published, not even the rest of a transaction
		// that is under way. Windows therefore wait until every such transaction has ended.
		statement := fmt.Sprintf("ALTER PUBLICATION %s SET TABLE %s", quoteIdent(s.publication), list)
		if _, err := conn.Exec(ctx, statement); err != nil {
			return false, s.publicationError(err, statement)
		}
		s.log.Info("changed publication", "publication", s.publication, "added", missing, "removed", extra)
		return false, nil
	}
	if len(missing) > 0 {
		return false, s.lackingPublication(missing)
	}
	return false, nil
}

// publicationState is what the server says of a publication.
type publicationState struct {
	exists   bool
	complete bool // every kind of change is published
	viaRoot  bool // changes of a partition are those of its root
	ours     bool // a Syncer made it, and may change it
	owned    bool // by this role
}

func (s *Syncer) readPublication(ctx context.Context, q querier) (p publicationState, err error) {
	p.exists = true
	err = q.QueryRow(ctx, `SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot,
		coalesce(pg_catalog.obj_description(oid, 'pg_publication') = $2, false), pg_catalog.pg_has_role(pubowner, 'USAGE')
		FROM pg_catalog.pg_publication WHERE pubname = $1`, s.publication, publicationMark).
		Scan(&p.complete, &p.viaRoot, &p.ours, &p.owned)
	if errors.Is(err, pgx.ErrNoRows) {
		return publicationState{}, nil
	}
	if err != nil {
		return publicationState{}, fmt.Errorf("look for publication %s: %w", s.publication, err)
	}
	return p, nil
}

func (s *Syncer) incompletePublication() *SetupError {
	return &SetupError{Text: fmt.Sprintf("publication %s leaves out some kinds of change", s.publication),
		Hint: fmt.Sprintf("ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate');", quoteIdent(s.publication))}
}

func (s *Syncer) lackingPublication(missing []string) *SetupError {
	list := strings.Join(missing, ", ")
	return &SetupError{Text: fmt.Sprintf("publication %s, which was not made by this program, lacks %s", s.publication, list),
		Hint: fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s;", quoteIdent(s.publication), list)}
}

// newPublication is the statement that makes the publication for a list of tables.
func (s *Syncer) newPublication(list string) string {
	options := "publish_via_partition_root = true"
	if s.serverVersion >= 180000 {
		options += ", publish_generated_columns = stored"
	}
	return fmt.Sprintf("CREATE PUBLICATION %s FOR TABLE %s WITH (%s)", quoteIdent(s.publication), list, options)
}

func (s *Syncer) createPublication(ctx context.Context, conn *pgx.Conn, list string) error {
	statement := s.newPublication(list)
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, fmt.Sprintf("COMMENT ON PUBLICATION %s IS '%s'", quoteIdent(s.publication), publicationMark))
		return err
	})
	if err != nil {
		return s.publicationError(err, statement)
	}
	s.log.Info("made publication", "publication", s.publication, "statement", statement)
	return nil
}

func (s *Syncer) publicationError(err error, statement string) error {
	switch sqlState(err) {
	case "42501":
		return &SetupError{Text: fmt.Sprintf("role %s may not make publication %s", s.config.User, s.publication), Err: err,
			Hint: "as owner of the tables and with CREATE on the database, or as superuser: " + statement + ";"}
	case "42P01":
		return &SetupError{Text: "publication " + s.publication, Err: err, Hint: "name existing tables"}
	}
	return fmt.Errorf("publication %s: %w", s.publication, err)
}

// comparePublication returns which of the tables the publication lacks, and which it has
// beyond them, as quoted names.
func (s *Syncer) comparePublication(ctx context.Context, conn *pgx.Conn, tables []string) (missing, extra []string, err error) {
	rows, err := conn.Query(ctx, `SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = $1`, s.publication)
	if err != nil {
		return nil, nil, fmt.Errorf("read the tables of publication %s: %w", s.publication, err)
	}
	published := make(map[string]bool)
	var schema, table string
	if _, err := pgx.ForEachRow(rows, []any{&schema, &table}, func() error {
		published[pgx.Identifier{schema, table}.Sanitize()] = true
		return nil
	}); err != nil {
		return nil, nil, fmt.Errorf("read the tables of publication %s: %w", s.publication, err)
	}
	wanted := make(map[string]bool)
	for _, t := range tables {
		var schema, name string
		err := conn.QueryRow(ctx, `SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE c.oid = pg_catalog.to_regclass($1)`, t).Scan(&schema, &name)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, nil, &SetupError{Text: fmt.Sprintf("table %s does not exist", t), Hint: "name an existing table"}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("look for table %s: %w", t, err)
		}
		full := pgx.Identifier{schema, name}.Sanitize()
		wanted[full] = true
		if !published[full] {
			missing = append(missing, full)
		}
	}
	for t := range published {
		if !wanted[t] {
			extra = append(extra, t)
		}
	}
	return missing, extra, nil
}
