package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/indexer/topic"
	"tidemark/internal/systemd"
	"tidemark/mapping"
	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// A fixture is a Kafka in this process with topics, an index, and a worker that runs.
type fixture struct {
	client   *topic.Client
	producer *topic.Producer
	engine   *testenv.SearchServer
	physical string
	index    string

	lines *searchtest.LogLines
	url   string // of the admin server
	end   context.CancelFunc
	done  chan error
}

func config(t *testing.T, broker, url, listen string) *mapping.Config {
	t.Helper()
	text := fmt.Sprintf("kafka: {brokers: [%q], topic: ops, group: workers}\nsearch: {urls: [%q]}\nadmin: {listen: %q}\n", broker, url, listen)
	c, err := mapping.ParseApply("t.yaml", []byte(text), func(string) (string, bool) { return "", false }, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func start(t *testing.T, engine *testenv.SearchServer, url string, manager *systemd.Manager) *fixture {
	t.Helper()
	return startBy(t, engine, func(broker string) *mapping.Config { return config(t, broker, url, "127.0.0.1:0") }, manager)
}

// startBy has the configuration made when the broker is known.
func startBy(t *testing.T, engine *testenv.SearchServer, config func(broker string) *mapping.Config, manager *systemd.Manager) *fixture {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	f := &fixture{engine: engine, lines: searchtest.NewLogLines(t), done: make(chan error, 1)}
	f.physical, f.index = searchtest.NewIndex(t, engine, searchtest.ProductMapping)
	log := slog.New(f.lines)
	c := config(cluster.ListenAddrs()[0])
	o := topic.Options{Brokers: c.Kafka.Brokers, Topic: c.Kafka.Topic, Group: c.Kafka.Group, Logger: log, Alarm: retry.NewAlarm(log)}
	if f.client, err = topic.Connect(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.client.Close)
	if _, _, err := f.client.Ensure(t.Context(), topic.Plan{Partitions: 3, Replication: 1, Retention: time.Hour, MaxRecordBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	f.producer, err = f.client.NewProducer(topic.ProducerOptions{Partitions: 3, MaxRecordBytes: 1 << 20, Alarm: o.Alarm, Logger: log,
		Fence:     func(context.Context) error { return nil },
		OnRefused: func(_ context.Context, refused []search.Refused) error { return refused[0].Err }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.producer.Close)
	if err := f.producer.Begin(t.Context(), "an instance"); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, f.end = context.WithCancel(context.Background())
	go func() { f.done <- Run(ctx, c, Options{Manager: manager, Logger: log}); close(f.done) }()
	t.Cleanup(func() {
		f.end()
		if err := <-f.done; err != nil {
			t.Error(err)
		}
	})
	line := f.lines.Await(t, searchtest.Within(t, time.Minute), "admin server listens")
	f.url = "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(line)[1]
	return f
}

func (f *fixture) produce(t *testing.T, ops ...dbsync.Operation) {
	t.Helper()
	if err := f.producer.Write(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) applied(t *testing.T) {
	t.Helper()
	if err := f.client.AwaitApplied(searchtest.Within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(f.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// awaits asks for a path until the answer is as it should be.
func (f *fixture) awaits(t *testing.T, path string, status int, text string) {
	t.Helper()
	var got int
	var body string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if got, body = f.get(t, path); got == status && strings.Contains(body, text) {
			return
		}
	}
	t.Fatalf("%s answers %d, want %d with %q:\n%s", path, got, status, text, body)
}

// A worker writes what is produced on each engine, and says how it is.
func TestRun(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, engine *testenv.SearchServer) {
		socket := filepath.Join(t.TempDir(), "notify")
		told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer told.Close()
		manager, err := systemd.FromEnvironment(func(name string) string { return map[string]string{"NOTIFY_SOCKET": socket}[name] })
		if err != nil {
			t.Fatal(err)
		}
		f := start(t, engine, engine.URL, manager)
		var ops []dbsync.Operation
		for i := range 500 {
			ops = append(ops, searchtest.Store(f.index, fmt.Sprint(i), 1, fmt.Sprintf(`{"id":%d}`, i)))
		}
		f.produce(t, ops...)
		f.produce(t, searchtest.Remove(f.index, "7", 2), searchtest.Store(f.index, "bad", 2, `{"id":"none"}`))
		f.applied(t)
		if n := len(engine.Documents(t, f.physical)); n != 499 {
			t.Errorf("%d documents", n)
		}
		f.awaits(t, "/readyz", http.StatusOK, `"ready":true`)
		f.awaits(t, "/healthz", http.StatusOK, `"healthy":true`)
		f.awaits(t, "/metrics", http.StatusOK, "tidemark_worker_partitions 3\n")
		_, metrics := f.get(t, "/metrics")
		for _, want := range []string{`tidemark_worker_info{group="workers",product=`, "tidemark_worker_joined 1", "tidemark_worker_records_total 505", `tidemark_bulk_documents_total{result="refused"} 1`,
			`tidemark_worker_passed_over_total{cause="newer_record"} `, "tidemark_worker_lag_records 0"} {
			if !strings.Contains(metrics, want) {
				t.Errorf("metrics without %q:\n%s", want, metrics)
			}
		}
		f.awaits(t, "/", http.StatusOK, "In step")
		f.awaits(t, "/style.css", http.StatusOK, "body")
		f.awaits(t, "/status", http.StatusNotFound, `"paths":["/","/healthz","/metrics","/readyz"]`)

		reports, cancel := context.WithCancel(t.Context())
		defer cancel()
		var refused []string
		if err := f.client.Reports(reports, 0, func(_ context.Context, all []topic.Reported) error {
			for _, r := range all {
				if r.Kind == topic.ReportRefused {
					refused = append(refused, r.ID)
					cancel()
				}
			}
			return nil
		}); !errors.Is(err, context.Canceled) || len(refused) != 1 || refused[0] != "bad" {
			t.Errorf("refused: %v, %v", refused, err)
		}

		f.end()
		if err := <-f.done; err != nil {
			t.Fatal(err)
		}
		var messages []string
		for b := make([]byte, 4096); ; {
			if err := told.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			n, err := told.Read(b)
			if err != nil {
				t.Fatalf("%v after %q", err, messages)
			}
			messages = append(messages, string(b[:n]))
			if messages[len(messages)-1] == "STOPPING=1" {
				break
			}
		}
		if messages[0] != "READY=1" || !strings.HasPrefix(messages[1], "STATUS=") {
			t.Errorf("the service manager was told %q", messages)
		}
	})
}

// What holds writing back shows, and passes.
func TestHeldBack(t *testing.T) {
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	proxy := engine.NewProxy(t)
	f := start(t, engine, proxy.URL, nil)
	f.awaits(t, "/readyz", http.StatusOK, `"ready":true`)
	refused := proxy.Inject(testenv.Answer(http.StatusUnauthorized, 1000, testenv.Bulk))
	f.produce(t, searchtest.Store(f.index, "1", 1, `{"id":1}`))
	f.awaits(t, "/readyz", http.StatusServiceUnavailable, "search server refuses the credentials")
	f.awaits(t, "/", http.StatusOK, "Held back")
	f.awaits(t, "/healthz", http.StatusOK, `"healthy":true`)
	f.awaits(t, "/metrics", http.StatusOK, "tidemark_alarms 1\n")
	refused.Lift()
	f.applied(t)
	f.awaits(t, "/readyz", http.StatusOK, `"ready":true`)
}

// An address that nobody may have ends it before anything is begun.
func TestAddress(t *testing.T) {
	log := searchtest.Logger(t)
	err := Run(t.Context(), config(t, "127.0.0.1:1", "http://127.0.0.1:1", "192.0.2.1:9630"), Options{Logger: log})
	var problems mapping.Problems
	if !errors.As(err, &problems) || !strings.Contains(err.Error(), "192.0.2.1:9630") {
		t.Errorf("%v", err)
	}
}

// TestRunOfGroup has workers of a group write from its topic to its cluster, by the file of run and by one of their own.
// The cluster of the file of run is one that nobody answers at.
func TestRunOfGroup(t *testing.T) {
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	const kafka = "kafka: {brokers: [%q], topic: ops, group: workers"
	for name, text := range map[string]string{
		"of run": kafka + ", groups: {us: {search: {urls: ['http://127.0.0.1:2']}}, eu: {search: {urls: [%q]}}}}\nsearch: {urls: ['http://127.0.0.1:1']}\nindices: {a: {table: a}}\n",
		"own":    kafka + "}\nsearch: {urls: [%q]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := startBy(t, engine, func(broker string) *mapping.Config {
				c, err := mapping.ParseApply("t.yaml", fmt.Appendf(nil, text+"admin: {listen: '127.0.0.1:0'}\n", broker, engine.URL), func(string) (string, bool) { return "", false }, "eu")
				if err != nil {
					t.Fatal(err)
				}
				if c.Kafka.Topic != "ops.eu" || c.Kafka.Group != "workers.eu" {
					t.Fatalf("topic %s, group %s", c.Kafka.Topic, c.Kafka.Group)
				}
				return c
			}, nil)
			f.produce(t, searchtest.Store(f.index, "1", 1, `{"id":1}`))
			f.applied(t)
			if n := len(engine.Documents(t, f.physical)); n != 1 {
				t.Errorf("%d documents", n)
			}
		})
	}
}
