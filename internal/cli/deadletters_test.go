package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/reindex/control"
)

// TestDeadLettersUsage are command lines that make no sense. No server is asked.
func TestDeadLettersUsage(t *testing.T) {
	f := newFile(t, "postgres://127.0.0.1:1/d", "http://127.0.0.1:1", "s", "  a: {table: a}\n")
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "say what to do with them: list, retry or drop"},
		{[]string{"retry", "-c", f.path}, "name the indices, or all, or dead letters by --row"},
		{[]string{"drop", "-c", f.path}, "name the indices, or all, or dead letters by --row"},
		{[]string{"drop", "-c", f.path, "b"}, "there is no index b in the mapping"},
		{[]string{"list", "-c", f.path, "--row", "x"}, "row"},
		{[]string{"list", "-c", f.path, "--limit", "0"}, "want at least 1"},
	} {
		code, out, wrong := tidemark(t, append([]string{"dead-letters"}, test.args...)...)
		if code != exitConfig || out != "" || !strings.Contains(wrong, test.want) {
			t.Errorf("%q: %d %s%s, want %q", test.args, code, out, wrong, test.want)
		}
	}
}

// TestDeadLetters has documents refused, and no instance run.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	d, engine, f, name := newItems(t, 300)
	f.write(t, d.URL, engine.URL, "  "+name+": {table: items, fields: {v: {type: integer}}}\n")
	letters := func(args ...string) []string {
		return append([]string{"dead-letters", args[0], "-c", f.path}, args[1:]...)
	}
	says(t, exitDone, letters("list"), "there are no dead letters")
	says(t, exitDone, letters("retry", "all"), "there are no dead letters")
	says(t, exitDone, letters("drop", "all"), "0 dead letters dropped")

	d.Exec(t, "update items set v = id where id > 4")
	says(t, exitDone, []string{"run", "--once", "-c", f.path})
	says(t, exitDone, letters("list"), "row", "physical index", name+"-2", "1 time", "400", "v1", "v4")
	says(t, exitDone, letters("list", name, "--limit", "1"), "… and more")
	says(t, exitDone, letters("list", "--row", "4711"), "there are no dead letters")
	lines := func(args ...string) (all []letterLine) {
		t.Helper()
		for line := range strings.Lines(says(t, exitDone, letters(append([]string{"list", "--json"}, args...)...))) {
			var l letterLine
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			all = append(all, l)
		}
		return all
	}
	all := lines()
	if len(all) != 4 {
		t.Fatalf("%d dead letters: %+v", len(all), all)
	}
	if l := all[1]; l.Index != name || !strings.HasPrefix(l.Physical, name+"-2") || l.ID != "2" || l.Operation != "index" || l.Status != 400 || l.Type == "" ||
		!strings.Contains(l.Reason, "v2") || l.Attempts != 1 || time.Since(l.CreatedAt) > time.Hour || string(l.Document) != `{"id":2,"v":"v2"}` {
		t.Errorf("a dead letter: %+v, document %s", l, l.Document)
	}
	if two := lines("--limit", "2"); len(two) != 2 || two[1].Row != all[1].Row {
		t.Errorf("the first two: %+v", two)
	}

	says(t, exitDone, letters("drop", "--row", fmt.Sprint(all[3].Row)), "1 dead letter dropped")
	says(t, exitFailed, letters("retry", name), name+": 3 dead letters retried, 3 gone; 3 documents refused again", "3 documents were refused again: tidemark dead-letters list says why")
	status, answer, err := engine.Do(t.Context(), http.MethodPut, "/"+name+"/_mapping", []byte(`{"properties":{"v":{"type":"integer","ignore_malformed":true}}}`))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d %s %v", status, answer, err)
	}
	all = lines()
	says(t, exitDone, letters("retry", "--row", fmt.Sprint(all[0].Row)), "1 dead letter retried, 1 gone; 0 documents refused again")
	f.takeAdmin(t)
	says(t, exitDone, letters("retry", "all"), "2 dead letters retried, 2 gone; 0 documents refused again")
	says(t, exitDone, letters("retry", "all"), "there are no dead letters")
	if n := count(t, engine, name); n != 299 { // one was dropped
		t.Errorf("%d documents", n)
	}

	// Those of an index that left the file are there all the same.
	letter := search.Refused{Err: &search.DocError{Status: 400, Type: "not_sent", Reason: "a\ttab"}}
	letter.Operation.Index, letter.Operation.ID, letter.Operation.Kind = "other-20260131T120000Z", strings.Repeat("long", 100), dbsync.Delete
	kept := control.Open(d.DB, "dbsync_ctrl", "slot").DeadLetters(nil)
	if err := kept.Keep(t.Context(), []search.Refused{letter}); err != nil {
		t.Fatal(err)
	}
	out := says(t, exitDone, letters("list"), "other-20260131t120000z", "delete: 400 not_sent: a tab", "longlong", "…")
	if n := strings.Count(out, "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, out)
	}
	says(t, exitDone, letters("drop", "all"), "0 dead letters dropped")
	says(t, exitDone, letters("drop", "--row", fmt.Sprint(lines()[0].Row)), "1 dead letter dropped")

	f.write(t, d.URL, engine.URL, "  "+name+": {table: items, fields: {v: {type: keyword}}}\n")
	letter.Operation.Index = search.WriteAlias(name, all[0].Physical)
	if err := kept.Keep(t.Context(), []search.Refused{letter}); err != nil {
		t.Fatal(err)
	}
	says(t, exitFailed, letters("retry", name), "needs a backfill first", "hint: tidemark run")
}
