// Package searchtest has what tests of a search client and of what is built on it share:
// connections, indices and writers on real search servers.
package searchtest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/testenv"
)

// EachEngine runs f against every search server that is tested against.
func EachEngine(t *testing.T, f func(t *testing.T, s *testenv.SearchServer)) {
	for _, engine := range testenv.Engines(t) {
		t.Run(string(engine), func(t *testing.T) { f(t, testenv.SharedSearch(t, engine)) })
	}
}

// Connect connects to a server that is up, for the length of a test.
func Connect(t testing.TB, url string) *search.Client {
	t.Helper()
	return ConnectWith(t, search.Options{URLs: []string{url}})
}

func ConnectWith(t testing.TB, o search.Options) *search.Client {
	t.Helper()
	return connect(t, o, Logger(t))
}

// ConnectLogging is ConnectWith whose log lines can be waited for.
func ConnectLogging(t testing.TB, o search.Options, lines *LogLines) *search.Client {
	t.Helper()
	return connect(t, o, slog.New(lines))
}

func connect(t testing.TB, o search.Options, log *slog.Logger) *search.Client {
	t.Helper()
	o.Logger, o.StartTimeout = log, 5*time.Second
	c, err := search.Connect(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Logger logs to t where that helps, and not into benchmarks.
func Logger(t testing.TB) *slog.Logger {
	if _, ok := t.(*testing.B); ok {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Within bounds a test that waits for something.
func Within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Owner is who the indices of a test are kept by.
var Owner = search.Owner{System: "7312000000000000001", Database: "app", Oid: 16384, Schema: "dbsync_ctrl", Slot: "dbsync_replslot"}

const ProductMapping = `{
	"settings": {"number_of_shards": 1, "number_of_replicas": 0},
	"mappings": {"dynamic": false, "properties": {
		"id": {"type": "long"}, "sku": {"type": "keyword"}, "title": {"type": "text"}, "description": {"type": "text"},
		"price": {"type": "double"}, "stock": {"type": "integer"}, "tenant_id": {"type": "integer"},
		"created_at": {"type": "date"}, "active": {"type": "boolean"}
	}}
}`

// NewIndex creates a physical index of its own for a test, which Owner owns, gone at its end.
func NewIndex(t testing.TB, s *testenv.SearchServer, body string) (physical, writeAlias string) {
	t.Helper()
	physical, writeAlias = search.PhysicalName(s.NewPrefix(t), time.Now())
	stamped, err := search.Stamped([]byte(body), search.Stamp{Owner: Owner, Mark: search.Mark{Number: 1, Token: "t"}})
	if err == nil {
		err = Connect(t, s.URL).CreateIndex(context.Background(), physical, writeAlias, stamped)
	}
	if err != nil {
		t.Fatal(err)
	}
	return physical, writeAlias
}

// CommitStep is the least distance between two commits that have different versions, in bytes of
// the log.
const CommitStep = 32

// Store returns the storing of a document by the commit of a number.
func Store(index, id string, commit pglogrepl.LSN, body string) dbsync.Operation {
	return dbsync.Operation{Index: index, ID: id, Version: commit * CommitStep, Body: []byte(body)}
}

// Remove returns the deletion of a document by the commit of a number.
func Remove(index, id string, commit pglogrepl.LSN) dbsync.Operation {
	return dbsync.Operation{Kind: dbsync.Delete, Index: index, ID: id, Version: commit * CommitStep}
}

// A Writer is a Bulk that remembers what was refused and what the alarm said.
type Writer struct {
	*search.Bulk
	Alarm *retry.Alarm
	Lines *LogLines

	mu      sync.Mutex
	refused []search.Refused
}

func NewWriter(t testing.TB, c *search.Client, o search.BulkOptions) *Writer {
	t.Helper()
	w := &Writer{Lines: NewLogLines(t)}
	w.Alarm = retry.NewAlarm(slog.New(w.Lines))
	o.Alarm, o.Logger = w.Alarm, Logger(t)
	if o.MaxBackoff == 0 {
		o.MinBackoff, o.MaxBackoff = 10*time.Millisecond, 50*time.Millisecond
	}
	if o.OnRefused == nil {
		o.OnRefused = func(_ context.Context, refused []search.Refused) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.refused = append(w.refused, refused...)
			return nil
		}
	}
	var err error
	if w.Bulk, err = search.NewBulk(c, o); err != nil {
		t.Fatal(err)
	}
	return w
}

// Start calls Write, whose end the returned channel tells.
func (w *Writer) Start(ctx context.Context, ops []dbsync.Operation) <-chan error {
	done := make(chan error, 1)
	go func() { done <- w.Write(ctx, ops) }()
	return done
}

// Refused returns what was refused so far.
func (w *Writer) Refused() []search.Refused {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.refused)
}

// WantRefused fails the test unless the documents of these ids, in this order, were refused.
func (w *Writer) WantRefused(t *testing.T, ids ...string) {
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

// LogLines is a log handler whose lines can be waited for.
type LogLines struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
	came  chan struct{} // closed and replaced with each line
}

func NewLogLines(t testing.TB) *LogLines {
	return &LogLines{Handler: Logger(t).Handler(), came: make(chan struct{})}
}

func (l *LogLines) Handle(ctx context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.mu.Lock()
	l.lines = append(l.lines, line)
	close(l.came)
	l.came = make(chan struct{})
	l.mu.Unlock()
	return l.Handler.Handle(ctx, r)
}

// Has reports whether a line that holds text has come.
func (l *LogLines) Has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool { return strings.Contains(line, text) })
}

// Await waits for a line that holds text, and returns it.
func (l *LogLines) Await(t testing.TB, ctx context.Context, text string) string {
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

// Products makes n operations with documents of about 450 bytes, as different from
// each other as rows of a shop are.
func Products(index string, n int) []dbsync.Operation {
	words := []string{"amber", "basalt", "cedar", "delta", "ember", "fjord", "garnet", "harbor", "indigo", "juniper", "krypton",
		"lagoon", "marble", "nectar", "onyx", "pepper", "quartz", "raven", "saffron", "tundra", "umber", "velvet", "willow", "zephyr"}
	random := rand.New(rand.NewPCG(1, 2))
	sentence := func(n int) []byte {
		var b []byte
		for range n {
			b = append(append(b, words[random.IntN(len(words))]...), ' ')
		}
		return b
	}
	ops := make([]dbsync.Operation, n)
	for i := range ops {
		body := fmt.Sprintf(`{"id":%d,"sku":"%016x","title":"%s","description":"%s","price":%d.%02d,"stock":%d,"tenant_id":%d,"created_at":"2026-0%d-1%dT12:%02d:00Z","email":"%x@example.com","active":%t}`,
			i, random.Uint64(), sentence(4), sentence(30), random.IntN(900), random.IntN(100), random.IntN(1000), random.IntN(50),
			1+random.IntN(9), random.IntN(10), random.IntN(60), random.Uint64(), random.IntN(2) == 0)
		ops[i] = dbsync.Operation{Index: index, ID: strconv.Itoa(i), Version: pglogrepl.LSN(1000+i) * CommitStep, Body: []byte(body)}
	}
	return ops
}
