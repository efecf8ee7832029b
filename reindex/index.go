package reindex

import (
	"context"
	"errors"
	"sync"
	"time"

	"tidemark/indexer"
	"tidemark/indexer/retry"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// An index is all that this process knows of one index of the mapping; New makes one for each.
//
// One goroutine at a time works on it: Begin, before the first message of the stream; Run, until
// it is done with the index; from then on a worker of Serve. Whoever works on it changes its
// state. Beside that, the watcher of partitions notes those that it has seen to, walkAll notes how
// far the index is compared with its tables, Altered leaves word, and Serve asks and cancels. So what is below mu is read and written by the methods alone.
type index struct {
	*mapping.Index                    // as the file has it
	documents      *indexer.Documents // made by that; New gets them

	mu sync.Mutex

	// known is the state as this process has noted it in the control schema last, nil before
	// Begin. It is replaced and never changed, so a copy may share its cursor.
	known *control.State

	// planned are the physical indices that this process has noted in the control schema, or is
	// about to note.
	planned map[string]bool

	// old are the documents of the index in use while they are made by the mapping before, see
	// route; nil if Begin found no other mapping.
	old *oldDocuments

	// runDone is set when Run is done with the index: it is Serve's from then on.
	runDone bool

	// altered is set when one of the index's tables may not be what the index was made of any
	// more, until a worker takes it up.
	altered bool

	// conforming is set while a worker has the index be as its tables are.
	conforming bool

	// strayed is set when documents may have been made of tables that were not those noted with the
	// index, until it is as they are.
	strayed bool

	// due is why the index is to be made anew although nothing that is looked at while running asks for it;
	// "" if it need not.
	due string

	// missed is set when the index misses changes, until it is made anew; the control schema has
	// no generation of it then.
	missed bool

	// alarm is held while the index cannot be as it should, nil otherwise. held says that its
	// documents are left as they are meanwhile, since none can be made.
	alarm   *retry.Hold
	failure string // what the alarm says; "" if there is none
	held    bool

	// retryAt is when what failed is tried again, after pause.
	retryAt time.Time
	pause   time.Duration

	// joining is set while the index in use lacks tables that came into the place of a pattern: its documents
	// are made by the mapping with them.
	joining bool

	// starting is set while a rebuild that was asked for has begun and cannot be cancelled yet.
	starting bool

	// proof is what is noted of the index's being equal to its tables; noting is held by who writes
	// the note, so that this one is the last.
	proof  control.Proof
	noting sync.Mutex

	found, repaired int64 // differences, by this process
	filled          int64 // rows that backfills have stored, by this process

	// asked is set when somebody wants the index compared at once, until that has come to its end.
	asked bool

	// walking ends the walk under way; nil if none is.
	walking context.CancelCauseFunc

	// marks are those of the physical indices, as this process has noted them last; spoiled those of
	// them that turned out to be others than they were.
	marks   map[string]control.Marking
	spoiled map[string]bool

	// unrenewed is the alarm while a mark cannot be renewed, nil otherwise.
	unrenewed *retry.Hold

	// stop cancels the backfill that is under way; nil if none is, or if it is too late.
	stop context.CancelCauseFunc
}

// state returns a copy of what is known of the index. Before Begin it has the name alone.
func (x *index) state() control.State {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.known == nil {
		return control.State{Name: x.Name}
	}
	return *x.asSpoiledLocked()
}

// asSpoiledLocked returns what is known of the index, where a physical index that was set back has
// no generation. x.mu is held.
func (x *index) asSpoiledLocked() *control.State {
	st := x.known
	if st == nil || !x.spoiled[st.Live.Physical] && !x.spoiled[st.Building.Physical] {
		return st
	}
	now := *st
	for _, v := range versions(&now) {
		if x.spoiled[v.Physical] {
			v.Generation = ""
		}
	}
	return &now
}

// set has st be what is known of the index. Where it is being filled, it is not walked through.
func (x *index) set(st control.State) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.known = &st
	if st.Building.Physical != "" {
		x.stopWalkLocked()
	}
}

// setPartitions has the physical index be as these partitions are, if it is still in use.
func (x *index) setPartitions(physical, partitions string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if st := *x.known; st.Live.Physical == physical {
		st.Live.Partitions = partitions
		x.known = &st
	}
}

// addFilled counts rows that a backfill has stored.
func (x *index) addFilled(rows int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.filled += rows
}

// plan has the name of a physical index known that is about to be noted in the control schema.
func (x *index) plan(physical string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.planned[physical] = true
}

// isOurs reports whether what the control schema has of the index is this process's own doing.
// Between a note there and the one in memory it is one of two.
func (x *index) isOurs(noted *control.State) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	mine := x.known
	if noted == nil || mine == nil {
		return noted == nil && mine == nil // see Resume
	}
	return noted.Building.Physical == mine.Building.Physical && noted.Live.Physical == mine.Live.Physical ||
		mine.Building.Physical != "" && noted.Building.Physical == "" && noted.Live.Physical == mine.Building.Physical ||
		x.planned[noted.Building.Physical]
}

// endRun leaves the index to Serve, which looks first whether its tables are still what it was
// filled from.
func (x *index) endRun() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.runDone, x.altered = true, true
}

// isRunDone reports whether the index is Serve's.
func (x *index) isRunDone() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.runDone
}

// setJoining notes whether the index in use lacks tables that came into the place of a pattern.
func (x *index) setJoining(joining bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.joining = joining
}

// setAltered leaves word that a table of the index may have been altered. A walk compares by the
// table as it was, and ends.
func (x *index) setAltered() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.altered = true
	x.stopWalkLocked()
}

// isAltered reports whether a table of the index was altered since takeAltered.
func (x *index) isAltered() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.altered
}

// takeAltered reports whether a table of the index was altered since it was called last. If so the
// caller has the index be as it is now, and calls endConform.
func (x *index) takeAltered() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	altered := x.altered
	x.altered, x.conforming = false, altered
	return altered
}

// takeDue returns why the index is to be made anew, once.
func (x *index) takeDue() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	due := x.due
	x.due = ""
	return due
}

func (x *index) isToBeMade() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.due != ""
}

func (x *index) setDue(due string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.due = due
}

// setStrayed notes whether documents may have been made of other tables than those noted.
func (x *index) setStrayed(strayed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.strayed = strayed
}

// takeStrayed reports whether that was so since it was called last.
func (x *index) takeStrayed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	strayed := x.strayed
	x.strayed = false
	return strayed
}

// endConform says that the index is as its tables are, or that having it so has failed.
func (x *index) endConform() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conforming = false
}

// startRebuild says that a rebuild which was asked for begins: who wants it cancelled waits
// until that can be done, or until the rebuild has ended.
func (x *index) startRebuild() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.starting = true
}

// endRebuild says that a rebuild which was asked for has ended.
func (x *index) endRebuild() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.starting = false
}

// cancellable returns the context for a backfill, which cancel ends until done is called. done
// may be called more than once.
func (x *index) cancellable(ctx context.Context) (work context.Context, done func()) {
	work, stop := context.WithCancelCause(ctx)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stop, x.starting = stop, false
	return work, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.stop = nil
		stop(nil)
	}
}

var (
	// errCancelled ends a backfill that somebody has asked to give up.
	errCancelled = errors.New("the rebuild was cancelled")

	// errNotYet says that a rebuild is about to begin, and can be cancelled then.
	errNotYet = errors.New("the rebuild has not begun yet")
)

// cancel ends the backfill under way, if it is one of a rebuild that can be given up: one to the
// same mapping of tables, whose fingerprint an earlier version may have noted.
func (x *index) cancel(tables catalog.Tables) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	st := x.known
	switch {
	case x.stop == nil && (x.starting || !x.runDone && st.Building.Physical != ""):
		return errNotYet
	case x.stop == nil:
		return errors.New("the index is not being rebuilt, or is complete but for its alias")
	case st.Live.Physical == "":
		return errors.New("the index is backfilled for the first time: there is nothing to go back to")
	case st.Live.Generation == "" || st.Live.Fingerprint == "" || x.spoiled[st.Live.Physical]:
		return errors.New("the index is rebuilt because the one in use misses changes")
	case st.Live.Fingerprint != st.Building.Fingerprint && !x.Matches(st.Live.Fingerprint, tables):
		return errors.New("the index is rebuilt because the mapping or a table is another one than that of the index in use; put the mapping back instead")
	}
	x.stop(errCancelled)
	return nil
}
