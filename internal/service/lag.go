package service

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
)

const (
	// lagInterval is how often the lag is looked at: it is as exact as that, but for the server's
	// end of the log, which is heard of every 10 s or oftener.
	lagInterval = time.Second

	// lagLooks bounds what is remembered. Where there is more every second look is forgotten, so
	// that a lag of days is known to some minutes.
	lagLooks = 1024
)

// A lag says for how long changes have waited, in seconds. What is not stored now was in the log
// when its end was seen beyond it first; so the lag grows also while nothing moves, or while nobody is
// connected. It is safe for concurrent use.
type lag struct {
	mu    sync.Mutex
	looks []look // with ends of the log that are not stored, each further than the one before

	// caughtUp is when everything that was known to be in the log was stored last; zero: never.
	caughtUp time.Time
}

// A look is where the log ended at a moment.
type look struct {
	at  time.Time
	end pglogrepl.LSN
}

// note takes down what is known now: up to where everything is stored, and where the log ended when
// it was last heard of, 0 for never.
func (l *lag) note(now time.Time, connected bool, stored, end pglogrepl.LSN) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if end == 0 || stored == 0 {
		return
	}
	for len(l.looks) > 0 && l.looks[0].end <= stored {
		l.caughtUp = l.looks[0].at
		l.looks = l.looks[1:]
	}
	switch n := len(l.looks); {
	case stored >= end && connected:
		l.caughtUp = now // nothing is known that is not stored
	case stored < end && (n == 0 || l.looks[n-1].end < end):
		l.looks = append(l.looks, look{now, end})
	}
	if len(l.looks) > lagLooks {
		kept := l.looks[:0:0]
		for i := 0; i < len(l.looks); i += 2 {
			kept = append(kept, l.looks[i])
		}
		l.looks = kept
	}
}

// behind returns for how long what is not stored has been in the log, about; 0: everything that is
// known of is stored. false: that is not known yet.
func (l *lag) behind(now time.Time, connected bool) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(l.looks) > 0:
		return now.Sub(l.looks[0].at), true
	case l.caughtUp.IsZero():
		return 0, false
	case !connected:
		return now.Sub(l.caughtUp), true // what came since nobody knows
	}
	return 0, true
}

// watchLag looks at the lag until ctx is done.
func (s *Service) watchLag(ctx context.Context) {
	ticker := time.NewTicker(lagInterval)
	defer ticker.Stop()
	for {
		now := s.syncer.Status()
		s.lag.note(time.Now(), now.Connected, now.Position, now.WALEnd)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
