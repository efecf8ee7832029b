package retry

import (
	"context"
	"time"
)

// pollInterval is the pause between two questions.
const pollInterval = 50 * time.Millisecond

// Poll asks until the answer is yes or an error, every 50 ms: for what no event tells from
// outside. When ctx ends it returns the cause.
func Poll(ctx context.Context, ask func() (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if done, err := ask(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
