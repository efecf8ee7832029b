package dbsync

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// retry repeats f with growing pauses until it succeeds, returns an error that repeating
// cannot cure, or ctx is done. What fails again and again is a trouble of s, see Status.
func retry[T any](ctx context.Context, s *Syncer, what string, f func() (T, error)) (T, error) {
	trouble := s.troubles.watch(what)
	defer trouble.over()
	var pause *backoff.ExponentialBackOff
	for {
		v, err := f()
		if err == nil || IsPermanent(err) {
			return v, err
		}
		if ctx.Err() != nil {
			return v, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		trouble.again(err)
		if pause == nil {
			pause = newPauses()
		}
		d := pause.NextBackOff()
		s.turn(ctx)
		s.log.Warn(what+" failed, trying again", "error", err, "next_in", d.Round(time.Millisecond))
		over := Await(ctx, d)
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		over()
		if ctx.Err() != nil {
			return v, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
}

// newPauses returns the pauses between attempts: from 100 ms to 30 s, by chance shorter or longer.
func newPauses() *backoff.ExponentialBackOff {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 30*time.Second
	return pause
}
