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

	"golang.org/x/sync/errgroup"

	"tidemark/testenv"
)

// run makes rounds until the time is over or something is wrong, and returns how many.
func (s *stage) run(ctx context.Context, o options, kinds []*kind) (rounds int, err error) {
	err = s.withInstances(ctx, func(ctx context.Context) error {
		if err := s.awaitEqual(ctx, o.patience, true); err != nil {
			return fmt.Errorf("before the first round: %w", err)
		}
		begin := time.Now()
		for n := o.first; n == o.first || time.Since(begin) < o.length; n++ {
			if err := s.round(ctx, drawRound(o.seed, n, kinds), o.patience); err != nil {
				return fmt.Errorf("round %d: %w", n, err)
			}
			rounds++
		}
		return nil
	})
	return rounds, err
}

// withInstances has both instances, the workers and the watch run while f does.
func (s *stage) withInstances(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all, ctx := errgroup.WithContext(ctx)
	for _, i := range append(s.instances(), s.workers()...) {
		all.Go(func() error { return i.keep(ctx, s.binary) })
	}
	all.Go(func() error {
		s.watch.mark(ctx)
		return nil
	})
	all.Go(func() error {
		s.watch.run(ctx)
		return nil
	})
	all.Go(func() error {
		defer cancel()
		return f(ctx)
	})
	return all.Wait()
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
	before, err := s.comparisons(ctx)
	if err != nil {
		return err
	}
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

	for steps := beginnings(r); len(steps) > 0; {
		next := steps[0]
		steps = steps[1:]
		if err := pause(ctx, next.at-time.Since(begin)); err != nil {
			cancel() // what has begun is lifted all the same
		}
		if ctx.Err() != nil && !next.end {
			continue
		}
		s.take(ctx, next)
		if !next.end && next.fault.kind.end != nil {
			// From when it really began: what was waited for, or a server's start, takes time.
			steps = append(steps, step{time.Since(begin) + next.fault.lasts, next.fault, true})
			slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
		}
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
	if err := s.awaitEqual(ctx, patience, !r.lenient()); err != nil {
		return err
	}
	return s.problems(ctx, before, !r.lenient())
}

func beginnings(r *round) (steps []step) {
	for n := range r.faults {
		steps = append(steps, step{r.faults[n].at, &r.faults[n], false})
	}
	return steps
}

// take takes a step and says what came of it.
func (s *stage) take(ctx context.Context, step step) {
	f := step.fault
	do, what := f.kind.begin, f.String()
	if step.end {
		do, what = f.kind.end, "end of "+what
	} else if f.large {
		s.awaitLarge(ctx)
	}
	s.journal.say("%s", what)
	if err := do(ctx, s, f); err != nil {
		s.journal.say("  %v", err)
	}
}

// largePatience bounds the wait for a large bulk request: there may be none any more.
const largePatience = 4 * time.Second

// awaitLarge returns while a large bulk request is on its way, if one comes.
func (s *stage) awaitLarge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, largePatience)
	defer cancel()
	seen := s.proxy.Inject(testenv.Watch(isLarge))
	defer seen.Lift()
	if seen.Await(ctx, 1) != nil {
		s.journal.say("no large request came")
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

// passLate does so with all, and ends what the proxy does.
func (s *stage) passLate() {
	for f := range s.held {
		s.liftLate(f)
	}
}

// lift takes all off that may be left: of servers and instances the ends of the faults have done so.
// An instance that was not told of an edited mapping is told now.
func (s *stage) lift(r *round) (err error) {
	s.passLate()
	if slices.ContainsFunc(r.faults, func(f fault) bool { return f.kind.name == "mapping" }) {
		for _, i := range s.instances() {
			err = errors.Join(err, i.restart(syscall.SIGHUP)) // one that just starts ends by it, and starts again
		}
	}
	return err
}
