package reindex

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/reindex/verify"
	"tidemark/testenv"
)

// What somebody has to fix ends the process with a message that says how.
func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		built  bool // before
		change func(t *testing.T, r *rig)
		want   string
	}{
		{"the name is an index", false, func(t *testing.T, r *rig) { r.put(t, http.MethodPut, "/"+r.prefix+"t", ``) },
			"is an index of the cluster already, and cannot become an alias; hint: give the mapping another name"},
		{"the alias stands for another index", true, func(t *testing.T, r *rig) {
			_, live := r.physical(t, "t")
			r.put(t, http.MethodPut, "/"+r.prefix+"other", ``)
			r.put(t, http.MethodPost, "/_aliases", fmt.Sprintf(`{"actions":[{"remove":{"index":%q,"alias":%q}},{"add":{"index":%q,"alias":%q}}]}`, live, r.prefix+"t", r.prefix+"other", r.prefix+"t"))
		}, "hint: remove the alias"},
		{"the alias stands for another index, too", true, func(t *testing.T, r *rig) {
			r.put(t, http.MethodPut, "/"+r.prefix+"other", ``)
			r.put(t, http.MethodPut, "/"+r.prefix+"other/_alias/"+r.prefix+"t", ``)
		}, "hint: remove the alias"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
			if test.built {
				r.start(t, options{}).complete(t)
				r.crashAll(t)
			}
			test.change(t, r)
			p := r.start(t, options{})
			select {
			case err := <-p.ran:
				if !dbsync.IsPermanent(err) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), r.prefix+"t") {
					t.Errorf("Syncer.Run: %v, want a permanent error with %q", err, test.want)
				}
			case err := <-p.built:
				t.Errorf("Manager.Run: %v", err)
			case <-time.After(patience):
				t.Error("waited in vain for an error")
			}
		})
	}
}

// An index that the search server does not take has an alarm, and holds up no other.
func TestRefusedDefinition(t *testing.T) {
	t.Parallel()
	r := newRig(t, "PREFIXt: {table: t, settings: {number_of_shards: -1}}\nPREFIXu: {table: u}", tableT, rowsT(20), `CREATE TABLE u (id int PRIMARY KEY, v text)`, `INSERT INTO u SELECT * FROM t`)
	p := r.start(t, options{serve: true})
	p.complete(t)
	if err := p.manager.failures(); err == nil || !strings.Contains(err.Error(), r.prefix+"t") || !strings.Contains(err.Error(), "number_of_shards") || strings.Contains(err.Error(), r.prefix+"u") {
		t.Errorf("the alarms are %v", err)
	}
	r.db.Exec(t, `UPDATE u SET v = 'changed' WHERE id = 8`)
	p.settle(t)
	r.check(t, "u")
}

// Every request of the beginning fails once, without effect or with its answer lost.
func TestBeginIsRepeated(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		last := false
		for _, lost := range []bool{false, true} {
			r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(5))
			requests := 0
			match := func(q *testenv.Request) bool { // Begin sends one after the other
				if !strings.Contains(q.Path, r.prefix+"t") || q.IsBulk() || strings.HasSuffix(q.Path, "/_settings") {
					return false
				}
				requests++
				return requests == n
			}
			fault := testenv.Answer(http.StatusServiceUnavailable, 1, match)
			if lost {
				fault = testenv.LoseAnswer(1, match)
			}
			proxy := r.search.NewProxy(t)
			r.searchURL = proxy.URL
			proxy.Inject(fault)
			begun := make(chan struct{})
			p := r.start(t, options{begin: func(string, verify.Rows) { close(begun) }})
			select {
			case <-begun:
				last = last || fault.Hits() == 0
			case err := <-p.ran:
				t.Fatalf("request %d: Syncer.Run: %v", n, err)
			}
			p.complete(t)
			r.check(t, "t")
			r.settled(t, "t")
			r.crashAll(t)
		}
		if last || t.Failed() {
			if n < 4 {
				t.Errorf("%d requests were found", n)
			}
			return
		}
	}
}
