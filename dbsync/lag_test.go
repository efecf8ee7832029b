package dbsync

import (
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
)

// What is waited for is known by where the log ended when, whatever the clock of Postgres says.
func TestLag(t *testing.T) {
	start := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	type heard struct {
		at  float64 // seconds after start
		end pglogrepl.LSN
	}
	for _, tt := range []struct {
		name     string
		heard    []heard
		stored   []pglogrepl.LSN // positions that were looked at before, which may drop samples
		position pglogrepl.LSN
		newest   float64 // 0: none
		now      float64
		want     float64 // -1: not known
	}{
		{"nothing is known", nil, nil, 100, 0, 5, -1},
		{"everything is stored", []heard{{0, 100}}, nil, 100, 0, 5, 0},
		{"everything is stored, and the newest commit is old", []heard{{0, 100}}, nil, 100, -3600, 5, 0},
		{"something waits", []heard{{0, 100}, {10, 200}}, nil, 150, 0, 12, 2},
		{"it grows while nothing moves", []heard{{0, 100}, {10, 200}, {20, 200}, {30, 200}}, nil, 150, 0, 40, 30},
		{"what was written later is younger", []heard{{0, 100}, {10, 200}, {11, 300}, {12, 400}}, nil, 300, 0, 13, 1},
		{"the same after others were dropped", []heard{{0, 100}, {10, 200}, {11, 300}, {12, 400}}, []pglogrepl.LSN{100, 200}, 300, 0, 13, 1},
		{"written within one sample", []heard{{0, 100}, {10, 200}, {10.05, 210}}, nil, 200, 0, 11, 1},
		{"nothing was heard for long", []heard{{0, 100}, {10, 100}}, nil, 100, 0, 50, 40},
		{"nothing was heard for a while", []heard{{0, 100}, {10, 100}}, nil, 100, 0, 35, 0},
		{"after a break it may be as old as the break", []heard{{0, 100}, {10, 100}, {610, 500}}, []pglogrepl.LSN{100}, 100, 0, 611, 601},
		{"at the start the log is as old as what is stored", []heard{{0, 1000}}, nil, 100, -3600, 5, 3605},
		{"at the start nothing is stored", []heard{{0, 1000}}, nil, 100, 0, 5, 5},
		{"when that is over what is stored may be old", []heard{{0, 1000}, {10, 2000}}, []pglogrepl.LSN{1000}, 1000, -3600, 12, 2},
		{"a clock that is ahead", []heard{{0, 1000}}, nil, 100, 3600, 5, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l lag
			at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
			for _, h := range tt.heard {
				l.hear(at(h.at), h.end)
			}
			for _, position := range tt.stored {
				l.of(at(tt.now), position, time.Time{})
			}
			var newest time.Time
			if tt.newest != 0 {
				newest = at(tt.newest)
			}
			got, known := l.of(at(tt.now), tt.position, newest)
			if !known {
				got = -time.Second
			}
			if got.Seconds() != tt.want {
				t.Errorf("%s, want %g s", got, tt.want)
			}
			l.reset()
			if got, known := l.of(at(tt.now), tt.position, newest); known {
				t.Errorf("after a reset it is %s", got)
			}
		})
	}
}

// However long something is not stored, few samples are kept, and what waits is as old as it is to
// the resolution that is left.
func TestLagIsBounded(t *testing.T) {
	var l lag
	start := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	const seconds = 24 * 3600
	for i := range 10 * seconds {
		l.hear(start.Add(time.Duration(i)*100*time.Millisecond), pglogrepl.LSN(1000+i))
	}
	if len(l.samples) > lagSamples {
		t.Errorf("%d samples are kept", len(l.samples))
	}
	now := start.Add(seconds * time.Second)
	resolution := seconds * time.Second / (lagSamples / 4)
	for _, age := range []time.Duration{seconds * time.Second, 12 * time.Hour, time.Hour} {
		position := pglogrepl.LSN(1000 + int((seconds*time.Second-age)/(100*time.Millisecond)) - 1)
		if got, _ := l.of(now, position, time.Time{}); got < age || got > age+resolution {
			t.Errorf("what is %s old is said to be %s old", age, got)
		}
	}
	if got, _ := l.of(now, 1000+10*seconds, time.Time{}); got != 0 || l.between != 0 {
		t.Errorf("when everything is stored it is %s, with samples every %s", got, l.between)
	}
}

func TestLagDoesNotAllocate(t *testing.T) {
	var l lag
	now, end := time.Now(), pglogrepl.LSN(1000)
	l.samples = make([]lagSample, 0, lagSamples)
	if n := testing.AllocsPerRun(1000, func() {
		now, end = now.Add(time.Second), end+1
		l.hear(now, end)
		l.of(now, end-5, time.Time{})
	}); n != 0 {
		t.Errorf("%g allocations", n)
	}
}
