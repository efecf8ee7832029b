package dbsync

import (
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
)

const (
	// lagResolution is the least time between two samples of where the log ends, as long as lagSamples
	// of them are enough; it is doubled whenever they are not.
	lagResolution = 100 * time.Millisecond
	lagSamples    = 512

	// lagFresh is how long the log is taken to end where it was heard to. It is asked for every
	// statusInterval; from then on nobody knows what was committed since.
	lagFresh = 3 * statusInterval
)

// lag remembers where the log ended at which time, as far as it is not stored. So it is known since
// when something waits to be stored, by the clock of this host alone, also while nothing moves or
// nothing is heard of the server. (Postgres has the same for what it sends, see LagTrackerWrite of
// its src/backend/replication/walsender.c.)
type lag struct {
	mu      sync.Mutex
	samples []lagSample // oldest first; of those that are stored the last one at the most
	heard   time.Time
	between time.Duration // two samples; 0: lagResolution

	begun  pglogrepl.LSN // where the log ended when it was first heard of; what lies before is older than that
	caught bool          // everything up to begun is stored
}

// A lagSample is where the log ended.
type lagSample struct {
	at     time.Time
	before time.Time // when it was last heard to end earlier; zero: never
	end    pglogrepl.LSN
}

// reset forgets everything: what the log has is somebody else's to store.
func (l *lag) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples, l.heard, l.between, l.begun, l.caught = l.samples[:0], time.Time{}, 0, 0, false
}

// hear notes that the log is known to end at end, or behind it.
func (l *lag) hear(now time.Time, end pglogrepl.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.heard
	l.heard = now
	if l.begun == 0 {
		l.begun = end
	}
	n := len(l.samples)
	switch {
	case n > 0 && end <= l.samples[n-1].end:
		return
	case n > 0 && now.Sub(l.samples[n-1].at) < max(l.between, lagResolution):
		l.samples[n-1].end = end // as if it were so old
		return
	case n == lagSamples:
		l.between = 2 * max(l.between, lagResolution)
		for i := range n / 2 {
			first, second := l.samples[2*i], l.samples[2*i+1]
			l.samples[i] = lagSample{at: first.at, before: first.before, end: second.end}
		}
		l.samples = l.samples[:n/2]
	}
	l.samples = append(l.samples, lagSample{at: now, before: before, end: end})
}

// of returns since how long something waits to be stored while everything up to position is; 0
// where nothing is known to wait, and false where that is not known. newest is when the newest transaction that
// is stored was committed, zero where that is not known.
func (l *lag) of(now time.Time, position pglogrepl.LSN, newest time.Time) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard.IsZero() {
		return 0, false
	}
	stored := 0
	for stored < len(l.samples) && l.samples[stored].end <= position {
		stored++
	}
	if stored > 1 {
		l.samples = append(l.samples[:0], l.samples[stored-1:]...)
		stored = 1
	}
	l.caught = l.caught || position >= l.begun
	if stored == len(l.samples) {
		l.between = 0
		if silent := now.Sub(l.heard); silent > lagFresh {
			return silent, true
		}
		return 0, true
	}
	first := l.samples[stored]
	since := first.at
	if !first.before.IsZero() && first.at.Sub(first.before) > lagFresh {
		since = first.before // it may have been committed right then
	}
	if !l.caught && !newest.IsZero() && newest.Before(since) {
		since = newest // what comes next is about as old
	}
	return max(0, now.Sub(since)), true
}
