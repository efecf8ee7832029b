package dbsync

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/sourcegraph/conc"
)

// ErrStopProcessingMessages, returned by a handler, ends [Syncer.Run] without an error.
// What came before the message is stored and forwarded; the message itself comes again
// at the next start.
var ErrStopProcessingMessages = errors.New("message processing halted")

// StringMap is a document by field name.
type StringMap = map[string]any

// A Batcher stores what a batch comes to, one doctype at a time. After an error the
// whole batch comes again, so storing has to bear repetition. See [OperationBatcher]
// for the way that takes versions and ready-made JSON.
type Batcher interface {
	// BatchUpsert stores documents, new ones and ones that are there.
	BatchUpsert(doctype string, docs []StringMap) (any, error)
	// BatchDelete removes documents; one that is not there is not an error.
	BatchDelete(doctype string, docids []string) (any, error)
}

// PGMSG is one message of the replication stream.
type PGMSG struct {
	LSN  string // where it starts in the log, as Postgres writes it: 0/16B3748
	Xid  uint64 // the transaction; 0 for a message that belongs to none
	Data []byte // one pgoutput message, as pglogrepl.Parse takes it; not to be changed
}

// EventsProcessor is called by [Syncer.Process] with the messages at the head of the
// slot, or with the error of reading them. It returns how many of them are dealt with:
// the slot is forwarded by as many. With stop the processing ends after that.
type EventsProcessor func(msgs []PGMSG, err error) (numProcessed int, stop bool)

// Syncer follows one replication slot. See the package comment for what it does, and
// [NewSyncer] for how one is made. The exported fields are set before the Syncer runs.
type Syncer struct {
	// MessageHandler gets every message of the stream. One that is also a [RowHandler]
	// or a [TruncateHandler] gets what those are for. nil does nothing.
	MessageHandler MessageHandler

	// Batcher stores what the handler marks. One that is also an [OperationBatcher] gets
	// whole batches. nil means that the handler has stored what it got when it returns.
	Batcher Batcher

	// DelayBetweenPeekRetries is the first wait on an empty queue (default 100 ms). A
	// message that arrives ends any wait at once.
	DelayBetweenPeekRetries time.Duration

	// TimerDelayBackoffFactor is by how much each further wait on an empty queue is
	// longer (default 1.5).
	TimerDelayBackoffFactor float32

	// MaxDelayBetweenEmptyPeeks bounds that (default 60 s).
	MaxDelayBetweenEmptyPeeks time.Duration

	// MaxMessagesToRead is how many messages a batch has before nothing more joins it (default
	// 8192), and how many changes a group, see [Syncer.Group]; 4 MiB of messages are as many. A
	// large transaction is spread over several batches, each of which has whole groups, and the
	// queue before it holds three batches. Who compares operations of one transaction, as by
	// versions, has the same number whenever the slot is followed.
	MaxMessagesToRead int

	log                                   *slog.Logger
	connStr, slotConnStr                  string          // slotConnStr: see WithReplicationConnStr; "": connStr
	config, slotConfig                    *pgx.ConnConfig // slotConfig leads to the server that has the slot
	db, slotDB                            *sql.DB         // the same where that is the same server
	namespace, wmTable, publication, slot string
	tables                                []neededTable
	newSlot                               bool
	loss                                  *SetBackError // see WithLoss; nil: none
	eventTriggers                         bool          // see WithEventTriggers
	noFailover                            bool          // see WithoutFailover
	onlyReads                             bool          // see NewTail
	maxRow                                int           // see WithMaxRowBytes; 0: as large as Postgres makes them
	slotTimeout                           time.Duration // 0: none
	patience                              time.Duration // see batchPatience
	onSlot                                func(context.Context) error
	observer                              Observer // nil: nobody

	// Written by setup and by connect, which do not run at the same time.
	dbName        string
	published     membership // of the tables that this slot needs, as they were when last looked at; publishing guards it while running
	serverVersion int
	system        string
	timeline      int32
	history       timelineHistory // of the timelines before
	promotion     *Promotion      // see Promotion
	generation    string

	relations      *relations
	tracker        *tracker
	windows        *windows
	lockWaits      lockWaits
	standbys       standbyWaits
	troubles       *troubles
	barrier        barrier // of snapshots
	lease          lease   // of the slot
	refreshing     atomic.Bool
	walEnd         atomic.Uint64
	promotionNoted atomic.Bool   // in the control schema
	sent           atomic.Uint64 // the highest version that was handed to the Batcher, an LSN
	noted          atomic.Uint64 // up to where the control schema's note of the slot is known to have been, an LSN; 0: not known
	newest         atomic.Int64  // see Status.NewestCommit, in microseconds since 1970; 0: none
	changes        atomic.Int64  // see Status.Changes
	batches        atomic.Int64
	rounds         atomic.Uint64 // see Progress
	reading        atomic.Int64  // calls of ReadVisible
	lag            lag
	slotWAL        atomic.Pointer[SlotWAL] // as it was last looked at; nil: not yet

	publishing     sync.Mutex  // for tables and published while running
	columnsPending atomic.Bool // see ColumnsPending

	link sync.Mutex // for queue and stream
	q    *queue     // never nil after NewSyncer
	st   *stream    // nil while not connected

	state   sync.Mutex // for the following
	run     context.Context
	cancel  context.CancelCauseFunc
	ended   chan struct{} // closed when Run has returned
	err     error
	workers conc.WaitGroup // what Refresh started; Run waits for it

	// The following belongs to the goroutine of Run.
	tx       *pglogrepl.BeginMessage // the transaction that the next message belongs to
	version  pglogrepl.LSN           // of what the handler marks
	group    uint32                  // of the message that the handler gets
	xid      uint32
	building *Batch
	decoder  decoder
	keys     map[uint32]keyCache // by relation
}

const (
	// batchBytes is how many bytes of messages a batch has before nothing more joins it.
	batchBytes = 4 << 20
	// queueBatches is how many batches of messages may be received and not forwarded: one
	// being written, one translated, one being received.
	queueBatches = 3
	// readAhead is how many bytes of messages may be received beside those of the batch that is being
	// translated. What is written has given back its bytes.
	readAhead = 2 << 20
	// setupTimeout bounds what NewSyncer waits for, but for the making of the slot.
	setupTimeout = 30 * time.Second
	// stopGrace is how long the batch under way may take after the end was asked for.
	stopGrace = 8 * time.Second
)

// NewSyncer connects to the database and makes what is missing there: control schema,
// watermark table, publication and slot. What is committed after it returns is streamed.
// The defaults are those of the environment:
//
//   - POSTGRES_CONNSTR, or POSTGRES_NAME, _HOST, _PORT, _USER, _PASSWORD - the database
//   - DBSYNC_CTRL_NAMESPACE - schema of the Syncer's own tables (dbsync_ctrl)
//   - DBSYNC_PUBNAME - publication (dbsync_mypub)
//   - DBSYNC_REPLSLOT - replication slot (dbsync_replslot)
//   - DBSYNC_WM_TABLENAME - watermark table (dbsync_wmtable)
//
// It waits at most 30 s for the server, and for as long as it takes until transactions
// that are writing have ended if the slot has to be made: Postgres does.
func NewSyncer(opts ...SyncerOpt) (*Syncer, error) {
	return NewSyncerContext(context.Background(), opts...)
}

// NewSyncerContext is NewSyncer with a context for the making of what is missing.
func NewSyncerContext(ctx context.Context, opts ...SyncerOpt) (*Syncer, error) {
	s, err := openSyncer(opts)
	if err != nil {
		return nil, err
	}
	if err := s.setup(ctx); err != nil {
		return nil, errors.Join(err, s.closeSessions())
	}
	slot, err := s.slotNow(ctx)
	if err != nil {
		return nil, errors.Join(err, s.closeSessions())
	}
	s.q = s.newQueue(slot.confirmed)
	return s, nil
}

// openSyncer makes a Syncer that has not asked the database for anything.
func openSyncer(opts []SyncerOpt) (*Syncer, error) {
	s := &Syncer{
		DelayBetweenPeekRetries:   100 * time.Millisecond,
		TimerDelayBackoffFactor:   1.5,
		MaxDelayBetweenEmptyPeeks: 60 * time.Second,
		MaxMessagesToRead:         8192,

		patience:  batchPatience,
		log:       slog.New(slog.DiscardHandler),
		relations: newRelations(),
		tracker:   newTracker(),
		troubles:  newTroubles(),
		windows:   &windows{open: make(map[string]*Window), marks: make(map[string]*mark)},
		building:  NewBatch(),
		keys:      make(map[uint32]keyCache),
	}
	fromEnv := []SyncerOpt{
		WithCtrlNamespace(envOr("DBSYNC_CTRL_NAMESPACE", DEFAULT_DBSYNC_CTRL_NAMESPACE)),
		WithPublication(envOr("DBSYNC_PUBNAME", DEFAULT_DBSYNC_PUBNAME)),
		WithReplicationSlot(envOr("DBSYNC_REPLSLOT", DEFAULT_DBSYNC_REPLSLOT)),
		WithWMTable(envOr("DBSYNC_WM_TABLENAME", DEFAULT_DBSYNC_WM_TABLENAME)),
		WithPGConnStr(PGConnStringFromEnv()),
	}
	for _, opt := range append(fromEnv, opts...) {
		if err := opt(s); err != nil {
			return nil, err
		}
	}
	var err error
	if s.config, err = connectConfig(s.connStr); err != nil {
		return nil, err
	}
	if s.maxRow > 0 {
		s.config.MaxProtocolMessageBodyLen = s.maxRow
	}
	s.slotConfig = s.config
	if s.onStandby() {
		if s.slotConfig, err = connectConfig(s.slotConnStr); err != nil {
			return nil, fmt.Errorf("where the slot is: %w", err)
		}
		s.noFailover = true
	}
	s.db = openDB(s.config)
	s.slotDB = s.db
	if s.onStandby() {
		s.slotDB = openDB(s.slotConfig)
	}
	return s, nil
}

// closeSessions closes the connections to the database.
func (s *Syncer) closeSessions() error {
	err := s.db.Close()
	if s.slotDB != s.db {
		err = errors.Join(err, s.slotDB.Close())
	}
	return err
}

// DB returns the Syncer's connections to the database. Their session settings are those
// of the replication session, so that a value reads the same from either.
func (s *Syncer) DB() *sql.DB { return s.db }

// SlotDB returns the connections to the server that has the slot: those of DB, but for [WithReplicationConnStr].
func (s *Syncer) SlotDB() *sql.DB { return s.slotDB }

// Generation names the life of the slot, from when it was made, or first used by a Syncer,
// until it is made anew. What was made from the changes of another generation may lack
// some, and has to be made anew.
func (s *Syncer) Generation() string { return s.generation }

// System returns the database system's identifier and timeline. Log positions compare
// only within one of each.
func (s *Syncer) System() (identifier string, timeline int32) { return s.system, s.timeline }

// WatermarkTable returns the watermark table, which has to be in the publication like those of
// [ForTables]: while it is not, nothing that waits for a place in the stream comes to an end.
func (s *Syncer) WatermarkTable() (schema, name string) { return s.namespace, s.wmTable }

// Close stops the Syncer if it runs, has the position confirmed, and closes the
// connections. The slot stays.
func (s *Syncer) Close() error {
	s.Stop()
	s.flush(context.Background())
	s.disconnect()
	return s.closeSessions()
}

// IsRunning reports whether Run or Start is under way.
func (s *Syncer) IsRunning() bool {
	s.state.Lock()
	defer s.state.Unlock()
	return s.run != nil
}

// Err returns why the last run ended, or why the last Refresh returned false. nil: it
// was stopped, or nothing went wrong.
func (s *Syncer) Err() error {
	s.state.Lock()
	defer s.state.Unlock()
	return s.err
}

func (s *Syncer) setErr(err error) {
	s.state.Lock()
	defer s.state.Unlock()
	s.err = err
}

// runContext returns the context of the run under way.
func (s *Syncer) runContext() (context.Context, error) {
	s.state.Lock()
	defer s.state.Unlock()
	if s.run == nil {
		return nil, ErrNotRunning
	}
	return s.run, nil
}

// Start follows the slot until Stop, until the handler returns
// [ErrStopProcessingMessages], or until an error that repeating cannot cure, which
// [Syncer.Err] returns.
func (s *Syncer) Start() { _ = s.Run(context.Background()) } // Err keeps it

// Stop ends Run or Start and waits for it: the batch under way is finished within 8 s,
// or given up, and comes again at the next start. A handler must not call it; it returns
// ErrStopProcessingMessages.
func (s *Syncer) Stop() {
	s.state.Lock()
	ended := s.ended
	if s.run == nil {
		s.state.Unlock()
		return
	}
	s.cancel(errStopped)
	s.state.Unlock()
	<-ended
}

// errStopped ends a run that was asked to end.
var errStopped = errors.New("stopped")

// stop ends the run because of err.
func (s *Syncer) stop(err error) {
	s.state.Lock()
	defer s.state.Unlock()
	if s.cancel != nil {
		s.cancel(&PermanentError{err})
	}
}

// Run follows the slot until ctx is done, until the handler returns
// [ErrStopProcessingMessages], or until an error that repeating cannot cure. It returns
// nil in the first two cases. While another process uses the slot it waits for its turn.
// A connection that breaks is made again, without end; after a pause, which grows, where nothing
// was stored since the last time.
func (s *Syncer) Run(ctx context.Context) (err error) {
	run, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = s.finish(err) }()

	broken := s.troubles.watch("read slot " + s.slot)
	defer broken.over()
	pause := newPauses()
	for {
		// What was received on an earlier connection and is not forwarded comes again.
		if err := s.acquire(run); err != nil {
			return err
		}
		err := s.follow(run)
		if IsPermanent(err) || errors.Is(err, ErrStopProcessingMessages) || run.Err() != nil {
			return err
		}
		// What Postgres cannot decode ends each connection at the same place.
		broken.againAt(s.Position(), err)
		if broken.times() == 1 {
			pause.Reset()
			s.log.Warn("the replication stream broke, connecting again", "slot", s.slot, "error", err)
			continue
		}
		d := pause.NextBackOff()
		s.log.Warn("the replication stream broke at the same position as before, connecting again", "slot", s.slot, "position", s.Position().String(),
			"times", broken.times(), "error", err, "next_in", d.Round(time.Millisecond))
		over := Await(run, d)
		select {
		case <-run.Done():
		case <-time.After(d):
		}
		over()
	}
}

// begin makes ctx the run under way.
func (s *Syncer) begin(ctx context.Context) (context.Context, error) {
	s.state.Lock()
	defer s.state.Unlock()
	if s.run != nil {
		return nil, errors.New("the syncer is running already")
	}
	if s.MaxMessagesToRead < 1 {
		return nil, fmt.Errorf("MaxMessagesToRead is %d: want at least 1", s.MaxMessagesToRead)
	}
	s.run, s.cancel = context.WithCancelCause(ctx)
	s.ended = make(chan struct{})
	s.err = nil
	s.barrier.reset() // what GetMessages has read before is not in the tracker
	return s.run, nil
}

// finish ends the run, waits for what it started, and returns what Run returns.
func (s *Syncer) finish(err error) error {
	s.state.Lock()
	run, ended := s.run, s.ended
	if IsPermanent(err) {
		s.cancel(err) // those who wait for the run learn why it ended
	} else {
		s.cancel(errStopped)
	}
	s.state.Unlock()

	s.workers.Wait()
	s.disconnect()
	// The end may have been asked for because of a loss that another one has found out.
	if reason := cmp.Or(reasonOf(err), reasonOf(context.Cause(run))); reason != "" {
		s.noteLost(run, reason)
	}
	// What was received and not forwarded comes again, if not to Run then to GetMessages.
	s.link.Lock()
	s.q = s.newQueue(s.q.position())
	s.link.Unlock()
	if cause := context.Cause(run); !IsPermanent(err) {
		err = nil // it was asked for
		if IsPermanent(cause) {
			err = cause
		}
	}
	s.state.Lock()
	s.run, s.cancel, s.err = nil, nil, err
	s.state.Unlock()
	close(ended)
	return err
}

// record notes a position before it is confirmed. The statement's snapshot lets the
// tracker forget what everybody sees by now.
func (s *Syncer) record(ctx context.Context, lsn pglogrepl.LSN) error {
	snapshot, end, err := s.recordConfirmed(ctx, lsn)
	if err != nil {
		return err
	}
	s.setWALEnd(end)
	s.tracker.seen(snapshot)
	if s.standbys.get() != nil { // something has come
		return s.lookAtStandbys(ctx)
	}
	return nil
}

// look notes where the server's log ends, how much of it the slot keeps, and whether standbys hold up
// the stream.
func (s *Syncer) look(ctx context.Context) error {
	end, wal, err := s.readWALEnd(ctx)
	if err != nil {
		return err
	}
	s.setWALEnd(end)
	s.slotWAL.Store(wal)
	return s.lookAtStandbys(ctx)
}

// setWALEnd takes up where the log ends.
func (s *Syncer) setWALEnd(end pglogrepl.LSN) {
	s.walEnd.Store(uint64(end))
	s.lag.hear(time.Now(), end)
}

// follow is the main loop: what is received is translated and written, and then the slot
// moves. The next batch grows while one is being written, and is written after that one,
// so operations on one document never overtake each other. When it is written, see
// [openBatch].
func (s *Syncer) follow(run context.Context) (err error) {
	q := s.queue()
	w := newWriter(run, s, q)
	defer func() {
		// The batch under way may finish while the slot is ours: what is stored and not forwarded is
		// stored again.
		if e := w.finish(); e != nil {
			s.log.Warn("the batch under way was given up, it comes again", "slot", s.slot, "error", e)
			err = errors.Join(err, e)
		}
		s.flush(run)
		s.disconnect()
	}()
	s.tx = nil
	building, spare := NewBatch(), NewBatch()
	cursor := q.head()
	var g gathered
	for {
		s.building, g = building, gathered{msgs: g.msgs[:0]}
		t, err := s.gather(run, q, w, cursor, &g)
		if err != nil {
			return err
		}
		// From here on the batch is known by its operations. A crash loses both, and the
		// messages come again from the slot.
		report := &building.report
		report.Messages, report.Bytes, report.Changes, report.Operations = t.messages, g.bytes, t.changes, len(building.ops)
		q.release(cursor, t.messages)
		cursor += uint64(t.messages)
		if err := w.wait(); err != nil {
			return err
		}
		w.start(building, t)
		for _, window := range t.handed {
			window.say(handedOn)
		}
		building, spare = spare, building
		if t.stop {
			return ErrStopProcessingMessages
		}
	}
}

// gather translates the messages of a batch from the sequence number cursor on as they come, and
// returns when the batch is to be written. With an error it must not be.
func (s *Syncer) gather(run context.Context, q *queue, w *writer, cursor uint64, g *gathered) (t translation, err error) {
	t.tx = s.tx
	var begun time.Time
	idle := s.DelayBetweenPeekRetries
	timer := time.NewTimer(forever)
	defer timer.Stop()
	report := &s.building.report
	for {
		if !w.writing() {
			s.turn(run)
		}
		have := len(g.msgs)
		var ended error
		if !t.cut {
			ended = q.peekGroups(cursor, s.batchBounds(), g)
		}
		if len(g.msgs) > have {
			from := time.Now()
			if have == 0 {
				report.Began = from
			}
			t, err = s.translate(run, g.msgs, t)
			report.Translated = time.Now()
			report.Translating += report.Translated.Sub(from)
			if err != nil || t.stop {
				return t, err
			}
		}
		stopped := run.Done()
		if run.Err() != nil {
			ended, stopped = context.Cause(run), nil
		}
		b := openBatch{begun: len(g.msgs) > 0, writing: w.writing(), full: g.full || t.cut || ended != nil, free: len(s.building.ops) == 0, atEnd: g.atEnd, most: s.patience}
		switch {
		case !b.begun && ended != nil:
			return t, ended
		case b.begun && begun.IsZero():
			begun = time.Now()
		case b.begun:
			b.age = time.Since(begun)
		}
		wait, arrived := b.wait(), q.arrived
		switch {
		case wait == 0:
			return t, nil
		case !b.begun:
			wait = idle
		case b.full:
			arrived = nil
		}
		timer.Reset(wait)
		over := func() {}
		if !w.writing() {
			over = Await(run, wait)
		}
		select {
		case <-stopped:
		case <-arrived:
		case err, ok := <-w.busy:
			if err := w.ended(err, ok); err != nil {
				over()
				return t, err
			}
		case <-timer.C:
			idle = min(time.Duration(float32(idle)*max(s.TimerDelayBackoffFactor, 1)), s.MaxDelayBetweenEmptyPeeks)
		}
		over()
	}
}
