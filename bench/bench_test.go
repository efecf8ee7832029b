package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(tenderVariable) != "" {
		tend()
	}
	if os.Getenv(busyVariable) != "" {
		beBusy()
	}
	testenv.Main(m)
}

// small is a measurement that takes a few seconds, on the servers that tests share.
func small(t *testing.T, args ...string) options {
	t.Helper()
	t.Setenv("TIDEMARK_TEST_POSTGRES_URL", testenv.SharedPostgres(t).URL("postgres"))
	t.Setenv(testenv.OpenSearch3.URLVariable(), testenv.SharedSearch(t, testenv.OpenSearch3).URL)
	o, err := parse(append([]string{"-rows", "500", "-changes", "350", "-hot", "100", "-fanout", "300", "-rates", "50", "-for", "1s", "-idle", "1s", "-batch", "100"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// measured runs the bench and returns its report.
func measured(t *testing.T, args ...string) (r report, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "result.json")
	o := small(t, append(args, "-json", file)...)
	var out, told bytes.Buffer
	if err := run(t.Context(), o, &out, &told); err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
	t.Log(out.String())
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(written, &r); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t)
	return r, out.String()
}

// An expected figure is one that a report must have.
type expected struct{ step, series, build, name string }

// wantFigures makes sure that figures are there, once for each run, and are of something.
func wantFigures(t *testing.T, r report, runs int, want ...expected) {
	t.Helper()
	for _, w := range want {
		if f := r.of(w.step, w.series, w.build).find(w.name); f == nil {
			t.Errorf("no figure %+v", w)
		} else if len(f.Runs) != runs || f.Median <= 0 {
			t.Errorf("%+v is %v", w, f)
		}
	}
}

func TestBench(t *testing.T) {
	r, _ := measured(t, "-runs", "1", "-only", "backfill,catchup,live,include,fanout")
	wantFigures(t, r, 1,
		expected{backfill, "", "", "plain load"}, expected{backfill, "", "", "COPY"}, expected{backfill, "", headName, "whole run"},
		expected{backfill, "", headName, "whole run, share of the plain load"}, expected{backfill, "", headName, "filling alone, share of COPY"},
		expected{backfill, "", headName, "peak memory"}, expected{backfill, "", headName, "bulk requests per 100,000"},
		expected{catchup, "", "", "draining the slot"}, expected{catchup, "", headName, "following alone, share of draining the slot"},
		expected{catchup, "", headName, "processor time per 100,000"}, expected{catchup, "", headName, "bulk requests per 100,000"},
		expected{live, "50/s", headName, "commit to readable, 99th percentile"}, expected{live, "50/s", headName, "bulk requests per 100,000"},
		expected{include, "", headName, bytesRatio}, expected{include, "", "", "plain load"},
		expected{include, "updates of related rows", headName, "whole run, share of the plain load"},
		expected{fanout, "", headName, "until all documents are done"}, expected{fanout, "other changes meanwhile", headName, "commit to readable, 99th percentile"},
	)
}

func TestBenchIntoSink(t *testing.T) {
	r, text := measured(t, "-runs", "1", "-sink", "-busy", "1")
	wantFigures(t, r, 1,
		expected{backfill, "", headName, "whole run"}, expected{catchup, "", headName, "following alone"}, expected{single, "", headName, "bulk requests per 100,000"},
		expected{transaction, "", headName, "peak memory"}, expected{hot, "", headName, hotRatio},
		expected{live, "50/s", headName, "commit to readable, median"}, expected{idle, "", headName, "peak memory"}, expected{wide, "updates", headName, "whole run"},
		expected{large, "updates", headName, "peak memory"}, expected{include, "updates of related rows", headName, "whole run"}, expected{fanout, "", headName, "documents done"},
	)
	if !strings.Contains(text, "throw-away sink") || !strings.Contains(text, "beside 1 busy loops") {
		t.Errorf("it does not say that nothing was stored, or what else was done: %s", text)
	}
}

// TestBenchThroughKafka has operations go through a topic.
func TestBenchThroughKafka(t *testing.T) {
	t.Setenv(testenv.KafkaVariable, strings.Join(testenv.SharedKafka(t).Brokers(), ","))
	r, _ := measured(t, "-runs", "1", "-sink", "-only", "capture,workers,relay")
	wantFigures(t, r, 1,
		expected{capture, backfill, headName, "captured"}, expected{capture, backfill, kafkaName, "captured"}, expected{capture, catchup, kafkaName, "processor time, of that without Kafka"},
		expected{capture, "producing alone", "", "produced"}, expected{workers, "8", headName, "share of linear"}, expected{workers, "1", headName, "peak memory"},
		expected{relay, "500/s", headName, "commit to readable, median"}, expected{relay, "500/s", kafkaName, "commit to readable, 99th percentile"},
		expected{relay, "a worker joins", kafkaName, "commit to readable, largest"}, expected{relay, "a worker leaves", kafkaName, "commit to readable, largest"},
		expected{relay, "a worker is killed", kafkaName, "commit to readable, largest"},
	)
}

// TestPace has a sink answer no sooner than its pace, and nothing before it is opened.
func TestPace(t *testing.T) {
	s, err := startSink()
	if err != nil {
		t.Fatal(err)
	}
	s.pace = newPace(20*time.Millisecond, 1)
	client := newSearch(s.url)
	defer func() {
		if err := errors.Join(client.close(), s.close()); err != nil {
			t.Error(err)
		}
	}()
	answers := make(chan error)
	for range 3 {
		go func() {
			answers <- client.call(t.Context(), http.MethodPost, "/x/_bulk", []byte(`{"delete":{"_id":"2"}}`+"\n"), nil)
		}()
	}
	if err := poll(t.Context(), func() bool { return s.pace.waiting.Load() == 3 }); err != nil {
		t.Fatal(err)
	}
	if got := s.calls.Load(); got != 0 {
		t.Errorf("%d requests were answered before the sink was opened", got)
	}
	begin := time.Now()
	close(s.pace.opened)
	for range 3 {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	if took := s.pace.lastAnswer().Sub(begin); took < 3*20*time.Millisecond {
		t.Errorf("three requests, one at a time, were answered after %s", took)
	}
}

// TestBenchOfTwoBuilds has a build take turns with itself, in two runs.
func TestBenchOfTwoBuilds(t *testing.T) {
	if err := exec.Command("git", "rev-parse", "--verify", "HEAD").Run(); err != nil {
		t.Skip("this tree has no commits to build: ", err)
	}
	r, text := measured(t, "-runs", "2", "-sink", "-base", "HEAD", "-only", "backfill,catchup")
	for _, build := range []string{headName, "base HEAD"} {
		wantFigures(t, r, 2, expected{backfill, "", build, "whole run"}, expected{catchup, "", build, "following alone"}, expected{catchup, "", build, "peak memory"})
	}
	if len(r.Compared) < 10 || !strings.Contains(text, "too few pairs") {
		t.Errorf("%d figures were compared: %s", len(r.Compared), text)
	}
	if trees, err := exec.Command("git", "worktree", "list").CombinedOutput(); err != nil || strings.Contains(string(trees), "/base-tree ") {
		t.Errorf("a work tree is left: %s, %v", trees, err)
	}
}

func TestProfile(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "profiles")
	r, _ := measured(t, "-runs", "1", "-sink", "-profile", folder, "-only", "backfill,catchup")
	wantFigures(t, r, 1, expected{backfill, "", headName, "filling alone"}, expected{catchup, "", headName, "following alone"}, expected{catchup, "", headName, "processor time per 100,000"})
	if profile, err := os.Stat(filepath.Join(folder, "catchup.pprof")); err != nil || profile.Size() == 0 {
		t.Errorf("%v, %v", profile, err)
	}
}

// TestSink has the sink count and keep what it is sent.
func TestSink(t *testing.T) {
	s, err := startSink()
	if err != nil {
		t.Fatal(err)
	}
	client := newSearch(s.url)
	defer func() {
		if err := errors.Join(client.close(), s.close()); err != nil {
			t.Error(err)
		}
	}()
	bulk := func(lines ...string) {
		t.Helper()
		if err := client.call(t.Context(), http.MethodPost, "/x/_bulk", []byte(strings.Join(lines, "\n")+"\n"), nil); err != nil {
			t.Fatal(err)
		}
	}
	readable := func(id string) (stock int64) {
		t.Helper()
		var doc struct {
			Source struct{ Stock int64 } `json:"_source"`
		}
		if err := client.call(t.Context(), http.MethodGet, "/x/_doc/"+id+"?_source_includes=stock", nil, &doc); err != nil {
			t.Fatal(err)
		}
		return doc.Source.Stock
	}
	bulk(`{"index":{"_id":"1"}}`, `{"stock":5,"name":"mark"}`)
	if got := readable("1"); got != 0 {
		t.Errorf("nothing was to be kept, and stock is %d", got)
	}
	s.count(`"mark"`)
	bulk(`{"index":{"_id":"1","version":7}}`, `{"stock":6,"name":"mark"}`, `{"delete":{"_id":"2"}}`, `{"index":{"_id":"3"}}`, `{"name":"other","stock":12}`)
	if one, three := readable("1"), readable("3"); one != 6 || three != 12 {
		t.Errorf("stocks are %d and %d", one, three)
	}
	if s.marked.Load() != 1 || s.stored.Load() != 4 || s.calls.Load() != 2 {
		t.Errorf("%d marked of %d operations in %d requests", s.marked.Load(), s.stored.Load(), s.calls.Load())
	}
}

func TestProcess(t *testing.T) {
	loop, err := start(io.Discard, "sh", "-c", "while :; do :; done")
	if err != nil {
		t.Fatal(err)
	}
	for used := time.Duration(0); used == 0; {
		if used, err = loop.processorTime(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := loop.context(t.Context())
	if ctx.Err() != nil {
		t.Error("a process that goes on has ended its context")
	}
	cancel()
	loop.end()
	if u, err := loop.wait(t.Context()); err != nil || u.CPU == 0 || u.Failed == "" { // by SIGTERM
		t.Errorf("%+v, %v", u, err)
	}
	ended, err := start(io.Discard, "true")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = ended.context(t.Context())
	defer cancel()
	<-ctx.Done()
	if u, err := ended.wait(t.Context()); err != nil || u.Failed != "" {
		t.Errorf("%+v, %v", u, err)
	}
	missing, err := start(io.Discard, "/there/is/no/such/command")
	if err != nil {
		t.Fatal(err)
	}
	if u, err := missing.wait(t.Context()); err != nil || u.Failed == "" {
		t.Errorf("%+v, %v", u, err)
	}
}

// TestFewOperations makes sure that a sink which got less than there was to be written is no success.
func TestFewOperations(t *testing.T) {
	b := &bench{servers: &servers{sink: &sink{}}, told: io.Discard}
	used := map[*tool]usage{{build: &build{name: "a"}}: {written: written{operations: 99, requests: 1}}}
	if err := b.checkAll(99, used, "", nil); err != nil {
		t.Error(err)
	}
	if err := b.checkAll(100, used, "", nil); err == nil {
		t.Error("one document was not written, and nothing was said")
	}
}

func nothingLeft(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), os.Getenv("TIDEMARK_TEST_POSTGRES_URL"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var databases, slots int
	if err := conn.QueryRow(t.Context(), `select (select count(*) from pg_database where datname like 'bench%'),
		(select count(*) from pg_replication_slots where slot_name like 'bench%')`).Scan(&databases, &slots); err != nil {
		t.Fatal(err)
	}
	var indices map[string]json.RawMessage
	s := newSearch(os.Getenv(testenv.OpenSearch3.URLVariable()))
	defer s.close()
	if err := s.call(t.Context(), http.MethodGet, "/bench*/_alias", nil, &indices); err != nil {
		t.Fatal(err)
	}
	if databases+slots+len(indices) > 0 {
		t.Errorf("%d databases, %d slots, %d indices are left", databases, slots, len(indices))
	}
}

func TestCheckSeesWhatIsWrong(t *testing.T) {
	o := small(t)
	s, err := startServers(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{o: o, servers: s, search: s.search, folder: t.TempDir(), builds: []*build{{letter: "a"}}}
	index := s.name + "-items"
	defer func() {
		if err := s.search.drop(context.WithoutCancel(t.Context()), index); err != nil {
			t.Error(err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if b.conn, err = connect(t.Context(), s.url); err != nil {
		t.Fatal(err)
	}
	defer b.conn.Close(t.Context())
	tool, err := b.newTool(b.builds[0], "items", "table: public.items")
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDataset(t.Context(), b.conn, 100)
	if err != nil {
		t.Fatal(err)
	}
	if d.table, err = openTable(t.Context(), b.conn, "items", tool.config); err != nil {
		t.Fatal(err)
	}
	if err := d.reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := newBulkFile(t.TempDir(), "rows", 30)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.close()
	if err := d.all(t.Context(), func(doc document) error { return rows.store(1, doc) }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.search.load(t.Context(), index, rows, 2); err != nil {
		t.Fatal(err)
	}
	if err := check(t.Context(), s.search, d.table, index); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct{ statement, says string }{
		{"update items set stock = stock + 1 where id = 7", "different 1 7"},
		{"delete from items where id = 7", "left over 1 7"},
		{"insert into items select 101, sku, title, description, status, category, price, stock, rating, active, tags, attributes, created_at, updated_at from items where id = 8", "missing 1 101"},
	} {
		if _, err := d.conn.Exec(t.Context(), wrong.statement); err != nil {
			t.Fatal(err)
		}
		if err := check(t.Context(), s.search, d.table, index); err == nil || !strings.Contains(err.Error(), wrong.says) {
			t.Errorf("%s: want %q in %v", wrong.statement, wrong.says, err)
		}
	}
}

func TestRowsAreAlwaysTheSame(t *testing.T) {
	a, b := newRow(7, 1), newRow(7, 1)
	if text, again := a.appendCopy(nil), b.appendCopy(nil); !bytes.Equal(text, again) {
		t.Errorf("%s and %s", text, again)
	}
	n := 0
	for id := range int64(1000) {
		r := newRow(id, 0)
		n += len(r.appendCopy(nil))
	}
	if n < 420_000 || n > 470_000 {
		t.Errorf("a row takes %d bytes, and the figures of others are of 447", n/1000)
	}
}

func TestParse(t *testing.T) {
	for _, args := range []string{
		"-rows 0", "-only backfil", "-runs -1", "-for 0s", "argument", "-rows 100 -changes 1000", "-rates 500,fast", "-rates 0", "-hot 50", "-hot 5001 -rows 10000",
		"-busy -1", "-only live -profile p", "-profile p -base HEAD",
	} {
		if _, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
	o, err := parse(nil)
	if err != nil || o.rows != 1_000_000 || o.runs != 3 || !o.has(live) || o.duration != 20*time.Second {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err = parse([]string{"-short", "-rows", "1000", "-hot", "100", "-changes", "1000"}); err != nil || o.rows != 1000 || o.changes != 1000 || o.fanout != 50_000 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err = parse([]string{"-base", "HEAD"}); err != nil || o.runs != realPairs {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err = parse([]string{"-profile", "p"}); err != nil || o.has(live) || !o.has(catchup) {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestTablesOfTheManual has two files of one server, and one of another, become tables.
func TestTablesOfTheManual(t *testing.T) {
	var files []string
	file := func(search string, figures func(r *report)) {
		r := &report{Machine: machine{Search: search}}
		figures(r)
		name := filepath.Join(t.TempDir(), "result.json")
		if _, err := r.write(name); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	file("a sink", func(r *report) {
		r.of(backfill, "", "").add("COPY", "rows/s", 400_000)
		s := r.of(backfill, "", headName)
		s.add("whole run", "rows/s", 200_000)
		s.add("filling alone, share of COPY", "%", 75)
		s.usage(100_000, usage{CPU: 250 * time.Millisecond, Memory: 60e6, written: written{requests: 50}})
	})
	file("OpenSearch 3.3.2", func(r *report) { r.of(backfill, "", headName).add("whole run", "rows/s", 25_000) })
	file("a sink", func(r *report) {
		r.of(live, "500/s", "base x").add("committed", "changes/s", 400)
		s := r.of(live, "500/s", headName)
		s.add("committed", "changes/s", 500)
		s.add("commit to readable, median", "ms", 3.4)
	})
	var out bytes.Buffer
	if err := printMatrices(files, &out); err != nil {
		t.Fatal(err)
	}
	const want = `### Sink

| | whole run, /s | plain load, /s | share of it | without start and end, /s | COPY or draining, /s | share of it | CPU s per 100,000 | bulk requests per 100,000 | peak MB |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| backfill | 200,000 | – | – | – | 400,000 | 75 % | 0.25 | 50.0 | 60.0 |

| | changes/s | commit to readable, median ms | 99th percentile, ms | CPU s per 100,000 | bulk requests per 100,000 | peak MB |
|---|---:|---:|---:|---:|---:|---:|
| live, 500/s | 500 | 3.40 | – | – | – | – |

### OpenSearch 3.3.2

| | whole run, /s | plain load, /s | share of it | without start and end, /s | COPY or draining, /s | share of it | CPU s per 100,000 | bulk requests per 100,000 | peak MB |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| backfill | 25,000 | – | – | – | – | – | – | – | – |

`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestComparePairs(t *testing.T) {
	base := []float64{100, 140, 90, 100, 180, 120, 100, 110} // a machine that others use, too
	times := func(factors ...float64) (head []float64) {
		for i, v := range base {
			head = append(head, v*factors[i%len(factors)])
		}
		return head
	}
	for _, test := range []struct {
		name string
		head []float64
		real bool
	}{
		{"a tenth more in every pair", times(1.1, 1.12), true},
		{"less in every pair", times(0.95), true},
		{"more in one, less in the other", times(1.1, 0.9), false},
		{"more in all but one", times(1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 0.99), false},
		{"nothing differs", times(1), false},
	} {
		if c := comparePairs(test.head, base); c.Real != test.real || c.Lo == 0 {
			t.Errorf("%s: %+v", test.name, c)
		}
	}
	if c := comparePairs(times(2)[1:], base[1:]); c.Real || c.Lo != 0 || c.Ratio != 2 {
		t.Errorf("seven pairs: %+v", c)
	}
	if c := comparePairs([]float64{1, 2}, []float64{0, 2}); c != nil {
		t.Errorf("nothing and something: %+v", c)
	}
	r := report{}
	for i, v := range times(1.1) {
		for _, f := range []struct{ name, unit string }{{"speed", "rows/s"}, {"time", "s"}} {
			r.of(backfill, "", headName).add(f.name, f.unit, v)
			r.of(backfill, "", "base").add(f.name, f.unit, base[i])
		}
	}
	if r.compare(headName, "base"); len(r.Compared) != 2 || !r.Compared[0].Better || r.Compared[1].Better || !r.Compared[1].Real {
		t.Errorf("%+v", r.Compared)
	}
}
