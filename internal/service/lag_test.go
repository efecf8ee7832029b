package service

import (
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
)

func TestLag(t *testing.T) {
	begin := time.Unix(1_769_860_800, 0)
	type step struct {
		at          int // seconds
		away        bool
		stored, end pglogrepl.LSN
		want        int // seconds; -1: not known
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"nothing is known", []step{{at: 0, want: -1}, {at: 5, stored: 10, want: -1}}},
		{"idle", []step{{at: 0, stored: 10, end: 10, want: 0}, {at: 60, stored: 10, end: 10, want: 0}}},
		{"nothing moves", []step{{at: 0, stored: 10, end: 10, want: 0}, {at: 1, stored: 10, end: 20, want: 0}, {at: 31, stored: 10, end: 20, want: 30}, {at: 91, stored: 10, end: 50, want: 90}}},
		{"it follows behind", []step{{at: 0, stored: 10, end: 20, want: 0}, {at: 10, stored: 15, end: 30, want: 10}, {at: 20, stored: 20, end: 40, want: 10}, {at: 30, stored: 39, end: 40, want: 10}, {at: 31, stored: 40, end: 40, want: 0}}},
		{"nobody is connected", []step{{at: 0, stored: 10, end: 10, want: 0}, {at: 30, away: true, stored: 10, end: 10, want: 30}, {at: 40, stored: 10, end: 10, want: 0}}},
		{"behind and not connected", []step{{at: 0, stored: 10, end: 20, want: 0}, {at: 30, away: true, stored: 10, end: 20, want: 30}}},
		{"positions start over", []step{{at: 0, stored: 100, end: 200, want: 0}, {at: 5, stored: 100, end: 50, want: 5}, {at: 6, stored: 300, end: 300, want: 0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l lag
			for i, s := range tt.steps {
				now := begin.Add(time.Duration(s.at) * time.Second)
				l.note(now, !s.away, s.stored, s.end)
				got, known := l.behind(now, !s.away)
				if known != (s.want >= 0) || known && got != time.Duration(s.want)*time.Second {
					t.Errorf("step %d: %s %t, want %d s", i, got, known, s.want)
				}
			}
		})
	}
}

// A lag of days takes no more memory than one of minutes.
func TestLagIsBounded(t *testing.T) {
	var l lag
	begin := time.Unix(1_769_860_800, 0)
	for i := range 100_000 {
		l.note(begin.Add(time.Duration(i)*time.Second), true, 1, pglogrepl.LSN(i+2))
	}
	if len(l.looks) > lagLooks {
		t.Errorf("%d looks", len(l.looks))
	}
	if got, known := l.behind(begin.Add(100_000*time.Second), true); !known || got != 100_000*time.Second {
		t.Errorf("%s %t", got, known)
	}
}
