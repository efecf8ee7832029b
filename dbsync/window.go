package dbsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Select says which rows a window reads.
type Select struct {
	// Relation is the table that the rows belong to, by its oid. Rows of it that change
	// in the stream while the window is open are not handed on.
	Relation uint32

	// Key names the columns by which a row is known, both in the stream and in the
	// result. They are part of the table's replica identity.
	Key []string

	// Related are other tables that the rows are made from, by their oids. What the stream
	// brings of them is the handler's to act on: a change after the low watermark has a
	// later version than the rows of the window. One before it that the window's snapshot
	// does not show yet has the window read again.
	Related []uint32

	// Query is the statement, Args the text of its parameters, nil for NULL.
	Query string
	Args  [][]byte

	// MaxBytes bounds what the window holds in memory; 0 means 16 MiB. Rows beyond it
	// are not part of the window, see Window.Truncated. One row is always taken.
	MaxBytes int

	// Origin is what the handler makes documents of the rows by.
	Origin Origin
}

const defaultWindowBytes = 16 << 20

// A RowHandler is a [MessageHandler] that takes the rows of a window one by one and
// without maps. One that is not gets them by HandleRefresh.
type RowHandler interface {
	// HandleRow gets a row that nothing newer is known of. row has the columns of
	// w.Description and is valid until HandleRow returns. What the handler marks
	// carries the low watermark's LSN as version.
	HandleRow(w *Window, row *pglogrepl.TupleData) error
}

// A Window is the rows of one select between two watermarks.
type Window struct {
	Select
	Description *pglogrepl.RelationMessage // the result's columns, in order

	id        string
	rows      [][]byte // see appendTuple
	bytes     int      // of rows
	truncated bool
	took      time.Duration
	watch     *watch

	outcome chan bool     // true: handed on; false: has to be read again; capacity 1
	stored  chan struct{} // closed when everything that was handed on is stored

	// The following belongs to the goroutine of Run.
	low     pglogrepl.LSN
	changed bool // the table is not what it was when the select began
	dropped int
}

// Len returns how many rows the select gave.
func (w *Window) Len() int { return len(w.rows) }

// say returns the reader of the window what became of it. What was said first holds.
func (w *Window) say(handed bool) {
	select {
	case w.outcome <- handed:
	default:
	}
}

// Bytes returns how much memory the rows take.
func (w *Window) Bytes() int { return w.bytes }

// Took returns how long the statement ran, until its last row was here: so long its snapshot
// was held. It may have waited for others before.
func (w *Window) Took() time.Duration { return w.took }

// Dropped returns how many of the rows were not handed on because the stream had newer.
func (w *Window) Dropped() int { return w.dropped }

// Truncated reports whether the select gave more rows than MaxBytes let in.
func (w *Window) Truncated() bool { return w.truncated }

// Last returns the key of the last row, the text of its columns in the order of Key,
// or nil when there is no row.
func (w *Window) Last() ([][]byte, error) {
	if len(w.rows) == 0 {
		return nil, nil
	}
	var t tuple
	r := reader{data: w.rows[len(w.rows)-1]}
	row := t.read(&r)
	if r.err != nil {
		return nil, fmt.Errorf("row of a window: %w", r.err)
	}
	var last [][]byte
	for _, i := range w.keyPositions(w.Description) {
		last = append(last, slices.Clone(row.Columns[i].Data))
	}
	return last, nil
}

func (sel *Select) keyPositions(r *pglogrepl.RelationMessage) []int { return positions(r, sel.Key) }

// positions returns where the named columns stand in a description; a column that it
// does not have is left out.
func positions(r *pglogrepl.RelationMessage, names []string) []int {
	out := make([]int, 0, len(names))
	for _, name := range names {
		if i := slices.IndexFunc(r.Columns, func(c *pglogrepl.RelationMessageColumn) bool { return c.Name == name }); i >= 0 {
			out = append(out, i)
		}
	}
	return out
}

// AwaitStored returns nil when all that the window handed on is stored.
func (s *Syncer) AwaitStored(ctx context.Context, w *Window) error {
	return s.awaitStored(ctx, w.stored)
}

// awaitStored waits until stored is closed. It needs a running Syncer.
func (s *Syncer) awaitStored(ctx context.Context, stored <-chan struct{}) error {
	run, err := s.runContext()
	if err != nil {
		return err
	}
	select {
	case <-stored:
		return nil
	case <-run.Done():
		return fmt.Errorf("wait until changes are stored: %w", context.Cause(run))
	case <-ctx.Done():
		return fmt.Errorf("wait until changes are stored: %w", context.Cause(ctx))
	}
}

// ErrNotRunning is returned by what needs a running Syncer.
var ErrNotRunning = errors.New("the syncer is not running")

// OpenWindow reads rows between two watermarks and hands to the handler those that
// nothing newer is known of. It returns when they are handed on, which is before they
// are stored: the next window can be read meanwhile, see [Syncer.AwaitStored].
//
// A row is left out when the stream brought a change of it between the watermarks, or
// before them and the select's snapshot did not show it yet. Where that cannot be told
// row by row, because of a TRUNCATE, a change of the table, or a transaction too large
// to be remembered, the window is read again.
//
// What fails in passing is tried again, without end, until ctx is done. A statement that
// Postgres refuses gives an error at once, and nothing is handed on.
func (s *Syncer) OpenWindow(ctx context.Context, sel Select) (*Window, error) {
	ctx, cancel, err := s.whileRunning(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()

	if sel.MaxBytes == 0 {
		sel.MaxBytes = defaultWindowBytes
	}
	release := s.tracker.track(sel.Relation, sel.Key)
	defer release()

	return retry(ctx, s.log, "read a window", func() (*Window, error) {
		for pause := 10 * time.Millisecond; ; pause *= 2 {
			w, ok, err := s.readWindow(ctx, sel)
			if err != nil || ok {
				return w, err
			}
			// A transaction that hangs in its commit may do so for hours.
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(min(pause, barrierPause)):
			}
		}
	})
}

// retry repeats f with growing pauses until it gives no error, an error that repeating
// cannot cure, or ctx is done.
func retry[T any](ctx context.Context, log logger, what string, f func() (T, error)) (T, error) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 30*time.Second
	for {
		v, err := f()
		if err == nil || IsPermanent(err) {
			return v, err
		}
		if ctx.Err() != nil {
			return v, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		d := pause.NextBackOff()
		log.Warn(what+" failed, trying again", "error", err, "pause", d.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return v, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-time.After(d):
		}
	}
}

// logger is what retry needs of slog.Logger.
type logger interface{ Warn(msg string, args ...any) }

// readWindow tries once; ok is false when the rows have to be read again.
func (s *Syncer) readWindow(ctx context.Context, sel Select) (_ *Window, ok bool, err error) {
	w := &Window{Select: sel, id: newToken(), outcome: make(chan bool, 1), stored: make(chan struct{})}
	w.watch = s.tracker.watch()
	defer s.tracker.unwatch(w.watch)
	s.windows.add(w)
	defer s.windows.remove(w)

	if err := s.writeWatermark(ctx, watermark{lowWatermark, w.id}); err != nil {
		return nil, false, err
	}
	if err := WithConn(ctx, s.db, func(conn *pgx.Conn) error { return s.readRows(ctx, conn.PgConn(), w) }); err != nil {
		return nil, false, err
	}
	// The stream shows the high watermark only when the log is durable up to it. So what
	// the select saw is durable too, even of a session with synchronous_commit = off.
	if err := s.writeWatermark(ctx, watermark{highWatermark, w.id}); err != nil {
		return nil, false, err
	}
	select {
	case ok := <-w.outcome:
		return w, ok, nil
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
}

// readRows runs the window's select in a snapshot that can be judged.
func (s *Syncer) readRows(ctx context.Context, conn *pgconn.PgConn, w *Window) error {
	tables, err := relationNames(ctx, conn, append([]uint32{w.Relation}, w.Related...))
	if err != nil {
		return err
	}
	if err := s.beginSnapshot(ctx, conn, w.watch, tables...); err != nil {
		return err
	}
	defer rollback(ctx, conn)

	began := time.Now()
	result := conn.ExecParams(ctx, w.Query, w.Args, nil, nil, nil)
	w.Description = describeResult(w.Relation, result.FieldDescriptions())
	found := len(w.keyPositions(w.Description))
	var slabs slabs
	for result.NextRow() {
		values := result.Values()
		n := tupleSize(values)
		if w.truncated || len(w.rows) > 0 && w.bytes+n > w.MaxBytes {
			w.truncated = true
			continue // the rest is read and dropped: the statement's LIMIT bounds it
		}
		w.bytes += n
		w.rows = append(w.rows, appendTuple(slabs.alloc(n)[:0], values))
	}
	if _, err := result.Close(); err != nil {
		return fmt.Errorf("read a window: %w", err)
	}
	w.took = time.Since(began)
	if found != len(w.Key) {
		return &PermanentError{fmt.Errorf("read a window: the result has %d of the key's columns %v", found, w.Key)}
	}
	return nil
}

// describeResult puts the columns of a result in the form of the stream's descriptions.
func describeResult(relation uint32, fields []pgconn.FieldDescription) *pglogrepl.RelationMessage {
	d := &pglogrepl.RelationMessage{RelationID: relation, ColumnNum: uint16(len(fields))}
	for _, f := range fields {
		d.Columns = append(d.Columns, &pglogrepl.RelationMessageColumn{Name: f.Name, DataType: f.DataTypeOID, TypeModifier: f.TypeModifier})
	}
	return d
}

const barrierPause = time.Second

// beginSnapshot opens a transaction whose snapshot shows every transaction that began
// before this Syncer listened. Of those it may have missed what they did: their commits
// may have been streamed to another process that did not live to see them visible, or
// their changes may be older than the publication.
func (s *Syncer) beginSnapshot(ctx context.Context, conn *pgconn.PgConn, w *watch, tables ...string) error {
	pause := 10 * time.Millisecond
	told := false
	for {
		snapshot, err := takeSnapshot(ctx, conn, tables...)
		if err != nil {
			return err
		}
		// Also one that is not good enough: the tracker may forget what it shows, however long
		// the waiting takes.
		s.tracker.setSnapshot(w, &snapshot)
		if barrier := s.barrier.Load(); barrier > 0 && snapshot.Xmin > barrier {
			return nil
		}
		if _, err := conn.Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
			return fmt.Errorf("take a snapshot: %w", err)
		}
		if pause > barrierPause && !told && s.barrier.Load() > 0 {
			told = true
			s.log.Warn("rows are read when the transactions that were open at the start have ended; see pg_stat_activity.backend_xid and pg_prepared_xacts",
				"oldest", snapshot.Xmin, "wanted", s.barrier.Load())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(pause, barrierPause)):
		}
		pause *= 2
	}
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
	return WithConn(ctx, s.db, func(c *pgx.Conn) error {
		conn := c.PgConn()
		pause := 5 * time.Millisecond
		for {
			snapshot, err := takeSnapshot(ctx, conn, tables...)
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

// readDurable calls f, ends the transaction, and has the log written to disk: a commit of
// our own is not on disk before everything in front of it is. The place in the stream that
// it makes means nothing.
func (s *Syncer) readDurable(ctx context.Context, conn *pgconn.PgConn, f func(conn *pgconn.PgConn) error) error {
	err := f(conn)
	rollback(ctx, conn)
	if err != nil {
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
// (https://www.postgresql.org/docs/current/mvcc-caveats.html).
func takeSnapshot(ctx context.Context, conn *pgconn.PgConn, tables ...string) (Snapshot, error) {
	begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
	if len(tables) > 0 {
		begin += "LOCK TABLE " + strings.Join(tables, ", ") + " IN ACCESS SHARE MODE; "
	}
	results, err := conn.Exec(ctx, begin+"SELECT pg_catalog.pg_current_snapshot()::text").ReadAll()
	last := len(results) - 1
	if err == nil && (last < 0 || len(results[last].Rows) != 1) {
		err = errors.New("the server gave no snapshot")
	}
	var snapshot Snapshot
	if err == nil {
		snapshot, err = ParseSnapshot(string(results[last].Rows[0][0]))
	}
	if err != nil {
		rollback(ctx, conn)
		return Snapshot{}, fmt.Errorf("take a snapshot: %w", err)
	}
	return snapshot, nil
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

// windows are those under way, by id: the goroutines that read them put them in, and
// Run finds them by the watermarks in the stream.
type windows struct {
	mu    sync.Mutex
	open  map[string]*Window
	marks map[string]*mark
}

func (ws *windows) add(w *Window) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.open[w.id] = w
}

func (ws *windows) remove(w *Window) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.open, w.id)
}

func (ws *windows) addMark(m *mark) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.marks[m.id] = m
}

func (ws *windows) removeMark(m *mark) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.marks, m.id)
}

// passOver has the windows read again, whose watermarks may not come, and returns the marks.
func (ws *windows) passOver() (marks []*mark) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for id, w := range ws.open {
		delete(ws.open, id)
		w.say(false)
	}
	for _, m := range ws.marks {
		marks = append(marks, m)
	}
	return marks
}

// find returns the window or the mark with this id; of one that was given up, neither.
func (ws *windows) find(id string) (*Window, *mark) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.open[id], ws.marks[id]
}

// on returns the windows whose rows are made from a table.
func (ws *windows) on(relation uint32) []*Window {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var out []*Window
	for _, w := range ws.open {
		if w.Relation == relation || slices.Contains(w.Related, relation) {
			out = append(out, w)
		}
	}
	return out
}

// openWindow notes the low watermark of a window. It runs on Run's goroutine.
func (s *Syncer) openWindow(w *Window, low pglogrepl.LSN) {
	if w.low != low { // it comes again over a new connection, after the changes that were noticed
		w.low, w.changed = low, false
	}
	s.tracker.setLow(w.watch, low)
}

// closeWindow hands on the rows of a window whose high watermark came. It runs on Run's
// goroutine; ok is false when the rows have to be read again.
func (s *Syncer) closeWindow(w *Window) (ok bool, err error) {
	if w.low == 0 || w.changed {
		return false, nil
	}
	newer, ok := s.tracker.collect(w.Relation, w.Related, w.watch)
	if !ok {
		return false, nil
	}
	key := w.keyPositions(w.Description)
	w.dropped = 0
	handler := s.handler()
	if h, ok := handler.(RowHandler); ok {
		err = w.each(func(row *pglogrepl.TupleData) error {
			if len(newer) > 0 {
				if id, ok := recordID(row, key); ok {
					if _, ok := newer[id]; ok {
						w.dropped++
						return nil
					}
				}
			}
			return h.HandleRow(w, row)
		})
		return true, err
	}

	selection := NewInMemSelection()
	info := s.describeWindow(w)
	err = w.each(func(row *pglogrepl.TupleData) error {
		id, _ := recordID(row, key)
		_, values, _ := messageToMap(row, w.Description, info)
		selection.AddItem(id, StringMap(values))
		return nil
	})
	if err != nil {
		return true, err
	}
	for id := range newer {
		if selection.RemoveItem(id) != nil {
			w.dropped++
		}
	}
	for id, item := range selection.Items() {
		if err := handler.HandleRefresh(id, item.Data); err != nil {
			return true, err
		}
	}
	return true, nil
}

// each calls f with every row.
func (w *Window) each(f func(row *pglogrepl.TupleData) error) error {
	var t tuple
	for _, data := range w.rows {
		r := reader{data: data}
		row := t.read(&r)
		if r.err != nil {
			return fmt.Errorf("row of a window: %w", r.err)
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return nil
}

// describeWindow returns how the values of a window's rows are decoded: by the table's
// columns, as far as the result has columns of those names.
func (s *Syncer) describeWindow(w *Window) *PGTableInfo {
	if info := s.GetTableInfo(w.Relation); info != nil {
		return info
	}
	return &PGTableInfo{RelationID: w.Relation, DBName: s.dbName, ColInfo: map[string]*PGColumnInfo{}}
}

// Refresh hands the rows of a select to the handler's HandleRefresh, those that nothing
// newer is known of. The first column of the result that belongs to a table decides
// which table the rows are of; the result must have that table's replica identity.
//
// It returns true when the select was accepted. The rows are read and handed on while
// the stream goes on, and what fails in passing is tried again. It returns false when a
// refresh is under way, the Syncer is not running, or Postgres refuses the statement;
// [Syncer.Err] then says which.
func (s *Syncer) Refresh(selectQuery string) bool {
	run, err := s.runContext()
	if err == nil && !s.refreshing.CompareAndSwap(false, true) {
		err = errors.New("refresh: one is under way")
	}
	if err != nil {
		s.setErr(err)
		return false
	}
	sel, err := s.describeSelect(run, selectQuery)
	if err != nil {
		s.refreshing.Store(false)
		s.setErr(fmt.Errorf("refresh: %w", err))
		return false
	}
	s.workers.Go(func() {
		defer s.refreshing.Store(false)
		w, err := s.OpenWindow(run, sel)
		if err != nil {
			if run.Err() == nil {
				s.stop(fmt.Errorf("refresh: %w", err)) // the statement was refused after all; said aloud
			}
			return
		}
		_ = s.awaitStored(run, w.stored) // the run has ended, and the rows come again when it is asked for again
	})
	return true
}

// describeSelect finds out whose rows a statement gives, and by which columns they are
// known.
func (s *Syncer) describeSelect(ctx context.Context, query string) (sel Select, err error) {
	sel.Query = query
	err = WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		description, err := conn.PgConn().Prepare(ctx, "", query, nil)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(description.Fields, func(f pgconn.FieldDescription) bool { return f.TableOID != 0 })
		if i < 0 {
			return fmt.Errorf("no column of %q belongs to a table", query)
		}
		sel.Relation = description.Fields[i].TableOID
		names := make(map[uint16]string) // result column by table column
		for _, f := range description.Fields {
			if f.TableOID == sel.Relation {
				names[f.TableAttributeNumber] = f.Name
			}
		}
		rows, err := conn.Query(ctx, `SELECT a.attnum::int, a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
			LEFT JOIN pg_catalog.pg_index x ON x.indrelid = c.oid
				AND (c.relreplident = 'd' AND x.indisprimary OR c.relreplident = 'i' AND x.indisreplident)
			WHERE c.oid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND (c.relreplident = 'f' OR a.attnum = ANY (x.indkey))
			ORDER BY a.attnum`, sel.Relation)
		if err != nil {
			return err
		}
		var number int
		var column string
		_, err = pgx.ForEachRow(rows, []any{&number, &column}, func() error {
			if name, ok := names[uint16(number)]; !ok || name != column {
				return fmt.Errorf("%q does not give column %s of the table's replica identity under its own name", query, column)
			}
			sel.Key = append(sel.Key, column)
			return nil
		})
		if err == nil && len(sel.Key) == 0 {
			err = fmt.Errorf("the table of %q has no replica identity", query)
		}
		return err
	})
	return sel, err
}
