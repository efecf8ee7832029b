package reindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/conc/pool"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// Options says what a Manager works with. All but Rebuild, Attached, PartitionInterval and
// Progress are required.
type Options struct {
	Syncer      *dbsync.Syncer
	Client      *search.Client
	DeadLetters *control.DeadLetters
	Alarm       *retry.Alarm
	States      *control.States
	Requests    *control.Requests
	Documents   []*indexer.Documents
	Catalog     *indexer.Catalog
	Schema      string // the control schema
	Slot        string
	Logger      *slog.Logger

	// Rebuild tells whether an index is to be rebuilt although nothing else asks for it.
	Rebuild func(name string) bool

	// Attached, if given, is called when partitions of a table came, with what the table is
	// now: a partition has a replica identity of its own.
	Attached func(*catalog.Table)

	// PartitionInterval is how often partitions are looked at; 0: every 30 s.
	PartitionInterval time.Duration

	// Keep has more documents made from the stream, by a mapping that is not in the file any
	// more. It is called before the first message.
	Keep func(*indexer.Documents)

	// Progress, if given, is told of the rows of an index that is being filled.
	Progress verify.Progress
}

// A Manager sees to it that every index has a physical index that is complete. Begin is
// called when the slot is ours, then Run.
type Manager struct {
	o Options

	mu      sync.Mutex
	states  map[string]*control.State           // by index; the values are replaced, not changed
	planned map[string]bool                     // physical indices that are noted, or about to be, by this process
	altered map[string]bool                     // indices of whose tables one was altered, see Altered
	old     map[string]*oldDocuments            // by index, see split
	cancels map[string]context.CancelCauseFunc  // of what is being filled, by index
	reading map[catalog.TableName]chan struct{} // held while a table is read, capacity 1
	settled map[string]bool                     // indices that Run is done with
	looked  bool                                // partitions were looked at, and indices are as these are, see watchPartitions
	asked   map[string]bool                     // indices whose requested rebuild is under way, and cannot be cancelled yet
	slots   chan struct{}                       // held by what works on an index; capacity parallel
	wake    chan struct{}                       // there may be something to do for Serve; capacity 1
	look    chan struct{}                       // there may be something to do for watchPartitions; capacity 1
	begun   chan struct{}                       // closed when Begin has succeeded
	once    sync.Once
}

// New makes a Manager.
func New(o Options) *Manager {
	return &Manager{o: o, states: make(map[string]*control.State), planned: make(map[string]bool),
		altered: make(map[string]bool), old: make(map[string]*oldDocuments), cancels: make(map[string]context.CancelCauseFunc),
		settled: make(map[string]bool), asked: make(map[string]bool), slots: make(chan struct{}, parallel),
		reading: make(map[catalog.TableName]chan struct{}), wake: make(chan struct{}, 1), look: make(chan struct{}, 1), begun: make(chan struct{})}
}

// Begin finds out what every index needs, makes the physical indices that are missing,
// and says where documents are written. No message of the stream is handled before. It
// is called again when a connection to the slot was made anew, and makes sure then that
// no other process has worked on the indices meanwhile.
func (m *Manager) Begin(ctx context.Context) error {
	again := m.hasBegun()
	if !again {
		if err := m.forgetOthers(ctx); err != nil {
			return err
		}
	}
	for _, d := range m.o.Documents {
		st, err := m.o.States.Read(ctx, d.Index.Name)
		if err != nil {
			return err
		}
		if again {
			if mine := m.State(d.Index.Name); !m.continues(st, mine) {
				return &dbsync.PermanentError{Err: &control.TakenOverError{Index: d.Index.Name, Building: mine.Building.Physical}}
			}
			continue
		}
		if st, err = m.begin(ctx, d, st); err != nil {
			return fmt.Errorf("index %s: %w", d.Index.Name, lasting(err))
		}
		m.set(st)
		if err := m.split(d, st); err != nil {
			return fmt.Errorf("index %s: %w", d.Index.Name, lasting(err))
		}
	}
	m.once.Do(func() { close(m.begun) })
	return nil
}

// forgetOthers notes that the indices of this slot that the mapping does not have any more
// are not kept: if one comes back it has missed changes.
func (m *Manager) forgetOthers(ctx context.Context) error {
	var kept []string
	for _, d := range m.o.Documents {
		kept = append(kept, d.Index.Name)
	}
	forgotten, err := m.o.States.Forget(ctx, m.o.Syncer.Generation(), kept)
	for _, name := range forgotten {
		m.o.Logger.Warn("an index is not in the mapping any more and is not kept; its physical indices stay", "index", name)
	}
	return err
}

// continues reports whether what the control schema has of an index is this process's own
// doing. Between a note there and the one in memory it is one of two.
func (m *Manager) continues(noted, mine *control.State) bool {
	if noted == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return noted.Building.Physical == mine.Building.Physical && noted.Live.Physical == mine.Live.Physical ||
		mine.Building.Physical != "" && noted.Building.Physical == "" && noted.Live.Physical == mine.Building.Physical ||
		m.planned[noted.Building.Physical]
}

// lasting marks the errors that repeating cannot cure.
func lasting(err error) error {
	if isLasting(err) {
		return &dbsync.PermanentError{Err: err}
	}
	return err
}

func isLasting(err error) bool {
	var permanent *dbsync.PermanentError
	var taken *search.NameTakenError
	var other *control.TakenOverError
	var server *search.ServerError
	var count *CountError
	return errors.As(err, &count) || errors.As(err, &permanent) || errors.As(err, &taken) || errors.As(err, &other) ||
		errors.As(err, &server) && !server.Temporary() || control.IsLastingPostgresError(err)
}

// targets returns the write aliases of an index's physical indices.
func targets(st *control.State) []string {
	var out []string
	for _, physical := range []string{st.Live.Physical, st.Building.Physical} {
		if physical != "" {
			out = append(out, search.WriteAlias(st.Name, physical))
		}
	}
	return out
}

// State returns what is known of an index, nil before Begin.
func (m *Manager) State(index string) *control.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[index]
}

func (m *Manager) set(st *control.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states[st.Name] = st
}

// begin makes sure that the index has a physical index, complete or being filled.
func (m *Manager) begin(ctx context.Context, d *indexer.Documents, st *control.State) (*control.State, error) {
	generation, err := m.generation(ctx, d)
	if err != nil {
		return nil, err
	}
	need, err := m.need(ctx, d, st, generation)
	if err != nil {
		return nil, err
	}
	if need.Grow {
		grown, err := m.grow(ctx, d, st)
		if !isRefusedMapping(err) {
			return grown, err
		}
		need.Fill = "the index in use does not take the fields of new columns"
	}
	if need.Fill != "" {
		return m.build(ctx, d, st, need.Fill, generation)
	}
	if st.Building.Physical != "" {
		m.o.Logger.Info("going on with filling an index", "index", d.Index.Name, "physical", st.Building.Physical, "rows", st.Done)
	}
	return st, nil
}

// build makes a physical index that is to be filled, and notes it.
func (m *Manager) build(ctx context.Context, d *indexer.Documents, st *control.State, why, generation string) (*control.State, error) {
	tables := m.o.Catalog.Tables()
	fingerprint := d.Index.Fingerprint(tables)
	if err := m.o.Client.CheckAliasName(ctx, d.Index.Name); err != nil {
		return nil, err
	}
	abandoned := ""
	name, err := m.newName(ctx, d.Index.Name, st)
	if err != nil {
		return nil, err
	}
	if st == nil {
		st = &control.State{Name: d.Index.Name}
	} else {
		abandoned = st.Building.Physical
		copied := *st
		st = &copied
	}
	if abandoned != "" {
		// A process that ended after it had moved the alias and before it noted that has left
		// the index in use as one that is being filled.
		of, err := m.o.Client.AliasTargets(ctx, st.Name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(of, abandoned) {
			st.Live = st.Building
			abandoned = ""
		}
	}
	if st.Live.Physical != "" {
		if there, err := m.o.Client.IndexExists(ctx, st.Live.Physical, search.WriteAlias(st.Name, st.Live.Physical)); err != nil {
			return nil, err
		} else if !there {
			st.Live = control.Version{}
		}
	}
	if st.Live.Physical == "" && !m.o.Client.Adopts() {
		if err := m.checkForeign(ctx, st.Name); err != nil {
			return nil, err
		}
	}
	m.plan(name)
	st.Building.Physical, st.Building.Fingerprint, st.Generation = name, fingerprint, generation
	if st.Building.Mapping, st.Building.Tables, err = encode(d.Index, tables); err != nil {
		return nil, err
	}
	// Rows of partitions that are attached from here on may not be in the chunks.
	now, err := readPartitions(ctx, m.o.Syncer.DB(), d.Index, tables)
	if err != nil {
		return nil, err
	}
	now.Unlisted = len(now.Leaves) > 0
	if st.Building.Partitions, err = now.Encode(); err != nil {
		return nil, err
	}
	st.Total = mapping.EstimatedRows(d.Index, tables)
	// Noted before it is made: a crash in between leaves a note of an index that does not
	// exist, which the next start sees, and never an index that nobody knows of.
	if err := m.o.States.Begin(ctx, st); err != nil {
		return nil, err
	}
	body, err := d.Index.Body(tables)
	if err == nil {
		body, err = fillingBody(body)
	}
	if err != nil {
		return nil, err
	}
	if err := m.o.Client.CreateIndex(ctx, st.Building.Physical, search.WriteAlias(st.Name, st.Building.Physical), body); err != nil {
		return nil, err
	}
	m.o.Logger.Info("made a physical index, to be filled", "index", d.Index.Name, "physical", st.Building.Physical, "why", why, "rows", st.Total)
	if abandoned != "" {
		if err := m.drop(ctx, st.Name, abandoned); err != nil {
			return nil, err
		}
	}
	return st, nil
}

func (m *Manager) generation(ctx context.Context, d *indexer.Documents) (string, error) {
	return Generation(d.Index, func(name catalog.TableName) (string, error) {
		return m.o.Syncer.TableGeneration(ctx, name.Schema, name.Name)
	})
}

// Generation names the time for which the slot has had every change of all the tables that
// documents of an index are made of. of gives that of one table, see
// [dbsync.Syncer.TableGeneration].
func Generation(ix *mapping.Index, of func(catalog.TableName) (string, error)) (string, error) {
	var all []string
	for _, name := range ix.Tables() {
		generation, err := of(name)
		if err != nil {
			return "", err
		}
		all = append(all, generation)
	}
	slices.Sort(all)
	return strings.Join(all, " "), nil
}

// plan notes in memory what is about to be noted in the control schema.
func (m *Manager) plan(physical string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.planned[physical] = true
}

// newName returns the name of a physical index that comes after all that there are or
// were: names go by the second, and a clock may have been set back.
func (m *Manager) newName(ctx context.Context, index string, st *control.State) (string, error) {
	known, err := m.o.Client.PhysicalIndices(ctx, index)
	if err != nil {
		return "", err
	}
	if st != nil {
		known = append(known, st.Live.Physical, st.Building.Physical)
	}
	at := time.Now().Truncate(time.Second)
	for _, physical := range known {
		if made, ok := search.PhysicalTime(index, physical); ok && !made.Before(at) {
			at = made.Add(time.Second)
		}
	}
	name, _ := search.PhysicalName(index, at)
	return name, nil
}

// need says what an index needs.
func (m *Manager) need(ctx context.Context, d *indexer.Documents, st *control.State, generation string) (Need, error) {
	need, err := Judge(ctx, m.o.Client, d.Index, st, m.o.Catalog.Tables(), generation)
	switch {
	case err != nil || need.Fill != "" || st.Building.Physical != "":
		return need, err
	case m.o.Rebuild != nil && m.o.Rebuild(d.Index.Name):
		return Need{Fill: "it was asked for"}, nil
	}
	return need, m.checkAlias(ctx, st)
}

// checkAlias makes sure that searchers see the index that is kept.
func (m *Manager) checkAlias(ctx context.Context, st *control.State) error {
	of, err := m.o.Client.AliasTargets(ctx, st.Name)
	if err != nil || slices.Equal(of, []string{st.Live.Physical}) {
		return err
	}
	if len(of) > 0 {
		return &dbsync.PermanentError{Err: fmt.Errorf("the alias stands for %s, and not for %s, which is kept equal to the table; "+
			"hint: remove the alias, then it is put back, or give the mapping another name", strings.Join(of, ", "), st.Live.Physical)}
	}
	m.o.Logger.Warn("the alias was gone, it is put back", "index", st.Name, "physical", st.Live.Physical)
	_, err = m.o.Client.MoveAlias(ctx, st.Name, st.Live.Physical)
	return err
}

// checkForeign makes sure that the name of an index that is new does not stand for one that
// somebody else made: it would be taken away from that without having been asked for.
func (m *Manager) checkForeign(ctx context.Context, name string) error {
	of, err := m.o.Client.AliasTargets(ctx, name)
	if err != nil {
		return err
	}
	if foreign := Foreign(name, of); len(foreign) > 0 {
		return &dbsync.PermanentError{Err: fmt.Errorf("the alias stands for %s, which somebody else made; "+
			"hint: give the mapping another name, or let run --adopt fill an index and move the alias to it", strings.Join(foreign, ", "))}
	}
	return nil
}

// Foreign returns those of the indices behind an alias that were not made by Tidemark.
func Foreign(alias string, indices []string) (foreign []string) {
	for _, physical := range indices {
		if _, ours := search.PhysicalTime(alias, physical); !ours {
			foreign = append(foreign, physical)
		}
	}
	return foreign
}

// While an index is filled nobody searches it: it need not be refreshed, and its replicas
// get a copy when it is complete.
var fillingSettings = map[string]any{"index.refresh_interval": "-1", "index.number_of_replicas": 0}

// fillingBody returns the body for the creation of an index that is to be filled.
func fillingBody(body []byte) ([]byte, error) {
	parts, settings, err := splitBody(body)
	if err != nil {
		return nil, err
	}
	for key, value := range fillingSettings {
		settings[key] = value
	}
	if parts["settings"], err = json.Marshal(settings); err != nil {
		return nil, err
	}
	return json.Marshal(parts)
}

// filledSettings returns what fillingBody changed as the mapping has it; nil stands for
// the server's default.
func filledSettings(body []byte) (map[string]any, error) {
	_, settings, err := splitBody(body)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(fillingSettings))
	for key := range fillingSettings {
		out[key] = settings[key]
	}
	return out, nil
}

func splitBody(body []byte) (parts map[string]json.RawMessage, settings map[string]any, err error) {
	if err := json.Unmarshal(body, &parts); err != nil {
		return nil, nil, fmt.Errorf("body of an index: %w", err)
	}
	if err := json.Unmarshal(parts["settings"], &settings); err != nil {
		return nil, nil, fmt.Errorf("settings of an index: %w", err)
	}
	return parts, settings, nil
}

// drop removes a physical index that is not written to any more, and before it the dead
// letters of its documents: after a crash in between the index is found again.
func (m *Manager) drop(ctx context.Context, index, physical string) error {
	if _, err := m.o.DeadLetters.Drop(ctx, control.LetterFilter{Indices: []string{search.WriteAlias(index, physical)}}); err != nil {
		return err
	}
	if err := m.o.Client.DropIndex(ctx, physical); err != nil {
		return err
	}
	m.o.Logger.Info("dropped a physical index", "physical", physical)
	return nil
}

// parallel is how many indices are filled at a time: one waits for Postgres while the other
// one is written.
const parallel = 2

// Run fills the indices that are not complete, some at a time, and returns when all are;
// from then on it is for Serve to keep them so, of each index when it is complete. It waits
// for Begin. What an earlier process has left of indices that were replaced is dropped.
func (m *Manager) Run(ctx context.Context) error {
	select {
	case <-m.begun:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	for _, d := range m.o.Documents {
		p.Go(func(ctx context.Context) error {
			release, err := m.slot(ctx)
			if err != nil {
				return err
			}
			defer release()
			if err := m.settle(ctx, d); err != nil {
				return err
			}
			m.mu.Lock()
			m.settled[d.Index.Name] = true
			m.mu.Unlock()
			m.poke()
			return nil
		})
	}
	return p.Wait()
}

// settle has an index be complete, and drops what was left of it.
func (m *Manager) settle(ctx context.Context, d *indexer.Documents) error {
	st := m.State(d.Index.Name)
	if st.Building.Physical == "" {
		if err := m.dropOld(ctx, d, st); err != nil {
			return fmt.Errorf("index %s: %w", d.Index.Name, err)
		}
		return nil
	}
	if err := m.fill(ctx, d); err != nil && !errors.Is(err, errCancelled) {
		return fmt.Errorf("fill index %s: %w", d.Index.Name, err)
	}
	return nil
}

// slot waits until few enough indices are worked on.
func (m *Manager) slot(ctx context.Context) (release func(), err error) {
	select {
	case m.slots <- struct{}{}:
		return func() { <-m.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Complete reports whether every index is.
func (m *Manager) Complete() bool {
	for _, d := range m.o.Documents {
		if st := m.State(d.Index.Name); st == nil || st.Building.Physical != "" {
			return false
		}
	}
	return true
}
