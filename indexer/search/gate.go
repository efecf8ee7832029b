package search

import (
	"container/list"
	"context"
	"sync"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
)

// A gate lets bulk requests go to the server, in the order in which they came: as many at a time as
// its pace says, and no more bytes together than bounds memory. It is safe for concurrent use.
type gate struct {
	mu      sync.Mutex
	pace    pace
	most    int       // bytes of all requests under way together; a larger one goes alone
	under   int       // requests under way
	bytes   int       // theirs
	waiting list.List // of *visitor, in order
	closed  time.Time // the server asks to be left alone until then
}

// A visitor is a request that waits at a gate, or has been let in.
type visitor struct {
	bytes int
	pass  pass
	in    chan struct{} // closed when it is let in
}

// bytesFor is how many requests of the largest size may be under way: more of them at a time are
// smaller ones.
const bytesFor = 4

func newGate(requests, bytes int) *gate {
	return &gate{pace: newPace(requests, bytes), most: min(requests, bytesFor) * bytes}
}

// enter waits until a request of so many bytes may go. The visitor has to leave. An error wraps the
// cause of ctx's end.
func (g *gate) enter(ctx context.Context, bytes int) (*visitor, error) {
	v := &visitor{bytes: bytes, in: make(chan struct{})}
	g.mu.Lock()
	place := g.waiting.PushBack(v)
	g.admit()
	closed := g.closed
	g.mu.Unlock()
	over := dbsync.Await(ctx, max(0, time.Until(closed))) // who has the place waits for as long
	defer over()
	select {
	case <-v.in:
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		select {
		case <-v.in:
			g.free(v)
		default:
			g.waiting.Remove(place)
			g.admit()
		}
		return nil, context.Cause(ctx)
	}
	g.mu.Lock()
	closed = g.closed
	g.mu.Unlock()
	// Nobody else may go meanwhile, so the place is kept.
	if d := time.Until(closed); d > 0 {
		if err := retry.Sleep(ctx, d); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.free(v)
			return nil, err
		}
	}
	return v, nil
}

// admit lets in whom there is a place for. g.mu is held.
func (g *gate) admit() {
	for front := g.waiting.Front(); front != nil; front = g.waiting.Front() {
		v := front.Value.(*visitor)
		if g.under >= g.pace.now() || g.under > 0 && g.bytes+v.bytes > g.most {
			return
		}
		g.waiting.Remove(front)
		g.under++
		g.bytes += v.bytes
		v.pass = g.pace.pass()
		close(v.in)
	}
}

// free gives a place back. g.mu is held.
func (g *gate) free(v *visitor) {
	g.under--
	g.bytes -= v.bytes
	g.admit()
}

// leave takes what came of a request, and reports whether the server is given less from here on, so that
// what it rejected may go again as soon as there is a place. With after nothing goes before that time
// is over.
func (g *gate) leave(v *visitor, a answer, after time.Duration) (less bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	less = g.pace.answered(v.pass, a)
	if after > 0 {
		if until := time.Now().Add(after); until.After(g.closed) {
			g.closed = until
		}
	}
	g.free(v)
	return less
}

// tooLarge takes that a request of so many bytes is more than the server reads, which says so by closing
// the connection.
func (g *gate) tooLarge(bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pace.bytes.fall(bytes / 2)
}

// begin begins a batch, see pace.
func (g *gate) begin(worth int) batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.admit() // the number may be another one
	return g.pace.begin(worth)
}

// end ends a batch.
func (g *gate) end(b batch, bytes int, took time.Duration, smooth bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.admit()
	g.pace.end(b, bytes, took, smooth)
}

// A Pace is how much the server is given at the moment.
type Pace struct {
	Requests int // at a time
	Bytes    int // of one, before compression, at most
}

func (g *gate) now() Pace {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Pace{Requests: g.pace.requests.now, Bytes: g.pace.bytes.now}
}
