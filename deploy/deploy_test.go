// Package deploy has what Tidemark is run and watched by. Its tests hold these files against the
// tools that read them, and against the code.
package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
	"tidemark/internal/admin"
	"tidemark/reindex/control"
)

// tool returns where a program is. Without it the test is skipped, or fails where everything is
// required that is said to be on the build server.
func tool(t *testing.T, name, from string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("TIDEMARK_TEST_REQUIRE") != "" {
			t.Fatalf("%s is missing: %s", name, from)
		}
		t.Skipf("%s is missing: %s", name, from)
	}
	return path
}

// optional is tool for what has to be compiled for long, or is no package: without it the test is skipped.
func optional(t *testing.T, name, from string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is missing: %s", name, from)
	}
	return path
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

const promtoolFrom = "apt-get install prometheus"

// TestAlerts has the rules read and tested by promtool.
func TestAlerts(t *testing.T) {
	promtool := tool(t, "promtool", promtoolFrom)
	run(t, promtool, "check", "rules", "alerts.yaml")
	run(t, promtool, "test", "rules", "alerts_test.yaml")
	rules, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	runbook, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1)
	for _, m := range names {
		if !strings.Contains(string(tests), m[1]) {
			t.Errorf("no test has %s fire", m[1])
		}
		if !strings.Contains(string(runbook), "`"+m[1]+"`") {
			t.Errorf("docs/runbook.md does not say where to begin at %s", m[1])
		}
	}
	if len(names) < 10 {
		t.Errorf("%d rules: has their form changed?", len(names))
	}
}

// metricName finds metrics of ours, as expressions have them.
var metricName = regexp.MustCompile(`tidemark_[a-z_]+`)

// TestMetricsAreThere makes sure that rules and dashboard ask for what docs/metrics.md has, and the
// dashboard for all of it.
func TestMetricsAreThere(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `(tidemark_\\w+)` \\| (\\w+)").FindAllStringSubmatch(string(page), -1) {
		if documented[m[1]] = true; m[2] == "histogram" {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				documented[m[1]+part] = true
			}
		}
	}
	shown := make(map[string]bool)
	for _, file := range []string{"alerts.yaml", "alerts_test.yaml", "dashboard.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricName.FindAllString(string(text), -1) {
			if !documented[name] {
				t.Errorf("%s has %s, which docs/metrics.md does not", file, name)
			}
			shown[name] = shown[name] || file == "dashboard.json"
		}
	}
	for name := range documented {
		if part := regexp.MustCompile("_(bucket|sum|count)$"); part.MatchString(name) || name == "tidemark_healthy" || name == "tidemark_batches_total" {
			continue
		}
		if !shown[name] && !shown[name+"_bucket"] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// everything is a process of which there is every metric.
type everything struct {
	mu sync.Mutex
	n  int
	m  *admin.Measures
}

// Await has nothing to wait for.
func (e *everything) DeadLetters(context.Context, admin.LetterQuery) ([]admin.Letter, error) {
	return nil, nil
}

func (e *everything) Await(context.Context, admin.Wait) (pglogrepl.LSN, error) { return 0, nil }

func (e *everything) Status() admin.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++ // counters grow
	now := time.Now()
	e.m.Batch(&dbsync.BatchReport{Operations: 20, Bytes: 5000, Translating: time.Millisecond, Writing: now, Stored: now.Add(40 * time.Millisecond), Commits: []time.Time{now}})
	e.m.Bulk(search.Request{Duration: 30 * time.Millisecond, Operations: 20})
	e.m.Reread(indexer.Reread{Index: "products", Documents: 7, Duration: 3 * time.Millisecond})
	e.m.FannedOut("products", 9, 2)
	n := int64(e.n)
	walk := control.Walk{Number: 1, BeganAt: now.Add(-time.Hour), FinishedAt: now, Found: 3, Repaired: 3}
	return admin.Status{
		Version: "1.2.3", Product: "OpenSearch 3.3.2", Slot: "shop", Connected: true, Confirmed: 0x100, WALEnd: 0x180, NewestCommit: now,
		Behind: time.Second, WAL: admin.WAL{At: now, Kept: 4096, Left: 1 << 30}, QueueMessages: 3, QueueBytes: 4096, Changes: n, Batches: n,
		Indices: []admin.Index{
			{Name: "products", Physical: "products-1", State: admin.Live, Building: "products-2", RowsDone: n, RowsExpected: 100, RowsPerSecond: 2.5, DeadLetters: 2,
				Proof:  admin.Proof{Found: n, Repaired: n, Proof: control.Proof{Index: "products", Last: walk, Walk: control.Walk{Number: 2, BeganAt: now, Rows: 30, Documents: 20, Total: 200}}},
				FanOut: control.FanOutSum{Related: 3, Since: now, Stored: 5}},
			{Name: "orders", Physical: "orders-1", State: admin.Live, RowsExpected: -1, Proof: admin.Proof{Proof: control.Proof{Index: "orders", Unproven: control.Doubt{Since: now, Why: "a test"}}}},
		},
		Alarms:   []admin.Alarm{{Key: "no answer", Since: now}},
		Bulk:     admin.Bulk{Stored: n, Deleted: n, Superseded: n, Refused: n, Requests: n, FailedRequests: n, Rejected: n, Bytes: n, RawBytes: n, RequestsAtATime: 4, RequestBytes: 8 << 20, Retried: map[search.Cause]int64{search.CauseRejected: n}},
		Topics:   []admin.Topic{{Name: "shop", Group: "shop", Produced: n, Bytes: 100 * n, Lag: 7, Workers: 2}, {Name: "shop.eu", Group: "shop.eu", Cluster: "eu", Lag: -1, Problems: []string{"a test"}}},
		Measures: e.m,
	}
}

// allOfAWorker is a worker of which there is every metric.
type allOfAWorker struct{ n atomic.Int64 }

func (a *allOfAWorker) Worker() admin.Worker {
	n := a.n.Add(1) // counters grow
	return admin.Worker{
		Version: "1.2.3", Product: "OpenSearch 3.3.2", Topic: "shop", Group: "shop", Joined: true, Partitions: 6, Lag: 7, Behind: time.Second,
		Records: 10 * n, Bytes: 1000 * n, Older: n, Compacted: n, Dropped: n, Commits: n, Rebalances: n, Reread: n, Lost: n,
		Bulk: admin.Bulk{Stored: n, Requests: n, RequestsAtATime: 4, RequestBytes: 8 << 20},
	}
}

// TestDashboard has a Prometheus scrape an instance and a worker that have every metric, and answer
// each query of the dashboard from that.
func TestDashboard(t *testing.T) {
	prometheus := tool(t, "prometheus", promtoolFrom)
	instance, worker := free(t), free(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 2)
	for _, server := range []*admin.Server{
		admin.New(admin.Options{Listen: instance, Source: &everything{m: admin.NewMeasures("products")}, Logger: log}),
		admin.NewForWorker(new(allOfAWorker), admin.Options{Listen: worker, Logger: log}),
	} {
		go func() { served <- server.Run(ctx) }()
	}
	folder, listen := t.TempDir(), free(t)
	config := filepath.Join(folder, "prometheus.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "scrape_configs: [{job_name: tidemark, scrape_interval: 1s, static_configs: [{targets: [%q, %q]}]}]\n", instance, worker), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, prometheus, "--config.file", config, "--storage.tsdb.path", filepath.Join(folder, "data"), "--web.listen-address", listen)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
		for range cap(served) {
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	}()
	query := func(expr string) (samples int, err error) {
		resp, err := http.Get("http://" + listen + "/api/v1/query?query=" + url.QueryEscape(expr))
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		var answer struct {
			Status, Error string
			Data          struct{ Result []json.RawMessage }
		}
		text, err := io.ReadAll(resp.Body)
		if err == nil {
			err = json.Unmarshal(text, &answer)
		}
		if err == nil && answer.Status != "success" {
			err = fmt.Errorf("%s", answer.Error)
		}
		return len(answer.Data.Result), err
	}
	// A rate takes two samples.
	deadline := time.Now().Add(2 * time.Minute)
	for _, grows := range []string{"tidemark_changes_total", "tidemark_worker_records_total"} {
		for n, err := 0, error(nil); n == 0; n, err = query("rate(" + grows + "[1m]) > 0") {
			if time.Now().After(deadline) {
				t.Fatalf("Prometheus has scraped no %s: %v", grows, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	variables := strings.NewReplacer("$job", "tidemark", "$instance", ".*", "$index", ".*", "$__rate_interval", "1m", "$__range", "1m")
	queries := expressions(t)
	for title, all := range queries {
		for _, expr := range all {
			if n, err := query(variables.Replace(expr)); err != nil || n == 0 {
				t.Errorf("%s: %s gives %d series: %v", title, expr, n, err)
			}
		}
	}
	if len(queries) < 20 {
		t.Errorf("%d panels: has the form of the dashboard changed?", len(queries))
	}
}

// expressions are the queries of the dashboard, by the title of their panel.
func expressions(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	queries := make(map[string][]string)
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			queries[p.Title] = append(queries[p.Title], target.Expr)
		}
	}
	return queries
}

// free returns an address of this host that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
