package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/dbsync"
)

// MaxAfter bounds how long an error may ask to be left alone, see [Do].
const MaxAfter = 5 * time.Minute

// Do calls f until it returns nil or an error that repeating cannot cure, by the one rule of
// [dbsync.IsPermanent]: every error without that mark is tried again, without end. Its own
// error begins with key.
//
// Between two calls it waits from 100 ms on, twice as long each time, to 30 s, by chance up to
// half longer or shorter; longer where the error has a method RetryAfter() time.Duration that
// says so, MaxAfter at most. From the third failure on the alarm shows key and the latest
// error. When ctx ends, Do returns an error that wraps context.Cause(ctx).
func Do(ctx context.Context, alarm *Alarm, key string, f func(context.Context) error) error {
	var hold *Hold
	defer func() { hold.Release() }()
	wait := NewBackoff(MinBackoff, MaxBackoff)
	for failures := 1; ; failures++ {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && dbsync.IsPermanent(err) {
			return fmt.Errorf("%s: %w", key, err)
		}
		if failures >= Patience {
			hold = alarm.Keep(hold, key, dbsync.WithoutValues(err))
		}
		if ended := Sleep(ctx, max(wait.NextBackOff(), after(err))); ended != nil {
			return fmt.Errorf("%s: %w", key, ended)
		}
	}
}

// after returns how long err asks to be left alone.
func after(err error) time.Duration {
	var asks interface {
		error
		RetryAfter() time.Duration
	}
	if !errors.As(err, &asks) {
		return 0
	}
	return min(asks.RetryAfter(), MaxAfter)
}
