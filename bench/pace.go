package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A pace is how fast a sink answers: as a cluster at its limit, by which more requests only wait longer.
type pace struct {
	takes   time.Duration // each request
	places  chan struct{} // of requests that are answered at a time
	opened  chan struct{} // closed when requests are answered
	waiting atomic.Int64  // requests that came and are not answered

	mu   sync.Mutex
	last time.Time // answer
}

func newPace(takes time.Duration, places int) *pace {
	return &pace{takes: takes, places: make(chan struct{}, places), opened: make(chan struct{})}
}

// enter waits for a place, and returns what gives it back. Whoever goes away needs none.
func (p *pace) enter(ctx context.Context) (leave func()) {
	if p == nil {
		return func() {}
	}
	p.waiting.Add(1)
	select {
	case <-p.opened:
	case <-ctx.Done():
	}
	select {
	case p.places <- struct{}{}:
		return func() { <-p.places; p.waiting.Add(-1) }
	case <-ctx.Done():
		return func() { p.waiting.Add(-1) }
	}
}

// answer waits until the answer is due.
func (p *pace) answer(ctx context.Context) {
	if p == nil {
		return
	}
	select {
	case <-time.After(p.takes):
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

// lastAnswer is when the last answer was given.
func (p *pace) lastAnswer() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
