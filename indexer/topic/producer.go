package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
)

// ProducerOptions says how operations are produced. Everything is required.
type ProducerOptions struct {
	Partitions     int    // of the topic; another number would have documents change their partition
	MaxRecordBytes int    // what the topic takes; a larger document is refused
	Slot           string // that the instance follows

	// Fence is asked before anything is handed to Kafka; with its error nothing is.
	Fence func(context.Context) error

	// OnRefused takes the operations that no record can be made of, as that of [search.BulkOptions].
	OnRefused func(ctx context.Context, refused []search.Refused) error

	Alarm  *retry.Alarm
	Logger *slog.Logger
}

// A Producer appends operations to the topic. It is what the instance that follows the slot writes by
// where workers write to the cluster.
//
// Of two instances the one that begins later has the higher epoch, a number that Kafka gives out: the
// offset of its report. Workers pass over what an earlier one writes behind its first record of a
// partition. So an instance that was stopped, and goes on when another one has the slot, writes in vain,
// as it does where it writes by itself (see [search.FencedError]).
type Producer struct {
	client *Client
	o      ProducerOptions
	epoch  atomic.Pointer[[]byte] // as the value of the header; nil before Begin
	places partitioner
	writes sync.Pool // of *write
	stats  ProducerStats
}

// ProducerStats are counters, which only grow.
type ProducerStats struct {
	Records, Bytes atomic.Int64 // that were acknowledged; keys, headers and documents before compression
	Refused        atomic.Int64
}

// recordSlack is what a record has beside its document, at most: an id and a routing of 512 bytes, names.
const recordSlack = 4096

// NewProducer makes a producer of the client's topic. It has connections of its own.
func (c *Client) NewProducer(o ProducerOptions) (*Producer, error) {
	if o.Partitions < 1 || o.MaxRecordBytes < recordSlack || o.Fence == nil || o.OnRefused == nil || o.Alarm == nil || o.Logger == nil {
		return nil, errors.New("produce operations: an option is missing")
	}
	client, err := open(c.o,
		kgo.DefaultProduceTopic(c.o.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(int32(o.MaxRecordBytes)),
		kgo.MaxBufferedRecords(maxBuffered),
		kgo.ProducerLinger(0), // a batch comes whole
		// A batch that is given up comes again, and versions make copies harmless.
		kgo.AllowIdempotentProduceCancellation(),
	)
	if err != nil {
		return nil, err
	}
	p := &Producer{client: client, o: o, places: newPartitioner(o.Partitions)}
	p.writes.New = func() any { return new(write) }
	return p, nil
}

// maxBuffered is how many records franz-go has at a time; more wait.
const maxBuffered = 20_000

// Close ends the connections.
func (p *Producer) Close() { p.client.Close() }

// Alarm returns the alarm that shows why producing is held back.
func (p *Producer) Alarm() *retry.Alarm { return p.o.Alarm }

// Stats returns the counters, which go on counting.
func (p *Producer) Stats() *ProducerStats { return &p.stats }

// Begin takes the next epoch. It is called each time that the slot has become ours, before anything is
// written. When it returns, nothing counts any more that another instance produces after it.
func (p *Producer) Begin(ctx context.Context) error {
	return retry.Do(ctx, p.o.Alarm, "begin to produce to topic "+p.client.o.Topic, func(ctx context.Context) error {
		if err := p.o.Fence(ctx); err != nil {
			return err
		}
		offset, err := p.client.Report(ctx, Report{Kind: ReportBegin, Slot: p.o.Slot})
		if err != nil {
			return p.failure(err)
		}
		epoch := []byte(strconv.FormatInt(offset, 10))
		records := make([]*kgo.Record, p.o.Partitions)
		for i := range records {
			records[i] = &kgo.Record{Partition: int32(i), Headers: []kgo.RecordHeader{
				{Key: headerFormat, Value: formatValue}, {Key: headerKind, Value: kindValues[kindEpoch]}, {Key: headerEpoch, Value: epoch}}}
		}
		if err := p.client.kafka.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return p.failure(err)
		}
		p.epoch.Store(&epoch)
		p.o.Logger.Info("operations are produced", "topic", p.client.o.Topic, "partitions", p.o.Partitions, "epoch", offset)
		return nil
	})
}

// errNotBegun is a mistake of the caller.
var errNotBegun = &dbsync.PermanentError{Err: errors.New("operations are to be produced before Begin")}

// A write is one call of Write. franz-go has its records until they are acknowledged, so it is used
// again only when all of them are.
type write struct {
	writer
	left   atomic.Int64 // records that are not acknowledged, and one while they are handed over
	done   chan struct{}
	mu     sync.Mutex
	failed error // the first
}

// promise takes what came of a record.
func (w *write) promise(_ *kgo.Record, err error) {
	if err != nil {
		w.mu.Lock()
		if w.failed == nil {
			w.failed = err
		}
		w.mu.Unlock()
	}
	w.release()
}

func (w *write) release() {
	if w.left.Add(-1) == 0 {
		close(w.done)
	}
}

// Write produces operations, at most one of each document, and returns nil when Kafka has acknowledged
// each of them, or OnRefused has taken it. What may be over some time is waited for, without end and with
// the alarm raised. Its other errors are those of [search.Bulk.Write].
func (p *Producer) Write(ctx context.Context, ops []dbsync.Operation) error {
	ops, err := p.sift(ctx, ops)
	if err != nil {
		return err
	}
	for len(ops) > 0 {
		n := min(len(ops), maxBuffered)
		if err := p.produce(ctx, n, func(w *write) error {
			for i := range ops[:n] {
				if _, err := w.add(&ops[i]); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return fmt.Errorf("produce %d operations: %w", len(ops), err)
		}
		ops = ops[n:]
	}
	return nil
}

// Truncate has every document of an index removed whose id begins as that of the operation, and that is
// older: those of each partition by its worker, when everything before has been written. It returns nil
// when Kafka has acknowledged that.
func (p *Producer) Truncate(ctx context.Context, op *dbsync.Operation) error {
	err := p.produce(ctx, p.o.Partitions, func(w *write) error {
		for i := range p.o.Partitions {
			r, err := w.add(op)
			if err != nil {
				return err
			}
			r.Partition = int32(i)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("produce the truncation of %s: %w", op.Index, err)
	}
	return nil
}

// sift returns the operations that records can be made of, and has the others refused. ops stays as it is.
func (p *Producer) sift(ctx context.Context, ops []dbsync.Operation) ([]dbsync.Operation, error) {
	var refused []search.Refused
	var sent []dbsync.Operation
	for i := range ops {
		op := &ops[i]
		if !op.Kind.Ready() {
			return nil, fmt.Errorf("produce document %s/%s: its kind is %s, which is not for the search server", op.Index, op.ID, op.Kind)
		}
		why := search.Unsendable(op)
		if size := len(op.Body) + recordSlack; why == nil && size > p.o.MaxRecordBytes {
			why = &search.DocError{Index: op.Index, ID: op.ID, Status: http.StatusRequestEntityTooLarge, Type: "record_too_large",
				Reason: fmt.Sprintf("the document has %d bytes, and topic %s takes records of %d (max.message.bytes)", len(op.Body), p.client.o.Topic, p.o.MaxRecordBytes)}
		}
		switch {
		case why != nil:
			if refused == nil {
				sent = append(make([]dbsync.Operation, 0, len(ops)-1), ops[:i]...)
			}
			refused = append(refused, search.Refused{Operation: *op, Err: why})
		case refused != nil:
			sent = append(sent, *op)
		}
	}
	if refused == nil {
		return ops, nil
	}
	if err := p.o.OnRefused(ctx, refused); err != nil {
		return nil, fmt.Errorf("%d documents were refused, the first: %w: %w", len(refused), refused[0].Err, err)
	}
	p.stats.Refused.Add(int64(len(refused)))
	return sent, nil
}

// produce makes n records and waits until they are acknowledged; what fails is made again.
func (p *Producer) produce(ctx context.Context, n int, fill func(*write) error) error {
	return retry.Do(ctx, p.o.Alarm, "Kafka does not take operations", func(ctx context.Context) error {
		epoch := p.epoch.Load()
		if epoch == nil {
			return errNotBegun
		}
		w := p.writes.Get().(*write)
		w.partitioner, w.writer.epoch, w.failed, w.done = p.places, *epoch, nil, make(chan struct{})
		w.reset(n)
		if err := fill(w); err != nil {
			return &dbsync.PermanentError{Err: err}
		}
		if err := p.o.Fence(ctx); err != nil {
			return err
		}
		w.left.Store(int64(len(w.records)) + 1)
		for i := range w.records {
			p.client.kafka.Produce(ctx, &w.records[i], w.promise)
		}
		w.release()
		p.await(w)
		if w.failed != nil {
			return p.failure(w.failed)
		}
		p.count(w)
		p.writes.Put(w)
		return nil
	})
}

// patience is after which time without an acknowledgement it is said that Kafka is away.
const patience = 10 * time.Second

// await waits until franz-go is through with all records of a write: they have its storage until then. The
// context that they were produced with ends that, too.
func (p *Producer) await(w *write) {
	timer := time.NewTicker(patience)
	defer timer.Stop()
	var hold *retry.Hold
	defer func() { hold.Release() }()
	for {
		select {
		case <-w.done:
			return
		case <-timer.C:
			text := "no acknowledgement comes"
			if err := p.client.last.get(); err != nil {
				text = err.Error()
			}
			hold = p.o.Alarm.Keep(hold, "Kafka does not take operations", text)
		}
	}
}

// count counts what was acknowledged.
func (p *Producer) count(w *write) {
	bytes := len(w.text)
	for i := range w.records {
		bytes += len(w.records[i].Value)
	}
	p.stats.Records.Add(int64(len(w.records)))
	p.stats.Bytes.Add(int64(bytes))
}

// failure returns what Kafka says, with the last error of a connection.
func (p *Producer) failure(err error) error {
	if last := p.client.last.get(); last != nil && !errors.Is(err, last) {
		err = fmt.Errorf("%w (the last connection: %w)", err, last)
	}
	for _, final := range []error{kerr.UnsupportedForMessageFormat, kerr.UnsupportedVersion, kerr.InvalidRequiredAcks} {
		if errors.Is(err, final) {
			return &dbsync.PermanentError{Err: err}
		}
	}
	return err
}
