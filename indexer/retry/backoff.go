package retry

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tidemark/dbsync"
)

const (
	MinBackoff = 100 * time.Millisecond
	MaxBackoff = 30 * time.Second
	Patience   = 3 // failures in a row before a temporary condition raises the alarm
)

// NewBackoff returns pauses that double from the first to the last, each up to half
// shorter or longer by chance, so that writers do not come back all at once.
func NewBackoff(first, last time.Duration) *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{InitialInterval: first, MaxInterval: last, Multiplier: 2, RandomizationFactor: 0.5}
}

// Sleep waits for d, or returns the cause of the end of ctx. It is a sign of life, see [dbsync.Pulse].
func Sleep(ctx context.Context, d time.Duration) error {
	defer dbsync.Await(ctx, d)()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
