package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(tenderVariable) != "" {
		tend()
	}
	testenv.Main(m)
}

// small is a measurement that takes a few seconds, on the servers that tests share.
func small(t *testing.T, args ...string) options {
	t.Helper()
	t.Setenv("TIDEMARK_TEST_POSTGRES_URL", testenv.SharedPostgres(t).URL("postgres"))
	t.Setenv(testenv.OpenSearch3.URLVariable(), testenv.SharedSearch(t, testenv.OpenSearch3).URL)
	o, err := parse(append([]string{"-rows", "500", "-changes", "350", "-rate", "50", "-for", "1s", "-batch", "100"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestBench(t *testing.T) {
	file := filepath.Join(t.TempDir(), "result.json")
	o := small(t, "-runs", "2", "-json", file)
	var out, told bytes.Buffer
	if err := run(t.Context(), o, &out, &told); err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
	t.Log(out.String())
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		step, name string
		runs       int
	}{
		{backfill, "plain load", 2}, {backfill, "tidemark", 2}, {backfill, "tidemark to plain load", 2},
		{backfill, "tidemark, the filling alone", 2}, {backfill, "tidemark, peak memory", 2},
		{catchup, "tidemark to plain load", 2}, {catchup, "tidemark, processor time per 100,000 changes", 2},
		{transaction, "tidemark", 1}, {transaction, "tidemark, peak memory", 1},
		{latency, "commit to readable, 99th percentile", 1},
	} {
		i := slices.IndexFunc(r.Figures, func(f *figure) bool { return f.Step == want.step && f.Name == want.name })
		if i < 0 {
			t.Errorf("%s: no figure %s", want.step, want.name)
		} else if f := r.Figures[i]; len(f.Runs) != want.runs || f.Median <= 0 {
			t.Errorf("%s: %s is %v", want.step, want.name, f)
		}
	}
	nothingLeft(t)
}

func TestBenchIntoSink(t *testing.T) {
	var out, told bytes.Buffer
	if err := run(t.Context(), small(t, "-runs", "1", "-sink"), &out, &told); err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
	if !strings.Contains(out.String(), "throw-away sink") {
		t.Errorf("it does not say that nothing was stored: %s", out.String())
	}
	nothingLeft(t)
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
	index := s.name + "-items"
	defer func() {
		if err := s.search.drop(context.WithoutCancel(t.Context()), index); err != nil {
			t.Error(err)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	o.profile = t.TempDir() // no binary is needed
	tool, err := newTool(t.Context(), t.TempDir(), s, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDataset(t.Context(), s.url, tool.config.Indices[0], 100)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close(t.Context())
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
	if err := check(t.Context(), s.search, d, index); err != nil {
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
		if err := check(t.Context(), s.search, d, index); err == nil || !strings.Contains(err.Error(), wrong.says) {
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
	for _, args := range []string{"-rows 0", "-only backfil", "-runs 0", "-for 0s", "argument", "-rows 100 -changes 1000"} {
		if _, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
	o, err := parse(nil)
	if err != nil || o.rows != 300_000 || !o.has(latency) || o.duration != 20*time.Second {
		t.Errorf("%+v, %v", o, err)
	}
}
