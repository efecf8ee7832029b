package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"tidemark/testenv"
)

// run makes rounds until the time is over or something is wrong, and returns how many.
func (s *stage) run(ctx context.Context, o options, kinds []*kind) (rounds int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	defer all.Wait()
	defer cancel()
	note := func(e error) {
		if e != nil && ctx.Err() == nil {
			mu.Lock()
			err = errors.Join(err, e)
			mu.Unlock()
			cancel()
		}
	}
	for _, i := range s.instances() {
		all.Go(func() { note(i.keep(ctx, s.binary)) })
	}
	if err := s.awaitEqual(ctx, o.patience, true); err != nil {
		return 0, fmt.Errorf("before the first round: %w", err)
	}
	all.Go(func() { s.watch.mark(ctx) })
	all.Go(func() { s.watch.run(ctx) })
	begin := time.Now()
	for n := o.first; n == o.first || time.Since(begin) < o.length; n++ {
		if err := s.round(ctx, drawRound(o.seed, n, kinds), o.patience); err != nil {
			mu.Lock()
			defer mu.Unlock()
			return rounds, errors.Join(err, context.Cause(ctx))
		}
		rounds++
	}
	return rounds, nil
}

// A step is the begin or the end of a fault.
type step struct {
	at    time.Duration
	fault *fault
	end   bool
}

// round has the faults come and go while rows are changed, lifts them all, and compares.
func (s *stage) round(ctx context.Context, r *round, patience time.Duration) error {
	s.journal.say("round %d: %d faults", r.number, len(r.faults))
	s.watch.resume()
	s.held = make(map[*fault]*testenv.Fault)
	begin := time.Now()

	// The writers end by themselves: what they cannot make any more they make again.
	made := make([]writer, writers)
	errs := make([]error, writers)
	limited, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the changes were not made within %s", patience))
	defer cancel()
	var writing sync.WaitGroup
	for w := range r.writers {
		made[w].url = s.url
		writing.Go(func() { errs[w] = made[w].run(limited, r.writers[w]) })
	}

	var steps []step
	for n := range r.faults {
		f := &r.faults[n]
		steps = append(steps, step{f.at, f, false})
		if f.kind.end != nil {
			steps = append(steps, step{f.at + f.lasts, f, true})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	begun := make(map[*fault]bool)
	for _, step := range steps {
		if err := pause(ctx, step.at-time.Since(begin)); err != nil {
			cancel()
			break // what has begun is lifted all the same
		}
		s.take(ctx, step, begun)
	}
	writing.Wait()
	if err := errors.Join(errs...); err != nil {
		return cmp.Or(context.Cause(limited), err)
	}
	var total writer
	for _, w := range made {
		total.made += w.made
		total.skipped += w.skipped
		total.repeated += w.repeated
	}
	s.journal.say("%d transactions were made, %d left out, %d tried again; everything is lifted", total.made, total.skipped, total.repeated)
	if err := s.lift(r); err != nil {
		return err
	}
	return s.awaitEqual(ctx, patience, !r.lenient())
}

// take takes a step and says what came of it.
func (s *stage) take(ctx context.Context, step step, begun map[*fault]bool) {
	f := step.fault
	if step.end {
		if !begun[f] {
			return
		}
		s.journal.say("end of %s", f)
		if err := f.kind.end(ctx, s, f); err != nil {
			s.journal.say("  %v", err)
		}
		return
	}
	s.journal.say("%s", f)
	begun[f] = true
	if err := f.kind.begin(ctx, s, f); err != nil {
		s.journal.say("  %v", err)
	}
}

// inject has the proxy do something to requests until the round's end at the latest.
func (s *stage) inject(f *fault, what *testenv.Fault) { s.held[f] = s.proxy.Inject(what) }

// liftLate has the requests that a fault holds passed on, and waits for that.
func (s *stage) liftLate(f *fault) {
	if held := s.held[f]; held != nil {
		held.Lift()
		held.Passed()
	}
}

// passLate does so with all that are held.
func (s *stage) passLate() {
	for f := range s.held {
		if f.kind.name == "late" {
			s.liftLate(f)
		}
	}
}

// lift takes all off that may be left: of servers and instances the ends of the faults have done so.
// An instance that was not told of an edited mapping is told now.
func (s *stage) lift(r *round) (err error) {
	for f, held := range s.held {
		held.Lift()
		if f.kind.name == "late" {
			held.Passed()
		}
	}
	if slices.ContainsFunc(r.faults, func(f fault) bool { return f.kind.name == "mapping" }) {
		for _, i := range s.instances() {
			err = errors.Join(err, i.restart(syscall.SIGHUP)) // one that just starts ends by it, and starts again
		}
	}
	return err
}
