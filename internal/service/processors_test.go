package service

import "testing"

func TestProcessorLimit(t *testing.T) {
	var p processorLimit
	looks := func(n int, load float64) {
		t.Helper()
		for range n {
			p.look(load)
		}
	}
	want := func(when string, one bool) {
		t.Helper()
		if p.one != one {
			t.Errorf("%s: one processor is %v, want %v", when, p.one, one)
		}
	}
	looks(lowLooks-1, 0.05)
	want("low for a while", false)
	looks(1, 0.3)
	looks(lowLooks-1, 0.05)
	want("interrupted", false)
	looks(1, 0.05)
	want("low for long", true)
	looks(100, 0.3)
	want("some", true)
	looks(1, 0.9)
	want("much", false)
	looks(100, 0.3)
	want("some, after much", false)
	looks(lowLooks, 0)
	want("idle", true)
}
