package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
	"tidemark/reindex/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A source holds the status that a test sets.
type source struct {
	mu     sync.Mutex
	status Status

	await func(ctx context.Context, w Wait) (pglogrepl.LSN, error)

	letters []Letter // that Postgres has
	lost    error    // why they cannot be read
}

// DeadLetters reads them as Postgres does.
func (s *source) DeadLetters(_ context.Context, q LetterQuery) (found []Letter, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.letters {
		if l.Row > q.After && (q.Index == "" || l.Index == q.Index) && len(found) < q.Limit {
			found = append(found, l)
		}
	}
	return found, s.lost
}

func (s *source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Await is fulfilled at once, unless the test says how.
func (s *source) Await(ctx context.Context, w Wait) (pglogrepl.LSN, error) {
	if s.await == nil {
		return s.Status().Confirmed, nil
	}
	return s.await(ctx, w)
}

func (s *source) set(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Indices = slices.Clone(s.status.Indices) // who was given the status before reads those
	change(&s.status)
}

// working is a process in which all is well.
func working() Status {
	return Status{
		Version: "1.2.3", Product: "OpenSearch 3.3.2", Slot: "shop", Connected: true,
		Confirmed: 0x100, WALEnd: 0x180, NewestCommit: time.UnixMilli(1_769_860_800_250),
		QueueMessages: 3, QueueBytes: 4096, Changes: 500, Batches: 5,
		Indices: []Index{{Name: "products", Physical: "products-20260131t120000z", State: Live, RowsDone: 42, RowsExpected: -1, DeadLetters: 2, Documents: 40, Rows: 42}},
		Bulk: Bulk{Stored: 10, Deleted: 4, Superseded: 3, Refused: 2, Retried: map[search.Cause]int64{search.CauseRejected: 5, search.CauseNoAnswer: 2}, Requests: 6, FailedRequests: 1, Rejected: 5, RequestsAtATime: 4, RequestBytes: 8 << 20,
			Bytes: 1000, RawBytes: 9000},
		Behind: 1500 * time.Millisecond, WAL: WAL{At: time.UnixMilli(1_769_860_800_000), Kept: 4096, Left: 1 << 30, Status: "reserved"},
		Measures: measured(),
	}
}

// measured are measures of two batches, one of which was of watermarks alone.
func measured() *Measures {
	m := NewMeasures("products")
	at := time.Now()
	m.Batch(&dbsync.BatchReport{Operations: 20, Bytes: 5000, Translating: 250 * time.Millisecond, Writing: at, Stored: at.Add(40 * time.Millisecond),
		Commits: []time.Time{at, at.Add(-3 * time.Second), at.Add(time.Hour)}})
	m.Batch(&dbsync.BatchReport{Writing: at, Stored: at.Add(time.Hour)})
	m.Bulk(search.Request{Duration: 30 * time.Millisecond, Operations: 20})
	m.Reread(indexer.Reread{Index: "products", Documents: 7, Duration: 3 * time.Millisecond})
	m.Reread(indexer.Reread{Index: "products", Documents: 9, Duration: 3 * time.Millisecond, Related: true})
	m.FannedOut("products", 9, 2)
	return m
}

// What is told of a batch takes no memory, however many transactions it has.
func TestMeasuresDoNotAllocate(t *testing.T) {
	m := NewMeasures("products")
	at := time.Now()
	r := &dbsync.BatchReport{Operations: 20, Bytes: 5000, Writing: at, Stored: at.Add(40 * time.Millisecond), Commits: slices.Repeat([]time.Time{at}, 1000)}
	if n := testing.AllocsPerRun(100, func() {
		m.Batch(r)
		m.Bulk(search.Request{Duration: 30 * time.Millisecond, Operations: 20})
		m.Reread(indexer.Reread{Index: "products", Documents: 7, Duration: 3 * time.Millisecond})
	}); n > 1 { // the values of labels
		t.Errorf("%g allocations", n)
	}
}

func BenchmarkMeasures(b *testing.B) {
	m := NewMeasures("products")
	at := time.Now()
	r := &dbsync.BatchReport{Operations: 20, Bytes: 5000, Writing: at, Stored: at.Add(40 * time.Millisecond), Commits: slices.Repeat([]time.Time{at}, 1000)}
	b.ReportAllocs()
	for b.Loop() {
		m.Batch(r)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/transaction")
}

// start serves a source for the length of a test.
func start(t *testing.T, src *source, options ...func(*Options)) (url string) {
	t.Helper()
	address, output := listening()
	o := Options{Listen: "127.0.0.1:0", Source: src, Logger: slog.New(slog.NewJSONHandler(io.MultiWriter(output, t.Output()), nil))}
	for _, option := range options {
		option(&o)
	}
	s := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return "http://" + <-address
}

// listening returns the address that a server logs when it listens.
func listening() (<-chan string, io.Writer) {
	address := make(chan string, 1)
	return address, writerFunc(func(line []byte) (int, error) {
		var l struct{ Msg, Address string }
		if err := json.Unmarshal(line, &l); err != nil {
			return 0, err
		}
		if l.Msg == "admin server listens" {
			address <- l.Address
		}
		return len(line), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(line []byte) (int, error) { return f(line) }

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// unproven is what is known of an index that has to be compared.
var unproven = Proof{Proof: control.Proof{Index: "products", Unproven: control.Doubt{Since: time.Unix(1_769_860_900, 0), Noted: time.Unix(1_769_860_900, 0), Why: "the file of its table is another one"}}}

func TestHealthAndReadiness(t *testing.T) {
	tests := []struct {
		name           string
		change         func(*Status)
		healthy, ready []string // the reasons against it
	}{
		{"all is well", func(*Status) {}, nil, nil},
		{"another process has the slot", func(s *Status) { s.Connected = false }, nil, []string{"not connected to slot shop"}},
		{"another process has the slot, and nothing is known of the index", func(s *Status) {
			s.Connected, s.Indices[0].State, s.Indices[0].Building = false, Backfilling, ""
		}, nil, []string{"not connected to slot shop"}},
		{"the connection is gone in the first backfill", func(s *Status) {
			s.Connected, s.Indices[0].State, s.Indices[0].Building = false, Backfilling, "products-1"
		}, nil, []string{"not connected to slot shop", "index products is backfilling: 42 rows"}},
		{"first backfill", func(s *Status) { s.Indices[0].State, s.Indices[0].RowsExpected = Backfilling, 100 }, nil,
			[]string{"index products is backfilling: 42 of about 100 rows"}},
		{"first backfill of unknown length", func(s *Status) { s.Indices[0].State = Backfilling }, nil, []string{"index products is backfilling: 42 rows"}},
		{"a rebuild beside the live one", func(s *Status) { s.Indices[0].State = Rebuilding }, nil, nil},
		{"a rebuild beside one that misses changes", func(s *Status) { s.Indices[0].State, s.Indices[0].Building = Incomplete, "products-2" }, nil,
			[]string{"index products is incomplete: changes are missing in it until another physical index is filled, of which there are 42 rows"}},
		{"the rebuild of one that misses changes has failed", func(s *Status) { s.Indices[0].State, s.Indices[0].Building = Incomplete, "" }, nil,
			[]string{"index products is incomplete: changes are missing in it until another physical index is filled"}},
		{"writing is held back", func(s *Status) { s.Alarms = []Alarm{{Key: "index x is missing", Text: "make it"}} }, nil, []string{"index x is missing: make it"}},
		{"an index has to be compared", func(s *Status) { s.Indices[0].Proof, s.ReadyWhileUnproven = unproven, true }, nil, nil},
		{"an index has to be compared, which is waited for", func(s *Status) { s.Indices[0].Proof = unproven }, nil,
			[]string{"index products is unproven since " + clock(unproven.Unproven.Since) + ": the file of its table is another one"}},
		{"it hangs", func(s *Status) { s.Hang = &Alarm{Key: "the process hangs", Text: "no sign for 3m"} },
			[]string{"the process hangs: no sign for 3m"}, []string{"the process hangs: no sign for 3m"}},
		{"failed for good", func(s *Status) { s.Failure, s.Connected = "slot shop is lost", false },
			[]string{"slot shop is lost"}, []string{"slot shop is lost", "not connected to slot shop"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := &source{status: working()}
			src.set(tt.change)
			url := start(t, src)
			for _, page := range []struct {
				path, what string
				reasons    []string
			}{{"/healthz", "healthy", tt.healthy}, {"/readyz", "ready", tt.ready}} {
				status, body := get(t, url+page.path)
				var answer map[string]any
				if err := json.Unmarshal([]byte(body), &answer); err != nil {
					t.Fatalf("%s: %v: %s", page.path, err, body)
				}
				want := http.StatusOK
				if page.reasons != nil {
					want = http.StatusServiceUnavailable
				}
				var reasons []string
				for _, r := range answer["reasons"].([]any) {
					reasons = append(reasons, r.(string))
				}
				if status != want || answer[page.what] != (want == http.StatusOK) || !slices.Equal(reasons, page.reasons) {
					t.Errorf("%s: %d %s, want %d with %q", page.path, status, body, want, page.reasons)
				}
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	src := &source{status: working()}
	url := start(t, src)
	src.set(func(s *Status) {
		s.Alarms = []Alarm{{Key: "no answer", Since: time.Unix(1_769_860_900, 0)}}
		s.Indices = append(s.Indices, Index{Name: "orders", Building: "orders-20260131t120000z", State: Backfilling, RowsDone: 5, RowsExpected: 50, RowsPerSecond: 2.5})
		s.Indices[0].Proof = Proof{Found: 12, Repaired: 9, Proof: control.Proof{Index: "products", Last: control.Walk{Number: 1, BeganAt: time.Unix(1_769_860_000, 0), FinishedAt: time.Unix(1_769_861_000, 0), Found: 3, Repaired: 3},
			Walk: control.Walk{Number: 2, BeganAt: time.Unix(1_769_862_000, 0), Rows: 30, Documents: 20, Total: 200}}}
		s.Indices[0].FanOut = control.FanOutSum{Related: 3, Since: time.Unix(1_769_860_900, 0), Stored: 500}
		s.Indices[1].Proof = unproven
		s.Indices[1].Proof.Last = control.Walk{Number: 1, BeganAt: time.Unix(1_769_860_000, 0), FinishedAt: time.Unix(1_769_861_000, 0), Found: 3, Repaired: 1}
	})
	status, body := get(t, url+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	for _, want := range []string{
		`tidemark_info{product="OpenSearch 3.3.2",slot="shop",version="1.2.3"} 1`,
		"tidemark_healthy 1", "tidemark_ready 0", "tidemark_connected 1",
		"tidemark_confirmed_position_bytes 256", "tidemark_server_position_bytes 384", "tidemark_lag_bytes 128",
		"tidemark_newest_commit_timestamp_seconds 1.76986080025e+09",
		"tidemark_changes_total 500", "tidemark_batches_total 5", "tidemark_queue_messages 3", "tidemark_queue_bytes 4096",
		`tidemark_index_state{index="products",state="live"} 1`, `tidemark_index_state{index="products",state="rebuilding"} 0`,
		`tidemark_index_state{index="orders",state="backfilling"} 1`,
		`tidemark_index_rows_done{index="products"} 42`, `tidemark_index_rows_expected{index="orders"} 50`,
		`tidemark_index_rows_per_second{index="orders"} 2.5`, `tidemark_index_remaining_seconds{index="orders"} 18`,
		`tidemark_dead_letters{index="products"} 2`,
		`tidemark_index_proven_timestamp_seconds{index="products"} 1.76986e+09`, `tidemark_index_compared_ratio{index="products"} 0.25`,
		`tidemark_index_different_documents{index="products"} 0`, `tidemark_index_different_documents{index="orders"} 2`,
		`tidemark_index_differences_found_total{index="products"} 12`, `tidemark_index_differences_repaired_total{index="products"} 9`,
		`tidemark_index_unproven_since_timestamp_seconds{index="orders"} 1.7698609e+09`,
		`tidemark_index_fan_outs{index="products"} 3`, `tidemark_index_fan_outs{index="orders"} 0`, `tidemark_index_fan_out_documents{index="products"} 500`,
		`tidemark_index_fan_out_since_timestamp_seconds{index="products"} 1.7698609e+09`,
		"tidemark_alarms 1", `tidemark_alarm_since_timestamp_seconds{reason="no answer"} 1.7698609e+09`,
		`tidemark_bulk_documents_total{result="stored"} 10`, `tidemark_bulk_documents_total{result="deleted"} 4`,
		`tidemark_bulk_documents_total{result="superseded"} 3`, `tidemark_bulk_documents_total{result="refused"} 2`,
		"tidemark_lag_seconds 1.5", "tidemark_slot_wal_kept_bytes 4096", "tidemark_slot_wal_left_bytes 1.073741824e+09",
		`tidemark_bulk_retries_total{cause="rejected"} 5`, `tidemark_bulk_retries_total{cause="no_answer"} 2`, `tidemark_bulk_retries_total{cause="timeout"} 0`,
		`tidemark_commit_to_stored_seconds_bucket{le="0.005"} 1`, `tidemark_commit_to_stored_seconds_bucket{le="0.05"} 2`, `tidemark_commit_to_stored_seconds_bucket{le="5"} 3`, "tidemark_commit_to_stored_seconds_count 3",
		"tidemark_batch_write_seconds_count 1", "tidemark_batch_write_seconds_sum 0.04", "tidemark_batch_operations_sum 20", "tidemark_batch_received_bytes_sum 5000",
		"tidemark_bulk_request_seconds_sum 0.03", "tidemark_bulk_request_operations_sum 20", "tidemark_reread_seconds_count 2", "tidemark_translate_seconds_total 0.25",
		`tidemark_index_reread_documents_total{cause="row",index="products"} 7`, `tidemark_index_reread_documents_total{cause="related",index="products"} 9`,
		"tidemark_fan_out_documents_sum 9", `tidemark_index_deferred_rows_total{index="products"} 2`, "tidemark_bulk_requests_total 6", "tidemark_bulk_failed_requests_total 1",
		"tidemark_bulk_rejected_requests_total 5", "tidemark_bulk_requests_at_a_time 4", "tidemark_bulk_request_max_bytes 8.388608e+06",
		"tidemark_bulk_sent_bytes_total 1000", "tidemark_bulk_uncompressed_bytes_total 9000",
		"go_goroutines ", "process_start_time_seconds ",
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no line %s", want)
		}
	}
	for _, name := range []string{"rows_expected", "rows_per_second", "remaining_seconds"} {
		if strings.Contains(body, `tidemark_index_`+name+`{index="products"}`) {
			t.Errorf("%s is shown of an index that has none", name)
		}
	}
	for _, absent := range []string{`proven_timestamp_seconds{index="orders"}`, `unproven_since_timestamp_seconds{index="products"}`, `compared_ratio{index="orders"}`, `fan_out_since_timestamp_seconds{index="orders"}`} {
		if strings.Contains(body, "tidemark_index_"+absent) {
			t.Errorf("%s is shown", absent)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "tidemark_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if t.Failed() {
		t.Log(body)
	}

	// What is not known yet is not shown as zero.
	src.set(func(s *Status) { *s = Status{Slot: "shop", Behind: -1} })
	_, body = get(t, url+"/metrics")
	for _, absent := range []string{"tidemark_lag_bytes", "tidemark_lag_seconds", "tidemark_slot_wal_kept_bytes", "tidemark_slot_wal_left_bytes", "tidemark_server_position_bytes", "tidemark_newest_commit_timestamp_seconds"} {
		if strings.Contains(body, "\n"+absent+" ") {
			t.Errorf("%s is shown before it is known", absent)
		}
	}
}

func TestStatus(t *testing.T) {
	src := &source{status: working()}
	src.set(func(s *Status) {
		s.Alarms = []Alarm{{Key: "no answer", Text: "start it", Since: time.Unix(1_769_860_900, 0).UTC()}}
		s.Indices = append(s.Indices, Index{Name: "orders", Building: "orders-20260131t120000z", State: Backfilling, RowsDone: 5, RowsExpected: 50, RowsPerSecond: 2.5})
		s.Indices[0].FanOut = control.FanOutSum{Related: 3, Since: time.Unix(1_769_860_900, 0), Stored: 500}
		s.Indices[1].Documents, s.Indices[1].Rows, s.Behind = -1, -1, 1500*time.Millisecond
		s.WAL = WAL{At: time.Unix(1_769_860_900, 0), Kept: 2048, Left: 4096, Status: "extended"}
		s.Letters = []Letter{{Row: 17, Index: "products", Physical: "products-20260131t120000z", ID: "7", Position: "0/90", Status: 400, Type: "mapper_parsing_exception", Reason: "no number", Attempts: 2, CreatedAt: time.Unix(1_769_860_900, 0)}}
	})
	url := start(t, src)
	status, body := get(t, url+"/status")
	for !strings.Contains(body, `"rate"`) { // the server has not looked yet
		status, body = get(t, url+"/status")
	}
	const want = `{"version":"1.2.3","product":"OpenSearch 3.3.2","failure":"",` +
		`"slot":{"name":"shop","connected":true,"confirmed_position":"0/100","lag_bytes":128,"lag_seconds":1.5,"newest_commit_at":"2026-01-31T12:00:00.25Z","wal_status":"extended","wal_kept_bytes":2048,"wal_left_bytes":4096},` +
		`"indices":[{"index":"products","state":"live","physical":"products-20260131t120000z","documents":40,"rows":42,"dead_letters":2,"rows_done":42,"fan_out":{"related_rows":3,"since":"2026-01-31T12:01:40Z","documents_stored":500},"rate":{"seconds":5,"per_second":[]}},` +
		`{"index":"orders","state":"backfilling","building":"orders-20260131t120000z","dead_letters":0,"rows_done":5,"rows_expected":50,"rows_per_second":2.5,"remaining_seconds":18,"rate":{"seconds":5,"per_second":[]}}],` +
		`"alarms":[{"reason":"no answer","text":"start it","since":"2026-01-31T12:01:40Z"}],"bulk":{"requests":4,"request_bytes":8388608,"rejected_requests":5},"problems":[],` +
		`"dead_letters":[{"row":17,"index":"products","physical":"products-20260131t120000z","id":"7","operation":"index","version":"0/90","status":400,"type":"mapper_parsing_exception","reason":"no number","attempts":2,"created_at":"2026-01-31T12:01:40Z"}],"events":[]}` + "\n"
	if status != http.StatusOK || body != want {
		t.Errorf("%d\n%s\nwant\n%s", status, body, want)
	}

	src.set(func(s *Status) { *s = Status{Slot: "shop"} })
	if _, body = get(t, start(t, src)+"/status"); !strings.Contains(body, `"indices":[],"alarms":[],"bulk":{"requests":0,"request_bytes":0,"rejected_requests":0},"problems":[]`) || strings.Contains(body, "lag_bytes") {
		t.Errorf("before anything is known: %s", body)
	}
}

// Another process is told the alarms, and by whom.
func TestAsk(t *testing.T) {
	src := &source{status: working()}
	src.set(func(s *Status) {
		s.Alarms = []Alarm{{Key: "no answer", Text: "start it", Since: time.Unix(1_769_860_900, 0).UTC()}}
	})
	address := strings.TrimPrefix(start(t, src), "http://")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{address, ":" + port, "0.0.0.0:" + port} {
		slot, alarms, err := Ask(t.Context(), listen)
		if err != nil || slot != "shop" || !slices.Equal(alarms, src.Status().Alarms) {
			t.Errorf("%s: %s, %+v, %v", listen, slot, alarms, err)
		}
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for listen, want := range map[string]string{strings.TrimPrefix(other.URL, "http://"): "404", "127.0.0.1:1": "refused", "nowhere": "missing port"} {
		if _, _, err := Ask(t.Context(), listen); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), listen) {
			t.Errorf("%s: %v, want %q", listen, err, want)
		}
	}
}

// TestMetricsAreDocumented holds docs/metrics.md against the code, both ways.
func TestMetricsAreDocumented(t *testing.T) {
	names := func(file, pattern, prefix string) []string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			names = append(names, prefix+m[1])
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	code := slices.Concat(names("metrics.go", `metric\("(\w+)"`, "tidemark_"), names("measures.go", `histogram\("(\w+)"`, "tidemark_"), names("measures.go", `Name: "(tidemark_\w+)"`, ""))
	slices.Sort(code)
	docs := names("../../docs/metrics.md", "(?m)^\\| `(tidemark_\\w+)`", "")
	if len(code) == 0 || !slices.Equal(code, docs) {
		t.Errorf("metrics of the code: %q\nof docs/metrics.md: %q", code, docs)
	}
}

// Profiles are there where they are asked for.
func TestProfiles(t *testing.T) {
	if status, _ := get(t, start(t, &source{status: working()})+"/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("/debug/pprof/ of a server without profiles: %d", status)
	}
	url := start(t, &source{status: working()}, func(o *Options) { o.Profiles = true })
	for path, want := range map[string]string{"/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile: total", "/debug/pprof/heap?debug=1": "heap profile"} {
		if status, body := get(t, url+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.100s", path, status, body)
		}
	}
}

func TestOtherRequests(t *testing.T) {
	url := start(t, &source{status: working()})
	status, body := get(t, url+"/nothing")
	if status != http.StatusNotFound || !strings.Contains(body, `"nothing is at /nothing","paths":["/","/dead-letters","/dead-letters.json","/healthz","/metrics","/openapi.json","/readyz","/status","/wait"]`) {
		t.Errorf("/nothing: %d %s", status, body)
	}
	for method, want := range map[string]int{http.MethodHead: http.StatusOK, http.MethodPost: http.StatusMethodNotAllowed, http.MethodDelete: http.StatusMethodNotAllowed} {
		req, err := http.NewRequestWithContext(t.Context(), method, url+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", method, resp.StatusCode, want)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("long header: %d", resp.StatusCode)
	}
}

// TestAddressInUse has a server wait for an address that another process has, say so once,
// and serve when it is free.
func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	if err := CheckAddress(t.Context(), taken); err != nil {
		t.Errorf("an address that is taken is refused: %v", err)
	}
	warned := make(chan string, 10)
	address, output := listening()
	log := slog.New(slog.NewJSONHandler(io.MultiWriter(output, writerFunc(func(line []byte) (int, error) {
		if text := string(line); strings.Contains(text, `"WARN"`) {
			warned <- text
		}
		return len(line), nil
	})), nil))
	synctest.Test(t, func(t *testing.T) { // its pauses take no time
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- New(Options{Listen: taken, Source: &source{status: working()}, Logger: log}).Run(ctx) }()
		time.Sleep(10 * time.Minute)
		select {
		case at := <-address:
			t.Errorf("it listens on %s, which another process has", at)
		default:
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("asked to end after %s it returns %v", time.Since(start), err)
		}
	})
	if line := <-warned; !strings.Contains(line, taken) || !strings.Contains(line, "in use") || !strings.Contains(line, "set admin.listen") {
		t.Errorf("it says %s", line)
	}
	select {
	case line := <-warned:
		t.Errorf("it says it again: %s", line)
	default:
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(Options{Listen: taken, Source: &source{status: working()}, Logger: log}).Run(ctx) }()
	<-warned
	l.Close()
	at := <-address
	if status, body := get(t, "http://"+at+"/healthz"); at != taken || status != http.StatusOK {
		t.Errorf("%s when the address is free: %d %s", at, status, body)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestNoAddress has addresses that never can be listened on.
func TestNoAddress(t *testing.T) {
	for _, address := range []string{"192.0.2.1:9630", "no-such-host.invalid:9630"} { // RFC 5737, RFC 2606
		err := CheckAddress(t.Context(), address)
		if _, ok := errors.AsType[*ListenError](err); !ok || !strings.Contains(err.Error(), "cannot listen on "+address+": ") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := CheckAddress(t.Context(), "127.0.0.1:0"); err != nil {
		t.Error(err)
	}
}

// TestShutdownLetsARequestEnd holds a request inside the source while the server is asked
// to end.
func TestShutdownLetsARequestEnd(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	src := statusFunc(func() Status {
		asked <- struct{}{}
		<-release
		return working()
	})
	address, output := listening()
	s := New(Options{Listen: "127.0.0.1:0", Source: src, Logger: slog.New(slog.NewJSONHandler(output, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	addr := <-address
	answered := make(chan int, 1)
	go func() {
		resp, err := http.Get("http://" + addr + "/healthz")
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-asked // for the request, and to see how much is written
	<-asked
	cancel()
	// The listener goes first.
	for {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		conn.Close()
	}
	close(release)
	if status := <-answered; status != http.StatusOK {
		t.Errorf("the request under way: %d", status)
	}
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

type statusFunc func() Status

func (f statusFunc) Status() Status { return f() }

func (f statusFunc) DeadLetters(context.Context, LetterQuery) ([]Letter, error) { return nil, nil }

func (f statusFunc) Await(context.Context, Wait) (pglogrepl.LSN, error) { return 0, nil }
