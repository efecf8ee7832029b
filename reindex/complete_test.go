package reindex

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tidemark/reindex/control"
	"tidemark/testenv"
)

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

// The process ends at every request of the completion, before it has its effect and
// after that. The next one repairs it.
func TestCrashWhileCompleting(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	r.start(t, options{}).complete(t) // an index in use, to be replaced
	crashes := 0
	ended := make(map[bool]bool)
	for n := int64(1); !ended[false]; n++ {
		for _, lost := range []bool{false, true} {
			if ended[lost] {
				continue
			}
			r.crashAll(t)
			var requests atomic.Int64
			completing := false
			var request string
			var mu sync.Mutex
			match := func(q *testenv.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				completing = completing || q.Method == http.MethodPut && strings.HasSuffix(q.Path, "/_settings")
				if !completing || q.IsBulk() || lost && q.Method == http.MethodGet || requests.Add(1) != n {
					return false
				}
				request = q.Method + " " + strings.ReplaceAll(q.Path, r.prefix, "")
				return true
			}
			fault := testenv.Hold(1, match)
			if lost {
				fault = testenv.HoldAnswer(1, match)
			}
			proxy := r.search.NewProxy(t)
			r.searchURL = proxy.URL
			proxy.Inject(fault)
			_, old := r.physical(t, "t")
			dead(t, r, old)
			p := r.start(t, options{rebuild: func(string) bool { return true }})
			r.searchURL = r.search.URL

			hit := make(chan error, 1)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			go func() { hit <- fault.Await(ctx, 1) }()
			select {
			case err := <-hit:
				if err != nil {
					t.Fatal(err)
				}
				crashes++
			case err := <-p.built: // there are no more requests
				if err != nil {
					t.Fatal(err)
				}
				cancel()
				<-hit
				ended[lost] = true
				continue
			}
			cancel()
			if lost {
				await(t, "effect of "+request, func() bool {
					all, live := r.physical(t, "t")
					return !strings.HasSuffix(request, "_aliases") && !strings.HasPrefix(request, "DELETE") ||
						strings.HasSuffix(request, "_aliases") && live != old || !slices.Contains(all, old)
				})
			}
			p.crash()
			t.Logf("crash at %s, its answer is lost: %v", request, lost)
			r.db.Exec(t, `UPDATE t SET v = 'after the crash' WHERE id = 7; DELETE FROM t WHERE id = 8; INSERT INTO t VALUES (8, 'again')`)

			if _, live := r.physical(t, "t"); live == "" {
				t.Errorf("crash at %s: the alias is gone", request)
			}
			r.start(t, options{}).complete(t)
			r.check(t, "t")
			r.settled(t, "t")
			if _, live := r.physical(t, "t"); live == old {
				t.Errorf("crash at %s: the alias still stands for %s", request, old)
			}
			if n := query[int](t, r.db, "SELECT count(*) FROM dbsync_ctrl.dead_letters"); n != 0 {
				t.Errorf("crash at %s: %d dead letters of an index that was dropped are left", request, n)
			}
			if t.Failed() {
				return
			}
		}
	}
	if crashes < 10 {
		t.Errorf("only %d crashes", crashes)
	}
}

// The alias moves when everything is stored that was committed before, also what came by
// the stream after the last chunk.
func TestAliasWaitsForTheStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	lastChunk, goOn := make(chan struct{}), make(chan struct{})
	p := r.start(t, options{stored: func(int64) { close(lastChunk); <-goOn }})
	<-lastChunk
	var lifted atomic.Bool
	hold := proxy.Inject(testenv.Hold(1, testenv.Bulk))
	proxy.Inject(testenv.Watch(func(q *testenv.Request) bool {
		if strings.HasSuffix(q.Path, "/_aliases") && !lifted.Load() {
			t.Error("the alias moves before the stream has passed")
		}
		return false
	}))
	r.db.Exec(t, `UPDATE t SET v = 'by the stream'`)
	if err := hold.Await(within(t, patience), 1); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	await(t, "the manager waits", func() bool {
		return strings.HasPrefix(query[string](t, r.db, "SELECT max(token) FROM dbsync_ctrl.dbsync_wmtable"), "mark:")
	})
	lifted.Store(true)
	hold.Lift()
	p.complete(t)
	r.check(t, "t")
}

func TestFinishIsRepeatable(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT)
	p := r.start(t, options{})
	p.complete(t)
	st := &control.State{Name: "x", Building: control.Version{Physical: "x-1", Fingerprint: "f", Generation: "g"}}
	ctx := t.Context()
	if err := p.states.Begin(ctx, st, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // its answer may have been lost
		if err := p.states.Finish(ctx, st); err != nil {
			t.Fatal(err)
		}
	}
	got, err := p.states.Read(ctx, "x")
	if err != nil || got.Live.Physical != "x-1" || got.Live.Fingerprint != "f" || got.Live.Generation != "g" || got.Building.Physical != "" || got.Building.Fingerprint != "" {
		t.Errorf("state: %+v, %v", got, err)
	}
	next := &control.State{Name: "x", Live: control.Version{Physical: "x-1", Fingerprint: "f", Generation: "g"}, Building: control.Version{Physical: "x-2", Fingerprint: "f", Generation: "g"}}
	if err := p.states.Begin(ctx, next, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.states.Finish(ctx, st); !errors.As(err, new(*control.TakenOverError)) {
		t.Errorf("finish of what is not being built: %v", err)
	}
	// Who was away while another process has completed one notes nothing.
	stale := &control.State{Name: "x", Live: control.Version{Physical: "x-0"}, Building: control.Version{Physical: "x-3"}}
	if err := p.states.Begin(ctx, stale, []string{"x-0"}); !errors.As(err, new(*control.TakenOverError)) {
		t.Errorf("begin by what was in use before: %v", err)
	}
}

// A connection that breaks in the moment of the completion is no take-over.
func TestNewConnectionWhileCompleting(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	p := r.start(t, options{})
	p.complete(t)
	// What complete has noted in the database and not yet in memory.
	st := *p.manager.State(r.prefix + "t")
	st.Building, st.Live = st.Live, control.Version{}
	p.manager.byName[st.Name].set(st)
	if err := p.manager.Begin(within(t, patience)); err != nil {
		t.Error(err)
	}
}
