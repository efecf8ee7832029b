package dbsync

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pglogrepl"
)

const (
	// maxTrackedKeys and maxTrackedBytes bound the keys that a tracker remembers, over all
	// transactions. What goes beyond is known by its table only: a window that needs to know
	// more is read again. 100,000 keys take about 10 MB beside their texts.
	maxTrackedKeys  = 100_000
	maxTrackedBytes = 16 << 20

	// maxTracked bounds the transactions that a tracker remembers, each with every table that
	// it touched counted as one more. They take some 100 bytes each, so 10 MB. Of those that no
	// snapshot shows there is one for each connection at most; there are more while nobody has
	// asked, and while a window waits for its snapshot.
	maxTracked = 100_000
)

// tracker remembers the transactions that were streamed and that no snapshot has
// shown yet, and the rows they touched.
//
// It is needed because commit order is not visibility order. A commit is in the log,
// and streamed, before other sessions see it: for a moment always, and with a
// synchronous standby for as long as that standby does not answer. A row that is read
// in between is older than what was streamed already, and must not overwrite it.
//
// At any time at most one transaction per connection is in that state, so once a
// snapshot has been applied, little is left, but for what windows under way need. A window may
// wait for its snapshot for as long as an old transaction is open, or somebody holds a lock, and
// needs everything that is streamed meanwhile. So when there is too much (see bound), it
// is the window that is given up, and not what is remembered: it is noted with the window
// that it needs a transaction which is forgotten, and then the window is read again. What no
// snapshot shows is never forgotten; while that alone is too much the stream waits. So whatever
// collect does not return was shown by the window's snapshot, or is of other tables.
type tracker struct {
	mu       sync.Mutex
	tables   map[uint32]*trackedTable // by relation
	parents  map[uint32][]uint32      // see Syncer.Inherit
	begun    Moment
	finished []*touched // committed, in the order of the stream
	open     *touched   // the transaction that is being received
	keys     int        // over all of them
	bytes    int        // of these keys
	tracked  int        // of finished, see maxTracked
	limits   trackerLimits
	watches  map[*watch]struct{} // of the windows under way

	generation atomic.Uint64 // counts the changes of tables
}

type trackerLimits struct{ keys, bytes, tracked int }

// watch is what a window under way needs the tracker to keep: every transaction that
// its snapshot does not show, and every one after its low watermark.
type watch struct {
	relation uint32        // that its rows are of
	related  []uint32      // that they are made of besides
	snapshot *Snapshot     // its own, or one that it did not take because it is too old; nil: none yet
	low      pglogrepl.LSN // 0: not streamed yet
	since    Moment        // see Select

	again     bool // a transaction that it needs was forgotten: it has to be read again
	forgotten bool // transactions were forgotten that touched none of its tables, by what was known of them then
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
	bytes    int // of keys
}

func newTracker() *tracker {
	return &tracker{tables: make(map[uint32]*trackedTable), parents: make(map[uint32][]uint32), watches: make(map[*watch]struct{}),
		limits: trackerLimits{keys: maxTrackedKeys, bytes: maxTrackedBytes, tracked: maxTracked}}
}

// watch begins to keep what a window on a table needs, whose rows are made of related ones
// besides, until unwatch.
func (t *tracker) watch(relation uint32, related []uint32, since Moment) *watch {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &watch{relation: relation, related: related, since: since}
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
	for w := range t.watches {
		w.again = w.again || w.forgotten // what was forgotten may have been of its tables after all
	}
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
	if _, known := table.keys[key]; known {
		return
	}
	if t.keys >= t.limits.keys || t.bytes+len(key) > t.limits.bytes {
		t.setAll(table)
		return
	}
	if table.keys == nil {
		table.keys = make(map[string]struct{})
	}
	table.keys[key] = struct{}{}
	table.bytes += len(key)
	t.keys++
	t.bytes += len(key)
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
		t.tracked += t.open.size()
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
// the rows go; one was forgotten, see bound; or the window was given up meanwhile, so that some may
// have been forgotten.
func (t *tracker) collect(w *watch) (keys map[string]struct{}, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.watches[w]; !ok || w.again {
		return nil, false
	}
	for _, tx := range t.finished {
		if tx.commit < w.low && w.snapshot.Visible(tx.xid) {
			continue
		}
		for i := range tx.tables {
			table := &tx.tables[i]
			if tx.commit < w.low && slices.Contains(w.related, table.relation) {
				return nil, false
			}
			if table.relation != w.relation {
				if table.all && slices.Contains(t.parents[table.relation], w.relation) && !tx.has(w.relation) {
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
	t.keep(func(tx *touched) bool { return !snapshot.Visible(tx.xid) || t.needed(tx) })
}

// full reports whether the tracker remembers more than it may: bound is to be called before
// there is more.
func (t *tracker) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tracked > t.limits.tracked
}

// bound forgets every transaction that the snapshot shows. A window under way that needs one of
// them, because it touched its tables, is read again. What is left is not visible to all: one
// transaction for each connection at most.
func (t *tracker) bound(snapshot Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	type commit struct {
		xid uint32
		at  pglogrepl.LSN
	}
	left := make(map[commit]*touched)
	t.keep(func(tx *touched) bool {
		if !snapshot.Visible(tx.xid) {
			// A transaction that was handed to a failing handler again and again is there as often.
			first := left[commit{tx.xid, tx.commit}]
			if first == nil {
				left[commit{tx.xid, tx.commit}] = tx
				return true
			}
			for i := range tx.tables {
				relation := tx.tables[i].relation
				if !first.has(relation) {
					t.tracked++
				}
				t.setAll(first.table(relation))
			}
			return false
		}
		for w := range t.watches {
			if w.needs(tx) {
				w.forgotten = true
				w.again = w.again || t.concerns(tx, w)
			}
		}
		return false
	})
}

// keep forgets all transactions but those that wanted says yes to. mu is held.
func (t *tracker) keep(wanted func(*touched) bool) {
	kept := t.finished[:0]
	for _, tx := range t.finished {
		if wanted(tx) {
			kept = append(kept, tx)
		} else {
			t.forget(tx)
			t.tracked -= tx.size()
		}
	}
	clear(t.finished[len(kept):])
	if t.finished = kept; cap(kept) > 2*t.limits.tracked {
		t.finished = slices.Clone(kept)
	}
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
		if w.needs(tx) {
			return true
		}
	}
	return false
}

// needs reports whether the window needs tx, whatever tables that touched. Of one that has no
// snapshot yet it is not known: it may have taken one that is older than any other.
func (w *watch) needs(tx *touched) bool {
	return !w.again && (w.snapshot == nil || w.low != 0 && tx.commit >= w.low || !w.snapshot.Visible(tx.xid))
}

// concerns reports whether tx touched a table that the rows of a window are made of. mu is held.
func (t *tracker) concerns(tx *touched, w *watch) bool {
	of := func(relation uint32) bool { return relation == w.relation || slices.Contains(w.related, relation) }
	return slices.ContainsFunc(tx.tables, func(table touchedTable) bool {
		return of(table.relation) || slices.ContainsFunc(t.parents[table.relation], of)
	})
}

// forget takes the keys of tx off the count. mu is held.
func (t *tracker) forget(tx *touched) {
	for i := range tx.tables {
		t.keys -= len(tx.tables[i].keys)
		t.bytes -= tx.tables[i].bytes
	}
}

// setAll drops the table's keys: any row of it may have been touched. mu is held.
func (t *tracker) setAll(table *touchedTable) {
	t.keys -= len(table.keys)
	t.bytes -= table.bytes
	table.keys, table.bytes, table.all = nil, 0, true
}

// size is what a transaction counts, see maxTracked.
func (t *touched) size() int { return 1 + len(t.tables) }

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
