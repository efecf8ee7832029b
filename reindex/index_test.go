package reindex

import (
	"context"
	"errors"
	"strings"
	"testing"

	"tidemark/mapping"
	"tidemark/reindex/control"
)

func newIndex(st *control.State) *index {
	return &index{Index: &mapping.Index{Name: "i"}, known: st, planned: make(map[string]bool)}
}

func version(physical string) control.Version {
	return control.Version{Physical: physical, Fingerprint: "f", Generation: "g"}
}

// Which rebuilds are cancelled, and what is said of the others.
func TestIndexCancel(t *testing.T) {
	nothing := func(context.Context, *index) {}
	served := func(_ context.Context, x *index) { x.endRun() }
	rebuild := control.State{Live: version("i-1"), Building: version("i-2")}
	for _, test := range []struct {
		name   string
		state  control.State
		before func(ctx context.Context, x *index)
		under  bool   // a backfill is under way
		want   string // error; "": it is cancelled
	}{
		{"a rebuild", rebuild, served, true, ""},
		{"one that an earlier process has begun", rebuild, nothing, true, ""},
		{"the same, before it goes on", rebuild, nothing, false, errNotYet.Error()},
		{"one that was asked for and has nothing built yet", control.State{Live: version("i-1")}, func(_ context.Context, x *index) { x.endRun(); x.startRebuild() }, false, errNotYet.Error()},
		{"one that was asked for and has ended", control.State{Live: version("i-1")}, func(_ context.Context, x *index) { x.endRun(); x.startRebuild(); x.endRebuild() }, false, "not being rebuilt"},
		{"none", control.State{Live: version("i-1")}, served, false, "not being rebuilt"},
		{"in the last steps", rebuild, func(ctx context.Context, x *index) { x.endRun(); _, done := x.cancellable(ctx); done() }, false, "complete but for its alias"},
		{"the first backfill", control.State{Building: version("i-1")}, nothing, true, "nothing to go back to"},
		{"of one that misses changes", control.State{Live: control.Version{Physical: "i-1", Fingerprint: "f"}, Building: version("i-2")}, served, true, "misses changes"},
		{"of one that was set back", rebuild, func(_ context.Context, x *index) { x.endRun(); x.spoil("i-1") }, true, "misses changes"},
		{"an edited mapping", control.State{Live: version("i-1"), Building: control.Version{Physical: "i-2", Fingerprint: "g"}}, nothing, true, "put the mapping back"},
	} {
		t.Run(test.name, func(t *testing.T) {
			x := newIndex(&test.state)
			test.before(t.Context(), x)
			work, done := t.Context(), func() {}
			if test.under {
				work, done = x.cancellable(work)
			}
			err := x.cancel(nil)
			if err == nil != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if cancelled := errors.Is(context.Cause(work), errCancelled); cancelled != (test.want == "") {
				t.Errorf("the backfill ends with %v", context.Cause(work))
			}
			done()
			if err := x.cancel(nil); test.under && x.isRunDone() && (err == nil || !strings.Contains(err.Error(), "not being rebuilt")) {
				t.Errorf("after its end: %v", err)
			}
		})
	}
}

// What another process has noted is told from what this one has noted, or is about to.
func TestIndexIsOurs(t *testing.T) {
	for _, test := range []struct {
		name        string
		mine, noted control.State
		planned     string
		want        bool
	}{
		{"as noted", control.State{Live: version("i-1"), Building: version("i-2")}, control.State{Live: version("i-1"), Building: version("i-2")}, "", true},
		{"noted as complete, and not yet here", control.State{Live: version("i-1"), Building: version("i-2")}, control.State{Live: version("i-2")}, "", true},
		{"noted as being built, and not yet here", control.State{Live: version("i-1")}, control.State{Live: version("i-1"), Building: version("i-2")}, "i-2", true},
		{"another one is being built", control.State{Live: version("i-1")}, control.State{Live: version("i-1"), Building: version("i-2")}, "i-3", false},
		{"another one is complete", control.State{Live: version("i-1"), Building: version("i-2")}, control.State{Live: version("i-3")}, "i-2", false},
	} {
		x := newIndex(&test.mine)
		if test.planned != "" {
			x.plan(test.planned)
		}
		if got := x.isOurs(&test.noted); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	if newIndex(&control.State{}).isOurs(nil) {
		t.Error("the row is gone, and it is ours")
	}
}

// A partition's note does not bring back the state before a rebuild.
func TestIndexSetPartitions(t *testing.T) {
	x := newIndex(&control.State{Name: "i", Live: version("i-1")})
	before := x.state()
	x.setPartitions("i-1", "p")
	if st := x.state(); st.Live.Partitions != "p" || before.Live.Partitions != "" {
		t.Errorf("%+v, before %+v", st, before)
	}
	x.set(control.State{Name: "i", Live: version("i-2")})
	x.setPartitions("i-1", "q")
	if st := x.state(); st.Live != version("i-2") {
		t.Errorf("%+v", st)
	}
}
