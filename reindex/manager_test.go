package reindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
	"tidemark/testenv"
)

// put sends a request to the search server that must succeed.
func (r *rig) put(t testing.TB, method, path, body string) {
	t.Helper()
	status, answer, err := r.search.Do(t.Context(), method, path, []byte(body))
	if err != nil || status/100 != 2 {
		t.Fatalf("%s %s: %d %s, %v", method, path, status, answer, err)
	}
}

// What makes an index be rebuilt at the start, and what does not.
func TestRebuildReasons(t *testing.T) {
	t.Parallel()
	const mapping = `PREFIXt: {table: t}`
	tests := []struct {
		name     string
		change   func(t *testing.T, r *rig, o *options)
		rebuilds bool
		drops    bool // the index that was in use is gone before the new one is complete
	}{
		{"nothing", func(*testing.T, *rig, *options) {}, false, false},
		{"asked for", func(_ *testing.T, r *rig, o *options) {
			o.rebuild = func(name string) bool { return name == r.prefix+"t" }
		}, true, false},
		{"another was asked for", func(_ *testing.T, r *rig, o *options) {
			o.rebuild = func(name string) bool { return name != r.prefix+"t" }
		}, false, false},
		{"edited mapping", func(_ *testing.T, r *rig, _ *options) {
			r.indices = `PREFIXt: {table: t, fields: {v: {type: keyword}}}`
		}, true, false},
		{"edited in what does not matter", func(_ *testing.T, r *rig, _ *options) {
			r.indices = `PREFIXt: {table: public.t, reindex: {chunk: 5}, fields: {v: true}}`
		}, false, false},
		{"new column", func(t *testing.T, r *rig, _ *options) { r.db.Exec(t, `ALTER TABLE t ADD COLUMN w int DEFAULT 7`) }, true, false},
		{"new slot", func(t *testing.T, r *rig, o *options) {
			r.db.Exec(t, `SELECT pg_drop_replication_slot('`+r.db.Unique("slot")+`')`, `UPDATE t SET v = 'missed'`)
			o.syncer = append(o.syncer, dbsync.WithNewSlot())
		}, true, false},
		{"table out of the publication for a while", func(t *testing.T, r *rig, _ *options) {
			r.db.Exec(t, `ALTER PUBLICATION dbsync_mypub DROP TABLE t`, `UPDATE t SET v = 'missed'`, `ALTER PUBLICATION dbsync_mypub ADD TABLE t`)
		}, true, false},
		{"table made again", func(t *testing.T, r *rig, _ *options) {
			r.db.Exec(t, `DROP TABLE t`, tableT, rowsT(10))
		}, true, false},
		{"index out of the mapping for a while", func(t *testing.T, r *rig, _ *options) {
			mapping := r.indices
			r.indices = `PREFIXother: {table: t}`
			other := r.start(t, options{})
			other.complete(t)
			r.db.Exec(t, `UPDATE t SET v = 'missed'`)
			other.settle(t)
			r.crashAll(t)
			r.indices = mapping
		}, true, false},
		{"physical index gone", func(t *testing.T, r *rig, _ *options) {
			_, live := r.physical(t, "t")
			r.put(t, http.MethodDelete, "/"+live, ``)
		}, true, true},
		{"write alias gone", func(t *testing.T, r *rig, _ *options) {
			_, live := r.physical(t, "t")
			r.put(t, http.MethodDelete, "/"+live+"/_alias/"+search.WriteAlias(r.prefix+"t", live), ``)
		}, true, false},
		{"state gone", func(t *testing.T, r *rig, _ *options) { r.db.Exec(t, `DELETE FROM dbsync_ctrl.indices`) }, true, false},
		{"alias gone", func(t *testing.T, r *rig, _ *options) {
			_, live := r.physical(t, "t")
			r.put(t, http.MethodDelete, "/"+live+"/_alias/"+r.prefix+"t", ``)
		}, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, mapping, tableT, rowsT(20))
			r.start(t, options{}).complete(t)
			r.crashAll(t)
			_, before := r.physical(t, "t")
			r.db.Exec(t, `UPDATE t SET v = 'while nobody looked' WHERE id = 7`)
			var o options
			test.change(t, r, &o)

			during := "not asked"
			o.begin = func(string, verify.Rows) { _, during = r.physical(t, "t") }
			p := r.start(t, o)
			p.complete(t)
			r.check(t, "t")
			r.settled(t, "t")
			_, after := r.physical(t, "t")
			if rebuilt := after != before; rebuilt != test.rebuilds {
				t.Errorf("the alias stood for %s and stands for %s", before, after)
			}
			if want := before; test.rebuilds && test.drops == (during == want) {
				t.Errorf("during the backfill the alias stood for %q", during)
			}

			// And not once more.
			r.crashAll(t)
			r.start(t, options{}).complete(t)
			if _, again := r.physical(t, "t"); again != after {
				t.Errorf("the next start has rebuilt it again: %s after %s", again, after)
			}
		})
	}
}

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
			"is an index, not an alias; hint: give the mapping another name"},
		{"the alias stands for another index", true, func(t *testing.T, r *rig) {
			_, live := r.physical(t, "t")
			r.put(t, http.MethodPut, "/"+r.prefix+"other", ``)
			r.put(t, http.MethodPost, "/_aliases", fmt.Sprintf(`{"actions":[{"remove":{"index":%q,"alias":%q}},{"add":{"index":%q,"alias":%q}}]}`, live, r.prefix+"t", r.prefix+"other", r.prefix+"t"))
		}, "hint: remove the alias"},
		{"the alias stands for another index, too", true, func(t *testing.T, r *rig) {
			r.put(t, http.MethodPut, "/"+r.prefix+"other", ``)
			r.put(t, http.MethodPut, "/"+r.prefix+"other/_alias/"+r.prefix+"t", ``)
		}, "hint: remove the alias"},
		{"settings that the server does not take", false, func(_ *testing.T, r *rig) { r.indices = `PREFIXt: {table: t, settings: {number_of_shards: -1}}` }, "number_of_shards"},
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
				if permanent := (*dbsync.PermanentError)(nil); !errors.As(err, &permanent) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), r.prefix+"t") {
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

// A backfill that was given up leaves nothing behind: neither its index nor dead letters.
func TestAbandonedBackfill(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 5}}`, tableT, rowsT(20))
	stored := make(chan struct{}, 100)
	r.start(t, options{stored: func(int64) { stored <- struct{}{} }})
	<-stored
	r.crashAll(t)
	first := r.state(t, "t")
	if first.Building.Physical == "" {
		t.Fatal("it is complete already")
	}
	dead(t, r, first.Building.Physical)
	r.indices = `PREFIXt: {table: t, fields: {v: {type: keyword}}, reindex: {chunk: 5}}`
	r.start(t, options{}).complete(t)
	r.check(t, "t")
	r.settled(t, "t")
	if n := query[int](t, r.db, "SELECT count(*) FROM dbsync_ctrl.dead_letters"); n != 0 {
		t.Errorf("%d dead letters are left", n)
	}
}

func TestKeepOld(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {keep_old: 2}}`, tableT, rowsT(5))
	var made []string
	for range 4 {
		r.start(t, options{rebuild: func(string) bool { return true }}).complete(t)
		r.crashAll(t)
		_, live := r.physical(t, "t")
		made = append(made, live)
	}
	if all, _ := r.physical(t, "t"); !slices.Equal(all, made[1:]) {
		t.Errorf("there are %q, of %q", all, made)
	}
	// Another index whose name begins alike is none of ours.
	r.put(t, http.MethodPut, "/"+r.prefix+"t-20200101", ``)
	r.put(t, http.MethodPut, "/"+r.prefix+"t-more-20200101t000000z", ``)
	r.indices = `PREFIXt: {table: t}`
	r.start(t, options{}).complete(t)
	all, _ := r.physical(t, "t")
	if want := []string{r.prefix + "t-20200101", made[3], r.prefix + "t-more-20200101t000000z"}; !slices.Equal(all, want) {
		t.Errorf("there are %q, want %q", all, want)
	}
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

// A physical index that is deleted during its backfill is an alarm, and not made by
// accident; the next start makes it anew.
func TestIndexGoneWhileBackfilling(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, reindex: {chunk: 5}}`, tableT, rowsT(20))
	chunk, goOn := make(chan struct{}, 1), make(chan struct{})
	p := r.start(t, options{stored: func(int64) {
		select {
		case chunk <- struct{}{}:
			<-goOn
		default:
		}
	}})
	<-chunk
	building := r.state(t, "t").Building.Physical
	r.put(t, http.MethodDelete, "/"+building, ``)
	close(goOn)
	await(t, "an alarm", func() bool { return len(p.manager.o.Alarm.Reasons()) > 0 })
	if all, _ := r.physical(t, "t"); len(all) > 0 {
		t.Errorf("there are %q", all)
	}
	ended := make(chan struct{})
	go func() { p.crash(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the process does not end while it is held back")
	}
	r.start(t, options{}).complete(t)
	r.check(t, "t")
	r.settled(t, "t")
}

// The settings that are others during the backfill of an index.
func TestSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, settings: {number_of_replicas: 2, refresh_interval: 7s}}`+"\n"+`PREFIXu: {table: u}`,
		tableT, `CREATE TABLE u (id int PRIMARY KEY)`)
	settings := func(index string) string {
		_, answer, err := r.search.Do(context.WithoutCancel(t.Context()), http.MethodGet, "/"+index+"/_settings?flat_settings=true", nil)
		if err != nil {
			t.Error(err)
		}
		var indices map[string]struct{ Settings map[string]string }
		if err := json.Unmarshal(answer, &indices); err != nil {
			t.Errorf("%s: %v", answer, err)
		}
		for _, i := range indices {
			return "replicas " + i.Settings["index.number_of_replicas"] + ", refresh " + i.Settings["index.refresh_interval"]
		}
		return "none"
	}
	var during []string
	p := r.start(t, options{begin: func(index string, _ verify.Rows) {
		st, err := control.NewStates(r.db.DB, "dbsync_ctrl").Read(context.WithoutCancel(t.Context()), index)
		if err != nil {
			t.Error(err)
			return
		}
		during = append(during, settings(st.Building.Physical))
	}})
	p.complete(t)
	for _, s := range during {
		if s != "replicas 0, refresh -1" {
			t.Errorf("settings during the backfill: %s", s)
		}
	}
	if got, want := settings(r.prefix+"t"), "replicas 2, refresh 7s"; got != want {
		t.Errorf("settings: %s, want %s", got, want)
	}
	if got, want := settings(r.prefix+"u"), "replicas 1, refresh "; got != want {
		t.Errorf("settings: %s, want %s", got, want)
	}
}
