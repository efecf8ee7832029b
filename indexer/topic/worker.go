package topic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
)

// WorkerOptions says what a worker reads, and how it writes. All but MaxAge is required.
type WorkerOptions struct {
	Options

	// Write writes operations, at most one of each document, index and routing, as [search.Bulk.Write]
	// does. Its errors, but those of the end of ctx, end the worker.
	Write func(ctx context.Context, ops []dbsync.Operation) error

	// Truncate removes the documents of op.Index that are older than op, whose ids begin with op.ID, and
	// of which ours reports true.
	Truncate func(ctx context.Context, op *dbsync.Operation, ours func(id string) bool) error

	// MaxAge is after which time from when they were read operations are not written any more, but read
	// again. It is far below the time for which the search server knows the versions of deleted
	// documents. Default 10 min.
	MaxAge time.Duration
}

// Defaults of options of workers.
const (
	defaultHeartbeat = 500 * time.Millisecond
	defaultSession   = 6 * time.Second // the least that brokers take, unless they are told otherwise
	defaultRebalance = 30 * time.Second
	defaultMaxAge    = 10 * time.Minute
)

// A Worker is a member of the consumer group: it writes what is produced to the partitions that the group
// gives it.
//
// Records are written in the order of their partition, as much at a time as there is, and the offset is
// committed when all before it is written. Whatever is written twice, because a worker or Kafka went
// away between, finds its own version there.
type Worker struct {
	o       WorkerOptions
	client  *Client
	session atomic.Pointer[session] // nil: between two of them
	member  membership
	polled  atomic.Pointer[time.Time] // when was read what is being written; nil: nothing is
	oldest  atomic.Pointer[time.Time] // when was produced what is being written; nil: nothing is
	told    told
	stats   WorkerStats
}

// WorkerStats are counters, which only grow.
type WorkerStats struct {
	Records, Bytes atomic.Int64 // that were read; keys and values
	Older          atomic.Int64 // records of an instance that does not have the slot any more, which were passed over
	Compacted      atomic.Int64 // operations that were not written, as a later one of the same document was read with them
	Truncations    atomic.Int64
	Commits        atomic.Int64
	Rebalances     atomic.Int64 // partitions came or went
	Reread         atomic.Int64 // loads that were read again, as they could not be written in time
	Lost           atomic.Int64 // records that were gone before they were read
}

// NewWorker connects to Kafka. Its errors are [*ConnectError].
func NewWorker(ctx context.Context, o WorkerOptions) (*Worker, error) {
	if o.Write == nil || o.Truncate == nil || o.Alarm == nil || o.Logger == nil || o.Topic == "" || o.Group == "" {
		return nil, errors.New("read operations: an option is missing")
	}
	o.HeartbeatInterval = cmp.Or(o.HeartbeatInterval, defaultHeartbeat)
	o.SessionTimeout = cmp.Or(o.SessionTimeout, defaultSession)
	o.RebalanceTimeout = cmp.Or(o.RebalanceTimeout, defaultRebalance)
	o.MaxAge = cmp.Or(o.MaxAge, defaultMaxAge)
	w := &Worker{o: o, told: told{newer: make(map[string]int64), missing: make(map[string]time.Time), unanswered: make(map[string]bool)}}
	var err error
	w.client, err = Connect(ctx, o.Options)
	return w, err
}

// Close ends the connections, after Run.
func (w *Worker) Close() { w.client.Close() }

// Stats returns the counters, which go on counting.
func (w *Worker) Stats() *WorkerStats { return &w.stats }

// A Position is how far a worker is.
type Position struct {
	Joined     bool          // it is a member of the group
	Partitions int           // that it has
	Lag        int64         // records of them that are not applied
	Behind     time.Duration // since what it writes now was produced; 0: it writes nothing
}

// Position returns how far the worker is.
func (w *Worker) Position() Position {
	var p Position
	if s := w.session.Load(); s != nil {
		id, _ := s.reader.kafka.GroupMetadata()
		p.Joined = id != ""
		for _, c := range s.claims.list() {
			p.Partitions++
			if end := c.end.Load(); end >= 0 {
				p.Lag += max(0, end-c.applied.Load())
			}
		}
	}
	if oldest := w.oldest.Load(); oldest != nil {
		p.Behind = max(0, time.Since(*oldest))
	}
	return p
}

// Run reads and writes until ctx ends, and leaves the group. It returns nil then. Its errors are those of
// Write and Truncate, and a [*RecordError] of a record that is not known.
func (w *Worker) Run(ctx context.Context) error {
	h := &health{alarm: w.o.Alarm, key: "topic " + w.o.Topic + " cannot be read", pause: retry.NewBackoff(retry.MinBackoff, retry.MaxBackoff)}
	defer h.good()
	for {
		dbsync.Beat(ctx)
		err := w.read(ctx, h)
		if ctx.Err() != nil {
			return w.end(ctx, err)
		}
		if dbsync.IsPermanent(err) {
			return errors.Join(err, w.end(ctx, nil))
		}
		w.o.Logger.Debug("the group is joined again", "topic", w.o.Topic, "group", w.o.Group, "error", err)
		h.bad(err)
		if retry.Sleep(ctx, h.pause.NextBackOff()) != nil {
			return w.end(ctx, nil)
		}
	}
}

// end tells at the end what is still to be told. err is why it came to it.
func (w *Worker) end(ctx context.Context, err error) error {
	if err != nil && !errors.Is(err, context.Cause(ctx)) && dbsync.IsPermanent(err) {
		return err
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := w.tell(grace); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	return nil
}

// apply writes a load, or what is still ours of it, and commits that.
func (w *Worker) apply(ctx context.Context, s *session, b *load) error {
	w.polled.Store(&b.polled)
	w.oldest.Store(&b.oldest)
	defer func() {
		w.polled.Store(nil)
		w.oldest.Store(nil)
	}()
	for {
		again, err := w.attempt(ctx, s, b)
		if err != nil || !again {
			return err
		}
	}
}

// attempt tries to write a load, and to commit that. It reports whether there is more of it to be
// written, since some partitions went to others meanwhile.
func (w *Worker) attempt(ctx context.Context, s *session, b *load) (again bool, err error) {
	a, free := newAttempt(ctx, b.polled.Add(w.o.MaxAge))
	defer free()
	parts := s.claims.begin(a, b.parts)
	defer s.claims.end(a)
	if len(parts) == 0 {
		return false, nil
	}
	err = w.write(a.write, s, parts)
	if told := w.tell(a.commit); err == nil {
		err = told
	}
	if err == nil {
		// Everything is stored, or told. A crash here costs a second, equal write.
		return false, w.commit(a.commit, s, parts)
	}
	switch cause := context.Cause(a.write); {
	case cause == nil:
		return false, err
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(cause, errAged):
		w.stats.Reread.Add(1)
		s.rewind(parts)
		return false, nil
	}
	return true, nil // some partitions were given to others
}

// write writes records, in rounds.
func (w *Worker) write(ctx context.Context, s *session, parts []*part) error {
	c := newCut(parts)
	for {
		r, ok := c.next()
		if !ok {
			w.stats.Compacted.Add(int64(c.dropped))
			return nil
		}
		if err := w.o.Write(ctx, r.ops); err != nil {
			return err
		}
		for _, t := range r.truncations {
			if err := w.truncate(ctx, s, t); err != nil {
				return err
			}
		}
	}
}

// truncate removes what a truncation removes: of its partitions, and of no other. What others have
// may be newer in the log than what has been written.
func (w *Worker) truncate(ctx context.Context, s *session, t *truncation) error {
	state, err := w.awaitTopic(ctx) // documents are in partitions by how many there are
	if err != nil {
		return err
	}
	places := newPartitioner(state.Partitions)
	ours := make([]bool, state.Partitions)
	for _, p := range t.partitions {
		if int(p) < len(ours) {
			ours[p] = true
		}
	}
	var key []byte
	if err := w.o.Truncate(ctx, &t.op, func(id string) bool {
		key = appendKey(key[:0], t.op.Index, id)
		return ours[places.partition(key)]
	}); err != nil {
		return err
	}
	w.stats.Truncations.Add(int64(len(t.partitions)))
	return nil
}

// health is whether the topic can be read.
type health struct {
	alarm    *retry.Alarm
	key      string
	pause    pause
	failures int
	hold     *retry.Hold
}

type pause interface {
	NextBackOff() time.Duration
	Reset()
}

// bad notes a failure, the third in a row with the alarm.
func (h *health) bad(err error) {
	if h.failures++; h.failures >= retry.Patience {
		h.hold = h.alarm.Keep(h.hold, h.key, dbsync.WithoutValues(err))
	}
}

// good notes that it can be read.
func (h *health) good() {
	h.failures = 0
	h.pause.Reset()
	h.hold.Release()
	h.hold = nil
}
