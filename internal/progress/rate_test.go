package progress

import (
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	now := time.Unix(1_769_860_800, 0)
	r := newRate(now)
	if got := r.perSecond(now); got != 0 {
		t.Errorf("at the beginning: %v", got)
	}
	step := func(n int, every time.Duration, rows int64) {
		for range n {
			now = now.Add(every)
			r.add(now, rows)
		}
	}
	want := func(least, most float64) {
		t.Helper()
		if got := r.perSecond(now); got < least || got > most {
			t.Errorf("%v rows/s, want %v to %v", got, least, most)
		}
	}
	step(40, 250*time.Millisecond, 25)
	want(99, 101)
	step(400, 250*time.Millisecond, 50)
	want(190, 201) // what was before the last half minute does not count
	if n := len(r.samples); n > 35 {
		t.Errorf("%d samples are kept", n)
	}
	now = now.Add(30 * time.Second)
	want(90, 105) // nothing is counted
}
