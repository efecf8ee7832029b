package reindex

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc/pool"
	"golang.org/x/sync/semaphore"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// Options says what a Manager works with. All but Verify, Rebuild, Changed, Interval, Applied,
// Room and Progress are required.
type Options struct {
	// Cluster names the cluster, where it is not the first one: operations carry its name, see [indexer.At].
	Cluster string

	// Connect, if given, connects to the cluster in the place of Client and Bulk, when [Manager.BeginBeside] is called.
	Connect func(ctx context.Context) (*search.Client, *search.Bulk, error)

	Syncer      *dbsync.Syncer
	Client      *search.Client
	Bulk        *search.Bulk // that the stream is written by; repairs are counted among its requests
	DeadLetters *control.DeadLetters
	Alarm       *retry.Alarm
	Control     *control.Schema
	Documents   []*indexer.Documents // one for each index, in the order of the file
	Catalog     *indexer.Catalog
	Publication string
	Columns     mapping.PublishColumns // of which tables the publication names columns
	Logger      *slog.Logger

	// Verify says how indices are compared with their tables in the background; the zero value:
	// those that are unproven alone, and what differs is repaired.
	Verify mapping.Verify

	// Rebuild reports whether an index is to be rebuilt at the start although nothing else asks
	// for it; nil: none.
	Rebuild func(name string) bool

	// Changed, if given, is called when the catalog describes tables otherwise than before, with
	// what they are now; tables that are gone are not among them.
	Changed func(catalog.Tables)

	// RebuildSetBack has every index filled again where the database was set back, instead of a
	// [*dbsync.SetBackError].
	RebuildSetBack bool

	// Unstamped says that an earlier version followed the slot that noted no indices, see [Claim].
	Unstamped bool

	// Interval is how often the catalog is looked at; 0: every 10 s.
	Interval time.Duration

	// Keep has more documents made from the stream, by a mapping that is not in the file any
	// more. It is called before the first message.
	Keep func(*indexer.Documents)

	// Applied, if given, waits until what was handed over before the call is in the cluster: where the Writer of
	// the stream hands operations on to others, and the slot moves before they are stored. nil: they are.
	Applied func(ctx context.Context) error

	// Room, if given, waits until rows may be read that are not changes: those who store them have to keep up.
	Room func(ctx context.Context) error

	// Progress is told how many rows of a backfill are stored; nil: nobody. The interface is
	// verify's because that shows how far it is in the same way, and knows nothing of this package.
	Progress verify.Progress
}

// parallel is how many indices are worked on at a time: one waits for Postgres while the other
// one is written.
const parallel = 2

// A Manager sees to it that every index has a physical index that is complete. Begin is called
// when the slot is ours; Run and Serve, each in a goroutine of its own, wait for that.
type Manager struct {
	o       Options
	indices []*index // in the order of the file
	byName  map[string]*index

	working *semaphore.Weighted // held by what works on an index, parallel at a time
	places  tablePlaces         // one reader of each
	begun   chan struct{}       // closed when Begin has succeeded

	resumed atomic.Bool // see Resume

	fanOuts   *fanOuts
	keysInUse keysInUse

	owner   search.Owner // who we are; set by Begin
	marking sync.Mutex   // held by who compares or renews marks

	serveWake signal // there may be something to do for Serve

	lookWake  signal // there may be something to see for watch
	proofWake signal // there may be something to do for walkAll

	recoveryWake signal // a request had no answer
	recoveries   *recoveries

	// altered is set when the stream has described a table otherwise than before, until the catalog
	// is looked at.
	altered atomic.Bool

	// looked is set when the catalog was looked at, and all indices were as the partitions of their
	// tables were.
	looked atomic.Bool
}

// New makes a Manager.
func New(o Options) *Manager {
	if o.Progress == nil {
		o.Progress = verify.NoProgress{}
	}
	m := &Manager{o: o, byName: make(map[string]*index), working: semaphore.NewWeighted(parallel), begun: make(chan struct{}),
		fanOuts: newFanOuts(), serveWake: newSignal(), lookWake: newSignal(), proofWake: newSignal(),
		recoveryWake: newSignal(), recoveries: newRecoveries()}
	for _, d := range o.Documents {
		x := &index{Index: d.Index, documents: d, planned: make(map[string]bool), proof: control.Proof{Index: d.Index.Name}}
		m.indices = append(m.indices, x)
		m.byName[x.Name] = x
	}
	return m
}

// State returns what is known of an index, nil before Begin, or if there is no such index.
func (m *Manager) State(name string) *control.State {
	x := m.byName[name]
	if x == nil {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asSpoiledLocked()
}

// Written returns what was written of an index since the process began: changes of rows of its own
// tables that the stream has brought, and rows that backfills have stored. Both only grow.
func (m *Manager) Written(name string) (changes, rows int64) {
	x := m.byName[name]
	if x == nil {
		return 0, 0
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.documents.Changed(), x.filled
}

// Fills reports whether a physical index is being filled, of any index.
func (m *Manager) Fills() bool {
	for _, x := range m.indices {
		if x.state().Building.Physical != "" {
			return true
		}
	}
	return false
}

// Incomplete reports whether the index in use is known to miss changes, so that another one has to
// be built.
func (m *Manager) Incomplete(name string) bool {
	x := m.byName[name]
	if x == nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	st := x.asSpoiledLocked()
	return st != nil && st.Live.Physical != "" && (st.Live.Generation == "" || x.missed)
}

// Begin finds out what every index needs, makes the physical indices that are missing,
// and says where documents are written. No message of the stream is handled before. It
// is called again when a connection to the slot was made anew, and makes sure then that
// no other process has worked on the indices meanwhile.
func (m *Manager) Begin(ctx context.Context) error {
	if err := m.o.Control.BeginEpoch(ctx); err != nil {
		return err
	}
	if m.hasBegun() {
		if err := m.checkOurs(ctx); err != nil {
			return err
		}
		return m.rejoin(ctx)
	}
	claims, err := m.claim(ctx)
	if err != nil {
		return err
	}
	if err := m.forgetOthers(ctx); err != nil {
		return err
	}
	// Another instance may have had the slot until now, and tables may have been altered since
	// they were looked at for the file's sake.
	if err := m.load(ctx); err != nil {
		return err
	}
	if _, err := m.publish(ctx); err != nil {
		return err
	}
	for _, x := range m.indices {
		noted := claims[x].noted
		st, err := m.begin(ctx, x, noted)
		if isRefusedMapping(err) { // the others can go on
			m.fail(x, err)
			st, err = x.state(), nil
			if noted != nil {
				st = *noted
				st.NotBuilding()
				st.Live.Fingerprint = "" // see refuse
			}
		}
		if err == nil {
			err = m.enter(x, st)
		}
		if err == nil {
			err = m.checkNewest(ctx, x)
		}
		if err == nil {
			err = m.beginProof(ctx, x)
		}
		if why := claims[x].unproven; err == nil && why != "" {
			err = m.unprove(ctx, x, why)
		}
		if p := m.o.Syncer.Promotion(); err == nil && p != nil && x.state().Live.Physical != "" {
			// Versions say nothing of rows that were read by key. This is noted before the promotion is.
			err = m.unprove(ctx, x, p.String()+": rows that were read before may have had changes that it lacked")
		}
		if err != nil {
			return fmt.Errorf("index %s: %w", x.Name, err)
		}
	}
	if err := m.lookAtRecoveries(ctx); err != nil {
		return err
	}
	close(m.begun)
	return nil
}

// hasBegun reports whether Begin has succeeded: messages of the stream may be handled.
func (m *Manager) hasBegun() bool {
	select {
	case <-m.begun:
		return true
	default:
		return false
	}
}

// follows reports whether messages of the stream are handled.
func (m *Manager) follows() bool { return m.hasBegun() || m.resumed.Load() }

// checkOurs makes sure that no other process has worked on the indices.
func (m *Manager) checkOurs(ctx context.Context) error {
	for _, x := range m.indices {
		noted, err := m.o.Control.States().Read(ctx, x.Name)
		if err != nil {
			return err
		}
		if !x.isOurs(noted) {
			return &control.TakenOverError{Index: x.Name, Building: x.state().Building.Physical}
		}
	}
	return nil
}

// forgetOthers notes that the indices of this slot that the mapping does not have any more
// are not kept: if one comes back it has missed changes.
func (m *Manager) forgetOthers(ctx context.Context) error {
	var kept []string
	for _, x := range m.indices {
		kept = append(kept, x.Name)
	}
	if err := m.dropGone(ctx, kept); err != nil {
		return err
	}
	forgotten, err := m.o.Control.States().Forget(ctx, m.o.Syncer.Generation(), kept)
	for _, name := range forgotten {
		m.o.Logger.Warn("an index is not in the mapping any more and is not kept; its physical indices stay", "index", name)
	}
	if err != nil {
		return err
	}
	return m.o.Control.Proofs().Forget(ctx, forgotten)
}

// begin makes sure that the index has a physical index, complete or to be backfilled, and
// returns its state. noted is what the control schema has of it, nil if nothing.
func (m *Manager) begin(ctx context.Context, x *index, noted *control.State) (control.State, error) {
	generation, err := m.generation(ctx, x)
	if err != nil {
		return control.State{}, err
	}
	need, err := m.need(ctx, x, noted, generation)
	if err != nil {
		return control.State{}, err
	}
	st := x.state() // the name alone
	if noted != nil {
		st = *noted
	}
	if need.Hold != "" {
		return st, m.holdFor(ctx, x, need)
	}
	x.setJoining(need.Joins()) // which is done when the index is Serve's
	if need.Grow && need.Backfill == "" {
		grown, err := m.grow(ctx, x, st, m.o.Catalog.Present())
		if !isRefusedMapping(err) {
			return grown, err
		}
		need.Backfill = "the index in use does not take the fields of new columns"
	}
	if need.Backfill != "" {
		return m.build(ctx, x, st, need.Backfill, generation)
	}
	if st.Building.Physical != "" {
		m.o.Logger.Info("going on with the backfill of an index", "index", x.Name, "physical", st.Building.Physical, "rows", st.Done)
	}
	return st, nil
}

// Run backfills the indices that are not complete, some at a time, and returns when all are;
// from then on it is for Serve to keep them so, of each index when it is complete. It waits
// for Begin. What an earlier process has left of indices that were replaced is dropped.
func (m *Manager) Run(ctx context.Context) error {
	select {
	case <-m.begun:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	for _, x := range m.indices {
		p.Go(func(ctx context.Context) error {
			release, err := acquire(ctx, m.working)
			if err != nil {
				return err
			}
			defer release()
			if err := m.runIndex(ctx, x); err != nil {
				if err = m.failed(ctx, x, err); err != nil {
					return err
				}
			}
			x.endRun()
			m.wake()
			return nil
		})
	}
	return p.Wait()
}

// runIndex has an index be complete, and drops what was left of it.
func (m *Manager) runIndex(ctx context.Context, x *index) error {
	if x.isToBeMade() {
		return nil // what is being filled is not gone on with: Serve makes another one
	}
	if st := x.state(); st.Building.Physical == "" {
		if st.Live.Physical == "" {
			return nil // it could not be made, and Serve tries again
		}
		if err := m.dropOld(ctx, x); err != nil {
			return fmt.Errorf("index %s: %w", x.Name, err)
		}
		return nil
	}
	if err := m.backfill(ctx, x); err != nil && !errors.Is(err, errCancelled) {
		return fmt.Errorf("backfill index %s: %w", x.Name, err)
	}
	return nil
}

// acquire waits for a place in a semaphore.
func acquire(ctx context.Context, places *semaphore.Weighted) (release func(), err error) {
	if places.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	return func() { places.Release(1) }, nil
}

// retry repeats what may fail in passing, at either server, see [retry.Do].
func (m *Manager) retry(ctx context.Context, what string, f func(ctx context.Context) error) error {
	return retry.Do(ctx, m.o.Alarm, what, f)
}
