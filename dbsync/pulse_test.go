package dbsync_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tidemark/dbsync"
)

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dbsync.NewPulse()
		ctx := dbsync.WithPulse(context.Background(), p)
		silent := func(after time.Duration, what string, want time.Duration) {
			t.Helper()
			time.Sleep(after)
			if got := p.Silent(); got != want {
				t.Errorf("%s: silent for %s, want %s", what, got, want)
			}
		}
		silent(0, "at first", 0)
		silent(time.Minute, "a minute after the first sign", time.Minute)
		dbsync.Beat(ctx)
		silent(2*time.Second, "after a sign", 2*time.Second)

		pause := dbsync.Await(ctx, 30*time.Second)
		silent(30*time.Second, "at the end of a pause", 0)
		silent(time.Second, "after it", time.Second)
		pause()
		silent(time.Second, "after what was late", time.Second)

		// What has come before its time is not waited for any more, but for another one.
		first, second := dbsync.Await(ctx, time.Minute), dbsync.Await(ctx, 10*time.Second)
		first()
		silent(10*time.Second, "while one is under way", 0)
		silent(time.Second, "when its time is over", time.Second)
		second()

		first, second = dbsync.AtServer(ctx), dbsync.AtServer(ctx)
		silent(time.Hour, "two statements", 0)
		first()
		silent(time.Hour, "one of them", 0)
		second()
		silent(3*time.Second, "neither", 3*time.Second)
	})
	dbsync.Beat(t.Context()) // nobody watches
	dbsync.AtServer(t.Context())()
}
