package dbsync

import (
	"maps"
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
	limit   int

	lsn     pglogrepl.LSN
	nextXid uint64
	pending map[uint64]bool    // have an xid, are not visible
	history map[uint64]history // what was streamed
	windows []*trackerWindow
	release func()
}

type history struct {
	commit pglogrepl.LSN
	keys   map[string]bool // of relation 1; nil: any
}

type trackerWindow struct {
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
		m := &trackerModel{tracker: newTracker(), limit: rapid.IntRange(1, 8).Draw(t, "limit"), nextXid: 1,
			pending: make(map[uint64]bool), history: make(map[uint64]history)}
		m.tracker.limit = m.limit
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
						m.tracker.touchAll(2) // another table
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
			"open": func(t *rapid.T) {
				if len(m.windows) == 3 {
					t.Skip()
				}
				w := &trackerWindow{}
				if rapid.Bool().Draw(t, "filled anew") {
					w.since = m.lsn // what was streamed has gone elsewhere
					w.watch = m.tracker.watch(m.tracker.moment())
				} else {
					w.watch = m.tracker.watch(0)
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
				got, ok := m.tracker.collect(1, nil, w.watch)
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
				keys := 0
				for _, tx := range m.tracker.finished {
					for _, table := range tx.tables {
						keys += len(table.keys)
					}
				}
				if open := m.tracker.open; open != nil {
					for _, table := range open.tables {
						keys += len(table.keys)
					}
				}
				if keys != m.tracker.keys || keys > m.limit {
					t.Fatalf("%d keys are remembered, %d counted, %d allowed", keys, m.tracker.keys, m.limit)
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
		if len(m.tracker.finished) != 0 || m.tracker.keys != 0 {
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
	w := tr.watch(0)
	tr.setSnapshot(w, &Snapshot{Xmin: 5, Xmax: 5})
	tr.begin(5, 10)
	tr.touch(1, "a")
	tr.end()
	tr.setLow(w, 20)
	tr.unwatch(w)
	tr.seen(Snapshot{Xmin: 9, Xmax: 9})
	if keys, ok := tr.collect(1, nil, w); ok {
		t.Errorf("collected %v, want the window to be read again", keys)
	}
}

// A window that waits for its snapshot for hours must not have everything remembered that
// happens meanwhile.
func TestTrackerWhileWindowWaits(t *testing.T) {
	tr := newTracker()
	w := tr.watch(0)
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
