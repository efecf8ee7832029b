package control

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
)

func TestDoubt(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC) }
	type shards = map[int]search.Recovery
	recovery := func(how search.RecoveryType) func(minute int) search.Recovery {
		return func(minute int) search.Recovery { return search.Recovery{Type: how, At: at(minute)} }
	}
	made, started, moved, restored := recovery(search.RecoveredEmpty), recovery(search.RecoveredExisting), recovery(search.RecoveredPeer), recovery(search.RecoveredSnapshot)
	const lost, late, back, empty = "translog.durability async", "had no answer", "snapshot of the cluster", "is empty"
	for _, test := range []struct {
		name  string
		noted Recovery
		now   shards
		async bool
		want  string
	}{
		{"nothing was noted of a new index", Recovery{}, shards{0: made(0)}, true, ""},
		{"nothing has happened", Recovery{Shards: shards{0: started(0), 1: made(1)}}, shards{0: started(0), 1: made(1)}, true, ""},
		{"a restart of one that is written before it answers", Recovery{Shards: shards{0: made(0)}}, shards{0: started(9)}, false, ""},
		{"a restart of one that is not", Recovery{Shards: shards{0: made(0)}}, shards{0: started(9)}, true, lost},
		{"a restart of one that was not", Recovery{Async: true, Shards: shards{0: made(0)}}, shards{0: started(9)}, false, lost},
		{"another restart", Recovery{Shards: shards{0: started(0)}}, shards{0: started(9)}, true, lost},
		{"the second shard alone", Recovery{Shards: shards{0: made(0), 1: made(0)}}, shards{0: made(0), 1: started(9)}, true, lost},
		{"a restart before it was noted first", Recovery{}, shards{0: started(9)}, true, lost},
		{"a shard is away", Recovery{Shards: shards{0: made(0)}}, shards{}, true, ""},
		{"a shard was moved", Recovery{Shards: shards{0: made(0)}}, shards{0: moved(9)}, true, ""},
		{"restored", Recovery{Shards: shards{0: made(0)}}, shards{0: restored(9)}, false, back},
		{"made anew", Recovery{Shards: shards{0: started(0)}}, shards{0: made(9)}, false, empty},
		{"a restart after a request without an answer", Recovery{UnansweredAt: at(5), NotedAt: at(5), Shards: shards{0: made(0)}}, shards{0: started(9)}, false, late},
		{"a shard was moved after a request without an answer", Recovery{UnansweredAt: at(5), NotedAt: at(30), Shards: shards{0: made(0)}}, shards{0: moved(40)}, false, late},
		{"a restart long after a request without an answer", Recovery{UnansweredAt: at(5), NotedAt: at(66), Shards: shards{0: made(0)}}, shards{0: started(70)}, false, ""},
		{"no restart after a request without an answer", Recovery{UnansweredAt: at(5), NotedAt: at(6), Shards: shards{0: made(0)}}, shards{0: made(0)}, false, ""},
	} {
		if got := test.noted.Doubt(test.now, test.async); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestRecoveries(t *testing.T) {
	ctx := context.WithoutCancel(searchtest.Within(t, time.Minute))
	db := newMigrated(t)
	r := Open(db.DB, "ctrl", "slot").Recoveries()
	check := func(want *Recovery) {
		t.Helper()
		got, err := r.Read(ctx, want.Index, want.Physical)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	at := func(ms int64) time.Time { return time.UnixMilli(1_700_000_000_000 + ms) }
	none := &Recovery{Index: "p", Physical: "p-1", Shards: map[int]search.Recovery{}}
	check(none)
	first := &Recovery{Index: "p", Physical: "p-1", Async: true, NotedAt: at(3), Open: true, Shards: map[int]search.Recovery{0: {Type: search.RecoveredEmpty, At: at(1)}, 7: {Type: search.RecoveredPeer, At: at(2)}}}
	second := &Recovery{Index: "p", Physical: "p-2", NotedAt: at(3), UnansweredAt: at(2), Shards: map[int]search.Recovery{}}
	for _, noted := range []*Recovery{first, second} {
		if err := r.Note(ctx, noted); err != nil {
			t.Fatal(err)
		}
		check(noted)
	}
	if changed := first.Take(map[int]search.Recovery{7: {Type: search.RecoveredPeer, At: at(2)}}, true); changed {
		t.Error("the same is a change")
	}
	if changed := first.Take(map[int]search.Recovery{7: {Type: search.RecoveredPeer, At: at(5)}}, true); !changed || len(first.Shards) != 2 {
		t.Errorf("changed is %t, and it has %d shards", changed, len(first.Shards))
	}
	first.Open = false
	if err := r.Note(ctx, first); err != nil {
		t.Fatal(err)
	}
	check(first)
	if err := r.Keep(ctx, "p", []string{"p-2"}); err != nil {
		t.Fatal(err)
	}
	check(none)
	check(second)
}
