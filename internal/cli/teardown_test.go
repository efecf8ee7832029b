package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/indexer/search"
	"tidemark/reindex/control"
	"tidemark/testenv"
)

// made counts what run has made of a file.
func made(t *testing.T, d *testenv.Database, search *testenv.SearchServer, f *file, index string) (slots, publications, schemas, indices int) {
	t.Helper()
	err := d.DB.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1), (SELECT count(*) FROM pg_publication),
		(SELECT count(*) FROM pg_namespace WHERE nspname = 'dbsync_ctrl')`, f.slot).Scan(&slots, &publications, &schemas)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(search.URL + "/_cat/indices/" + index + "*")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return slots, publications, schemas, strings.Count(string(text), "\n")
}

// TestTeardown drops what run has made, and nothing while an instance runs, or without being told to.
func TestTeardown(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table a (id int primary key)", "insert into a values (1)")
	index := search.NewPrefix(t) + "a"
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), "  "+index+": {table: a}\n")
	expect := func(what string, slots, publications, schemas, indices int) {
		t.Helper()
		if s, p, c, i := made(t, d, search, f, index); s != slots || p != publications || c != schemas || i != indices {
			t.Errorf("%s: %d slots, %d publications, %d control schemas, %d indices; want %d, %d, %d, %d", what, s, p, c, i, slots, publications, schemas, indices)
		}
	}
	if code, out, wrong := tidemark(t, "teardown", "-c", f.path); code != exitDone || out != "nothing of it is there\n" {
		t.Errorf("before anything: %d %s%s", code, out, wrong)
	}

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { code, _, _ := tidemarkUntil(ctx, "run", "-c", f.path); ended <- code }()
	if code, _, wrong := tidemark(t, "wait", "-c", f.path, "--timeout", "1m"); code != exitDone {
		t.Fatalf("wait: %d %s", code, wrong)
	}
	if code, out, wrong := tidemark(t, "teardown", "-c", f.path, "--yes", "--indices"); code != exitFailed || out != "" || !strings.Contains(wrong, "an instance follows slot "+f.slot+": nothing was dropped") {
		t.Errorf("while an instance runs: %d %s%s", code, out, wrong)
	}
	expect("while an instance runs", 1, 1, 1, 1)
	stop()
	if code := <-ended; code != exitDone {
		t.Errorf("run: %d", code)
	}

	d.Exec(t, "create table dbsync_ctrl.mine (id int)")
	if code, _, wrong := tidemark(t, "teardown", "-c", f.path, "--yes"); code != exitFailed || !strings.Contains(wrong, "has in it what Tidemark has not made: mine") {
		t.Errorf("a table of somebody else: %d %s", code, wrong)
	}
	expect("a table of somebody else", 1, 1, 1, 1)
	d.Exec(t, "drop table dbsync_ctrl.mine")

	code, out, wrong := tidemark(t, "teardown", "-c", f.path, "--yes")
	if code != exitDone || !strings.Contains(out, "slot "+f.slot) || !strings.Contains(out, `DROP PUBLICATION "dbsync_mypub"`) || !strings.Contains(out, "control schema dbsync_ctrl: ") || strings.Contains(out, index) {
		t.Errorf("without indices: %d %s%s", code, out, wrong)
	}
	expect("without indices", 0, 0, 0, 1)
	if code, out, wrong = tidemark(t, "teardown", "-c", f.path, "--yes", "--indices"); code != exitDone || !strings.Contains(out, "index "+index+"-") {
		t.Errorf("indices: %d %s%s", code, out, wrong)
	}
	expect("indices", 0, 0, 0, 0)
}

// TestTeardownLeavesOthers drops one of two slots that share publication and control schema.
func TestTeardownLeavesOthers(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table a (id int primary key)", "create table b (id int primary key)")
	index, other := search.NewPrefix(t)+"a", search.NewPrefix(t)+"b"
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), "  "+index+": {table: a}\n")
	g := newFile(t, d.URL, search.URL, d.Unique("other"), "  "+other+": {table: b}\n")
	for _, file := range []*file{f, g} {
		says(t, exitDone, []string{"run", "--once", "-c", file.path})
	}
	code, out, wrong := tidemark(t, "teardown", "-c", f.path, "--yes", "--indices")
	if code != exitDone || !strings.Contains(out, `ALTER PUBLICATION "dbsync_mypub" DROP TABLE`) || !strings.Contains(out, "it stays for "+g.slot) {
		t.Errorf("%d %s%s", code, out, wrong)
	}
	if slots, publications, schemas, indices := made(t, d, search, f, index); slots != 0 || publications != 1 || schemas != 1 || indices != 0 {
		t.Errorf("%d slots, %d publications, %d control schemas, %d indices", slots, publications, schemas, indices)
	}
	var noted int
	if err := d.DB.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM dbsync_ctrl.indices WHERE name <> $1) + (SELECT count(*) FROM dbsync_ctrl.epochs WHERE slot <> $2)`, other, g.slot).Scan(&noted); err != nil || noted != 0 {
		t.Errorf("%d notes are left of it, %v", noted, err)
	}
	d.Exec(t, "insert into b values (1)")
	says(t, exitDone, []string{"run", "--once", "-c", g.path})
	testenv.CheckSynced(t, d, search, other, "b")
}

// TestConfirm asks.
func TestConfirm(t *testing.T) {
	for answer, want := range map[string]error{"yes\n": nil, " yes ": nil, "no\n": errNotConfirmed, "y\n": errNotConfirmed, "": errNotConfirmed} {
		var out strings.Builder
		if err := confirm(t.Context(), strings.NewReader(answer), &out, "tidemark teardown"); !errors.Is(err, want) || out.String() != "Type yes to go on: " {
			t.Errorf("%q: %v, %q", answer, err, &out)
		}
	}
	hangs, w := io.Pipe()
	defer w.Close() // ends the reader
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := confirm(ctx, hangs, io.Discard, ""); !errors.Is(err, errInterrupted) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestTeardownOfGroups drops what there is for each cluster, in the schema, the topics and the indices of its own.
func TestTeardownOfGroups(t *testing.T) {
	d := testenv.NewDatabase(t)
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table a (id int primary key)")
	name := engine.NewPrefix(t) + "a"
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	// To both clusters lead names of the same one: which indices are whose they say themselves.
	f := newFile(t, d.URL, engine.URL, d.Unique("slot"), fmt.Sprintf("  %s: {table: a}\nkafka: {brokers: [%q], topic: ops, groups: {eu: {search: {urls: [%q]}}}}\n",
		name, kafka.ListenAddrs()[0], strings.Replace(engine.URL, "127.0.0.1", "localhost", 1)))
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topics := kadm.NewClient(client)
	if _, err := topics.CreateTopics(t.Context(), 1, 1, nil, "ops", "ops.reports", "ops.eu", "ops.eu.reports", "ops.us"); err != nil {
		t.Fatal(err)
	}
	var system string
	if err := d.DB.QueryRowContext(t.Context(), "select system_identifier::text from pg_control_system()").Scan(&system); err != nil {
		t.Fatal(err)
	}
	for i, schema := range []string{"dbsync_ctrl", "dbsync_ctrl_eu", "dbsync_ctrl_us"} {
		if err := control.Make(t.Context(), d.DB, schema, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		owner, err := control.ReadOwner(t.Context(), d.DB, system, schema, f.slot)
		if err != nil {
			t.Fatal(err)
		}
		body, err := search.Stamped(nil, search.Stamp{Owner: owner})
		if err != nil {
			t.Fatal(err)
		}
		if status, answer, err := engine.Do(t.Context(), http.MethodPut, fmt.Sprintf("/%s-20260131t12000%dz", name, i), body); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s %v", status, answer, err)
		}
	}
	out := says(t, exitDone, []string{"teardown", "-c", f.path, "--yes", "--indices", "--topics"},
		"control schema dbsync_ctrl: ", "control schema dbsync_ctrl_eu: ", "index "+name+"-20260131t120000z with", "index "+name+"-20260131t120001z of group eu with",
		"topics ops and ops.reports with", "topics ops.eu and ops.eu.reports with")
	if strings.Contains(out, "dbsync_ctrl_us") || strings.Contains(out, "ops.us") || strings.Contains(out, "index "+name+"-20260131t120002z") {
		t.Errorf("what is not of the file:\n%s", out)
	}
	var schemas string
	if err := d.DB.QueryRowContext(t.Context(), "select string_agg(nspname, ' ') from pg_namespace where nspname like 'dbsync%'").Scan(&schemas); err != nil || schemas != "dbsync_ctrl_us" {
		t.Errorf("schemas %s, %v", schemas, err)
	}
	left, err := topics.ListTopics(t.Context())
	if names := left.Names(); err != nil || !slices.Equal(names, []string{"ops.us"}) {
		t.Errorf("topics %q, %v", names, err)
	}
	if _, _, _, indices := made(t, d, engine, f, name); indices != 1 {
		t.Errorf("%d indices are left", indices)
	}
}
