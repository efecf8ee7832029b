package dbsync

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pglogrepl"
)

// maxTrackedKeys bounds the keys that a tracker remembers, over all transactions.
// What goes beyond is known by its table only: a window that needs to know more is
// read again. 100,000 keys of usual length take about 10 MB.
const maxTrackedKeys = 100_000

// tracker remembers the transactions that were streamed and that no snapshot has
// shown yet, and the rows they touched.
//
// It is needed because commit order is not visibility order. A commit is in the log,
// and streamed, before other sessions see it: for a moment always, and with a
// synchronous standby for as long as that standby does not answer. A row that is read
// in between is older than what was streamed already, and must not overwrite it.
//
// At any time at most one transaction per connection is in that state, so once a
// snapshot has been applied, little is left.
type tracker struct {
	mu       sync.Mutex
	tables   map[uint32]*trackedTable // by relation
	parents  map[uint32][]uint32      // see Syncer.Inherit
	begun    Moment
	finished []*touched // committed, in the order of the stream
	open     *touched   // the transaction that is being received
	keys     int        // over all of them
	limit    int
	watches  map[*watch]struct{} // of the windows under way

	generation atomic.Uint64 // counts the changes of tables
}

// watch is what a window under way needs the tracker to keep: every transaction that
// its snapshot does not show, and every one after its low watermark.
type watch struct {
	snapshot *Snapshot     // its own, or one that it did not take because it is too old; nil: none yet
	low      pglogrepl.LSN // 0: not streamed yet
	since    Moment        // see Select
}

// A Moment is how far the stream was handed to the handler: it counts the transactions that had
// begun. See [Syncer.Moment].
type Moment uint64

// trackedTable is a table whose touched rows are remembered by key.
type trackedTable struct {
	key   []string // names of the key's columns
	users int
}

// touched is what one transaction did.
type touched struct {
	xid    uint32
	commit pglogrepl.LSN
	began  Moment         // counts this one
	tables []touchedTable // few
}

// touchedTable is what one transaction did to one table. all says that it may have
// touched any row of it.
type touchedTable struct {
	relation uint32
	all      bool
	keys     map[string]struct{}
}

func newTracker() *tracker {
	return &tracker{tables: make(map[uint32]*trackedTable), parents: make(map[uint32][]uint32), limit: maxTrackedKeys, watches: make(map[*watch]struct{})}
}

// watch begins to keep what a window needs, until unwatch.
func (t *tracker) watch(since Moment) *watch {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &watch{since: since}
	t.watches[w] = struct{}{}
	return w
}

func (t *tracker) unwatch(w *watch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watches, w)
}

func (t *tracker) setSnapshot(w *watch, snapshot *Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w.snapshot = snapshot
}

// snapshot returns that of a window which has read its rows.
func (t *tracker) snapshot(w *watch) Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *w.snapshot
}

func (t *tracker) setLow(w *watch, low pglogrepl.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w.low = low
}

// track has the rows of a table remembered by key until release is called. Windows
// on one table use one key.
func (t *tracker) track(relation uint32, key []string) (release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.tables[relation]
	if table == nil {
		table = &trackedTable{key: key}
		t.tables[relation] = table
		t.generation.Add(1)
	}
	table.users++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if table.users--; table.users == 0 {
			delete(t.tables, relation)
			t.generation.Add(1)
		}
	}
}

// inherit notes which tables have the rows of a relation as well.
func (t *tracker) inherit(relation uint32, parents []uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Equal(t.parents[relation], parents) {
		return
	}
	if len(parents) == 0 {
		delete(t.parents, relation)
	} else {
		t.parents[relation] = slices.Clone(parents)
	}
	t.generation.Add(1)
}

// having returns the relation and all that have its rows as well.
func (t *tracker) having(relation uint32) []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]uint32{relation}, t.parents[relation]...)
}

// key returns the names of the columns by which the rows of a table are remembered,
// nil when nobody asks for them.
func (t *tracker) key(relation uint32) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if table := t.tables[relation]; table != nil {
		return table.key
	}
	return nil
}

// begin starts a transaction. One that was broken off by a new connection is forgotten:
// it comes again, whole. One that is begun again because a handler failed in the middle
// goes on: what came before in earlier batches does not come again.
func (t *tracker) begin(xid uint32, commit pglogrepl.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != nil {
		if t.open.xid == xid && t.open.commit == commit {
			return
		}
		t.forget(t.open)
	}
	t.begun++
	t.open = &touched{xid: xid, commit: commit, began: t.begun}
}

// moment returns how far the stream was handed to the handler.
func (t *tracker) moment() Moment {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.begun
}

// touch notes that the open transaction touched the row with this key.
func (t *tracker) touch(relation uint32, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		return
	}
	table := t.open.table(relation)
	if table.all {
		return
	}
	if t.keys >= t.limit {
		t.setAll(table)
		return
	}
	if table.keys == nil {
		table.keys = make(map[string]struct{})
	}
	before := len(table.keys)
	table.keys[key] = struct{}{}
	t.keys += len(table.keys) - before
}

// touchAll notes that the open transaction may have touched any row of the table.
func (t *tracker) touchAll(relation uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != nil {
		t.setAll(t.open.table(relation))
	}
}

// end ends the open transaction. One that touched nothing is not kept.
func (t *tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != nil && len(t.open.tables) > 0 {
		t.finished = append(t.finished, t.open)
	}
	t.open = nil
}

// collect returns the keys of the rows of a table that a window must not hand on: those that
// a transaction touched which the stream brought since the low watermark, or which the
// window's snapshot does not show. It is called when the high watermark arrives.
//
// ok is false when the window has to be read again. There are four cases: such a transaction
// may have touched any row; one that the snapshot does not show is older than the low
// watermark and touched a related table, or began before the moment from which on changes go where
// the rows go; or the window was given up meanwhile, so that some may have been forgotten.
func (t *tracker) collect(relation uint32, related []uint32, w *watch) (keys map[string]struct{}, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.watches[w]; !ok {
		return nil, false
	}
	for _, tx := range t.finished {
		if tx.commit < w.low && w.snapshot.Visible(tx.xid) {
			continue
		}
		for i := range tx.tables {
			table := &tx.tables[i]
			if tx.commit < w.low && slices.Contains(related, table.relation) {
				return nil, false
			}
			if table.relation != relation {
				if table.all && slices.Contains(t.parents[table.relation], relation) && !tx.has(relation) {
					return nil, false // it was not known yet that its rows are rows of this one
				}
				continue
			}
			if table.all || tx.began <= w.since {
				return nil, false
			}
			for key := range table.keys {
				if keys == nil {
					keys = make(map[string]struct{}, len(table.keys))
				}
				keys[key] = struct{}{}
			}
		}
	}
	return keys, true
}

// seen forgets the transactions that the snapshot shows, but for those that a window
// under way needs.
func (t *tracker) seen(snapshot Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.watches {
		if w.snapshot == nil {
			return // it may be older than snapshot; the next call comes within seconds
		}
	}
	kept := t.finished[:0]
	for _, tx := range t.finished {
		if snapshot.Visible(tx.xid) && !t.needed(tx) {
			t.forget(tx)
		} else {
			kept = append(kept, tx)
		}
	}
	clear(t.finished[len(kept):])
	t.finished = kept
}

// unseen returns the transactions that were streamed and that no snapshot is known to show.
func (t *tracker) unseen() (xids []uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tx := range t.finished {
		xids = append(xids, tx.xid)
	}
	if t.open != nil {
		xids = append(xids, t.open.xid)
	}
	return xids
}

// needed reports whether a window under way needs tx. mu is held.
func (t *tracker) needed(tx *touched) bool {
	for w := range t.watches {
		if w.low != 0 && tx.commit >= w.low || !w.snapshot.Visible(tx.xid) {
			return true
		}
	}
	return false
}

// forget takes the keys of tx off the count. mu is held.
func (t *tracker) forget(tx *touched) {
	for i := range tx.tables {
		t.keys -= len(tx.tables[i].keys)
	}
}

// setAll drops the table's keys: any row of it may have been touched. mu is held.
func (t *tracker) setAll(table *touchedTable) {
	t.keys -= len(table.keys)
	table.keys, table.all = nil, true
}

// has reports whether the transaction is known to have touched rows of a table.
func (t *touched) has(relation uint32) bool {
	return slices.ContainsFunc(t.tables, func(table touchedTable) bool { return table.relation == relation })
}

func (t *touched) table(relation uint32) *touchedTable {
	for i := range t.tables {
		if t.tables[i].relation == relation {
			return &t.tables[i]
		}
	}
	t.tables = append(t.tables, touchedTable{relation: relation})
	return &t.tables[len(t.tables)-1]
}
