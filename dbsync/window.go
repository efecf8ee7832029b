package dbsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

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

	// Since is from where on the handler marks changes of the rows where it marks the rows of the
	// window as well; zero: it always has. A transaction that began before, and that the window's
	// snapshot does not show yet, has the window read again: what it did is in no batch for them.
	Since Moment

	// Query is the statement, Args the text of its parameters, nil for NULL.
	Query string
	Args  [][]byte

	// MaxBytes bounds what the window holds in memory; 0 means 16 MiB. Rows beyond it
	// are not part of the window, see Window.Truncated. One row is always taken.
	MaxBytes int

	// MaxRowBytes is up to which size a row is read, if that is less than [WithMaxRowBytes] has; 0:
	// as that has it. A larger one ends the statement with a [*RowTooLargeError] before it is read.
	MaxRowBytes int

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
	rows      rowStorage // of Run's goroutine once the high watermark is written
	count     int        // of rows
	bytes     int        // of rows
	last      [][]byte   // key of the last row; nil where there is none
	truncated bool
	took      time.Duration
	watch     *watch

	outcome chan outcome  // capacity 1
	stored  chan struct{} // closed when everything that was handed on is stored

	// The following belongs to the goroutine of Run.
	low     pglogrepl.LSN
	changed bool // the table is not what it was when the select began
	dropped int
}

// Len returns how many rows the select gave.
func (w *Window) Len() int { return w.count }

// outcome is what became of a window when its high watermark came.
type outcome bool

const (
	handedOn  outcome = true
	readAgain outcome = false // its rows are not used
)

// say lets the reader of the window know its outcome. What was said first holds.
func (w *Window) say(o outcome) {
	select {
	case w.outcome <- o:
	default:
	}
}

// Bytes returns how much memory the rows take, until the handler has them.
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
func (w *Window) Last() ([][]byte, error) { return w.last, nil }

// lastKey returns what Last does, of rows that are here.
func (w *Window) lastKey() ([][]byte, error) {
	if w.rows.count == 0 {
		return nil, nil
	}
	var t tuple
	r := reader{data: w.rows.last()}
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

func (s *Select) keyPositions(r *pglogrepl.RelationMessage) []int { return positions(r, s.Key) }

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

// Moment returns how far the stream was handed to the handler. What the handler is told to do with
// changes before the call, it does with all of every transaction that begins after that moment.
func (s *Syncer) Moment() Moment { return s.tracker.moment() }

// ErrNotRunning is returned by what needs a running Syncer.
var ErrNotRunning = errors.New("the syncer is not running")

// OpenWindow reads rows between two watermarks and hands to the handler those that
// nothing newer is known of. It returns when they are handed on, which is before they
// are stored: the next window can be read meanwhile, see [Syncer.AwaitStored]. Several windows may
// be open at a time, also on one table as long as their Key is the same: each leaves out what the
// stream brought between its own watermarks, and what its own snapshot does not show.
//
// A row is left out when the stream brought a change of it between the watermarks, or
// before them and the select's snapshot did not show it yet. Where that cannot be told
// row by row, because of a TRUNCATE, a change of the table, or transactions too large or too
// many to be remembered, the window is read again.
//
// What fails in passing is tried again, without end, until ctx is done. A statement that
// Postgres refuses gives an error at once, and so does one that it gives up because of the
// rows, a *[RowError]: then nothing is handed on.
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

	var atRows error // of which the caller may select fewer
	w, err := retry(ctx, s, "read a window", func() (*Window, error) {
		for pause := 10 * time.Millisecond; ; pause *= 2 {
			w, ok, err := s.readWindow(ctx, sel)
			if IsRowError(err) {
				atRows = err
				return nil, nil
			}
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
	if atRows != nil {
		return nil, atRows
	}
	return w, err
}

// readWindow tries once; ok is false when the rows have to be read again.
func (s *Syncer) readWindow(ctx context.Context, sel Select) (_ *Window, ok bool, err error) {
	w := &Window{Select: sel, id: newToken(), outcome: make(chan outcome, 1), stored: make(chan struct{})}
	w.watch = s.tracker.watch(sel.Relation, sel.Related, sel.Since)
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
	case o := <-w.outcome:
		return w, o == handedOn, nil
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
}

// readRows runs the window's select in a snapshot of which it is known what it shows.
func (s *Syncer) readRows(ctx context.Context, conn *pgconn.PgConn, w *Window) error {
	tables, err := relationNames(ctx, conn, append([]uint32{w.Relation}, w.Related...))
	if err != nil {
		return err
	}
	if err := s.beginSnapshot(ctx, conn, w.watch, tables...); err != nil {
		return err
	}
	defer rollback(ctx, conn)
	if w.MaxRowBytes > 0 && (s.maxRow == 0 || w.MaxRowBytes < s.maxRow) {
		conn.Frontend().SetMaxBodyLen(w.MaxRowBytes)
		defer conn.Frontend().SetMaxBodyLen(s.maxRow)
	}

	began := time.Now()
	result := conn.ExecParams(ctx, w.Query, w.Args, nil, nil, nil)
	w.Description = describeResult(w.Relation, result.FieldDescriptions())
	found := len(w.keyPositions(w.Description))
	for result.NextRow() {
		values := result.Values()
		n := tupleSize(values)
		if w.truncated || w.rows.count > 0 && w.bytes+n > w.MaxBytes {
			w.truncated = true
			continue // the rest is read and dropped: the statement's LIMIT bounds it
		}
		w.bytes += n
		w.rows.add(values, n)
	}
	if _, err := result.Close(); err != nil {
		return fmt.Errorf("read a window: %w", AtRows(err))
	}
	w.took = time.Since(began)
	if found != len(w.Key) {
		return &PermanentError{fmt.Errorf("read a window: the result has %d of the key's columns %v", found, w.Key)}
	}
	w.count = w.rows.count
	w.last, err = w.lastKey()
	return err
}

// describeResult puts the columns of a result in the form of the stream's descriptions.
func describeResult(relation uint32, fields []pgconn.FieldDescription) *pglogrepl.RelationMessage {
	d := &pglogrepl.RelationMessage{RelationID: relation, ColumnNum: uint16(len(fields))}
	for _, f := range fields {
		d.Columns = append(d.Columns, &pglogrepl.RelationMessageColumn{Name: f.Name, DataType: f.DataTypeOID, TypeModifier: f.TypeModifier})
	}
	return d
}

// windows are those under way, by id: the goroutines that read them put them in, and
// Run finds them by the watermarks in the stream.
type windows struct {
	mu    sync.Mutex
	open  map[string]*Window
	marks map[string]*mark
}

func (r *windows) add(w *Window) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[w.id] = w
}

// awaited reports whether somebody waits for a place in the stream.
func (r *windows) awaited() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)+len(r.marks) > 0
}

func (r *windows) remove(w *Window) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, w.id)
}

func (r *windows) addMark(m *mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks[m.id] = m
}

func (r *windows) removeMark(m *mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.marks, m.id)
}

// passOver has the windows read again, whose watermarks may not come, and returns the marks.
func (r *windows) passOver() (marks []*mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, w := range r.open {
		delete(r.open, id)
		w.say(readAgain)
	}
	for _, m := range r.marks {
		marks = append(marks, m)
	}
	return marks
}

// find returns the window or the mark with this id; of one that was given up, neither.
func (r *windows) find(id string) (*Window, *mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open[id], r.marks[id]
}

// on returns the windows whose rows are made from a table.
func (r *windows) on(relation uint32) []*Window {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*Window
	for _, w := range r.open {
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
// goroutine; ok is false when the rows have to be read again. They are freed when the handler has
// them: what it made of them is in the batch, and that waits for the one before to be written. If the
// batch is translated again they are gone, and the window is read again.
func (s *Syncer) closeWindow(w *Window) (ok bool, err error) {
	if w.low == 0 || w.changed || w.rows.count < w.count {
		return false, nil
	}
	defer func() {
		if ok && err == nil {
			w.rows.free()
		}
	}()
	newer, ok := s.tracker.collect(w.watch)
	// The publication may have been changed since the snapshot was taken.
	if !ok || !s.barrier.passes(s.tracker.snapshot(w.watch)) {
		return false, nil
	}
	key := w.keyPositions(w.Description)
	w.dropped = 0
	handler := s.handler()
	if h, ok := handler.(RowHandler); ok {
		err = w.rows.each(func(row *pglogrepl.TupleData) error {
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
	err = w.rows.each(func(row *pglogrepl.TupleData) error {
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

// describeWindow returns how the values of a window's rows are decoded: by the table's
// columns, as far as the result has columns of those names.
func (s *Syncer) describeWindow(w *Window) *PGTableInfo {
	if info := s.GetTableInfo(w.Relation); info != nil {
		return info
	}
	return &PGTableInfo{RelationID: w.Relation, DBName: s.dbName, ColInfo: map[string]*PGColumnInfo{}}
}
