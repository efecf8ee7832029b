package dbsync

import (
	"context"
	"math"
	"time"
)

// When a batch is written. A batch costs the store a request or more, and the disk of the store a
// sync, however little is in it. So as long as the server has more to send, a batch is left open
// until it is full; and where changes come one by one, those of a few milliseconds share a request,
// since they are received together. A change that comes alone is written at once.
const (
	// batchPatience is how long a batch is left open, at most, while the server has more to send: what
	// it is busy with may concern nobody here.
	batchPatience = 50 * time.Millisecond

	// receiveGap is the least time from when everything was received that the server had, to when more
	// is. Nobody is woken meanwhile, which costs more than what is done with a single change.
	receiveGap = 4 * time.Millisecond

	// flowGap is left between two reads while the server sends without end, which is known after
	// flowMessages: it sends each message by itself, and who reads as soon as something is there reads
	// as often.
	flowGap      = 500 * time.Microsecond
	flowMessages = 64
)

// forever is a time that is not waited for.
const forever time.Duration = math.MaxInt64

// An openBatch is how far a batch has come that is not being written yet.
type openBatch struct {
	begun   bool          // it has a group of changes
	writing bool          // the batch before is being written
	full    bool          // nothing may join it, or nothing will
	free    bool          // nothing is to be stored
	atEnd   bool          // the server has sent all that it has
	age     time.Duration // since it was begun
	most    time.Duration // that it is left open while the server has more to send: batchPatience
}

// wait returns after which time the batch is to be written if nothing else happens: 0 is at once.
func (b openBatch) wait() time.Duration {
	switch {
	case !b.begun || b.writing:
		return forever
	case b.full || b.free || b.atEnd:
		return 0
	default:
		return max(0, b.most-b.age)
	}
}

// A pace says when a stream is read on, of which everything was read that is there.
type pace struct {
	messages int       // since the server has said that it has sent everything
	until    time.Time // receiveGap after it has said so; zero: that was long ago
	timer    *time.Timer
}

func newPace() *pace { return &pace{timer: time.NewTimer(forever)} }

// stop ends the pace.
func (p *pace) stop() { p.timer.Stop() }

// received notes a message.
func (p *pace) received() { p.messages++ }

// atEnd notes that the server has sent everything.
func (p *pace) atEnd() {
	if p.messages > 0 {
		p.messages, p.until = 0, time.Now().Add(receiveGap)
	}
}

// wait returns when it is time to read on: at once if somebody waits for what comes.
func (p *pace) wait(ctx context.Context, awaited func() bool) error {
	var d time.Duration
	switch {
	case p.messages >= flowMessages:
		d = flowGap
	case p.messages == 0 && !p.until.IsZero() && !awaited():
		d = time.Until(p.until)
		p.until = time.Time{}
	}
	if d <= 0 {
		return nil
	}
	p.timer.Reset(d)
	select {
	case <-p.timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
