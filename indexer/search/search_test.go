package search

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// eachEngine runs f against every search server that is tested against.
func eachEngine(t *testing.T, f func(t *testing.T, s *testenv.SearchServer)) {
	for _, engine := range testenv.Engines(t) {
		t.Run(string(engine), func(t *testing.T) { f(t, testenv.SharedSearch(t, engine)) })
	}
}

// connect connects to a server that is up, for the length of a test.
func connect(t testing.TB, url string) *Client {
	t.Helper()
	return connectWith(t, Options{URLs: []string{url}})
}

func connectWith(t testing.TB, o Options) *Client {
	t.Helper()
	o.Logger, o.StartTimeout = testLogger(t), 5*time.Second
	c, err := Connect(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// testLogger logs to t where that helps, and not into benchmarks.
func testLogger(t testing.TB) *slog.Logger {
	if _, ok := t.(*testing.B); ok {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// within bounds a test that waits for something.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

const productMapping = `{
	"settings": {"number_of_shards": 1, "number_of_replicas": 0},
	"mappings": {"dynamic": false, "properties": {
		"id": {"type": "long"}, "sku": {"type": "keyword"}, "title": {"type": "text"}, "description": {"type": "text"},
		"price": {"type": "double"}, "stock": {"type": "integer"}, "tenant_id": {"type": "integer"},
		"created_at": {"type": "date"}, "active": {"type": "boolean"}
	}}
}`

// newIndex creates a physical index of its own for a test, gone at its end.
func newIndex(t testing.TB, s *testenv.SearchServer, body string) (physical, writeAlias string) {
	t.Helper()
	physical, writeAlias = PhysicalName(s.NewPrefix(t), time.Now())
	if err := connect(t, s.URL).CreateIndex(context.Background(), physical, writeAlias, []byte(body)); err != nil {
		t.Fatal(err)
	}
	return physical, writeAlias
}

func store(index, id string, version pglogrepl.LSN, body string) dbsync.Operation {
	return dbsync.Operation{Index: index, ID: id, Version: version, Body: []byte(body)}
}

func remove(index, id string, version pglogrepl.LSN) dbsync.Operation {
	return dbsync.Operation{Kind: dbsync.Delete, Index: index, ID: id, Version: version}
}

// A writer is a Bulk that remembers what was refused and what the alarm said.
type writer struct {
	*Bulk
	alarm *retry.Alarm
	lines *logLines

	mu      sync.Mutex
	refused []Refused
}

func newWriter(t testing.TB, c *Client, o BulkOptions) *writer {
	t.Helper()
	w := &writer{lines: &logLines{Handler: testLogger(t).Handler(), came: make(chan struct{})}}
	w.alarm = retry.NewAlarm(slog.New(w.lines))
	o.Alarm, o.Logger = w.alarm, testLogger(t)
	if o.MaxBackoff == 0 {
		o.MinBackoff, o.MaxBackoff = 10*time.Millisecond, 50*time.Millisecond
	}
	if o.OnRefused == nil {
		o.OnRefused = func(_ context.Context, refused []Refused) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.refused = append(w.refused, refused...)
			return nil
		}
	}
	var err error
	if w.Bulk, err = NewBulk(c, o); err != nil {
		t.Fatal(err)
	}
	return w
}

// start calls Write, whose end the returned channel tells.
func (w *writer) start(ctx context.Context, ops []dbsync.Operation) <-chan error {
	done := make(chan error, 1)
	go func() { done <- w.Write(ctx, ops) }()
	return done
}

func (w *writer) wantRefused(t *testing.T, ids ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, r := range w.refused {
		got = append(got, r.Operation.ID)
	}
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("refused: %q, want %q", got, ids)
	}
}

// logLines is a log handler whose lines can be waited for.
type logLines struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
	came  chan struct{} // closed and replaced with each line
}

func (l *logLines) Handle(ctx context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.mu.Lock()
	l.lines = append(l.lines, line)
	close(l.came)
	l.came = make(chan struct{})
	l.mu.Unlock()
	return l.Handler.Handle(ctx, r)
}

// await waits for a line that holds text, and returns it.
func (l *logLines) await(t testing.TB, ctx context.Context, text string) string {
	t.Helper()
	for {
		l.mu.Lock()
		lines, came := l.lines, l.came
		l.mu.Unlock()
		for _, line := range lines {
			if strings.Contains(line, text) {
				return line
			}
		}
		select {
		case <-came:
		case <-ctx.Done():
			t.Fatalf("no log line with %q; lines: %q", text, lines)
		}
	}
}
