package topic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
)

// producing is a producer whose parts tests look at.
type producing struct {
	*Producer
	mu      sync.Mutex
	refused []search.Refused
	fence   error // what the fence says
}

func (p *producing) setFence(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fence = err
}

// newProducer returns a producer that has not begun.
func newProducer(t testing.TB, c *Client) *producing {
	t.Helper()
	p := new(producing)
	var err error
	p.Producer, err = c.NewProducer(ProducerOptions{
		Partitions: aPlan.Partitions, MaxRecordBytes: aPlan.MaxRecordBytes, Alarm: c.o.Alarm, Logger: c.o.Logger,
		Fence: func(context.Context) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.fence
		},
		OnRefused: func(_ context.Context, refused []search.Refused) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.refused = append(p.refused, refused...)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// begun returns a producer that has begun.
func begun(t testing.TB, c *Client) *producing {
	t.Helper()
	p := newProducer(t, c)
	if err := p.Begin(t.Context(), "an instance"); err != nil {
		t.Fatal(err)
	}
	return p
}

// readAll returns what is in a topic, by partition.
func readAll(t testing.TB, c *Client, topic string) [][]*kgo.Record {
	t.Helper()
	var ends []int64
	if err := retry.Do(t.Context(), c.o.Alarm, "ends", func(ctx context.Context) (err error) {
		ends, err = c.ends(ctx, topic)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	from := make(map[int32]kgo.Offset)
	left := int64(0)
	for i, end := range ends {
		from[int32(i)] = kgo.NewOffset().AtStart()
		left += end
	}
	reader, err := open(c.o, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	records := make([][]*kgo.Record, len(ends))
	for left > 0 {
		fetches := reader.kafka.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for i := fetches.RecordIter(); !i.Done(); left-- {
			r := i.Next()
			records[r.Partition] = append(records[r.Partition], r)
		}
	}
	return records
}

// decodeAll reads records, by partition.
func decodeAll(t testing.TB, c *Client) [][]record {
	t.Helper()
	var all [][]record
	for _, partition := range readAll(t, c, c.o.Topic) {
		var list []record
		for _, r := range partition {
			rec, err := decode(r)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, rec)
		}
		all = append(all, list)
	}
	return all
}

// ofKind returns how many records of a kind there are.
func ofKind(all [][]record, k kind) (n int) {
	for _, partition := range all {
		for i := range partition {
			if partition[i].kind == k {
				n++
			}
		}
	}
	return n
}

// store is the storing of a document at a position.
func store(id string, lsn pglogrepl.LSN) dbsync.Operation {
	return dbsync.Operation{Index: "products-1", ID: id, Version: lsn, Body: fmt.Appendf(nil, `{"at":"%s"}`, lsn)}
}

// What was written is in the topic, as it was, each document in its partition, and in the order of the calls.
func TestWrite(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := begun(t, c)
	const documents, rounds = 30, 10
	random := rand.New(rand.NewPCG(1, 2))
	written := make(map[string][]dbsync.Operation)
	total := 0
	for round := range rounds {
		var ops []dbsync.Operation
		for _, i := range random.Perm(documents)[:20] {
			op := store(strconv.Itoa(i), pglogrepl.LSN(1000+100*round))
			switch random.IntN(3) {
			case 0:
				op.Kind, op.Body = dbsync.Delete, nil
			case 1:
				op.Routing = "there"
			}
			ops = append(ops, op)
			written[op.ID] = append(written[op.ID], op)
		}
		total += len(ops)
		if err := p.Write(t.Context(), ops); err != nil {
			t.Fatal(err)
		}
	}
	read := make(map[string][]dbsync.Operation)
	all := decodeAll(t, c)
	for number, partition := range all {
		for i := range partition {
			rec := &partition[i]
			if rec.kind == kindEpoch {
				continue
			}
			if at := p.places.partition([]byte(rec.op.Index + "/" + rec.op.ID)); int(at) != number {
				t.Errorf("%s is in partition %d, want %d", rec.op.ID, number, at)
			}
			read[rec.op.ID] = append(read[rec.op.ID], rec.op)
		}
	}
	for id, ops := range written {
		if !slices.EqualFunc(ops, read[id], func(a, b dbsync.Operation) bool {
			return a.Kind == b.Kind && a.Routing == b.Routing && a.Version == b.Version && string(a.Body) == string(b.Body)
		}) {
			t.Errorf("document %s: read %v, written %v", id, read[id], ops)
		}
	}
	if n := p.Stats().Records.Load(); n != int64(total) || ofKind(all, kindEpoch) != aPlan.Partitions {
		t.Errorf("%d records counted, %d written, %d epochs", n, total, ofKind(all, kindEpoch))
	}
}

// What no record can be made of is refused, the rest is written, and the caller's operations stay as they are.
func TestWriteRefuses(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := begun(t, c)
	large := store("large", 1000)
	large.Body = []byte(`"` + strings.Repeat("x", aPlan.MaxRecordBytes-recordSlack) + `"`)
	unmade := store("unmade", 1000)
	unmade.Kind, unmade.Body, unmade.Err = dbsync.Refused, nil, errTest
	routed := store("routed", 1000)
	routed.Routing = strings.Repeat("r", aPlan.MaxRecordBytes)
	ops := []dbsync.Operation{store("1", 1000), large, store("2", 1000), unmade, routed, store("3", 1000)}
	if err := p.Write(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
	if len(p.refused) != 3 || p.refused[0].Operation.ID != "large" || p.refused[0].Err.Status != http.StatusRequestEntityTooLarge || p.refused[1].Operation.ID != "unmade" || p.refused[2].Operation.ID != "routed" {
		t.Errorf("refused: %v", p.refused)
	}
	if !strings.Contains(p.refused[0].Err.Reason, "max.message.bytes") || p.Stats().Refused.Load() != 3 {
		t.Errorf("%v, %d counted", p.refused[0].Err, p.Stats().Refused.Load())
	}
	if ops[1].ID != "large" || ops[5].ID != "3" || ofKind(decodeAll(t, c), kindStore) != 3 {
		t.Errorf("%v, %d records", ops[5].ID, ofKind(decodeAll(t, c), kindStore))
	}

	// Who does not take what is refused has nothing written.
	p.o.OnRefused = func(context.Context, []search.Refused) error { return &dbsync.PermanentError{Err: errTest} }
	if err := p.Write(t.Context(), ops); !errors.Is(err, errTest) || !dbsync.IsPermanent(err) || ofKind(decodeAll(t, c), kindStore) != 3 {
		t.Error(err)
	}
}

// The largest record that is not refused is one that Kafka takes.
func TestWriteLargest(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := begun(t, c)
	op := store("large", 1<<40)
	op.Base, op.Routing, op.Group = 1, strings.Repeat("r", 300), search.MaxGroup
	op.ID = strings.Repeat("i", 512)
	size := aPlan.MaxRecordBytes - recordSlack - len(op.Index) - len(op.ID) - len(op.Routing)
	// It is not the compression that makes it fit.
	op.Body = []byte(`"` + randomText(size-2) + `"`)
	if err := p.Write(t.Context(), []dbsync.Operation{op}); err != nil || len(p.refused) != 0 {
		t.Fatal(err, p.refused)
	}
	op.Body = append(op.Body, ' ')
	if err := p.Write(t.Context(), []dbsync.Operation{op}); err != nil || len(p.refused) != 1 {
		t.Error(err, p.refused)
	}
}

// A truncation reaches each partition, behind what was written before.
func TestTruncate(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := begun(t, c)
	var ops []dbsync.Operation
	for i := range 40 {
		ops = append(ops, store(strconv.Itoa(i), 1000))
	}
	if err := p.Write(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
	if err := p.Truncate(t.Context(), &dbsync.Operation{Kind: dbsync.Truncate, Index: "products-1", ID: "1", Version: 2000}); err != nil {
		t.Fatal(err)
	}
	for number, partition := range decodeAll(t, c) {
		last := &partition[len(partition)-1]
		if last.kind != kindTruncate || last.op.Index != "products-1" || last.op.ID != "1" || last.op.Version != 2000 || len(partition) < 3 {
			t.Errorf("partition %d ends with %+v", number, last)
		}
	}
}

// Who begins later has the higher epoch, and what an earlier one writes then is known by its own.
func TestBegin(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	first, second := newProducer(t, c), newProducer(t, c)
	if err := first.Write(t.Context(), []dbsync.Operation{store("1", 1000)}); !dbsync.IsPermanent(err) {
		t.Errorf("before the beginning: %v", err)
	}
	for _, p := range []*producing{first, second, first, second} {
		if err := p.Begin(t.Context(), "an instance"); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Write(t.Context(), []dbsync.Operation{store("1", 1000)}); err != nil {
		t.Fatal(err)
	}
	for number, partition := range decodeAll(t, c) {
		var epochs []int64
		for i := range partition {
			if partition[i].kind == kindEpoch {
				epochs = append(epochs, partition[i].epoch)
			} else if partition[i].epoch != epochs[2] {
				t.Errorf("the epoch of a record is %d, of %v", partition[i].epoch, epochs)
			}
		}
		if len(epochs) != 4 || !slices.IsSorted(epochs) || len(slices.Compact(epochs)) != 4 {
			t.Errorf("partition %d has the epochs %v", number, epochs)
		}
	}
	reports := readReports(t, c, 4)
	for i := range reports {
		if reports[i].Kind != ReportBegin || reports[i].Instance != "an instance" {
			t.Errorf("%+v", reports[i])
		}
	}
}

// An epoch that is not above the one before would have workers pass over everything.
func TestBeginWithoutReports(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := begun(t, c)
	if err := p.Begin(t.Context(), "an instance"); err != nil {
		t.Fatal(err)
	}
	if err := cluster.DeleteTopic("ops.reports"); err != nil {
		t.Fatal(err)
	}
	if err := cluster.CreateTopic("ops.reports", 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Begin(t.Context(), "an instance"); !dbsync.IsPermanent(err) || !strings.Contains(err.Error(), "ops.reports was removed") {
		t.Error(err)
	}
}

// A write that is under way when another epoch begins may have come behind its first record: it is made again.
func TestWriteOverBegin(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := begun(t, c)
	asked, goOn := hold(t, cluster, kmsg.Produce)
	before := p.epoch.Load()
	results := make(chan error, 2)
	go func() { results <- p.Write(t.Context(), []dbsync.Operation{store("1", 1000)}) }()
	<-asked
	go func() { results <- p.Begin(t.Context(), "an instance") }()
	until(t, "another epoch", func() bool { return p.epoch.Load() != before })
	goOn()
	for range 2 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	for _, partition := range decodeAll(t, c) {
		epoch := int64(-1)
		for i := range partition {
			epoch = max(epoch, partition[i].epoch)
		}
		if last := &partition[len(partition)-1]; last.kind == kindStore && last.epoch == epoch {
			return
		}
	}
	t.Error("the document is in no record of the last epoch")
}

// A beginning that comes to nothing holds writes back until one does.
func TestWriteAfterFailedBegin(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := newProducer(t, c)
	p.setFence(&dbsync.PermanentError{Err: errTest})
	if err := p.Begin(t.Context(), "an instance"); !errors.Is(err, errTest) {
		t.Fatal(err)
	}
	p.setFence(nil)
	written := make(chan error, 1)
	go func() { written <- p.Write(t.Context(), []dbsync.Operation{store("1", 1000)}) }()
	until(t, "the alarm", func() bool { return len(c.o.Alarm.Reasons()) == 1 })
	if err := p.Begin(t.Context(), "an instance"); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil || ofKind(decodeAll(t, c), kindStore) != 1 {
		t.Error(err)
	}
}

// Who no longer has the slot hands nothing over.
func TestWriteFenced(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := begun(t, c)
	p.setFence(&dbsync.PermanentError{Err: errTest})
	if err := p.Write(t.Context(), []dbsync.Operation{store("1", 1000)}); !errors.Is(err, errTest) {
		t.Error(err)
	}
	if err := p.Truncate(t.Context(), &dbsync.Operation{Kind: dbsync.Truncate, Index: "products-1", Version: 2000}); !errors.Is(err, errTest) {
		t.Error(err)
	}
	if err := p.Begin(t.Context(), "an instance"); !errors.Is(err, errTest) {
		t.Error(err)
	}
	all := decodeAll(t, c)
	if ofKind(all, kindStore)+ofKind(all, kindTruncate) != 0 || ofKind(all, kindEpoch) != aPlan.Partitions {
		t.Errorf("%v", all)
	}
}

// What brokers refuse for a while is written when they take it.
func TestWriteRetries(t *testing.T) {
	for _, fault := range []*kerr.Error{
		kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.RequestTimedOut, kerr.OutOfOrderSequenceNumber, kerr.InvalidProducerEpoch, // franz-go tries again
		kerr.TopicAuthorizationFailed, kerr.MessageTooLarge, kerr.UnknownServerError, kerr.KafkaStorageError, // so do we
	} {
		t.Run(fault.Message, func(t *testing.T) {
			t.Parallel()
			cluster := startFake(t)
			c := connect(t, cluster)
			ensure(t, c)
			p := begun(t, c)
			set := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "ops", Err: fault, Count: 2})
			if err := p.Write(t.Context(), []dbsync.Operation{store("1", 1000)}); err != nil {
				t.Fatal(err)
			}
			if set.Hits() != 2 || ofKind(decodeAll(t, c), kindStore) < 1 {
				t.Errorf("%d faults, %d records", set.Hits(), ofKind(decodeAll(t, c), kindStore))
			}
		})
	}
}

// What brokers go on refusing is an alarm that says what to do.
func TestWriteAlarms(t *testing.T) {
	for fault, want := range map[*kerr.Error]string{kerr.MessageTooLarge: "max.message.bytes of topic ops is to be 1048576", kerr.TopicAuthorizationFailed: "needs the ACLs"} {
		t.Run(fault.Message, func(t *testing.T) {
			t.Parallel()
			cluster := startFake(t)
			c := connect(t, cluster)
			ensure(t, c)
			p := begun(t, c)
			set := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "ops", Err: fault, Count: -1})
			written := make(chan error, 1)
			go func() { written <- p.Write(t.Context(), []dbsync.Operation{store("1", 1000)}) }()
			until(t, "the alarm", func() bool {
				reasons := c.o.Alarm.Reasons()
				return len(reasons) == 1 && strings.Contains(reasons[0].Text, want)
			})
			set.Remove()
			if err := <-written; err != nil {
				t.Error(err)
			}
		})
	}
}

// What repeating cannot cure ends the write.
func TestWritePermanent(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := begun(t, c)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "ops", Err: kerr.UnsupportedForMessageFormat, Count: -1})
	if err := p.Write(t.Context(), []dbsync.Operation{store("1", 1000)}); !errors.Is(err, kerr.UnsupportedForMessageFormat) || !dbsync.IsPermanent(err) {
		t.Error(err)
	}
}

// A leader that moves takes nothing along.
func TestWriteWhileLeadersMove(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := begun(t, c)
	const rounds = 50
	for round := range rounds {
		if round%10 == 5 {
			cluster.ShufflePartitionLeaders()
		}
		if err := p.Write(t.Context(), []dbsync.Operation{store("1", pglogrepl.LSN(1000+100*round)), store(strconv.Itoa(round+2), 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := ofKind(decodeAll(t, c), kindStore); n != 2*rounds {
		t.Errorf("%d records, want %d", n, 2*rounds)
	}
}

// The end of a context is the end of a write, whatever Kafka does, and what franz-go may still have is not used
// for another one.
func TestWriteEnds(t *testing.T) {
	begin := func(t *testing.T) (*kfake.Cluster, *producing, chan *write, func(context.Context) error) {
		cluster := startFake(t)
		c := connect(t, cluster)
		ensure(t, c)
		p := begun(t, c)
		made := make(chan *write, 100)
		op := store("1", 1000)
		return cluster, p, made, func(ctx context.Context) error {
			return p.produce(ctx, 1, func(w *write) error {
				made <- w
				_, err := w.add(&op)
				return err
			})
		}
	}
	unused := func(t *testing.T, p *producing, w *write) {
		for range 10 {
			if p.writes.Get().(*write) == w {
				t.Error("the storage is used again")
			}
		}
	}
	t.Run("no answer", func(t *testing.T) {
		cluster, p, made, write := begin(t)
		asked, _ := hold(t, cluster, kmsg.Produce)
		ctx, end := ended(t)
		done := make(chan error, 1)
		go func() { done <- write(ctx) }()
		<-asked
		end()
		if err := <-done; !errors.Is(err, errTest) {
			t.Error(err)
		}
		unused(t, p, <-made)
	})
	t.Run("no broker", func(t *testing.T) {
		cluster, p, made, write := begin(t)
		cluster.Close()
		ctx, end := ended(t)
		done := make(chan error, 1)
		go func() { done <- write(ctx) }()
		w := <-made
		end()
		if err := <-done; !errors.Is(err, errTest) {
			t.Error(err)
		}
		unused(t, p, w)
	})
	t.Run("refused", func(t *testing.T) {
		cluster, p, made, write := begin(t)
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "ops", Err: kerr.UnknownServerError, Count: -1})
		ctx, end := ended(t)
		done := make(chan error, 1)
		go func() { done <- write(ctx) }()
		w := <-made
		<-made
		end()
		if err := <-done; !errors.Is(err, errTest) {
			t.Error(err)
		}
		unused(t, p, w)
	})
	t.Run("no beginning", func(t *testing.T) {
		_, p, _, write := begin(t)
		p.epoch.Store(&epoch{begun: make(chan struct{})})
		ctx, end := ended(t)
		end()
		if err := write(ctx); !errors.Is(err, errTest) {
			t.Error(err)
		}
	})
}

// Calls at a time do not take each other's storage.
func TestWriteAtOnce(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	ensure(t, c)
	p := begun(t, c)
	var all sync.WaitGroup
	for writer := range 8 {
		all.Go(func() {
			for round := range 20 {
				var ops []dbsync.Operation
				for i := range 25 {
					ops = append(ops, store(fmt.Sprintf("%d-%d-%d", writer, round, i), 1000))
				}
				if err := p.Write(t.Context(), ops); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	ids := make(map[string]bool)
	for _, partition := range decodeAll(t, c) {
		for i := range partition {
			if partition[i].kind == kindStore {
				ids[partition[i].op.ID] = true
			}
		}
	}
	if len(ids) != 8*20*25 {
		t.Errorf("%d documents, want %d", len(ids), 8*20*25)
	}
}

func TestNewProducerRefuses(t *testing.T) {
	cluster := startFake(t)
	c := connect(t, cluster)
	p := newProducer(t, c)
	for name, change := range map[string]func(*ProducerOptions){
		"no partitions": func(o *ProducerOptions) { o.Partitions = 0 },
		"no fence":      func(o *ProducerOptions) { o.Fence = nil },
		"small records": func(o *ProducerOptions) { o.MaxRecordBytes = recordSlack },
		"large records": func(o *ProducerOptions) { o.MaxRecordBytes = MaxRecordBytes + 1 },
	} {
		o := p.o
		change(&o)
		if _, err := c.NewProducer(o); err == nil {
			t.Error(name)
		}
	}
}

// documents returns operations as a stream has them.
func documents(n int) []dbsync.Operation {
	ops := make([]dbsync.Operation, n)
	for i := range ops {
		ops[i] = dbsync.Operation{Index: "products-20260131t120000z", ID: strconv.Itoa(1_000_000 + i), Version: pglogrepl.LSN(1<<40 + 64*i), Base: 1 << 39,
			Body: fmt.Appendf(nil, `{"name":"product %d","price":%d.99,"text":"%s"}`, i, i, strings.Repeat("lorem ipsum ", 35))}
	}
	return ops
}

// BenchmarkRecord makes records of operations, and nothing else.
func BenchmarkRecord(b *testing.B) {
	const n = 1000
	ops := documents(n)
	w := writer{partitioner: newPartitioner(12), epoch: []byte("7")}
	b.ReportAllocs()
	for b.Loop() {
		w.reset(n)
		for i := range ops {
			if _, err := w.add(&ops[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkProduce writes batches to brokers in this process that throw them away: what is measured is the
// client, and half of it they.
func BenchmarkProduce(b *testing.B) {
	const n = 5000
	c := connect(b, startFake(b, kfake.BlackholeProduce()))
	ensure(b, c)
	p := begun(b, c)
	ops := documents(n)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Write(b.Context(), ops); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "records/s")
}
