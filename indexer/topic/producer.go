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

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
)

// ProducerOptions says how operations are produced. Everything is required.
type ProducerOptions struct {
	Partitions     int // of the topic; another number would have documents change their partition
	MaxRecordBytes int // what the topic takes; a larger document is refused

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
	places partitioner
	writes sync.Pool             // of *write
	epoch  atomic.Pointer[epoch] // nil before Begin
	stats  ProducerStats

	beginning sync.Mutex // held by Begin
	last      int64      // the epoch before; guarded by beginning
}

// An epoch is one call of Begin.
type epoch struct {
	begun chan struct{} // closed when value is valid
	value []byte        // of the header; nil: the call has failed
}

// ProducerStats are counters, which only grow.
type ProducerStats struct {
	Records, Bytes atomic.Int64 // that were acknowledged; keys, headers and documents before compression
	Refused        atomic.Int64
}

// recordSlack is what a record has beside its document, key and routing, at most: names and values of
// headers, and what a batch of it alone begins with.
const recordSlack = 1024

// NewProducer makes a producer of the client's topic. It has connections of its own.
func (c *Client) NewProducer(o ProducerOptions) (*Producer, error) {
	if o.Partitions < 1 || o.MaxRecordBytes <= recordSlack || o.MaxRecordBytes > MaxRecordBytes || o.Fence == nil || o.OnRefused == nil || o.Alarm == nil || o.Logger == nil {
		return nil, errors.New("produce operations: an option is missing or out of bounds")
	}
	client, err := open(c.o,
		kgo.DefaultProduceTopic(c.o.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(int32(o.MaxRecordBytes)),
		kgo.MaxBufferedRecords(maxBuffered),
		// A batch that is given up comes again, and versions make copies harmless.
		kgo.AllowIdempotentProduceCancellation(),
	)
	if err != nil {
		return nil, err
	}
	p := &Producer{client: client, o: o, places: newPartitioner(o.Partitions), last: -1}
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

// Begin takes the next epoch, of an instance: of its slot, so that two that produce to one topic find that out. It is called each time that the slot has become ours, before anything is
// written. When it returns, nothing counts any more that another instance produces after it.
func (p *Producer) Begin(ctx context.Context, instance string) error {
	p.beginning.Lock()
	defer p.beginning.Unlock()
	e := &epoch{begun: make(chan struct{})}
	defer close(e.begun)
	// From here on no write of the epoch before counts as acknowledged, see produce. Those that do are in
	// the topic before the first record of this one.
	p.epoch.Store(e)
	return retry.Do(ctx, p.o.Alarm, "begin to produce to topic "+p.client.o.Topic, func(ctx context.Context) error {
		if err := p.o.Fence(ctx); err != nil {
			return err
		}
		offset, err := p.client.Report(ctx, Report{Kind: ReportBegin, Instance: instance})
		if err != nil {
			return p.failure(err)
		}
		if offset <= p.last {
			return &dbsync.PermanentError{Err: fmt.Errorf("the last epoch was %d, and a report has got the offset %d: topic %s was removed", p.last, offset, p.client.o.reports())}
		}
		value := []byte(strconv.FormatInt(offset, 10))
		records := make([]*kgo.Record, p.o.Partitions)
		for i := range records {
			records[i] = &kgo.Record{Partition: int32(i), Headers: []kgo.RecordHeader{
				{Key: headerFormat, Value: formatValue}, {Key: headerKind, Value: epochValue}, {Key: headerEpoch, Value: value}}}
		}
		if err := p.client.produce(ctx, records...); err != nil {
			return p.failure(err)
		}
		e.value, p.last = value, offset
		p.o.Logger.Info("operations are produced", "topic", p.client.o.Topic, "partitions", p.o.Partitions, "epoch", offset)
		return nil
	})
}

// errNotBegun is a mistake of the caller.
var errNotBegun = &dbsync.PermanentError{Err: errors.New("operations are to be produced before Begin")}

// Both are over when Begin has been called, and returns.
var (
	errFailedBegin = errors.New("no epoch has begun that operations may be of")
	errOvertaken   = errors.New("another epoch has begun before operations were acknowledged")
)

// current returns the epoch that operations are of now.
func (p *Producer) current(ctx context.Context) (*epoch, error) {
	e := p.epoch.Load()
	if e == nil {
		return nil, errNotBegun
	}
	select {
	case <-e.begun:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if e.value == nil {
		return nil, errFailedBegin
	}
	return e, nil
}

// A write is one call of Write. franz-go has its records until they are acknowledged, so it is used
// again only when all of them are.
type write struct {
	writer
	acks
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
		if size := len(op.Index) + len(op.ID) + len(op.Routing) + len(op.Body) + recordSlack; why == nil && size > p.o.MaxRecordBytes {
			why = &search.DocError{Index: op.Index, ID: op.ID, Status: http.StatusRequestEntityTooLarge, Type: "record_too_large",
				Reason: fmt.Sprintf("the document has %d bytes, and topic %s takes records of %d with all that belongs to them (max.message.bytes)", len(op.Body), p.client.o.Topic, p.o.MaxRecordBytes)}
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
		e, err := p.current(ctx)
		if err != nil {
			return err
		}
		if err := p.o.Fence(ctx); err != nil {
			return err
		}
		w := p.writes.Get().(*write)
		w.partitioner, w.epoch = p.places, e.value
		w.reset(n)
		if err := fill(w); err != nil {
			return &dbsync.PermanentError{Err: err}
		}
		defer dbsync.AtServer(ctx)() // franz-go may have no room for more, which is as long as Kafka takes
		w.expect(len(w.records))
		promise := w.promise // made once
		for i := range w.records {
			p.client.kafka.Produce(ctx, &w.records[i], promise)
		}
		if err := p.client.await(&w.acks); err != nil {
			return p.failure(err) // and franz-go may still have the storage
		}
		if p.epoch.Load() != e {
			return errOvertaken // records may be behind those of the next epoch, where workers pass them over
		}
		p.count(w)
		w.forget()
		p.writes.Put(w)
		return nil
	})
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

// failure returns what Kafka says, with the last error of a connection and what to do.
func (p *Producer) failure(err error) error {
	switch {
	case errors.Is(err, kerr.MessageTooLarge):
		err = fmt.Errorf("%w; hint: max.message.bytes of topic %s is to be %d", err, p.client.o.Topic, p.o.MaxRecordBytes)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		err = fmt.Errorf("%w; hint: %s", err, p.client.rights())
	}
	if last := p.client.last.get(); last != nil && !errors.Is(err, last) {
		err = fmt.Errorf("%w (the last connection: %w)", err, last)
	}
	for _, final := range []error{kerr.UnsupportedForMessageFormat, kerr.UnsupportedVersion, kerr.InvalidRequiredAcks, kgo.ErrClientClosed} {
		if errors.Is(err, final) {
			return &dbsync.PermanentError{Err: err}
		}
	}
	return err
}
