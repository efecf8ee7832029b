package topic

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// A part is what one poll has brought of one partition.
type part struct {
	claim   *claim
	records []record
	after   mark // behind the last record that was polled
}

// A load is what one poll has brought.
type load struct {
	parts  []*part
	polled time.Time
	oldest time.Time // when its first record was produced
}

// of returns the part of a claim, which is made where there is none.
func (b *load) of(c *claim) *part {
	for _, p := range b.parts {
		if p.claim == c {
			return p
		}
	}
	p := &part{claim: c, after: c.mark}
	b.parts = append(b.parts, p)
	return p
}

// An attempt is one attempt to write a load and to commit that it was.
type attempt struct {
	parts  []*part
	write  context.Context // ends when writing is to end
	commit context.Context // ends when nothing is to be committed any more
	done   chan struct{}   // closed at the end

	stopWrite, stopCommit context.CancelCauseFunc
	grace                 atomic.Pointer[time.Timer] // runs when it is stopped: until stopCommit
}

var (
	// errRevoked ends what is under way when the group gives partitions to others.
	errRevoked = errors.New("partitions were given to another worker")

	// errAged ends the writing of what was read too long ago, see [AgedError].
	errAged = errors.New("the records were read too long ago")
)

// commitGrace bounds how long it is tried to commit what was written of partitions that others wait for.
const commitGrace = 3 * time.Second

// newAttempt makes an attempt, and the function that frees what it holds. When ctx ends, writing ends,
// and committing soon after.
func newAttempt(ctx context.Context, until time.Time) (*attempt, func()) {
	a := &attempt{done: make(chan struct{})}
	aged, cancel := context.WithDeadlineCause(ctx, until, errAged)
	a.write, a.stopWrite = context.WithCancelCause(aged)
	a.commit, a.stopCommit = context.WithCancelCause(context.WithoutCancel(ctx))
	ended := context.AfterFunc(ctx, func() { a.stop(false) })
	return a, func() {
		ended()
		if grace := a.grace.Load(); grace != nil {
			grace.Stop()
		}
		a.stopWrite(nil)
		a.stopCommit(nil)
		cancel()
	}
}

// has reports whether a claim is part of it; a is nil where there is none.
func (a *attempt) has(c *claim) bool {
	if a == nil {
		return false
	}
	for _, p := range a.parts {
		if p.claim == c {
			return true
		}
	}
	return false
}

// stop ends the writing at once, and the committing, too, where the partitions are lost.
func (a *attempt) stop(lost bool) {
	a.stopWrite(errRevoked)
	if lost {
		a.stopCommit(errRevoked)
		return
	}
	a.grace.CompareAndSwap(nil, time.AfterFunc(commitGrace, func() { a.stopCommit(errRevoked) }))
}
