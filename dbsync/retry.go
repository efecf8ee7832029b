package dbsync

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// retry repeats f with growing pauses until it succeeds, returns an error that repeating
// cannot cure, or ctx is done.
func retry[T any](ctx context.Context, log logger, what string, f func() (T, error)) (T, error) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 30*time.Second
	for {
		v, err := f()
		if err == nil || IsPermanent(err) {
			return v, err
		}
		if ctx.Err() != nil {
			return v, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		d := pause.NextBackOff()
		log.Warn(what+" failed, trying again", "error", err, "next_in", d.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return v, fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case <-time.After(d):
		}
	}
}

// logger is what retry needs of slog.Logger.
type logger interface{ Warn(msg string, args ...any) }
