package topic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// A plant is a Kafka in this process, an index of a real search server, and who produces and writes.
type plant struct {
	cluster  *kfake.Cluster
	client   *Client
	engine   *testenv.SearchServer
	physical string
	index    string // its write alias

	mu      sync.Mutex
	reports []Reported
}

func newPlant(t *testing.T, partitions int) *plant {
	t.Helper()
	p := &plant{engine: testenv.SharedSearch(t, testenv.Engines(t)[0])}
	p.physical, p.index = searchtest.NewIndex(t, p.engine, searchtest.ProductMapping)
	var err error
	if p.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.cluster.Close)
	if p.client, err = Connect(t.Context(), p.options(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.client.Close)
	if _, _, err = p.client.Ensure(t.Context(), Plan{Partitions: partitions, Replication: 1, Retention: time.Hour, MaxRecordBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	read := make(chan error, 1)
	go func() {
		read <- p.client.Reports(ctx, 0, func(_ context.Context, reports []Reported) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.reports = append(p.reports, reports...)
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-read; !errors.Is(err, context.Canceled) && !isGone(err) {
			t.Error(err)
		}
	})
	return p
}

func (p *plant) options(t *testing.T) Options {
	log := searchtest.Logger(t)
	return Options{Brokers: p.cluster.ListenAddrs(), Topic: "ops", Group: "workers", HeartbeatInterval: 50 * time.Millisecond, Logger: log, Alarm: retry.NewAlarm(log)}
}

// told returns the reports of a kind that there are.
func (p *plant) told(t *testing.T, kind ReportKind) (of []Report) {
	t.Helper()
	end, err := p.client.ReportsEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	soon(t, "all reports are read", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.reports) >= int(end) })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.reports {
		if r.Kind == kind {
			of = append(of, r.Report)
		}
	}
	return of
}

// begun returns a producer of a new epoch.
func (p *plant) begun(t *testing.T) *Producer {
	t.Helper()
	state, err := p.client.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o := p.options(t)
	producer, err := p.client.NewProducer(ProducerOptions{Partitions: state.Partitions, MaxRecordBytes: 1 << 20, Alarm: o.Alarm, Logger: o.Logger,
		Fence:     func(context.Context) error { return nil },
		OnRefused: func(_ context.Context, refused []search.Refused) error { return refused[0].Err }})
	if err == nil {
		t.Cleanup(producer.Close)
		err = producer.Begin(t.Context(), "an instance")
	}
	if err != nil {
		t.Fatal(err)
	}
	return producer
}

// produce writes documents with ids from to to, by the commit of a number.
func (p *plant) produce(t *testing.T, producer *Producer, from, to int, commit pglogrepl.LSN) {
	t.Helper()
	var ops []dbsync.Operation
	for i := from; i < to; i++ {
		ops = append(ops, searchtest.Store(p.index, strconv.Itoa(i), commit, fmt.Sprintf(`{"id":%d,"stock":%d}`, i, commit)))
	}
	if err := producer.Write(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
}

// A hand is a worker that runs.
type hand struct {
	*Worker
	bulk  *search.Bulk
	lines *searchtest.LogLines
	end   context.CancelFunc
	done  chan error
}

// hire starts a worker, which ends with the test.
func (p *plant) hire(t *testing.T, url string, change ...func(*WorkerOptions)) *hand {
	t.Helper()
	h := &hand{lines: searchtest.NewLogLines(t), done: make(chan error, 1)}
	log := slog.New(h.lines)
	o := WorkerOptions{Options: p.options(t)}
	o.Logger, o.Alarm = log, retry.NewAlarm(log)
	client := searchtest.Connect(t, url).Fenced(func(ctx context.Context) error { return h.Holds(ctx) })
	var err error
	h.bulk, err = search.NewBulk(client, search.BulkOptions{
		OnRefused:  func(ctx context.Context, refused []search.Refused) error { return h.Refused(ctx, refused) },
		Newer:      func(ctx context.Context, op *dbsync.Operation, v int64) error { return h.Newer(ctx, op, v) },
		Unanswered: func(ops []dbsync.Operation) { h.Unanswered(ops) },
		Missing:    func(ctx context.Context, index string) (bool, error) { return h.Missing(ctx, index) },
		MinBackoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond, Alarm: o.Alarm, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Write, o.Truncate = h.bulk.Write, indexer.Direct{Bulk: h.bulk, Client: client, Logger: log}.TruncateWhere
	for _, change := range change {
		change(&o)
	}
	if h.Worker, err = NewWorker(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, h.end = context.WithCancel(context.Background())
	go func() { h.done <- h.Run(ctx); close(h.done) }()
	t.Cleanup(func() {
		h.end()
		if err := <-h.done; err != nil {
			t.Error("the worker ended with ", err)
		}
		h.Close()
	})
	return h
}

// leave ends the worker in order.
func (h *hand) leave(t *testing.T) {
	t.Helper()
	h.end()
	if err := <-h.done; err != nil {
		t.Error(err)
	}
}

func (h *hand) partitions() int { return h.Position().Partitions }

// soon waits for something to be so.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute: " + what)
		}
	}
}

// applied waits until everything is.
func (p *plant) applied(t *testing.T) {
	t.Helper()
	if err := p.client.AwaitApplied(searchtest.Within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
}

// stock holds the documents against what stock each is to have, by id.
func (p *plant) stock(t *testing.T, want map[string]int) {
	t.Helper()
	got := make(map[string]int)
	for id, d := range p.engine.Documents(t, p.physical) {
		var source struct{ Stock int }
		if err := json.Unmarshal(d.Source, &source); err != nil {
			t.Fatal(err)
		}
		got[id] = source.Stock
	}
	if len(got) != len(want) {
		t.Errorf("%d documents, want %d", len(got), len(want))
	}
	for id, stock := range want {
		if got[id] != stock {
			t.Errorf("document %s is of commit %d, want %d", id, got[id], stock)
		}
	}
}

// all are documents that one commit has stored.
func all(n, commit int) map[string]int {
	of := make(map[string]int)
	for i := range n {
		of[strconv.Itoa(i)] = commit
	}
	return of
}

// Two workers share the partitions, and what is written is what was produced. One that leaves is replaced
// by the other.
func TestWorkers(t *testing.T) {
	p := newPlant(t, 6)
	producer := p.begun(t)
	first := p.hire(t, p.engine.URL)
	soon(t, "the first has all partitions", func() bool { return first.partitions() == 6 })
	p.produce(t, producer, 0, 2000, 1)
	second := p.hire(t, p.engine.URL)
	soon(t, "each has half", func() bool { return first.partitions() == 3 && second.partitions() == 3 })
	p.produce(t, producer, 0, 2000, 2)
	p.applied(t)
	p.stock(t, all(2000, 2))
	if first.bulk.Stats().Stored.Load() == 0 || second.bulk.Stats().Stored.Load() == 0 {
		t.Error("one has written nothing")
	}
	first.leave(t)
	soon(t, "the second has all partitions", func() bool { return second.partitions() == 6 })
	p.produce(t, producer, 0, 2000, 3)
	p.applied(t)
	p.stock(t, all(2000, 3))
	soon(t, "it knows of no lag", func() bool { return second.Position().Lag == 0 })
}

// Of several states of a document that are read together one is written.
func TestWorkerCompacts(t *testing.T) {
	p := newPlant(t, 3)
	producer := p.begun(t)
	for commit := range pglogrepl.LSN(20) {
		p.produce(t, producer, 0, 100, commit+1)
	}
	h := p.hire(t, p.engine.URL)
	p.applied(t)
	p.stock(t, all(100, 20))
	if stored, compacted := h.bulk.Stats().Stored.Load(), h.Stats().Compacted.Load(); stored+compacted != 2000 || compacted < 1000 {
		t.Errorf("%d stored, %d compacted", stored, compacted)
	}
}

// What an instance produces after another one has begun is passed over, also by a worker that has not seen
// that one begin.
func TestWorkerPassesOverAnOlderInstance(t *testing.T) {
	p := newPlant(t, 2)
	before := p.begun(t)
	p.produce(t, before, 0, 10, 1)
	h := p.hire(t, p.engine.URL)
	p.applied(t)
	p.stock(t, all(10, 1))

	now := p.begun(t)
	p.produce(t, before, 0, 10, 9)
	p.produce(t, now, 0, 10, 2)
	p.applied(t)
	p.stock(t, all(10, 2))
	if n := h.Stats().Older.Load(); n != 10 {
		t.Errorf("%d records were passed over, want 10", n)
	}
	h.leave(t)

	p.produce(t, before, 0, 10, 8) // nothing in the log that is still to be read says who has the slot
	h = p.hire(t, p.engine.URL)
	p.applied(t)
	p.stock(t, all(10, 2))
	if n := h.Stats().Older.Load(); n != 10 {
		t.Errorf("after a restart %d records were passed over, want 10", n)
	}
}

// Records of the instance before that are read again, behind which the next one has begun, count.
func TestWorkerReadsTheEpochBeforeAgain(t *testing.T) {
	p := newPlant(t, 1)
	proxy := p.engine.NewProxy(t)
	held := proxy.Inject(testenv.Hold(1, testenv.Bulk))
	p.produce(t, p.begun(t), 0, 10, 1)
	p.begun(t)
	h := p.hire(t, proxy.URL, func(o *WorkerOptions) { o.MaxAge = time.Second })
	if err := held.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	soon(t, "it is read again", func() bool { return h.Stats().Reread.Load() > 0 })
	held.Lift()
	p.applied(t)
	p.stock(t, all(10, 1))
}

// Records that are read again change nothing.
func TestWorkerReplays(t *testing.T) {
	p := newPlant(t, 2)
	producer := p.begun(t)
	p.produce(t, producer, 0, 50, 1)
	h := p.hire(t, p.engine.URL)
	p.applied(t)
	p.produce(t, producer, 0, 50, 2)
	p.applied(t)
	h.leave(t)
	var offsets kadm.Offsets
	for partition := range int32(2) {
		offsets.AddOffset("ops", partition, 0, -1)
	}
	if err := p.client.admin.CommitAllOffsets(t.Context(), "workers", offsets); err != nil {
		t.Fatal(err)
	}
	h = p.hire(t, p.engine.URL)
	p.applied(t)
	p.stock(t, all(50, 2))
	if n := h.Stats().Records.Load(); n < 100 {
		t.Errorf("%d records were read", n)
	}
}

// A worker gives partitions up at once although the cluster holds what it writes, and goes on with the rest.
func TestWorkerGivesUpWhatIsHeld(t *testing.T) {
	p := newPlant(t, 4)
	proxy := p.engine.NewProxy(t)
	held := proxy.Inject(testenv.Hold(1000, testenv.Bulk))
	producer := p.begun(t)
	p.produce(t, producer, 0, 400, 1)
	first := p.hire(t, proxy.URL)
	if err := held.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	second := p.hire(t, p.engine.URL)
	soon(t, "each has half", func() bool { return first.partitions() == 2 && second.partitions() == 2 })
	soon(t, "the second has written its own", func() bool { return second.bulk.Stats().Stored.Load() > 0 && second.Position().Lag == 0 })
	if n := first.Stats().Commits.Load(); n > 0 {
		t.Errorf("the first has committed %d times", n)
	}
	soon(t, "the first has told that there was no answer", func() bool { return len(p.told(t, ReportUnanswered)) > 0 })
	if r := p.told(t, ReportUnanswered)[0]; !slices.Equal(r.Indices, []string{p.index}) {
		t.Errorf("%+v", r)
	}
	held.Lift()
	p.applied(t)
	p.stock(t, all(400, 1))
}

// What is refused is told before it counts as applied: a worker that ends between leaves it to the next one.
func TestWorkerTellsWhatIsRefused(t *testing.T) {
	p := newPlant(t, 1)
	producer := p.begun(t)
	var mu sync.Mutex
	committing, refuse := 0, true
	p.cluster.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		p.cluster.KeepControl()
		committing++
		if !refuse {
			return nil, nil, false
		}
		req := r.(*kmsg.OffsetCommitRequest)
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, topic := range req.Topics {
			t := kmsg.OffsetCommitResponseTopic{Topic: topic.Topic, TopicID: topic.TopicID}
			for _, partition := range topic.Partitions {
				t.Partitions = append(t.Partitions, kmsg.OffsetCommitResponseTopicPartition{Partition: partition.Partition, ErrorCode: kerr.CoordinatorNotAvailable.Code})
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, true
	})
	if err := producer.Write(t.Context(), []dbsync.Operation{searchtest.Store(p.index, "bad", 1, `{"stock":"none"}`), searchtest.Store(p.index, "good", 1, `{"stock":1}`)}); err != nil {
		t.Fatal(err)
	}
	h := p.hire(t, p.engine.URL)
	soon(t, "it was refused, and told", func() bool { return len(p.told(t, ReportRefused)) == 1 })
	soon(t, "it is to be committed", func() bool { mu.Lock(); defer mu.Unlock(); return committing > 0 })
	h.leave(t)
	mu.Lock()
	refuse = false
	mu.Unlock()
	p.hire(t, p.engine.URL)
	p.applied(t)
	reports := p.told(t, ReportRefused)
	if len(reports) != 2 {
		t.Fatalf("%d reports, want 2: %+v", len(reports), reports)
	}
	refused, err := reports[1].Refused()
	if err != nil || refused.Operation.ID != "bad" || refused.Err.Status != 400 || string(refused.Operation.Body) != `{"stock":"none"}` {
		t.Errorf("%+v %v", refused, err)
	}
	p.stock(t, map[string]int{"good": 1})
}

// While what is refused cannot be told, it is not applied.
func TestWorkerWaitsUntilItIsTold(t *testing.T) {
	p := newPlant(t, 1)
	producer := p.begun(t)
	var mu sync.Mutex
	failed, fail := 0, true
	p.cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		p.cluster.KeepControl()
		if !fail {
			return nil, nil, false
		}
		req := r.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range req.Topics {
			failed++
			t := kmsg.ProduceResponseTopic{Topic: topic.Topic, TopicID: topic.TopicID}
			for _, partition := range topic.Partitions {
				t.Partitions = append(t.Partitions, kmsg.ProduceResponseTopicPartition{Partition: partition.Partition, ErrorCode: kerr.InvalidRecord.Code})
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, true
	})
	mu.Lock()
	fail = false
	mu.Unlock()
	if err := producer.Write(t.Context(), []dbsync.Operation{searchtest.Store(p.index, "bad", 1, `{"stock":"none"}`)}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	fail = true
	mu.Unlock()
	h := p.hire(t, p.engine.URL)
	h.lines.Await(t, searchtest.Within(t, time.Minute), "Kafka does not take reports")
	if h.Stats().Commits.Load() != 0 {
		t.Error("it was committed")
	}
	mu.Lock()
	fail = false
	mu.Unlock()
	p.applied(t)
	if n := len(p.told(t, ReportRefused)); n != 1 {
		t.Errorf("%d reports", n)
	}
}

// A newer version is told once, and again to the instance that comes next.
func TestWorkerTellsNewerVersions(t *testing.T) {
	p := newPlant(t, 1)
	producer := p.begun(t)
	w := searchtest.NewWriter(t, searchtest.Connect(t, p.engine.URL), search.BulkOptions{})
	if err := w.Write(t.Context(), []dbsync.Operation{searchtest.Store(p.index, "1", 99, `{"stock":99}`), searchtest.Store(p.index, "2", 98, `{"stock":98}`)}); err != nil {
		t.Fatal(err)
	}
	p.hire(t, p.engine.URL)
	produce := func(producer *Producer, id, commit int) {
		t.Helper()
		p.produce(t, producer, id, id+1, pglogrepl.LSN(commit))
		p.applied(t)
	}
	produce(producer, 1, 1)
	produce(producer, 2, 2)
	produce(producer, 1, 3)
	reports := p.told(t, ReportNewer)
	if len(reports) != 1 || reports[0].ID != "1" || reports[0].Found <= 0 {
		t.Fatalf("%+v", reports)
	}
	produce(p.begun(t), 2, 4)
	if n := len(p.told(t, ReportNewer)); n != 2 {
		t.Errorf("%d reports after another instance has begun, want 2", n)
	}
	p.stock(t, map[string]int{"1": 99, "2": 98})
}

// Operations and truncations of an index that is gone are passed over, those of others are not.
func TestWorkerPassesOverAMissingIndex(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		p := newPlant(t, 1)
		p.engine = engine
		p.physical, p.index = searchtest.NewIndex(t, engine, searchtest.ProductMapping)
		gone := p.index + "9"
		producer := p.begun(t)
		ops := []dbsync.Operation{searchtest.Store(gone, "1", 1, `{"stock":1}`), searchtest.Store(p.index, "0", 1, `{"stock":1}`), searchtest.Remove(gone, "2", 1)}
		if err := producer.Write(t.Context(), ops); err != nil {
			t.Fatal(err)
		}
		if err := producer.Truncate(t.Context(), &dbsync.Operation{Kind: dbsync.Truncate, Index: gone, Version: 2 * searchtest.CommitStep}); err != nil {
			t.Fatal(err)
		}
		h := p.hire(t, engine.URL)
		p.applied(t)
		p.stock(t, all(1, 1))
		if reports := p.told(t, ReportMissing); len(reports) != 1 || reports[0].Index != gone {
			t.Errorf("%+v", reports)
		}
		if n := h.bulk.Stats().Dropped.Load(); n != 3 {
			t.Errorf("%d operations were passed over, want 3", n)
		}
	})
}

// Records that were gone before they were applied are told: at the first start, at a later one, and while a
// worker runs.
func TestWorkerTellsWhatIsLost(t *testing.T) {
	p := newPlant(t, 1)
	producer := p.begun(t) // the record at 0
	remove := func(before int64) {
		t.Helper()
		if err := p.cluster.DeleteRecords("ops", 0, before); err != nil {
			t.Fatal(err)
		}
	}
	lost := func() (text string) {
		for _, r := range p.told(t, ReportLost) {
			text += fmt.Sprintf("%d: %d-%d. ", r.Partition, r.From, r.To)
		}
		return text
	}
	p.produce(t, producer, 0, 10, 1)
	remove(4)
	h := p.hire(t, p.engine.URL)
	p.applied(t)
	if got := lost(); got != "0: 0-4. " {
		t.Errorf("at the first start: %s", got)
	}
	h.leave(t)
	p.produce(t, producer, 0, 10, 2) // 11 to 21
	remove(15)
	h = p.hire(t, p.engine.URL)
	p.applied(t)
	if got := lost(); got != "0: 0-4. 0: 11-15. " {
		t.Errorf("at a later start: %s", got)
	}
	// While it runs: it asks for what is gone when the broker takes the question up.
	var mu sync.Mutex
	asking, asked := 0, make(chan struct{})
	p.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		p.cluster.KeepControl()
		mu.Lock()
		asking++
		mu.Unlock()
		p.cluster.SleepControl(func() { <-asked })
		return nil, nil, false
	})
	soon(t, "both ask, the worker and who reads reports", func() bool { mu.Lock(); defer mu.Unlock(); return asking == 2 })
	p.produce(t, producer, 0, 10, 3) // 21 to 31
	remove(25)
	close(asked)
	p.applied(t)
	soon(t, "the third loss is told", func() bool { return len(p.told(t, ReportLost)) >= 3 })
	if got := lost(); got != "0: 0-4. 0: 11-15. 0: 21-25. " {
		t.Errorf("while it runs: %s", got)
	}
	if n := h.Stats().Lost.Load(); n != 8 {
		t.Errorf("the last worker counts %d lost records, want 8", n)
	}
}

// A truncation removes what its partition has, and nothing of another one, whose worker may not have come to
// it yet. What is behind it in the log stays.
func TestWorkerTruncates(t *testing.T) {
	p := newPlant(t, 2)
	producer := p.begun(t)
	p.produce(t, producer, 0, 40, 1)
	h := p.hire(t, p.engine.URL)
	p.applied(t)
	// As Truncate, but to one of the partitions.
	places := newPartitioner(2)
	err := producer.produce(t.Context(), 1, func(w *write) error {
		r, err := w.add(&dbsync.Operation{Kind: dbsync.Truncate, Index: p.index, Version: 2 * searchtest.CommitStep})
		if err == nil {
			r.Partition = 0
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.produce(t, producer, 0, 5, 3)
	p.applied(t)
	want := make(map[string]int)
	for i := range 40 {
		id := strconv.Itoa(i)
		if i < 5 {
			want[id] = 3
		} else if places.partition(appendKey(nil, p.index, id)) == 1 {
			want[id] = 1
		}
	}
	p.stock(t, want)
	if err := producer.Truncate(t.Context(), &dbsync.Operation{Kind: dbsync.Truncate, Index: p.index, Version: 4 * searchtest.CommitStep}); err != nil {
		t.Fatal(err)
	}
	p.applied(t)
	p.stock(t, nil)
	if n := h.Stats().Truncations.Load(); n != 3 {
		t.Errorf("%d truncations, want 3", n)
	}
}

// A worker that the group has expelled sends nothing, until it is a member again.
func TestWorkerFence(t *testing.T) {
	p := newPlant(t, 1)
	producer := p.begun(t)
	h := p.hire(t, p.engine.URL)
	p.produce(t, producer, 0, 1, 1)
	p.applied(t)
	if err := h.Holds(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It was stopped: its heartbeats do not come, and nobody is asked what is remembered.
	s := h.session.Load()
	id, _ := s.reader.kafka.GroupMetadata()
	stopped := make(chan struct{})
	p.cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		p.cluster.KeepControl()
		p.cluster.SleepControl(func() { <-stopped })
		return nil, nil, false
	})
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.MemberID = "workers", id
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = id
	leave.Members = append(leave.Members, member)
	if _, err := leave.RequestWith(t.Context(), p.client.kafka); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	h.member.asked.Store(&old)
	var no *NotMemberError
	if err := h.Holds(t.Context()); !errors.As(err, &no) || no.Group != "workers" {
		t.Errorf("expelled: %v", err)
	}
	var fenced *search.FencedError
	client := searchtest.Connect(t, p.engine.URL).Fenced(h.Holds)
	if err := client.CreateIndex(t.Context(), p.physical+"x", p.index+"x", []byte(searchtest.ProductMapping)); !errors.As(err, &fenced) {
		t.Errorf("it sends a request: %v", err)
	}
	close(stopped)
	p.cluster.DropControl()
	soon(t, "it is a member again", func() bool { return h.Holds(t.Context()) == nil })
	p.produce(t, producer, 0, 1, 2)
	p.applied(t)
	p.stock(t, all(1, 2))
}

// What was read long ago is not written, but read again.
func TestWorkerReadsAgain(t *testing.T) {
	p := newPlant(t, 2)
	proxy := p.engine.NewProxy(t)
	held := proxy.Inject(testenv.Hold(2, testenv.Bulk))
	producer := p.begun(t)
	p.produce(t, producer, 0, 20, 1)
	h := p.hire(t, proxy.URL, func(o *WorkerOptions) { o.MaxAge = time.Second })
	p.applied(t) // although what is held is never let go
	p.stock(t, all(20, 1))
	if held.Hits() != 2 || h.Stats().Reread.Load() < 2 {
		t.Errorf("held %d times, read again %d times", held.Hits(), h.Stats().Reread.Load())
	}
	held.Lift()
	polled := time.Now().Add(-time.Minute)
	h.polled.Store(&polled)
	var aged *AgedError
	if err := h.Holds(t.Context()); !errors.As(err, &aged) {
		t.Errorf("what was read a minute ago may be sent: %v", err)
	}
	h.polled.Store(nil)
}

// A record that is none of ours ends the worker.
func TestWorkerEndsAtAForeignRecord(t *testing.T) {
	p := newPlant(t, 1)
	producer := p.begun(t)
	if err := producer.client.kafka.ProduceSync(t.Context(), &kgo.Record{Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	h := p.hire(t, p.engine.URL)
	err := <-h.done
	var foreign *RecordError
	if !errors.As(err, &foreign) || foreign.Offset != 1 || !dbsync.IsPermanent(err) {
		t.Errorf("%v", err)
	}
}

// A worker waits for a topic that is not there yet, and takes up one that is made anew while it writes.
func TestWorkerTakesUpAnotherTopic(t *testing.T) {
	p := newPlant(t, 2)
	remove := func() {
		t.Helper()
		for _, name := range []string{"ops", "ops.reports"} {
			if err := p.cluster.DeleteTopic(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	anew := func() *Producer {
		t.Helper()
		if _, _, err := p.client.Ensure(t.Context(), Plan{Partitions: 2, Replication: 1, Retention: time.Hour, MaxRecordBytes: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		return p.begun(t)
	}
	proxy := p.engine.NewProxy(t)
	remove()
	h := p.hire(t, proxy.URL)
	h.lines.Await(t, searchtest.Within(t, time.Minute), "topic ops is not known")
	producer := anew()
	p.produce(t, producer, 0, 30, 1)
	p.applied(t)
	held := proxy.Inject(testenv.Hold(1, testenv.Bulk))
	p.produce(t, producer, 0, 30, 2)
	if err := held.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	remove()
	producer = anew()
	held.Lift()
	p.produce(t, producer, 0, 30, 3)
	p.applied(t)
	p.stock(t, all(30, 3))
}

// What was committed of a topic that had the name before says nothing of this one.
func TestWorkerKnowsItsTopic(t *testing.T) {
	p := newPlant(t, 1)
	p.produce(t, p.begun(t), 0, 10, 1)
	offsets := kadm.OffsetsFromRecords()
	offsets.Add(kadm.Offset{Topic: "ops", Partition: 0, At: 5, LeaderEpoch: -1, Metadata: mark{epoch: 99}.metadata("another")})
	if err := p.client.admin.CommitAllOffsets(t.Context(), "workers", offsets); err != nil {
		t.Fatal(err)
	}
	h := p.hire(t, p.engine.URL)
	p.applied(t)
	p.stock(t, all(10, 1))
	if n := h.Stats().Records.Load(); n != 11 || len(p.told(t, ReportLost)) > 0 {
		t.Errorf("%d records were read, want 11; lost: %+v", n, p.told(t, ReportLost))
	}
}

// A worker that Kafka does not name as a member says so while that lasts, and writes nothing.
func TestWorkerThatIsNotKnown(t *testing.T) {
	p := newPlant(t, 1)
	producer := p.begun(t)
	var mu sync.Mutex
	known := false
	p.cluster.ControlKey(int16(kmsg.DescribeGroups), func(r kmsg.Request) (kmsg.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		p.cluster.KeepControl()
		if known {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.DescribeGroupsResponse)
		resp.Groups = append(resp.Groups, kmsg.DescribeGroupsResponseGroup{Group: "workers", ErrorCode: kerr.GroupAuthorizationFailed.Code})
		return resp, nil, true
	})
	h := p.hire(t, p.engine.URL, func(o *WorkerOptions) { o.SessionTimeout = time.Second })
	h.lines.Await(t, searchtest.Within(t, time.Minute), "Kafka does not know this worker")
	p.produce(t, producer, 0, 1, 1)
	h.lines.Await(t, searchtest.Within(t, time.Minute), "the request was not sent")
	p.stock(t, nil)
	mu.Lock()
	known = true
	mu.Unlock()
	p.applied(t)
	p.stock(t, all(1, 1))
	soon(t, "nothing holds it back", func() bool { return len(h.o.Alarm.Reasons()) == 0 })
}

// Where a broker has lost the end of the log, that is told, and what is written there anew is read.
func TestWorkerTellsWhatABrokerHasLost(t *testing.T) {
	p := newPlant(t, 3)
	w, err := NewWorker(t.Context(), WorkerOptions{Options: p.options(t), Write: func(context.Context, []dbsync.Operation) error { return nil },
		Truncate: func(context.Context, *dbsync.Operation, func(string) bool) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s := &session{w: w, reader: p.client, claims: claims{of: make(map[int32]*claim)}, gone: gone{of: make(map[int32]Report)}}
	s.claims.add([]int32{1, 2})
	s.claims.get(2).mark = mark{offset: 50, leader: 3, epoch: 7}
	fetches := kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: "ops", Partitions: []kgo.FetchPartition{{Partition: 1}, {Partition: 2, Err: &kgo.ErrDataLoss{Topic: "ops", Partition: 2, ConsumedTo: 60, ResetTo: 45}}}}}}}
	failed, err := s.errors(t.Context(), fetches, nil)
	if err != nil || len(failed) != 1 || !failed[2] {
		t.Errorf("%v %v", failed, err)
	}
	if got := s.claims.get(2).mark; got != (mark{offset: 45, leader: -1, epoch: 7}) {
		t.Errorf("it goes on at %+v", got)
	}
	if reports := p.told(t, ReportLost); len(reports) != 1 || reports[0].Partition != 2 || reports[0].From != 45 || reports[0].To != 60 {
		t.Errorf("%+v", reports)
	}
}
