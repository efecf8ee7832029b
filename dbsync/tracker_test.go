package dbsync

import (
	"maps"
	"runtime"
	"strconv"
	"testing"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"
)

// A server in a few variables: transactions commit in the log, become visible later and
// in another order, and snapshots are what they are. Against it the tracker must never
// let through the row of a window that a transaction touched which the window's snapshot
// does not show, or which the stream brought since the low watermark.
type trackerModel struct {
	tracker *tracker
	limits  trackerLimits

	lsn     pglogrepl.LSN
	nextXid uint64
	pending map[uint64]bool    // have an xid, are not visible
	history map[uint64]history // what was streamed
	windows []*trackerWindow
	release func()
}

type history struct {
	commit  pglogrepl.LSN
	keys    map[string]bool // of relation 1; nil: any
	related bool            // it touched relation 2
}

type trackerWindow struct {
	related  []uint32
	watch    *watch
	low      pglogrepl.LSN
	since    pglogrepl.LSN // from after which on changes go where its rows go
	snapshot *Snapshot
}

func (m *trackerModel) snapshot() Snapshot {
	s := Snapshot{Xmin: m.nextXid, Xmax: m.nextXid}
	for xid := uint64(1); xid < m.nextXid; xid++ {
		if m.pending[xid] {
			s.Xmin = min(s.Xmin, xid)
			s.InProgress = append(s.InProgress, xid)
		}
	}
	return s
}

func TestTracker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := trackerLimits{keys: rapid.IntRange(1, 8).Draw(t, "keys"), bytes: rapid.IntRange(1, 8).Draw(t, "bytes"), tracked: rapid.IntRange(1, 8).Draw(t, "tracked")}
		m := &trackerModel{tracker: newTracker(), limits: limits, nextXid: 1,
			pending: make(map[uint64]bool), history: make(map[uint64]history)}
		m.tracker.limits = m.limits
		m.release = m.tracker.track(1, []string{"id"})
		draw := func(label string, windows []*trackerWindow, ok func(*trackerWindow) bool) *trackerWindow {
			var fit []*trackerWindow
			for _, w := range windows {
				if ok(w) {
					fit = append(fit, w)
				}
			}
			if len(fit) == 0 {
				t.Skip()
			}
			return rapid.SampledFrom(fit).Draw(t, label)
		}
		t.Repeat(map[string]func(*rapid.T){
			// A transaction commits and is streamed. Its snapshot visibility comes later.
			"commit": func(t *rapid.T) {
				xid := m.nextXid
				m.nextXid++
				m.lsn += 10
				h := history{commit: m.lsn, keys: make(map[string]bool)}
				m.tracker.begin(uint32(xid), m.lsn)
				m.pending[xid] = true
				for range rapid.IntRange(0, 4).Draw(t, "changes") {
					switch rapid.IntRange(0, 9).Draw(t, "change") {
					case 0:
						m.tracker.touchAll(1)
						h.keys = nil
					case 1:
						m.tracker.touchAll(2)
						h.related = true
					case 2: // the handler has failed, and the transaction is begun again
						m.tracker.begin(uint32(xid), m.lsn)
					default:
						key := rapid.StringOfN(rapid.RuneFrom([]rune("abcdef")), 1, 1, -1).Draw(t, "key")
						m.tracker.touch(1, key)
						if h.keys != nil {
							h.keys[key] = true
						}
					}
				}
				m.tracker.end()
				m.history[xid] = h
			},
			"broken connection": func(t *rapid.T) {
				m.tracker.begin(uint32(m.nextXid), m.lsn+10)
				m.tracker.touch(1, "z") // comes again, whole; the commit above is that
			},
			"visible": func(t *rapid.T) {
				for xid := uint64(1); xid < m.nextXid; xid++ {
					if m.pending[xid] && rapid.Bool().Draw(t, "this one") {
						delete(m.pending, xid)
						return
					}
				}
			},
			"bookkeeping": func(t *rapid.T) { m.tracker.seen(m.snapshot()) },
			// As before each batch: what is left is not visible, whatever windows need.
			"bound": func(t *rapid.T) {
				if !m.tracker.full() {
					t.Skip()
				}
				m.tracker.bound(m.snapshot())
				for _, tx := range m.tracker.finished {
					if !m.pending[uint64(tx.xid)] {
						t.Fatalf("transaction %d is visible and not forgotten", tx.xid)
					}
				}
			},
			// A failing handler gets the last transaction once more.
			"handed again": func(t *rapid.T) {
				h, ok := m.history[m.nextXid-1]
				if !ok {
					t.Skip()
				}
				m.tracker.begin(uint32(m.nextXid-1), h.commit)
				if h.keys == nil {
					m.tracker.touchAll(1)
				}
				for key := range h.keys {
					m.tracker.touch(1, key)
				}
				m.tracker.end()
			},
			"open": func(t *rapid.T) {
				if len(m.windows) == 3 {
					t.Skip()
				}
				var related []uint32
				if rapid.Bool().Draw(t, "with related rows") {
					related = []uint32{2}
				}
				w := &trackerWindow{related: related}
				if rapid.Bool().Draw(t, "filled anew") {
					w.since = m.lsn // what was streamed has gone elsewhere
					w.watch = m.tracker.watch(1, related, m.tracker.moment())
				} else {
					w.watch = m.tracker.watch(1, related, 0)
				}
				m.windows = append(m.windows, w)
			},
			"low": func(t *rapid.T) {
				w := draw("window", m.windows, func(w *trackerWindow) bool { return w.low == 0 })
				m.lsn += 10
				w.low = m.lsn
				m.tracker.setLow(w.watch, w.low)
			},
			"snapshot": func(t *rapid.T) {
				w := draw("window", m.windows, func(w *trackerWindow) bool { return w.low != 0 && w.snapshot == nil })
				s := m.snapshot()
				w.snapshot = &s
				m.tracker.setSnapshot(w.watch, &s)
			},
			"high": func(t *rapid.T) {
				w := draw("window", m.windows, func(w *trackerWindow) bool { return w.snapshot != nil })
				got, ok := m.tracker.collect(w.watch)
				for xid, h := range m.history {
					if h.commit < w.low && w.snapshot.Visible(uint32(xid)) {
						continue
					}
					if len(h.keys) > 0 && h.commit <= w.since && ok {
						t.Fatalf("what transaction %d did is lost", xid)
					}
					if h.keys == nil && ok {
						t.Fatalf("transaction %d may have touched any row", xid)
					}
					if h.related && h.commit < w.low && w.related != nil && ok {
						t.Fatalf("transaction %d touched related rows that the window does not show", xid)
					}
					for key := range h.keys {
						if _, found := got[key]; ok && !found {
							t.Fatalf("key %s of transaction %d is not known; known are %v", key, xid, maps.Keys(got))
						}
					}
				}
				m.tracker.unwatch(w.watch)
				for i := range m.windows {
					if m.windows[i] == w {
						m.windows = append(m.windows[:i], m.windows[i+1:]...)
						break
					}
				}
			},
			"": func(t *rapid.T) {
				keys, bytes, tracked := 0, 0, 0
				count := func(tx *touched) {
					for _, table := range tx.tables {
						keys += len(table.keys)
						for key := range table.keys {
							bytes += len(key)
						}
					}
				}
				for _, tx := range m.tracker.finished {
					count(tx)
					tracked += 1 + len(tx.tables)
				}
				if open := m.tracker.open; open != nil {
					count(open)
				}
				if keys != m.tracker.keys || keys > m.limits.keys || bytes != m.tracker.bytes || bytes > m.limits.bytes {
					t.Fatalf("%d keys of %d bytes are remembered, %d and %d counted, %v allowed", keys, bytes, m.tracker.keys, m.tracker.bytes, m.limits)
				}
				if tracked != m.tracker.tracked {
					t.Fatalf("%d transactions and tables are remembered, %d counted", tracked, m.tracker.tracked)
				}
			},
		})
		// When all is visible and no window is open, nothing is left.
		for _, w := range m.windows {
			m.tracker.unwatch(w.watch)
		}
		clear(m.pending)
		m.tracker.begin(uint32(m.nextXid), m.lsn+20)
		m.tracker.end()
		m.tracker.seen(m.snapshot())
		if len(m.tracker.finished) != 0 || m.tracker.keys != 0 || m.tracker.bytes != 0 || m.tracker.tracked != 0 {
			t.Fatalf("%d transactions and %d keys are left", len(m.tracker.finished), m.tracker.keys)
		}
		m.release()
		if len(m.tracker.tables) != 0 {
			t.Fatal("the table is still tracked")
		}
	})
}

func TestTrackerKeys(t *testing.T) {
	tr := newTracker()
	if tr.key(1) != nil {
		t.Error("a table is tracked that nobody asked for")
	}
	before := tr.generation.Load()
	first := tr.track(1, []string{"id"})
	second := tr.track(1, []string{"id"})
	if got := tr.key(1); len(got) != 1 || got[0] != "id" {
		t.Errorf("the key is %v", got)
	}
	first()
	if tr.key(1) == nil {
		t.Error("the table is forgotten while somebody needs it")
	}
	second()
	if tr.key(1) != nil || tr.generation.Load() != before+2 {
		t.Error("the table is not forgotten")
	}
}

// A window that was given up collects nothing: what it needed may be forgotten.
func TestTrackerOfGivenUpWindow(t *testing.T) {
	tr := newTracker()
	defer tr.track(1, []string{"id"})()
	w := tr.watch(1, nil, 0)
	tr.setSnapshot(w, &Snapshot{Xmin: 5, Xmax: 5})
	tr.begin(5, 10)
	tr.touch(1, "a")
	tr.end()
	tr.setLow(w, 20)
	tr.unwatch(w)
	tr.seen(Snapshot{Xmin: 9, Xmax: 9})
	if keys, ok := tr.collect(w); ok {
		t.Errorf("collected %v, want the window to be read again", keys)
	}
}

// A window that waits for its snapshot for hours must not have everything remembered that
// happens meanwhile.
func TestTrackerWhileWindowWaits(t *testing.T) {
	tr := newTracker()
	w := tr.watch(1, nil, 0)
	defer tr.unwatch(w)
	for xid := uint64(1); xid <= 1000; xid++ {
		// What the window has last looked at and did not take is a lower bound.
		tr.setSnapshot(w, &Snapshot{Xmin: xid, Xmax: xid})
		tr.begin(uint32(xid), pglogrepl.LSN(10*xid))
		tr.touchAll(1)
		tr.end()
		tr.seen(Snapshot{Xmin: xid + 1, Xmax: xid + 1})
		if n := len(tr.finished); n > 2 {
			t.Fatalf("%d transactions are remembered", n)
		}
	}
}

// A window that waits for an old transaction to end needs all that is streamed after its low
// watermark, which is without bound: it is read again instead.
func TestTrackerIsBounded(t *testing.T) {
	const transactions = 1_000_000
	tests := []struct {
		name     string
		touch    uint32 // the relation that they touch
		snapshot *Snapshot
		again    bool
	}{
		{"its table", 1, &Snapshot{Xmin: 1, Xmax: 10}, true},
		{"a related table", 2, &Snapshot{Xmin: 1, Xmax: 10}, true},
		{"another table", 3, &Snapshot{Xmin: 1, Xmax: 10}, false},
		{"no snapshot yet", 1, nil, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tr := newTracker()
			defer tr.track(1, []string{"id"})()
			w := tr.watch(1, []uint32{2}, 0)
			if test.snapshot != nil {
				tr.setSnapshot(w, test.snapshot)
			}
			tr.setLow(w, 10)
			before := heap()
			for xid := uint64(10); xid < 10+transactions; xid++ {
				tr.begin(uint32(xid), pglogrepl.LSN(10*xid))
				tr.touch(test.touch, strconv.FormatUint(xid, 10))
				tr.end()
				if xid%1000 == 0 {
					now := Snapshot{Xmin: 1, Xmax: xid + 1, InProgress: []uint64{1}} // the old one is open still
					tr.seen(now)
					if tr.full() {
						tr.bound(now)
					}
				}
			}
			if grown := heap() - before; grown > 40<<20 {
				t.Errorf("%d MB are remembered", grown>>20)
			}
			if tr.full() {
				t.Errorf("%d transactions and tables are remembered", tr.tracked)
			}
			tr.setSnapshot(w, &Snapshot{Xmin: 10 + transactions, Xmax: 10 + transactions})
			if _, ok := tr.collect(w); ok == test.again {
				t.Errorf("the rows of the window count: %t", ok)
			}
			runtime.KeepAlive(tr)
		})
	}
}

// heap returns how much memory is in use, in bytes.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// That a table's rows are another one's as well may be learnt when transactions on it are
// forgotten already.
func TestTrackerLearnsOfParents(t *testing.T) {
	tr := newTracker()
	tr.limits.tracked = 1
	w := tr.watch(1, nil, 0)
	tr.setSnapshot(w, &Snapshot{Xmin: 5, Xmax: 5})
	tr.setLow(w, 10)
	tr.begin(5, 20)
	tr.touchAll(7)
	tr.end()
	now := Snapshot{Xmin: 9, Xmax: 9}
	tr.bound(now)
	if len(tr.finished) > 0 {
		t.Fatal("the transaction is remembered")
	}
	tr.inherit(7, []uint32{1})
	tr.setSnapshot(w, &now)
	if _, ok := tr.collect(w); ok {
		t.Error("the window counts, though a row of its table was touched behind its low watermark")
	}
}
