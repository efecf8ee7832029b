package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tidemark/internal/admin"
	"tidemark/internal/progress"
	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/testenv"
)

// TestReindexRefuses are command lines that make no sense. No server is asked.
func TestReindexRefuses(t *testing.T) {
	f := newFile(t, "postgres://127.0.0.1:1/d", "http://127.0.0.1:1", "s", "  a: {table: a}\n  b: {tables: [{table: x, id: \"x-{id}\"}, {table: y, id: \"y-{id}\"}]}\n")
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "name the indices, or all"},
		{[]string{"a", "c"}, "there is no index c in the mapping"},
		{[]string{"a", "b", "--where", "true"}, "name it alone"},
		{[]string{"all", "--where", "true"}, "name it alone"},
		{[]string{"a", "--source", "a"}, "--source goes with --where"},
		{[]string{"b", "--where", "true"}, "index b has several tables; name one by --source: public.x, public.y"},
		{[]string{"b", "--where", "true", "--source", "z"}, "table z has no documents of its own in index b"},
		{[]string{"a", "--where", "true", "--cancel"}, "--cancel gives up rebuilds"},
	} {
		code, out, wrong := tidemark(t, append([]string{"reindex", "-c", f.path}, test.args...)...)
		if code != exitConfig || out != "" || !strings.Contains(wrong, test.want) {
			t.Errorf("%q: %d %s%s, want %q", test.args, code, out, wrong, test.want)
		}
	}
}

// newItems is a database with a table, and a mapping file for it.
func newItems(t *testing.T, rows int) (d *testenv.Database, search *testenv.SearchServer, f *file, name string) {
	t.Helper()
	d, search = testenv.NewDatabase(t), testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table items (id int primary key, v text)", fmt.Sprintf("insert into items select i, 'v' || i from generate_series(1, %d) i", rows), "analyze items")
	name = search.NewPrefix(t) + "items"
	return d, search, newFile(t, d.URL, search.URL, d.Unique("slot"), "  "+name+": {table: items}\n"), name
}

// remove removes a document behind our back.
func remove(t *testing.T, search *testenv.SearchServer, index, id string) {
	t.Helper()
	status, answer, err := search.Do(t.Context(), "DELETE", "/"+index+"/_doc/"+id+"?refresh=true", nil)
	if err != nil || status != 200 {
		t.Fatalf("delete document %s: %d %s %v", id, status, answer, err)
	}
}

// says runs a command that must end with the code and say the texts, on either output.
func says(t *testing.T, code int, args []string, want ...string) string {
	t.Helper()
	got, out, wrong := tidemark(t, args...)
	if got != code {
		t.Fatalf("%q: exit code %d, want %d: %s%s", args, got, code, out, wrong)
	}
	for _, w := range want {
		if !strings.Contains(out+wrong, w) {
			t.Errorf("%q does not say %q:\n%s%s", args, w, out, wrong)
		}
	}
	return out
}

// TestReindexByItself has no instance run.
func TestReindexByItself(t *testing.T) {
	t.Parallel()
	d, search, f, name := newItems(t, 300)
	command := func(args ...string) []string { return append([]string{"reindex", "-c", f.path, name}, args...) }
	status := []string{"status", "-c", f.path}

	says(t, exitDone, status, "does not exist", name, "missing")
	says(t, exitFailed, command("--no-wait"), "tidemark run fills every index")
	says(t, exitFailed, command("--cancel"), "no index is being rebuilt")
	for condition, want := range map[string]string{
		"nothing = 1":                          `column "nothing" does not exist`,
		"v = 'unterminated":                    "unterminated quoted string",
		"id":                                   "must be type boolean",
		"id = $1":                              "parameters",
		"true); delete from items where (true": "cannot insert multiple commands into a prepared statement",
		"1 / 0 = 1":                            "division by zero",
		"id = (select id from no_table)":       `relation "no_table" does not exist`,
	} {
		says(t, exitConfig, command("--where", condition), "Postgres refuses the condition of --where", want, "hint: see tidemark reindex --help")
	}
	if n := count(t, search, fill(t, f, name)); n != 300 {
		t.Errorf("%d documents", n)
	}
	says(t, exitDone, status, "no instance follows it", "live", "300")

	// Who works by itself leaves the admin address to an instance that is about to run.
	f.takeAdmin(t)
	says(t, exitDone, command(), "rebuilt as "+name+"-2", "300 rows")
	says(t, exitDone, []string{"verify", "-c", f.path, name}, "300 rows and 300 documents compared: equal")
	remove(t, search, name, "7")
	remove(t, search, name, "8")
	d.Exec(t, "insert into items values (0, 'new')") // comes by the stream
	says(t, exitDone, command("--where", "id between 1 and 7 -- the first"), "7 rows read and stored again")
	if n := count(t, search, name); n != 300 {
		t.Errorf("%d documents after one of two was stored again", n)
	}
	says(t, exitDone, append(command("--where", "id < 100"), "--source", "items"), "100 rows")
	if n := count(t, search, name); n != 301 {
		t.Errorf("%d documents", n)
	}
	says(t, exitDone, command("--no-wait"), "asked for, request 3; no instance runs now, the next one does it")
	says(t, exitDone, command("--cancel"), "the next one does it")
	says(t, exitDone, status, "waiting", "refresh where id < 100")
	says(t, exitDone, command(), "rebuilt as")
	says(t, exitDone, status, "cancelled")
	says(t, exitFailed, command("--cancel"), "no index is being rebuilt")

	// What an operator has to know.
	d.Exec(t, "select pg_drop_replication_slot('"+f.slot+"')")
	says(t, exitFailed, status, "does not exist", "problem: ")
}

// fill fills an index by reindex alone, and returns its name.
func fill(t *testing.T, f *file, name string) string {
	t.Helper()
	says(t, exitDone, []string{"reindex", "-c", f.path, "all"}, name+": rebuilt as "+name+"-2", "300 rows")
	return name
}

// TestReindexAsks has an instance run, which does what is asked for.
func TestReindexAsks(t *testing.T) {
	t.Parallel()
	d, search, f, name := newItems(t, 300)
	says(t, exitDone, []string{"run", "--once", "-c", f.path})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan string, 1)
	go func() {
		code, _, wrong := tidemarkUntil(ctx, "run", "-c", f.path)
		ended <- fmt.Sprint(code, " ", wrong)
	}()
	defer func() {
		stop()
		if end := <-ended; !strings.HasPrefix(end, "0 ") {
			t.Error(end)
		}
	}()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var active bool
		if err := d.DB.QueryRowContext(t.Context(), "select active from pg_replication_slots where slot_name = $1", f.slot).Scan(&active); err == nil && active {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the instance does not follow its slot")
		}
	}
	command := func(args ...string) []string { return append([]string{"reindex", "-c", f.path, name}, args...) }
	status := func() (r statusReport) {
		t.Helper()
		if err := json.Unmarshal([]byte(says(t, exitDone, []string{"status", "--json", "-c", f.path})), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := status()
	says(t, exitDone, command(), "rebuilt as "+name+"-2", "300 rows")
	remove(t, search, name, "7")
	says(t, exitDone, command("--where", "id = 7"), "1 rows read and stored again")
	if n := count(t, search, name); n != 300 {
		t.Errorf("%d documents", n)
	}
	says(t, exitFailed, command("--cancel"), "the cancelling failed: the index is not being rebuilt")
	says(t, exitFailed, command("--where", "1 / (id - 5) = 0"), "the refresh failed", "division by zero")

	after := status()
	ix := after.Indices[0]
	if s := after.Slot; !s.Exists || !s.Active || s.LagBytes == nil {
		t.Errorf("slot: %+v", s)
	}
	if ix.State != admin.Live || ix.Physical == before.Indices[0].Physical || ix.Documents == nil || *ix.Documents != 300 || ix.Mapping != "same" || ix.RowsDone != 300 {
		t.Errorf("index: %+v", ix)
	}
	var requests []string
	for _, q := range after.Requests {
		requests = append(requests, q.Kind+" "+q.Phase)
	}
	if got := strings.Join(requests, ", "); got != "refresh failed, cancel failed, refresh done, reindex done" {
		t.Errorf("requests: %s", got)
	}

	// Nobody had the slot when it was asked for, and the instance has taken it since.
	for _, refresh := range []bool{false, true} {
		config, err := mapping.Read(f.path)
		if err != nil {
			t.Fatal(err)
		}
		q := &control.Request{Kind: control.KindReindex, Index: name}
		if refresh {
			q = &control.Request{Kind: control.KindRefresh, Index: name, Source: "public.items", Condition: "id = 7"}
		}
		log := slog.New(slog.DiscardHandler)
		a := newAsker(config, d.DB, io.Discard, log, progress.New(io.Discard, false, log))
		a.patience = time.Millisecond
		if err := a.work(t.Context(), []*control.Request{q}); err != nil || q.ID == 0 {
			t.Errorf("refresh: %v: request %d, %v", refresh, q.ID, err)
		}
		if last := status().Requests[0]; last.ID != q.ID || last.Phase != string(control.PhaseDone) {
			t.Errorf("refresh: %v: %+v", refresh, last)
		}
	}
	f.write(t, d.URL, search.URL, "  "+name+": {table: items, fields: {v: {type: keyword}}}\n")
	if r := status(); r.Indices[0].Mapping != "differs" {
		t.Errorf("the mapping was edited, status says %q", r.Indices[0].Mapping)
	}
}

// TestReindexLeaves ends with Ctrl-C while an instance does the work.
func TestReindexLeaves(t *testing.T) {
	err := &leftError{indices: []string{"a", "b"}}
	if text := err.Error(); !strings.Contains(text, "goes on with a b") || !strings.Contains(text, "reindex --cancel a b") {
		t.Error(text)
	}
	if code := exitCode(err); code != exitFailed {
		t.Error(code)
	}
}
