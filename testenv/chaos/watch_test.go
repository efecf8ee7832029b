package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// newWatched has a watch of servers with which nobody keeps anything in sync: the test does what
// an instance would.
func newWatched(t *testing.T) (*watch, *testenv.Database, *journal) {
	t.Helper()
	postgres := testenv.StartPostgres(t, testenv.PostgresOptions{})
	search := testenv.StartSearch(t, testenv.Engines(t)[0], testenv.SearchOptions{Heap: "512m"})
	db := postgres.NewDatabase(t)
	db.Exec(t, `CREATE TABLE markers (id bigint PRIMARY KEY)`, fmt.Sprintf(`SELECT pg_create_logical_replication_slot('%s', 'pgoutput')`, slot))
	j := newJournal(new(bytes.Buffer), func() {})
	return newWatch(db.URL, search, nil, j), db, j
}

func ask(t *testing.T, s *testenv.SearchServer, method, path, body string) {
	t.Helper()
	status, answer, err := s.Do(t.Context(), method, path, []byte(body))
	if err != nil || status/100 != 2 {
		t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
	}
}

// TestWatch has positions confirmed before they are stored, and a document that gets an older
// version: both are noticed, and nothing else is.
func TestWatch(t *testing.T) {
	t.Parallel()
	w, db, j := newWatched(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ask(t, w.search, "PUT", "/markers-20260131t120000z", `{"aliases":{"markers":{}}}`)
	commit := func() marker {
		t.Helper()
		m, err := w.commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		w.pending = append(w.pending, m)
		return m
	}
	store := func(m marker) { ask(t, w.search, "PUT", fmt.Sprintf("/markers/_doc/%d", m.id), `{}`) }
	confirm := func(m marker) {
		db.Exec(t, fmt.Sprintf(`SELECT pg_replication_slot_advance('%s', '%s')`, slot, m.end))
	}
	look := func(want ...string) {
		t.Helper()
		if err := w.checkConfirmed(ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.checkVersions(ctx); err != nil {
			t.Fatal(err)
		}
		got := j.failures()
		j.failed = nil
		if len(got) != len(want) {
			t.Fatalf("%q is wrong, want %q", got, want)
		}
		for n := range want {
			if !strings.Contains(got[n], want[n]) {
				t.Errorf("%q is wrong, want %q", got[n], want[n])
			}
		}
	}

	a, b := commit(), commit()
	look() // neither is confirmed
	store(a)
	confirm(a)
	look()
	if len(w.pending) != 1 || w.checked != 1 {
		t.Errorf("%v is pending, %d were checked", w.pending, w.checked)
	}
	confirm(b)
	look("1 markers that were committed before are not stored: [2]")
	c := commit()
	w.suspend()
	confirm(c)
	look()
	w.resume()

	index := "/items-20260131t120000z"
	ask(t, w.search, "PUT", index, `{"settings":{"index.gc_deletes":"0s","number_of_shards":1}}`)
	versioned := func(method string, version int, routing string) {
		ask(t, w.search, method, fmt.Sprintf("%s/_doc/1?routing=%s&version_type=external&version=%d", index, routing, version), `{}`)
	}
	versioned("PUT", 5, "3")
	look()
	versioned("PUT", 6, "3")
	look()
	versioned("DELETE", 7, "3")
	look()
	// What was deleted is forgotten, as it is by a server that starts again: an older one is taken.
	deadline := time.Now().Add(time.Minute)
	for {
		status, _, err := w.search.Do(ctx, "PUT", index+"/_doc/1?routing=3&version_type=external&version=4", []byte(`{}`))
		if err == nil && status/100 == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server does not forget: %d %v", status, err)
		}
		ask(t, w.search, "POST", index+"/_refresh", ``)
		ask(t, w.search, "POST", index+"/_flush", ``)
		time.Sleep(100 * time.Millisecond)
	}
	// One of each routing finds it, as there is one shard.
	look(strings.Split(strings.Repeat("had version 6 and has 4\n", 5), "\n")[:5]...)
	versioned("PUT", 9, "3")
	look()
	if w.seen == 0 {
		t.Error("no version was looked at")
	}
}
