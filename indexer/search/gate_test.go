package search

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// enterAll has visitors of so many bytes each come in order, and returns those that are in.
func enterAll(ctx context.Context, g *gate, bytes ...int) (in func() []int, all *sync.WaitGroup) {
	var mu sync.Mutex
	var entered []int
	all = new(sync.WaitGroup)
	for i, n := range bytes {
		all.Go(func() {
			if _, err := g.enter(ctx, n); err == nil {
				mu.Lock()
				defer mu.Unlock()
				entered = append(entered, i)
			}
		})
		synctest.Wait()
	}
	return func() []int {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(entered)
	}, all
}

// As many are let in as the pace says, in the order in which they came; who gives up makes room.
func TestGateKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(2, 1<<20)
		first, err := g.enter(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		in, all := enterAll(t.Context(), g, 1, 1, 1)
		if got := in(); !slices.Equal(got, []int{0}) {
			t.Fatalf("%v are in beside the first, want one", got)
		}
		gaveUp := make(chan error, 1)
		go func() {
			_, err := g.enter(ctx, 1)
			gaveUp <- err
		}()
		synctest.Wait()
		cancel(gone)
		if err := <-gaveUp; !errors.Is(err, gone) {
			t.Errorf("who gave up got %v", err)
		}
		for _, want := range [][]int{{0, 1}, {0, 1, 2}} {
			g.leave(first, answer{stored: true}, 0)
			synctest.Wait()
			if got := in(); !slices.Equal(got, want) {
				t.Fatalf("%v are in, want %v", got, want)
			}
		}
		all.Wait()
		if g.waiting.Len() != 0 || g.under != 2 {
			t.Errorf("%d wait, %d are in", g.waiting.Len(), g.under)
		}
	})
}

// Requests under way have no more bytes together than memory is there for; a larger one goes alone.
func TestGateBoundsBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mib = 1 << 20
		g := newGate(16, mib) // 4 MiB together
		g.pace.requests.now = 16
		ctx, cancel := context.WithCancel(t.Context())
		in, all := enterAll(ctx, g, 3*mib, mib/2, mib, 1, 9*mib)
		if got := in(); !slices.Equal(got, []int{0, 1}) {
			t.Fatalf("%v are in, want 0 and 1", got)
		}
		for _, step := range []struct {
			leaves int
			want   []int
		}{{3 * mib, []int{0, 1, 2, 3}}, {mib / 2, []int{0, 1, 2, 3}}, {mib, []int{0, 1, 2, 3}}, {1, []int{0, 1, 2, 3, 4}}} {
			g.leave(&visitor{bytes: step.leaves}, answer{stored: true}, 0)
			synctest.Wait()
			if got := slices.Sorted(slices.Values(in())); !slices.Equal(got, step.want) { // two come in at once
				t.Fatalf("after %d bytes left %v are in, want %v", step.leaves, got, step.want)
			}
		}
		cancel()
		all.Wait()
	})
}

// A server that asks to be left alone is, by all; who has waited long enough goes on.
func TestGateStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4, 1<<20)
		v, err := g.enter(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		g.leave(v, answer{operations: 1, bytes: 1, rejected: true}, time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := g.enter(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("let in after %s: %v", time.Since(begin), err)
		}
		if g.under != 0 {
			t.Errorf("%d are in", g.under)
		}
		if _, err := g.enter(t.Context(), 1); err != nil || time.Since(begin) != time.Minute {
			t.Errorf("let in after %s: %v", time.Since(begin), err)
		}
	})
}

// However many come and go, nobody waits for ever, and no more are in than may.
func TestGateLetsEverybodyIn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most := rapid.IntRange(1, 20).Draw(rt, "requests")
		visitors := rapid.SliceOfN(rapid.IntRange(1, 10<<20), 0, 50).Draw(rt, "visitors")
		rejected := rapid.SliceOfN(rapid.Bool(), len(visitors), len(visitors)).Draw(rt, "rejected")
		synctest.Test(t, func(t *testing.T) {
			g := newGate(most, 1<<20)
			var all sync.WaitGroup
			for i, bytes := range visitors {
				all.Go(func() {
					b := g.begin(1 + i%20)
					defer g.end(b, bytes, time.Second, !rejected[i])
					v, err := g.enter(t.Context(), bytes)
					if err != nil {
						t.Error(err)
						return
					}
					g.mu.Lock()
					if g.under > most || g.under > 1 && g.bytes > g.most {
						t.Errorf("%d requests of %d bytes under way", g.under, g.bytes)
					}
					g.mu.Unlock()
					time.Sleep(time.Duration(bytes))
					g.leave(v, answer{operations: 2, bytes: bytes, rejected: rejected[i], stored: !rejected[i]}, 0)
				})
			}
			all.Wait()
			if g.under != 0 || g.bytes != 0 || g.waiting.Len() != 0 {
				t.Errorf("%d requests of %d bytes under way, %d wait", g.under, g.bytes, g.waiting.Len())
			}
		})
	})
}
