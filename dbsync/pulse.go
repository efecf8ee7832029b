package dbsync

import (
	"context"
	"math"
	"sync"
	"time"
)

// A Pulse tells who watches from outside whether one part of a process gets on with its work, or hangs.
//
// The part carries it in its context, see [WithPulse], and whatever works with that context gives signs: that
// something was done, whatever came of it, with [Beat]; that it waits for what has a bound, as a pause or the answer
// to a request has, with [Await]; and that a statement is under way, with [AtServer]. An attempt that fails, and the
// pause before the next one, are signs of life: what repeats without coming further is a [Trouble], and no hang.
// Who gives none although one is due hangs, whatever else is wrong at the time. It is safe for concurrent use.
type Pulse struct {
	mu    sync.Mutex
	last  time.Time // the last sign
	waits map[*wait]struct{}
}

// A wait is one that is under way.
type wait struct{ until time.Time }

// NewPulse returns a Pulse whose first sign is now.
func NewPulse() *Pulse { return &Pulse{last: time.Now(), waits: make(map[*wait]struct{})} }

// Silent returns for how long a sign has been due that has not come; 0: none is.
func (p *Pulse) Silent() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := p.last
	for w := range p.waits {
		if w.until.After(due) {
			due = w.until
		}
	}
	return max(0, time.Since(due))
}

func (p *Pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

func (p *Pulse) await(d time.Duration) (over func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	w := &wait{p.last.Add(d)}
	p.waits[w] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waits, w)
		p.last = time.Now()
	}
}

type pulseKey struct{}

// WithPulse returns a context that carries p: what works with it gives its signs there.
func WithPulse(ctx context.Context, p *Pulse) context.Context {
	return context.WithValue(ctx, pulseKey{}, p)
}

// Beat says that something was done, to the [Pulse] that ctx carries. Without one it does nothing.
func Beat(ctx context.Context) {
	if p, _ := ctx.Value(pulseKey{}).(*Pulse); p != nil {
		p.beat()
	}
}

// Await says that something is waited for which comes within d at the latest, to the [Pulse] that ctx carries.
// The caller calls over when it has come.
func Await(ctx context.Context, d time.Duration) (over func()) {
	if p, _ := ctx.Value(pulseKey{}).(*Pulse); p != nil {
		return p.await(d)
	}
	return func() {}
}

// AtServer is Await for a statement, which takes as long as Postgres likes: that the server is there and works on
// it is found out by the connection.
func AtServer(ctx context.Context) (over func()) { return Await(ctx, math.MaxInt64) }
