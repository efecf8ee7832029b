package service

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// TestMarksAreShared has many wait while a mark is under way: they get the next one together, which is set
// after all of them have come.
func TestMarksAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMarks()
		ctx, cancel := context.WithCancelCause(t.Context())
		set, release := 0, make(chan error)
		go m.run(ctx, func(context.Context) error { set++; return <-release })
		results := make(chan error, 101)
		wait := func(n int) {
			for range n {
				go func() { results <- m.await(ctx) }()
			}
			synctest.Wait()
		}
		wait(1)
		wait(100)
		if set != 1 {
			t.Errorf("%d marks are under way", set)
		}
		failed := errors.New("the connection broke")
		release <- failed
		if err := <-results; !errors.Is(err, failed) {
			t.Errorf("the first one: %v", err)
		}
		synctest.Wait()
		if len(results) > 0 || set != 2 {
			t.Errorf("%d of those who came later have an answer, after %d marks", len(results), set)
		}
		release <- nil
		for range 100 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if set != 2 {
			t.Errorf("%d marks", set)
		}
		wait(1)
		cancel(errors.New("the instance ends"))
		if err := <-results; err == nil || err.Error() != "the instance ends" {
			t.Errorf("at the end: %v", err)
		}
		release <- nil
	})
}
