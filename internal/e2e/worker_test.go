package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/indexer/topic"
	"tidemark/testenv"
)

// A works is a topic with somebody who produces to it, and an index.
type works struct {
	brokers         []string
	topic           string // and group
	client          *topic.Client
	producer        *topic.Producer
	search          *testenv.SearchServer
	physical, index string
}

// newWorks makes a topic of so many partitions.
func newWorks(t *testing.T, partitions int) *works {
	t.Helper()
	kafka := testenv.SharedKafka(t)
	w := &works{brokers: kafka.Brokers(), topic: kafka.NewPrefix(t) + "ops", search: shared(t)}
	w.physical, w.index = searchtest.NewIndex(t, w.search, searchtest.ProductMapping)
	log := searchtest.Logger(t)
	var err error
	w.client, err = topic.Connect(t.Context(), topic.Options{Brokers: w.brokers, Topic: w.topic, Group: w.topic, Alarm: retry.NewAlarm(log), Logger: log})
	must(t, err)
	t.Cleanup(w.client.Close)
	_, _, err = w.client.Ensure(t.Context(), topic.Plan{Partitions: partitions, Replication: 1, Retention: time.Hour, MaxRecordBytes: 1 << 20})
	must(t, err)
	w.producer, err = w.client.NewProducer(topic.ProducerOptions{Partitions: partitions, MaxRecordBytes: 1 << 20, Alarm: retry.NewAlarm(log), Logger: log,
		Fence:     func(context.Context) error { return nil },
		OnRefused: func(_ context.Context, refused []search.Refused) error { return refused[0].Err }})
	must(t, err)
	t.Cleanup(w.producer.Close)
	must(t, w.producer.Begin(t.Context(), "an instance"))
	return w
}

// hire starts a worker that writes to url.
func (w *works) hire(t *testing.T, url string) *instance {
	t.Helper()
	s := &setup{file: filepath.Join(t.TempDir(), "worker.yaml"), text: fmt.Sprintf("kafka: {brokers: [%q], topic: %s}\nsearch: {urls: [%q]}\nadmin: {listen: \"127.0.0.1:0\"}\n", w.brokers[0], w.topic, url)}
	return s.start(t, "apply")
}

// produce stores n documents by the commit of a number.
func (w *works) produce(t *testing.T, n int, commit pglogrepl.LSN) {
	t.Helper()
	var ops []dbsync.Operation
	for i := range n {
		ops = append(ops, searchtest.Store(w.index, fmt.Sprint(i), commit, fmt.Sprintf(`{"stock":%d}`, commit)))
	}
	must(t, w.producer.Write(t.Context(), ops))
}

func (w *works) applied(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, w.client.AwaitApplied(ctx))
}

// stock makes sure that n documents are what a commit has stored.
func (w *works) stock(t *testing.T, n, commit int) {
	t.Helper()
	docs := w.search.Documents(t, w.physical)
	if len(docs) != n {
		t.Errorf("%d documents, want %d", len(docs), n)
	}
	for id, d := range docs {
		if string(d.Source) != fmt.Sprintf(`{"stock":%d}`, commit) {
			t.Errorf("document %s is %s, want that of commit %d", id, d.Source, commit)
		}
	}
}

// has waits until a worker has so many partitions.
func (i *instance) has(t testing.TB, partitions int) {
	t.Helper()
	want := fmt.Sprintf("\ntidemark_worker_partitions %d\n", partitions)
	i.poll(t, want, func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.admin(t)+"/metrics", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && !strings.Contains(string(body), want) {
			err = errors.New("it has another number")
		}
		return err
	})
}

// A worker that is killed while it writes is replaced by another one, and nothing is missing.
func TestWorkerIsKilled(t *testing.T) {
	w := newWorks(t, 4)
	proxy := w.search.NewProxy(t)
	held := proxy.Inject(testenv.Hold(0, testenv.Bulk))
	w.produce(t, 2000, 1)
	first := w.hire(t, proxy.URL)
	must(t, held.Await(t.Context(), 1))
	second := w.hire(t, w.search.URL)
	second.awaitReady(t, http.StatusOK, `"ready":true`)
	first.kill()
	done := took(t, "the partitions of a worker that was killed are another one's")
	second.has(t, 4)
	done()
	w.applied(t)
	w.stock(t, 2000, 1)
	w.produce(t, 2000, 2)
	w.applied(t)
	held.Lift() // what the first has sent comes now, and is older
	held.Passed()
	w.stock(t, 2000, 2)
	second.stop(t)
}

// A worker that was stopped for longer than the group waits sends nothing of what it had begun.
func TestWorkerIsStopped(t *testing.T) {
	w := newWorks(t, 4)
	proxy := w.search.NewProxy(t)
	busy := proxy.Inject(testenv.Answer(http.StatusTooManyRequests, 0, testenv.Bulk))
	first := w.hire(t, proxy.URL)
	first.has(t, 4)
	w.produce(t, 2000, 1)
	must(t, busy.Await(t.Context(), 3)) // it tries again and again
	must(t, first.cmd.Process.Signal(syscall.SIGSTOP))
	second := w.hire(t, w.search.URL)
	second.has(t, 4)
	w.produce(t, 2000, 2)
	w.applied(t)
	w.stock(t, 2000, 2)
	busy.Lift()
	sent := proxy.Inject(testenv.Watch(testenv.Bulk))
	must(t, first.cmd.Process.Signal(syscall.SIGCONT))
	first.has(t, 2)
	if n := sent.Hits(); n > 0 {
		t.Errorf("it has sent %d requests after it went on, and nothing was to be written", n)
	}
	w.stock(t, 2000, 2)
	first.stop(t)
	second.stop(t)
}
