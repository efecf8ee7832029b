package dbsync

import "sync"

// A barrier says up to which transaction a snapshot has to show everything before its rows
// count. Of older transactions the stream may have left something out: what they did before this
// process listened, or before their table was in the publication. Only when all of them have
// ended, and the snapshot shows it, do rows and stream together miss nothing.
//
// The goroutines that read rows, the one that connects, and [Syncer.Publish] use it.
type barrier struct {
	mu       sync.Mutex
	xid      uint64 // 0: not known, nobody listens yet
	changing bool   // the publication is just being changed
	changes  uint64 // how often it was
	covered  uint64 // up to which of these xid is good for
}

// reset forgets the barrier: no snapshot is good until raise is called.
func (b *barrier) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.xid = 0
}

// need returns which change of the publication the barrier is not yet raised for, and whether
// there is one: then the caller reads the current transaction, and calls raise.
func (b *barrier) need() (change uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changes, b.xid > 0 && !b.changing && b.covered < b.changes
}

// raise sets the barrier to a transaction that began after the change with this number; it is
// never lowered.
func (b *barrier) raise(xid, change uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.xid, b.covered = max(b.xid, xid), max(b.covered, change)
}

// change calls commit, which changes the publication when it commits. Whatever it returns, the
// change may have been made, so no snapshot counts before the barrier is raised again.
func (b *barrier) change(commit func() error) error {
	b.mu.Lock()
	b.changing = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.changing = false
		b.changes++
	}()
	return commit()
}

// passes reports whether the rows of a snapshot count.
func (b *barrier) passes(snapshot Snapshot) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.xid > 0 && !b.changing && b.covered == b.changes && snapshot.Xmin > b.xid
}

// wanted returns the transaction that has to be shown, 0 where that is not known.
func (b *barrier) wanted() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.xid
}
