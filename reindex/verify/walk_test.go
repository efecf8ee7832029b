package verify

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A pace lets through a second's worth at once, and then as much as it may, however large the
// pieces are.
func TestPace(t *testing.T) {
	for _, test := range []struct {
		bounds []int
		pieces []int
		took   time.Duration
	}{
		{nil, []int{1_000_000, 1_000_000}, 0},
		{[]int{0, 0}, []int{1_000_000, 1_000_000}, 0},
		{[]int{0, 100}, []int{100, 100, 50}, 1500 * time.Millisecond},
		{[]int{50, 100}, []int{100, 50}, 2 * time.Second},
		{[]int{100, 50}, []int{150}, 2 * time.Second},
		{[]int{1}, []int{2000}, 1999 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, start := newPace(test.bounds...), time.Now()
			for _, n := range test.pieces {
				if err := p.wait(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(start); (took - test.took).Abs() > 10*time.Millisecond {
				t.Errorf("%v with %v took %s, want %s", test.pieces, test.bounds, took, test.took)
			}
		})
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if newPace(1).wait(ended, 10) == nil {
		t.Error("it waits on when it is to end")
	}
}
