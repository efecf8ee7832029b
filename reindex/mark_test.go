package reindex

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/reindex/control"
	"tidemark/testenv"
)

// A snapshot of an index in the cluster.
type snapshot struct {
	r          *rig
	path       string
	repository string
}

// snapshot takes one of a physical index.
func (r *rig) snapshot(t testing.TB, physical string) *snapshot {
	t.Helper()
	name := strings.TrimSuffix(r.prefix, "-")
	s := &snapshot{r: r, repository: "/_snapshot/" + name, path: "/_snapshot/" + name + "/one"}
	r.put(t, http.MethodPut, s.repository, fmt.Sprintf(`{"type":"fs","settings":{"location":%q}}`, name))
	r.put(t, http.MethodPut, s.path+"?wait_for_completion=true", fmt.Sprintf(`{"indices":%q,"include_global_state":false}`, physical))
	return s
}

// restore sets the index back to it.
func (s *snapshot) restore(t testing.TB, physical string) {
	t.Helper()
	s.r.put(t, http.MethodPost, s.path+"/_restore?wait_for_completion=true", fmt.Sprintf(`{"indices":%q,"include_global_state":false}`, physical))
}

func (r *rig) deleted(t testing.TB, physical string) { r.put(t, http.MethodDelete, "/"+physical, ``) }
func (r *rig) closed(t testing.TB, physical string) {
	r.put(t, http.MethodPost, "/"+physical+"/_close", ``)
}

// restores are the ways to set an index back.
var restores = map[string]func(r *rig, t testing.TB, physical string){"closed": (*rig).closed, "deleted": (*rig).deleted}

// An index is restored from a snapshot of the cluster while nothing runs. What was written since is
// confirmed and does not come again: it is built anew.
func TestRestoredFromSnapshot(t *testing.T) {
	t.Parallel()
	for name, remove := range restores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, `PREFIXt: {table: t}
PREFIXother: {table: t}`, tableT, rowsT(100))
			p := r.start(t, options{})
			p.complete(t)
			physical, other := r.state(t, "t").Live.Physical, r.state(t, "other").Live.Physical
			s := r.snapshot(t, physical)
			r.db.Exec(t, `DELETE FROM t WHERE id > 90`, `UPDATE t SET v = 'later' WHERE id < 50`)
			p.settle(t)
			r.crashAll(t)
			remove(r, t, physical)
			s.restore(t, physical)
			p = r.start(t, options{})
			p.complete(t)
			r.settled(t, "t")
			r.check(t, "t")
			if now := r.state(t, "t").Live.Physical; now == physical {
				t.Error("it was not built anew")
			}
			if now := r.state(t, "other").Live.Physical; now != other {
				t.Error("an index that was not restored was built anew")
			}
		})
	}
}

// An index is restored under the feet of the process.
func TestRestoredWhileRunning(t *testing.T) {
	t.Parallel()
	for name, remove := range restores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(100))
			p := r.start(t, options{serve: true, partitions: 50 * time.Millisecond})
			p.complete(t)
			physical := r.state(t, "t").Live.Physical
			s := r.snapshot(t, physical)
			r.db.Exec(t, `DELETE FROM t WHERE id > 90`, `UPDATE t SET v = 'later' WHERE id < 50`)
			p.settle(t)
			remove(r, t, physical)
			s.restore(t, physical)
			await(t, "it is built anew", func() bool {
				st := r.state(t, "t")
				return st.Live.Physical != physical && st.Building.Physical == "" && !st.Incomplete()
			})
			p.settle(t)
			r.check(t, "t")
			p.serves(t)
		})
	}
}

// The data of the whole cluster is set back: index and incarnation are the same, and only the mark
// tells.
func TestClusterSetBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(100))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	physical := r.state(t, "t").Live.Physical
	before := r.bodyOf(t, physical)
	p := r.start(t, options{}) // renews the mark
	p.complete(t)
	r.db.Exec(t, `DELETE FROM t WHERE id > 90`)
	p.settle(t)
	r.crashAll(t)
	r.put(t, http.MethodPut, "/"+physical+"/_mapping", metaOf(t, before))
	for id := 91; id <= 100; id++ {
		r.put(t, http.MethodPut, fmt.Sprintf("/%s/_doc/%d?version=1000000000000000&version_type=external", physical, id), fmt.Sprintf(`{"id":%d,"v":"v%d"}`, id, id))
	}
	r.start(t, options{}).complete(t)
	r.settled(t, "t")
	r.check(t, "t")
}

// metaOf takes mappings._meta out of the body of an index.
func metaOf(t testing.TB, body string) string {
	t.Helper()
	var parts struct {
		Mappings json.RawMessage `json:"mappings"`
	}
	if err := json.Unmarshal([]byte(body), &parts); err != nil {
		t.Fatal(err)
	}
	return string(parts.Mappings)
}

// The database is set back with its control schema, and the slot is where it was: the index has a mark
// that the schema does not know. It is refused, or every index is built anew.
func TestDatabaseSetBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}
PREFIXother: {table: t}`, tableT, rowsT(100))
	p := r.start(t, options{})
	p.complete(t)
	r.crashAll(t)
	r.db.Exec(t, `CREATE TABLE marks_before AS SELECT * FROM dbsync_ctrl.physical_indices`)
	p = r.start(t, options{})
	p.complete(t)
	r.db.Exec(t, `UPDATE t SET v = 'later' WHERE id < 50`, `INSERT INTO t VALUES (101, 'later')`)
	p.settle(t)
	r.crashAll(t)
	// Nothing of this is streamed: the slot does not see what was before it.
	r.db.Exec(t, `SELECT pg_drop_replication_slot('`+r.slot+`')`, `UPDATE t SET v = 'v' || id`, `DELETE FROM t WHERE id = 101`,
		`SELECT pg_create_logical_replication_slot('`+r.slot+`', 'pgoutput')`,
		`UPDATE dbsync_ctrl.dbsync_slots SET confirmed = (SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '`+r.slot+`')`,
		`DELETE FROM dbsync_ctrl.physical_indices`, `INSERT INTO dbsync_ctrl.physical_indices SELECT * FROM marks_before`)
	before := r.state(t, "t").Live.Physical
	refused := func(err error) {
		t.Helper()
		if !is[*dbsync.SetBackError](err) || !dbsync.IsPermanent(err) || !strings.Contains(err.Error(), "never noted") {
			t.Errorf("it ends with %v", err)
		}
	}
	p = r.start(t, options{})
	select {
	case err := <-p.ran:
		refused(err)
	case <-time.After(patience):
		t.Fatal("waited in vain for an error")
	}
	r.crashAll(t)
	_, err := r.open(t, options{}) // it stays so
	refused(err)
	if now := r.state(t, "t").Live.Physical; now != before {
		t.Errorf("the index in use is %s", now)
	}
	// A crash in the middle leaves every index to be built anew.
	r.indices = strings.ReplaceAll(r.indices, "{table: t}", "{table: t, "+slow+"}")
	r.start(t, options{rebuildSetBack: true, syncer: []dbsync.SyncerOpt{dbsync.WithNewSlot()}})
	r.building(t, "t")
	r.crashAll(t)
	for _, index := range []string{"t", "other"} {
		if st := r.state(t, index); !st.Incomplete() {
			t.Errorf("in the middle %s is %+v", index, st)
		}
	}
	r.indices = strings.ReplaceAll(r.indices, slow, "reindex: {chunk: 1000}")
	p = r.start(t, options{})
	p.complete(t)
	for _, index := range []string{"t", "other"} {
		r.settled(t, index)
		if st := r.state(t, index); st.Incomplete() || st.Live.Physical == before {
			t.Errorf("%s is %+v", index, st)
		}
	}
	r.check(t, "t")
}

// A process that lost the slot to another one, and goes on, finds the other one's marks: it is not
// the index that was set back.
func TestMarksOfAnotherProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	first := r.start(t, options{})
	first.complete(t)
	if _, err := first.manager.lookAtMarks(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.end(errCrash) // the slot is free, and its marks are in memory
	first.parts.Wait()
	db := first.syncer.DB()
	second := r.start(t, options{})
	second.complete(t)
	if db.PingContext(t.Context()) != nil {
		t.Fatal("the first process cannot look")
	}
	_, err := first.manager.lookAtMarks(t.Context())
	if !errors.As(err, new(*control.TakenOverError)) {
		t.Errorf("the first process finds %v", err)
	}
	if st := r.state(t, "t"); st.Incomplete() {
		t.Error("the index is called incomplete")
	}
	if _, err := second.manager.lookAtMarks(t.Context()); err != nil {
		t.Errorf("the second process finds %v", err)
	}
}

// The mark is renewed while changes are written, and not while there are none.
func TestMarkIsRenewed(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	proxy := r.search.NewProxy(t)
	r.searchURL = proxy.URL
	p := r.start(t, options{serve: true, partitions: 20 * time.Millisecond})
	p.complete(t)
	number := func() int64 { return query[int64](t, r.db, "SELECT mark_number FROM dbsync_ctrl.physical_indices") }
	p.settle(t)
	before := number()
	x := p.manager.indices[0]
	age := func() { // as if the last one had been a while ago
		p.manager.marking.Lock()
		defer p.manager.marking.Unlock()
		for _, k := range x.markings() {
			k.At = k.At.Add(-time.Hour)
			x.setMarking(k)
		}
	}
	age()
	r.db.Exec(t, `UPDATE t SET v = 'later'`)
	await(t, "the mark is renewed", func() bool { return number() > before })
	p.settle(t)
	before = number()
	path := "/" + r.state(t, "t").Live.Physical
	looks := proxy.Inject(testenv.Watch(func(q *testenv.Request) bool { return q.Path == path }))
	if err := looks.Await(within(t, patience), 5); err != nil {
		t.Fatal(err)
	}
	if now := number(); now != before {
		t.Errorf("without a change, and within a minute, it was renewed from %d to %d", before, now)
	}
	if meta := r.bodyOf(t, r.state(t, "t").Live.Physical); !strings.Contains(meta, `"position":"`) {
		t.Errorf("_meta is %s", meta)
	}
}

// An index that is read-only when the slot becomes ours is no reason to end: it has the mark before, an
// alarm stands, and the mark is renewed when that can be done.
func TestMarkOfAReadOnlyIndex(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(20))
	r.start(t, options{}).complete(t)
	r.crashAll(t)
	physical := r.state(t, "t").Live.Physical
	block := func(value string) {
		r.put(t, http.MethodPut, "/"+physical+"/_settings", `{"index.blocks.read_only":`+value+`}`)
	}
	block("true")
	p := r.start(t, options{serve: true, partitions: 50 * time.Millisecond})
	x := p.manager.indices[0]
	await(t, "there is an alarm", x.isUnrenewed)
	block("null")
	await(t, "the alarm has ended", func() bool { return !x.isUnrenewed() })
	p.complete(t)
	r.settled(t, "t")
	r.crashAll(t)
	r.start(t, options{}).complete(t)
	if now := r.state(t, "t").Live.Physical; now != physical {
		t.Errorf("it was built anew as %s", now)
	}
}
