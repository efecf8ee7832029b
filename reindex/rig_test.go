package reindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience bounds every wait of a test. It is far longer than anything takes.
const patience = 30 * time.Second

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), d)
	t.Cleanup(cancel)
	return ctx
}

// await asks until cond holds: for what a server alone knows.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	awaitFor(t, patience, what, cond)
}

// awaitFor is await for what takes longer.
func awaitFor(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A rig is a database, a search server and a mapping: all that outlives a process.
type rig struct {
	db      *testenv.Database
	search  *testenv.SearchServer
	prefix  string // of the names of indices
	indices string // YAML, with PREFIX before the names
	slot    string
	pattern catalog.TableName // that all tables stand in the place of; zero: none

	searchURL, postgresURL string // may be those of proxies
	processes              int
	running                []*process
}

func newRig(t testing.TB, indices string, statements ...string) *rig {
	t.Helper()
	r := &rig{db: testenv.NewDatabase(t), search: testenv.SharedSearch(t, testenv.Engines(t)[0]), indices: indices}
	r.prefix, r.searchURL, r.postgresURL, r.slot = r.search.NewPrefix(t), r.search.URL, r.db.URL, r.db.Unique("slot")
	r.db.Exec(t, statements...)
	return r
}

func (r *rig) config(t testing.TB) *mapping.Config {
	t.Helper()
	text := fmt.Sprintf("postgres: {url: %q, slot: %s}\nsearch: {urls: [%q]}\nindices:\n", r.postgresURL, r.slot, r.searchURL)
	for line := range strings.Lines(strings.Trim(strings.ReplaceAll(r.indices, "PREFIX", r.prefix), "\n")) {
		text += "  " + line
	}
	c, err := mapping.Parse("test.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	for _, ix := range c.Indices {
		for _, s := range ix.Sources {
			s.Pattern = r.pattern
		}
	}
	return c
}

// A process is what one process has in memory.
type process struct {
	name      string
	syncer    *dbsync.Syncer
	handler   *indexer.Handler
	dead      *control.DeadLetters
	states    *control.States
	documents []*indexer.Documents
	manager   *Manager

	end     context.CancelCauseFunc
	parts   sync.WaitGroup
	ran     chan error // what Syncer.Run returned
	built   chan error // what Manager.Run returned
	serve   bool
	serving chan error // what Manager.Serve returned
}

// options of a process. Each may be nil.
type options struct {
	syncer     []dbsync.SyncerOpt
	rebuild    func(name string) bool
	begin      func(index string, rows verify.Rows) // the backfill of an index begins
	stored     func(rows int64)                     // a chunk is stored and noted
	serve      bool                                 // do what is asked for, too
	partitions time.Duration                        // how often they are looked at
	verify     mapping.Verify                       // how indices are compared with their tables
	fanOut     int                                  // how many documents the stream waits for
	adopt      bool                                 // take over what is somebody else's

	rebuildSetBack bool             // see Options
	altered        func(m *Manager) // the stream has described a table otherwise than before
}

// errCrash ends a process of a test.
var errCrash = errors.New("crash")

// open makes the parts of a process.
func (r *rig) open(t testing.TB, o options) (*process, error) {
	t.Helper()
	r.processes++
	p := &process{name: fmt.Sprint("process ", r.processes), ran: make(chan error, 1), built: make(chan error, 1), serve: o.serve, serving: make(chan error, 1)}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("process", r.processes)
	ctx, c := within(t, patience), r.config(t)

	tables := make(catalog.Tables)
	for _, name := range c.Tables() {
		table, err := catalog.LoadTable(ctx, r.db.DB, name.Schema, name.Name)
		if err != nil {
			t.Fatal(err)
		}
		tables[name] = table
	}
	tables.Follow(c.WithChildren())
	for _, ix := range c.Indices {
		p.documents = append(p.documents, &indexer.Documents{Index: ix})
	}
	client, err := search.Connect(ctx, search.Options{URLs: c.Search.URLs, StartTimeout: 5 * time.Second, Adopt: o.adopt, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	p.syncer, err = dbsync.NewSyncerContext(ctx, append([]dbsync.SyncerOpt{
		dbsync.WithPGConnStr(r.postgresURL), dbsync.WithReplicationSlot(c.Postgres.Slot), dbsync.ForTables(c.Postgres.PublishColumns.Published(c.Indices, tables)...), dbsync.WithLogger(log),
		dbsync.OnSlot(func(ctx context.Context) error { p.handler.Begin(ctx); return p.manager.Begin(ctx) }),
	}, o.syncer...)...)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { p.syncer.Close() })
	alarm := retry.NewAlarm(log)
	schema := control.Open(p.syncer.DB(), c.Postgres.ControlSchema, c.Postgres.Slot)
	p.dead, p.states = schema.DeadLetters(alarm), schema.States()
	if err := control.Migrate(ctx, p.syncer.DB(), c.Postgres.ControlSchema, log); err != nil {
		t.Fatal(err)
	}
	bulk, err := search.NewBulk(client, search.BulkOptions{OnRefused: p.dead.Keep, Alarm: alarm, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	known := indexer.NewCatalog(tables, c.Postgres.Publication)
	p.handler = indexer.NewHandler(indexer.HandlerOptions{Syncer: p.syncer, Documents: p.documents, Catalog: known, Writer: indexer.Direct{Bulk: bulk, Client: client, Logger: log}, Logger: log, FanOut: o.fanOut,
		Defer: func(ctx context.Context, f *indexer.FanOut) error { return p.manager.Defer(ctx, f) },
		Missed: func(ctx context.Context, d *indexer.Documents, why *indexer.UnfitError) error {
			return p.manager.Missed(ctx, d, why)
		},
		Doubted: func(ctx context.Context, d *indexer.Documents, why string) error {
			return p.manager.Doubted(ctx, d, why)
		},
		Altered: func(*catalog.Table) {
			if o.altered != nil {
				o.altered(p.manager)
			}
		}})
	p.manager = New(Options{Syncer: p.syncer, Client: client, Bulk: bulk, DeadLetters: p.dead, Alarm: alarm, Control: schema, Keep: p.handler.Add,
		RebuildSetBack: o.rebuildSetBack, Verify: o.verify, Interval: o.partitions, Publication: c.Postgres.Publication,
		Documents: p.documents, Catalog: known, Logger: log, Rebuild: o.rebuild, Progress: hooks(o)})
	p.syncer.MessageHandler, p.syncer.Batcher = p.handler, dbsync.OperationsOnly(p.handler)
	return p, nil
}

// start makes a process and runs it, until the test ends at the latest.
func (r *rig) start(t testing.TB, o options) *process {
	t.Helper()
	p, err := r.open(t, o)
	if err != nil {
		t.Fatal(err)
	}
	p.run(t)
	r.running = append(r.running, p)
	return p
}

// schema returns the control schema as somebody has it who does not follow the slot.
func (r *rig) schema() *control.Schema {
	return control.Open(r.db.DB, mapping.DefaultControlSchema, r.db.Unique("slot"))
}

// crashAll ends every process that still runs.
func (r *rig) crashAll(t testing.TB) {
	t.Helper()
	for _, p := range r.running {
		p.crash()
	}
	r.running = nil
}

func (p *process) run(t testing.TB) {
	var ctx context.Context
	ctx, p.end = context.WithCancelCause(context.WithoutCancel(t.Context()))
	p.parts.Go(func() { p.ran <- p.syncer.Run(ctx) })
	p.parts.Go(func() { p.built <- p.manager.Run(ctx) })
	if p.serve {
		p.parts.Go(func() { p.serving <- p.manager.Serve(ctx) })
	}
	t.Cleanup(p.crash)
}

// crash ends the process where it is, and waits for it.
func (p *process) crash() {
	p.end(errCrash)
	p.parts.Wait()
	p.syncer.Close()
}

// serves fails the test when Manager.Serve has ended by itself.
func (p *process) serves(t testing.TB) {
	t.Helper()
	select {
	case err := <-p.serving:
		t.Fatalf("%s: Manager.Serve: %v", p.name, err)
	default:
	}
}

// complete waits until every index is, and everything that was committed is stored.
func (p *process) complete(t testing.TB) {
	t.Helper()
	if err := p.backfilled(t); err != nil {
		t.Fatalf("%s: Manager.Run: %v", p.name, err)
	}
	for _, d := range p.documents {
		if st := p.manager.State(d.Index.Name); st == nil || st.Building.Physical != "" {
			t.Errorf("%s: Manager.Run has ended and index %s is not complete", p.name, d.Index.Name)
		}
	}
	p.settle(t)
}

// backfilled returns what Manager.Run returned.
func (p *process) backfilled(t testing.TB) error {
	t.Helper()
	select {
	case err := <-p.built:
		p.built <- err
		return err
	case err := <-p.ran:
		p.ran <- err
		t.Fatalf("%s: Syncer.Run: %v", p.name, err)
	case <-time.After(patience):
		t.Fatalf("%s: waited in vain for the backfills", p.name)
	}
	return nil
}

func (p *process) settle(t testing.TB) {
	t.Helper()
	p.serves(t)
	if err := p.syncer.Barrier(within(t, patience)); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
}

// check compares a table with its index, which has the table's name.
func (r *rig) check(t testing.TB, table string, o ...testenv.CheckOption) {
	t.Helper()
	testenv.CheckSynced(t, r.db, r.search, r.prefix+table, table, o...)
}

// awaitCheck waits until they are equal.
func (r *rig) awaitCheck(t testing.TB, table string, o ...testenv.CheckOption) {
	t.Helper()
	var report *testenv.Report
	defer func() {
		if t.Failed() {
			t.Logf("index %s and its table: %s", table, report)
		}
	}()
	await(t, "index "+table+" is equal to its table", func() bool {
		var err error
		report, err = testenv.NewChecker(r.db, r.search, r.prefix+table, table, o...).Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return report.Equal()
	})
}

// physical lists the physical indices of an index, and which of them the alias stands for.
func (r *rig) physical(t testing.TB, index string) (all []string, live string) {
	t.Helper()
	indices, err := r.search.Indices(t.Context(), r.prefix+index+"-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range indices {
		all = append(all, i.Name)
		if slices.Contains(i.Aliases, r.prefix+index) {
			live += i.Name
		}
	}
	return all, live
}

// state reads what the control schema has of an index.
func (r *rig) state(t testing.TB, index string) *control.State {
	t.Helper()
	st, err := r.schema().States().Read(t.Context(), r.prefix+index)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// settled makes sure that an index is complete and nothing else is left of its past.
func (r *rig) settled(t testing.TB, index string) {
	t.Helper()
	st := r.state(t, index)
	all, live := r.physical(t, index)
	if st.Building.Physical != "" || st.Live.Physical == "" || live != st.Live.Physical || !slices.Equal(all, []string{live}) {
		t.Errorf("index %s: the state has live %q, building %q; the alias stands for %q; there are %q", index, st.Live.Physical, st.Building.Physical, live, all)
	}
}

// hooks tells a test of the progress.
type hooks options

func (h hooks) Begin(index string, rows verify.Rows) verify.Bar {
	if h.begin != nil {
		h.begin(index, rows)
	}
	return h
}

func (h hooks) Add(rows int64) {
	if h.stored != nil {
		h.stored(rows)
	}
}

func (hooks) Done() {}
func (hooks) Stop() {}

func query[T any](t testing.TB, db *testenv.Database, sql string, args ...any) (v T) {
	t.Helper()
	if err := db.DB.QueryRowContext(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// put sends a request to the search server that must succeed.
func (r *rig) put(t testing.TB, method, path, body string) {
	t.Helper()
	status, answer, err := r.search.Do(t.Context(), method, path, []byte(body))
	if err != nil || status/100 != 2 {
		t.Fatalf("%s %s: %d %s, %v", method, path, status, answer, err)
	}
}

// building waits until some rows are in a physical index that is being built, and returns
// the state.
func (r *rig) building(t testing.TB, index string) (st *control.State) {
	t.Helper()
	await(t, "a chunk of "+index+" is stored", func() bool {
		st = r.state(t, index)
		return st != nil && st.Building.Physical != "" && st.Done > 0
	})
	return st
}

// document returns a stored document, nil if there is none, and its version.
func (r *rig) document(t testing.TB, index, id string) (source map[string]any, version int64) {
	t.Helper()
	status, answer, err := r.search.Do(t.Context(), http.MethodGet, "/"+index+"/_doc/"+id, nil)
	if err != nil || status != http.StatusOK && status != http.StatusNotFound {
		t.Fatalf("document %s of %s: %d %s %v", id, index, status, answer, err)
	}
	var got struct {
		Source  map[string]any `json:"_source"`
		Version int64          `json:"_version"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Fatal(err)
	}
	return got.Source, got.Version
}

// slow are options of an index that takes ten seconds for 500 rows.
const slow = `reindex: {chunk: 20, max_rows_per_second: 50}`

const tableT = `CREATE TABLE t (id int PRIMARY KEY, v text)`

func rowsT(n int) string {
	return fmt.Sprintf(`INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, %d) i`, n)
}

// dead puts a dead letter of a physical index into the control schema.
func dead(t testing.TB, r *rig, physical string) {
	t.Helper()
	letters := r.schema().DeadLetters(retry.NewAlarm(slog.New(slog.DiscardHandler)))
	alias := strings.TrimRight(physical[:len(physical)-len("20260131t120000z")], "-")
	op := dbsync.Operation{Index: search.WriteAlias(alias, physical), ID: "7", Version: 1, Body: []byte("{}")}
	if err := letters.Keep(t.Context(), []search.Refused{{Operation: op, Err: &search.DocError{Index: op.Index, ID: op.ID, Status: 400}}}); err != nil {
		t.Fatal(err)
	}
}

// bodyOf returns the body by which an index is made with the stamp of another one.
func (r *rig) bodyOf(t testing.TB, physical string) string {
	t.Helper()
	status, answer, err := r.search.Do(t.Context(), http.MethodGet, "/"+physical+"?filter_path=*.mappings._meta", nil)
	var of map[string]json.RawMessage
	if err == nil && status == http.StatusOK {
		err = json.Unmarshal(answer, &of)
	}
	if err != nil || of[physical] == nil {
		t.Fatalf("_meta of %s: %d %s, %v", physical, status, answer, err)
	}
	return string(of[physical])
}
