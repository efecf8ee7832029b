package dbsync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Snapshot says which transactions a reader sees. It is the value of
// pg_current_snapshot(), see
// https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
type Snapshot struct {
	Xmin, Xmax uint64   // every transaction below Xmin has ended; none from Xmax on is visible
	InProgress []uint64 // transactions from Xmin to Xmax that are not visible, ascending
}

// ParseSnapshot reads the text form of a pg_snapshot: xmin:xmax:xip,xip,…
func ParseSnapshot(text string) (Snapshot, error) {
	fail := func() (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: want xmin:xmax:xip,…", text)
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return fail()
	}
	var s Snapshot
	var err error
	if s.Xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return fail()
	}
	if s.Xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return fail()
	}
	for xip := range strings.SplitSeq(parts[2], ",") {
		if xip == "" {
			continue
		}
		x, err := strconv.ParseUint(xip, 10, 64)
		if err != nil {
			return fail()
		}
		s.InProgress = append(s.InProgress, x)
	}
	slices.Sort(s.InProgress)
	return s, nil
}

// Visible reports whether a snapshot shows the transaction xid, which the stream says
// has committed. The stream gives 32 bits of a transaction id and a snapshot 64; the
// two lie less than 2^31 apart, so they are compared modulo 2^32. A transaction that
// was streamed may lie above Xmax: its commit is in the log before it is visible.
func (s Snapshot) Visible(xid uint32) bool {
	full := s.Xmax + uint64(int64(int32(xid-uint32(s.Xmax))))
	if full >= s.Xmax {
		return false
	}
	if full < s.Xmin {
		return true
	}
	_, running := slices.BinarySearch(s.InProgress, full)
	return !running
}

const barrierPause = time.Second

// beginSnapshot opens a transaction whose snapshot shows every transaction that began
// before this Syncer listened, or before its tables were in the publication. Of those it may
// have missed what they did: their commits may have been streamed to another process that did
// not live to see them visible, or their changes may be older than the publication.
func (s *Syncer) beginSnapshot(ctx context.Context, conn *pgconn.PgConn, w *watch, tables ...string) error {
	pause := 10 * time.Millisecond
	told := false
	for {
		if err := s.raiseBarrier(ctx, conn); err != nil {
			return err
		}
		snapshot, err := s.takeSnapshot(ctx, conn, tables...)
		if err != nil {
			return err
		}
		// Also one that is not good enough: the tracker may forget what it shows, however long
		// the waiting takes.
		s.tracker.setSnapshot(w, &snapshot)
		if s.barrier.passes(snapshot) {
			return nil
		}
		if _, err := conn.Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
			return fmt.Errorf("take a snapshot: %w", err)
		}
		if wanted := s.barrier.wanted(); pause > barrierPause && !told && wanted > 0 {
			told = true
			s.log.Warn("rows are read when the transactions have ended that were open at the start, or when the publication was changed; see pg_stat_activity.backend_xid and pg_prepared_xacts",
				"oldest", snapshot.Xmin, "wanted", wanted)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(pause, barrierPause)):
		}
		pause *= 2
	}
}

// raiseBarrier raises the barrier to the current transaction if the publication was changed: those
// that were open when it was are older.
func (s *Syncer) raiseBarrier(ctx context.Context, conn *pgconn.PgConn) error {
	change, ok := s.barrier.need()
	if !ok {
		return nil
	}
	result := conn.ExecParams(ctx, "SELECT pg_catalog.pg_current_xact_id()::text", nil, nil, nil, nil).Read()
	if result.Err != nil || len(result.Rows) != 1 {
		return fmt.Errorf("read the current transaction: %w", cmp.Or(result.Err, errors.New("the server gave none")))
	}
	xid, err := strconv.ParseUint(string(result.Rows[0][0]), 10, 64)
	if err != nil {
		return fmt.Errorf("read the current transaction: %w", err)
	}
	s.barrier.raise(xid, change)
	return nil
}

// Unseen returns the transactions that the stream has brought and that others may not see
// yet, for [Syncer.ReadVisible]: what f reads is then at least as new as the stream.
func (s *Syncer) Unseen() []uint32 { return s.tracker.unseen() }

// ReadVisible calls f within a read-only transaction whose snapshot shows all of the
// transactions xids, which the stream says have committed. A commit is streamed before
// other sessions see it; ReadVisible waits until they do. tables are the quoted names of
// those that f reads, see takeSnapshot. f must read all of its results.
//
// It returns when what f saw is durable. A session with synchronous_commit = off is seen
// before its commit is on disk; a crash of the server could take back what was read, and
// no change would ever come to say so.
func (s *Syncer) ReadVisible(ctx context.Context, xids []uint32, tables []string, f func(conn *pgconn.PgConn) error) error {
	s.reading.Add(1)
	defer s.reading.Add(-1)
	defer AtServer(ctx)()
	return WithConn(ctx, s.db, func(c *pgx.Conn) error {
		conn := c.PgConn()
		pause := 5 * time.Millisecond
		for {
			snapshot, err := s.takeSnapshot(ctx, conn, tables...)
			if err != nil {
				return err
			}
			if i := slices.IndexFunc(xids, func(xid uint32) bool { return !snapshot.Visible(xid) }); i < 0 {
				return s.readDurable(ctx, conn, f)
			}
			rollback(ctx, conn)
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(min(pause, barrierPause)):
			}
			pause *= 2
		}
	})
}

// ReadNow calls f within a read-only transaction. tables are the quoted names of those that f reads,
// see takeSnapshot. What f sees may be older than the stream, and not durable, so no document is to
// be made of it. f must read all of its results.
func (s *Syncer) ReadNow(ctx context.Context, tables []string, f func(conn *pgconn.PgConn) error) error {
	return WithConn(ctx, s.db, func(c *pgx.Conn) error {
		conn := c.PgConn()
		if _, err := s.takeSnapshot(ctx, conn, tables...); err != nil {
			return err
		}
		defer rollback(ctx, conn)
		return f(conn)
	})
}

// readDurable calls f, ends the transaction, and has the log written to disk: a commit of
// our own is not on disk before everything in front of it is. The place in the stream that
// it makes means nothing.
func (s *Syncer) readDurable(ctx context.Context, conn *pgconn.PgConn, f func(conn *pgconn.PgConn) error) error {
	err := f(conn)
	rollback(ctx, conn)
	if err != nil || s.onlyReads { // nothing is made of it that lasts
		return err
	}
	return s.writeWatermark(ctx, watermark{markWatermark, newToken()})
}

// takeSnapshot opens a read-only transaction and returns its snapshot. After an error
// none is open.
//
// The tables are locked first, against nothing but what changes their definition: a
// statement that rewrites a table leaves it empty for a snapshot taken before, and would
// otherwise fit between the snapshot and the select
// (https://www.postgresql.org/docs/current/mvcc-caveats.html). While such a statement runs the
// lock is waited for, without end, and Status says for whom.
func (s *Syncer) takeSnapshot(ctx context.Context, conn *pgconn.PgConn, tables ...string) (Snapshot, error) {
	if len(tables) == 0 {
		return snapshotOf(ctx, conn, "")
	}
	list := strings.Join(tables, ", ")
	lock := fmt.Sprintf("SET LOCAL lock_timeout = %d; LOCK TABLE %s IN ACCESS SHARE MODE; SET LOCAL lock_timeout = 0; ", lockPatience.Milliseconds(), list)
	var wait *lockWait
	defer func() { s.lockWaits.end(wait) }()
	for {
		snapshot, err := snapshotOf(ctx, conn, lock)
		if sqlState(err) != "55P03" { // lock_not_available
			return snapshot, err
		}
		if wait == nil {
			wait = s.lockWaits.begin()
			s.log.Warn("waiting for a lock, which a statement that alters a table holds; see pg_blocking_pids", "tables", list)
		}
		s.lockWaits.say(wait, describeLock(ctx, conn, list))
	}
}

// snapshotOf is takeSnapshot; lock are statements that come before the snapshot.
func snapshotOf(ctx context.Context, conn *pgconn.PgConn, lock string) (Snapshot, error) {
	begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + lock
	query := "SELECT pg_catalog.pg_current_snapshot()::text"
	made := sessionOf(conn)
	if made != nil { // what is read must have the text that it has in the stream
		query += ", " + made.wanted.columns(reads)
	}
	results, err := conn.Exec(ctx, begin+query).ReadAll()
	last := len(results) - 1
	if err == nil && (last < 0 || len(results[last].Rows) != 1) {
		err = errors.New("the server gave no snapshot")
	}
	var snapshot Snapshot
	if err == nil {
		snapshot, err = ParseSnapshot(string(results[last].Rows[0][0]))
	}
	if err == nil && made != nil {
		if wrong := made.check(results[last].Rows[0][1:], reads); wrong != nil {
			conn.Close(context.WithoutCancel(ctx)) // nobody uses it again, the transaction ends with it
			return Snapshot{}, fmt.Errorf("take a snapshot: %w", wrong)
		}
	}
	if err != nil {
		rollback(ctx, conn)
		return Snapshot{}, fmt.Errorf("take a snapshot: %w", err)
	}
	return snapshot, nil
}

// forgetVisible has the tracker forget what is visible to everybody, when it remembers as much as
// it may: see [tracker.bound]. While more commits than that hang, the stream waits for them.
func (s *Syncer) forgetVisible(ctx context.Context) error {
	for pause := 10 * time.Millisecond; s.tracker.full(); pause *= 2 {
		var text string
		if err := s.db.QueryRowContext(ctx, "SELECT pg_catalog.pg_current_snapshot()::text").Scan(&text); err != nil {
			return fmt.Errorf("look which transactions are visible: %w", err)
		}
		snapshot, err := ParseSnapshot(text)
		if err != nil {
			return err
		}
		if s.tracker.bound(snapshot); !s.tracker.full() {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(pause, barrierPause)):
			Beat(ctx)
		}
	}
	return nil
}

// A NoTableError reports that a table is gone.
type NoTableError struct{ OID uint32 }

func (e *NoTableError) Error() string { return fmt.Sprintf("table %d does not exist", e.OID) }

// relationNames returns the quoted names of tables.
func relationNames(ctx context.Context, conn *pgconn.PgConn, oids []uint32) ([]string, error) {
	list := []byte{'{'}
	for i, oid := range oids {
		if i > 0 {
			list = append(list, ',')
		}
		list = strconv.AppendUint(list, uint64(oid), 10)
	}
	result := conn.ExecParams(ctx, `SELECT CASE WHEN c.oid IS NOT NULL THEN pg_catalog.format('%I.%I', n.nspname, c.relname) END FROM pg_catalog.unnest($1::oid[]) WITH ORDINALITY o(oid, place)
		LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON c.oid = o.oid ORDER BY o.place`,
		[][]byte{append(list, '}')}, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, fmt.Errorf("look for tables %d: %w", oids, result.Err)
	}
	names := make([]string, len(result.Rows))
	for i, row := range result.Rows {
		if row[0] == nil {
			return nil, &PermanentError{&NoTableError{oids[i]}}
		}
		names[i] = string(row[0])
	}
	return names, nil
}

// rollback ends a read-only transaction. If it fails the connection is broken, and the
// transaction ends with it.
func rollback(ctx context.Context, conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = conn.Exec(ctx, "ROLLBACK").Close()
}

const rollbackTimeout = 5 * time.Second
