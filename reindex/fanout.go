package reindex

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// A change of a related row that is in very many documents is not waited for by the stream: it is
// noted in the control schema before its position is confirmed, and a pass stores its documents
// again beside the stream, by windows. One pass is under way at a time. It is of one physical
// index, so a rebuild that begins, ends or is given up meanwhile leaves what is asked for of the
// others as it is; of an index that is gone, nothing is asked for any more.
//
// A pass goes through the documents in the order of their keys, and notes the last one that is
// stored. What changes again while it is under way is done by one more pass, however often it
// changes: each window is newer than what was asked for before it was opened, and what was asked for
// later may not be in the windows before.

const (
	// fanOutKeys is how many keys of documents a pass finds at a time. Each search costs as much as
	// there are documents that the rows of the pass are in.
	fanOutKeys = 50_000

	// A window of a pass has as many rows as are stored in about fanOutTime, within these bounds: changes
	// that come down the stream meanwhile wait for one of them, or two.
	leastFanOutRows, mostFanOutRows = 200, 1000
	fanOutTime                      = 250 * time.Millisecond
)

// errPassStopped ends a pass whose physical index gets no documents any more.
var errPassStopped = errors.New("the physical index is not written to any more")

// fanOuts are what this process knows of the documents that are to be stored again.
type fanOuts struct {
	runner string // names this process among those that have worked on them
	wake   signal

	mu    sync.Mutex
	asked bool                   // something was asked for that is not in open yet
	open  []control.FanOutStatus // as they were read last
	stuck map[control.FanOutGroup]*walkTrouble

	// The pass under way; physical is "" if there is none. Of those that are given up there is none any more.
	physical string
	stop     context.CancelCauseFunc
	ended    chan struct{} // closed when it has ended
	givenUp  map[string]bool
}

func newFanOuts() *fanOuts {
	return &fanOuts{runner: rand.Text(), wake: newSignal(), asked: true, stuck: make(map[control.FanOutGroup]*walkTrouble), givenUp: make(map[string]bool)}
}

// FanOut returns what an index has to have stored again. It answers from memory.
func (m *Manager) FanOut(name string) control.FanOutSum {
	m.fanOuts.mu.Lock()
	defer m.fanOuts.mu.Unlock()
	return control.SumFanOuts(m.fanOuts.open, name)
}

// Defer notes that documents are to be stored again, for [indexer.HandlerOptions]. Of a physical
// index that is not kept any more nothing is noted.
func (m *Manager) Defer(ctx context.Context, f *indexer.FanOut) error {
	x := m.byName[f.Documents.Index.Name]
	st := x.state()
	related := f.Related()
	var asked []control.FanOut
	for _, v := range versions(&st) {
		written := slices.ContainsFunc(f.Targets, func(t indexer.Target) bool { return t.Alias == m.alias(st.Name, v.Physical) })
		if !written {
			continue
		}
		for _, part := range related {
			group := control.FanOutGroup{Index: x.Name, Physical: v.Physical, Source: control.SourceName(f.Source), Path: part.Path}
			if part.Path == "" {
				asked = append(asked, control.FanOut{FanOutGroup: group})
			}
			for _, row := range part.Rows {
				asked = append(asked, control.FanOut{FanOutGroup: group, Key: row})
			}
		}
	}
	if len(asked) == 0 {
		return nil
	}
	// Who was stopped until another process had the slot notes nothing: that one does, when the
	// change comes to it.
	if err := m.o.Syncer.HoldsSlot(ctx); err != nil {
		return err
	}
	if err := m.o.Control.FanOuts().Ask(ctx, asked); err != nil {
		return err
	}
	m.o.Logger.Info("a change concerns so many documents that they are stored again beside the stream", "index", x.Name, "source", f.Source.Table.String(), "rows", len(asked))
	m.fanOuts.mu.Lock()
	m.fanOuts.asked = true
	m.fanOuts.mu.Unlock()
	m.fanOuts.wake.raise()
	return nil
}

// forgetFanOuts forgets what is asked for of physical indices that are not kept any more.
func (m *Manager) forgetFanOuts(ctx context.Context) error {
	var names []string
	for _, x := range m.indices {
		names = append(names, x.Name)
	}
	return m.o.Control.FanOuts().Forget(ctx, names)
}

// readFanOuts reads what is not done.
func (m *Manager) readFanOuts(ctx context.Context) error {
	m.fanOuts.mu.Lock()
	m.fanOuts.asked = false // what is asked for from here on may not be read
	m.fanOuts.mu.Unlock()
	open, err := m.o.Control.FanOuts().Open(ctx)
	m.fanOuts.mu.Lock()
	defer m.fanOuts.mu.Unlock()
	if err != nil {
		m.fanOuts.asked = true
		return err
	}
	m.fanOuts.open = open
	for group, trouble := range m.fanOuts.stuck {
		if !slices.ContainsFunc(open, func(o control.FanOutStatus) bool { return o.FanOutGroup == group }) {
			trouble.end()
			delete(m.fanOuts.stuck, group)
		}
	}
	return nil
}

// owesFanOuts reports whether documents are to be stored again, and nothing keeps them from it.
func (m *Manager) owesFanOuts() bool {
	m.fanOuts.mu.Lock()
	defer m.fanOuts.mu.Unlock()
	return m.fanOuts.asked || slices.ContainsFunc(m.fanOuts.open, func(o control.FanOutStatus) bool {
		x := m.byName[o.Index]
		return m.fanOuts.stuck[o.FanOutGroup] == nil && !m.fanOuts.givenUp[o.Physical] && x != nil && !x.isHeld()
	})
}

// fanOutAll has one pass after the other until ctx is done. An error of a pass ends none but that
// one, which is tried again, later each time.
func (m *Manager) fanOutAll(ctx context.Context) error {
	defer func() {
		m.fanOuts.mu.Lock()
		defer m.fanOuts.mu.Unlock()
		for _, trouble := range m.fanOuts.stuck {
			trouble.end()
		}
	}()
	for {
		err := m.retry(ctx, "look which documents are to be stored again", func(ctx context.Context) error {
			if err := m.forgetFanOuts(ctx); err != nil {
				return err
			}
			return m.readFanOuts(ctx)
		})
		if err != nil {
			return err
		}
		m.serveWake.raise() // for who waits for it
		group, documents, wait := m.nextFanOut(time.Now())
		if documents == nil {
			var due <-chan time.Time // never
			if wait > 0 {
				due = time.After(wait)
			}
			select {
			case <-due:
			case <-m.fanOuts.wake:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			continue
		}
		err = m.passThrough(ctx, group, documents)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case is[*control.TakenOverError](err):
			return err
		case err != nil:
			m.fanOutFailed(group, err)
		default:
			m.fanOuts.mu.Lock()
			if trouble := m.fanOuts.stuck[group]; trouble != nil {
				trouble.end()
				delete(m.fanOuts.stuck, group)
			}
			m.fanOuts.mu.Unlock()
		}
	}
}

// fanOutFailed takes up that a pass has failed.
func (m *Manager) fanOutFailed(group control.FanOutGroup, err error) {
	m.fanOuts.mu.Lock()
	defer m.fanOuts.mu.Unlock()
	t := m.fanOuts.stuck[group]
	if t == nil {
		t = &walkTrouble{pause: retry.NewBackoff(firstWalkPause, lastWalkPause)}
		m.fanOuts.stuck[group] = t
	}
	pause := t.pause.NextBackOff()
	t.failures, t.until, t.last = t.failures+1, time.Now().Add(pause), err
	m.o.Logger.Warn("documents could not be stored again, trying again", "index", group.Index, "path", group.Path, "error", err, "pause", pause)
	if t.failures >= retry.Patience {
		t.hold = m.o.Alarm.Keep(t.hold, "store documents of related rows of "+group.Index+" again", dbsync.WithoutValues(err))
	}
}

// stuckFanOuts returns what keeps documents from being stored again, nil if nothing does.
func (m *Manager) stuckFanOuts() error {
	m.fanOuts.mu.Lock()
	defer m.fanOuts.mu.Unlock()
	var all []error
	for group, t := range m.fanOuts.stuck {
		all = append(all, fmt.Errorf("index %s: documents of related rows are not stored again: %w", group.Index, t.last))
	}
	return errors.Join(all...)
}

// nextFanOut returns what is asked for longest and can be done now, with the documents of that
// physical index; nil: nothing. wait is how long until what has failed is tried again; 0: nothing has.
func (m *Manager) nextFanOut(now time.Time) (group control.FanOutGroup, documents *indexer.Documents, wait time.Duration) {
	m.fanOuts.mu.Lock()
	defer m.fanOuts.mu.Unlock()
	for _, o := range m.fanOuts.open {
		if t := m.fanOuts.stuck[o.FanOutGroup]; t != nil && now.Before(t.until) {
			if left := t.until.Sub(now); wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		if x := m.byName[o.Index]; x != nil && !m.fanOuts.givenUp[o.Physical] {
			if documents, _ := m.writtenTo(x, o.Physical); documents != nil {
				return o.FanOutGroup, documents, 0
			}
		}
	}
	return group, nil, wait
}

// writtenTo returns the documents that are written to a physical index, and where that is; nil while
// none are.
func (m *Manager) writtenTo(x *index, physical string) (*indexer.Documents, indexer.Target) {
	x.mu.Lock()
	old := x.old
	x.mu.Unlock()
	all := []*indexer.Documents{x.documents}
	if old != nil {
		all = append(all, old.Documents)
	}
	alias := m.alias(x.Name, physical)
	for _, d := range all {
		for _, t := range d.Targets() {
			if t.Alias == alias {
				return d, t
			}
		}
	}
	return nil, indexer.Target{}
}

func (x *index) isHeld() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.held
}

// passThrough has one pass through the documents of a group. It ends, without an error, when the
// physical index gets no documents any more.
func (m *Manager) passThrough(ctx context.Context, group control.FanOutGroup, documents *indexer.Documents) error {
	pass, stop := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	m.fanOuts.mu.Lock()
	givenUp := m.fanOuts.givenUp[group.Physical]
	m.fanOuts.physical, m.fanOuts.stop, m.fanOuts.ended = group.Physical, stop, ended
	m.fanOuts.mu.Unlock()
	defer func() {
		m.fanOuts.mu.Lock()
		m.fanOuts.physical = ""
		m.fanOuts.mu.Unlock()
		stop(nil)
		close(ended)
	}()
	x := m.byName[group.Index]
	now, target := m.writtenTo(x, group.Physical)
	if givenUp || now != documents {
		return nil // just now; from here on, whoever gives it up waits for the pass
	}
	// What was streamed before, and is not seen yet, may not have gone there.
	since := m.o.Syncer.Moment()
	err := m.storeAgain(pass, x, group, documents, target, since)
	if errors.Is(context.Cause(pass), errPassStopped) {
		return nil
	}
	return err
}

// giveUp has no pass of a physical index be under way from here on: what one has handed on is in the
// batch that is being made, or in one before.
func (f *fanOuts) giveUp(physical string) {
	f.mu.Lock()
	f.givenUp[physical] = true
	now, stop, ended := f.physical, f.stop, f.ended
	f.mu.Unlock()
	if now == physical {
		stop(errPassStopped)
		<-ended
	}
}

// keepPasses gives up the pass under way if it is of a physical index of x that is not kept any more.
func (m *Manager) keepPasses(x *index, st *control.State) {
	m.fanOuts.mu.Lock()
	physical := m.fanOuts.physical
	m.fanOuts.mu.Unlock()
	_, ours := search.PhysicalTime(x.Name, physical)
	if ours && physical != st.Live.Physical && physical != st.Building.Physical {
		m.fanOuts.giveUp(physical)
	}
	m.fanOuts.wake.raise()
}

// storeAgain has the pass, from where it is noted to be.
func (m *Manager) storeAgain(ctx context.Context, x *index, group control.FanOutGroup, documents *indexer.Documents, target indexer.Target, since dbsync.Moment) error {
	var pass *control.FanOutPass
	// A process that was stopped until another one had the slot takes nothing away from it.
	err := m.retry(ctx, "begin to store documents of "+group.Index+" again", func(ctx context.Context) (err error) {
		if err := m.o.Syncer.HoldsSlot(ctx); err != nil {
			return err
		}
		pass, err = m.o.Control.FanOuts().Begin(ctx, group, m.fanOuts.runner)
		return err
	})
	if err != nil || pass == nil {
		return err
	}
	doubt := func(ctx context.Context, why string) error { return m.unprove(ctx, x, why) }
	related := indexer.RelatedRows{Path: pass.Path, Rows: pass.Keys}
	i := slices.IndexFunc(documents.Index.Sources, func(s *mapping.Source) bool { return control.SourceName(s) == pass.Source })
	var lookups []mapping.Lookup
	known := i >= 0
	if known {
		lookups, known = related.Lookups(documents.Index.Sources[i])
	}
	if !known {
		if err := doubt(ctx, "rows changed that were in documents by a mapping which is not known any more"); err != nil {
			return err
		}
		return m.retry(ctx, "forget the documents of a mapping that is not known any more", func(ctx context.Context) error { return m.o.Control.FanOuts().Drop(ctx, group) })
	}
	plan, err := indexer.NewRowPlan(documents, documents.Index.Sources[i], m.o.Catalog.Tables(), target)
	if err != nil {
		return err
	}
	plan.Live = true
	// What was asked for was visible to others before it was noted: the stream has looked how many
	// documents there are in a snapshot that shows it. So every snapshot from then on does.
	read := func(ctx context.Context, tables []string, f func(*pgconn.PgConn) error) error {
		return m.o.Syncer.ReadVisible(ctx, nil, tables, f)
	}
	finder := &indexer.Finder{Syncer: m.o.Syncer, Catalog: m.o.Catalog, Plan: plan, Read: read}
	bound := leastFanOutRows
	pages := finder.Pages(lookups, indexer.KeyOf(pass.Cursor), doubt)
	for {
		var keys [][][]byte
		err := m.retry(ctx, "find documents of "+group.Index+" that are to be stored again", func(ctx context.Context) (err error) {
			keys, err = pages.Next(ctx, fanOutKeys)
			return err
		})
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			break
		}
		bound, err = m.storeKeys(ctx, finder.Plan, keys, since, bound, func(last [][]byte, rows int) error {
			if pages.InOrder {
				pass.Cursor = indexer.KeyTexts(last)
			}
			pass.Stored += int64(rows)
			m.fanOuts.advance(pass)
			return m.retry(ctx, "note which documents of "+group.Index+" are stored again", func(ctx context.Context) error { return m.o.Control.FanOuts().Advance(ctx, pass) })
		})
		if err != nil {
			return err
		}
	}
	if err := m.applied(ctx); err != nil {
		return err
	}
	m.o.Logger.Info("the documents of related rows that changed were stored again", "index", group.Index, "physical", group.Physical, "path", group.Path, "rows", len(pass.Keys), "documents", pass.Stored)
	return m.retry(ctx, "note that documents of "+group.Index+" are stored again", func(ctx context.Context) error {
		if err := m.o.Syncer.HoldsSlot(ctx); err != nil {
			return err
		}
		return m.o.Control.FanOuts().End(ctx, pass)
	})
}

// advance shows how far the pass under way is.
func (f *fanOuts) advance(pass *control.FanOutPass) {
	f.mu.Lock()
	defer f.mu.Unlock()
	open := slices.Clone(f.open) // others may hold it
	for i := range open {
		if open[i].FanOutGroup == pass.FanOutGroup {
			open[i].Stored = pass.Stored
		}
	}
	f.open = open
}

// storeKeys stores the documents of the rows with these keys again, window by window; stored is called
// after each, with the last of the keys so far and how many rows the window had. A window is opened
// when the one before it is stored, so that the batches that the stream waits for are mostly its own.
// bound is how many rows the first one has at most; what is returned is that of the next.
func (m *Manager) storeKeys(ctx context.Context, plan *indexer.RowPlan, keys [][][]byte, since dbsync.Moment, bound int, stored func(last [][]byte, rows int) error) (next int, err error) {
	rows := indexer.NewPager(plan, nil)
	rows.Keys, rows.Since = keys, since
	most := rows.MaxRows
	limit := indexer.Limiter(plan.Source.Index.Reindex.MaxRowsPerSecond)
	for more := true; more; {
		rows.MaxRows = min(most, bound)
		rows.NextRows = min(rows.NextRows, rows.MaxRows)
		w, err := m.openWindow(ctx, rows)
		if err != nil {
			return 0, err
		}
		handedOn := time.Now()
		if more, err = rows.Read(w); err != nil {
			return 0, err
		}
		if err := m.o.Syncer.AwaitStored(ctx, w); err != nil {
			return 0, err
		}
		if n := w.Len(); n > 0 {
			bound = paced(n, bound, time.Since(handedOn))
		}
		if passed := len(keys) - len(rows.Keys); passed > 0 {
			if err := stored(keys[passed-1], w.Len()); err != nil {
				return 0, err
			}
		}
		if err := limit.WaitN(ctx, w.Len()); err != nil {
			return 0, err
		}
	}
	return bound, nil
}

// paced returns how many rows the next window has at most, after it took so long to store one of n
// rows. It grows by steps: what was short may have been so by chance.
func paced(n, bound int, took time.Duration) int {
	fitting := int(int64(n) * int64(fanOutTime) / max(int64(took), 1))
	return max(leastFanOutRows, min(fitting, 2*bound, mostFanOutRows))
}

// keysInUse says by which key the rows of each table are remembered that change while windows are
// open: there is one at a time. Who wants another one waits.
type keysInUse struct {
	mu      sync.Mutex
	byTable map[catalog.TableName]*keyInUse
}

type keyInUse struct {
	columns []string
	users   int
	free    chan struct{} // closed when nobody uses it any more
}

// use waits until nobody remembers rows of the table by another key.
func (k *keysInUse) use(ctx context.Context, table catalog.TableName, columns []string) (done func(), err error) {
	for {
		k.mu.Lock()
		if k.byTable == nil {
			k.byTable = make(map[catalog.TableName]*keyInUse)
		}
		now := k.byTable[table]
		if now == nil {
			now = &keyInUse{columns: columns, free: make(chan struct{})}
			k.byTable[table] = now
		}
		if slices.Equal(now.columns, columns) {
			now.users++
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				defer k.mu.Unlock()
				if now.users--; now.users == 0 {
					delete(k.byTable, table)
					close(now.free)
				}
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-now.free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
