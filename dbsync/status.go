package dbsync

import (
	"time"

	"github.com/jackc/pglogrepl"
)

// Position returns the LSN up to which everything is stored.
func (s *Syncer) Position() pglogrepl.LSN {
	if q := s.queue(); q != nil {
		return q.position()
	}
	return 0
}

// Status is how far a Syncer is.
type Status struct {
	Connected bool          // it has the slot and receives from it
	Position  pglogrepl.LSN // up to which everything is stored
	Confirmed pglogrepl.LSN // up to which the server knows that; 0 while not connected

	// WALEnd is where the server's log ended when it was last asked, every 10 s or oftener;
	// 0: not yet.
	WALEnd pglogrepl.LSN

	// NewestCommit is when the newest transaction that is stored was committed, by the
	// server's clock; zero if none was since the Syncer was made.
	NewestCommit time.Time

	// Lag is since how long something has waited to be stored, by this host's clock: it grows while
	// nothing moves, and from 30 s on while nothing is heard of the server. At first, until everything is stored
	// that was there at the start, it is the age of the newest transaction that is stored, by the clock of
	// Postgres. It is exact to 0.1 s, to 10 s after a break. -1: not known, as while another process has the slot.
	Lag time.Duration

	// SlotWAL is how much of the log the slot has the server keep, asked for every 10 s; nil while that
	// is not known.
	SlotWAL *SlotWAL

	// LockWait is the lock that is waited for longest, nil if none is.
	LockWait *LockWait

	// StandbyWait is why nothing comes although the log grows, nil if standbys hold up nothing. It is
	// looked for every 10 s.
	StandbyWait *StandbyWait

	// Troubles are what fails again and again without coming further, the oldest first.
	Troubles []Trouble

	// Changes of rows are stored, and came to so many Batches that had something to store, since the
	// Syncer was made. Changes that come to nothing, or that another one has replaced, count too.
	Changes, Batches int64

	// Messages were received and are not forwarded; Bytes of them are held in memory.
	Messages, Bytes int
}

// Status returns how far the Syncer is. It answers from memory.
func (s *Syncer) Status() Status {
	s.link.Lock()
	q, st := s.q, s.st
	s.link.Unlock()
	status := Status{Lag: -1, LockWait: s.lockWaits.oldest(), StandbyWait: s.standbys.get()}
	if st != nil && st.alive() {
		status.Connected = true
		status.Confirmed = pglogrepl.LSN(st.confirmed.Load())
		status.SlotWAL = s.slotWAL.Load()
	}
	status.Changes, status.Batches = s.changes.Load(), s.batches.Load()
	if us := s.newest.Load(); us != 0 {
		status.NewestCommit = time.UnixMicro(us)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	status.Position = q.stored
	status.WALEnd = max(q.reported, pglogrepl.LSN(s.walEnd.Load()))
	if lag, known := s.lag.of(time.Now(), status.Position, status.NewestCommit); known {
		status.Lag = lag
	}
	status.Messages, status.Bytes = len(q.msgs), q.bytes
	status.Troubles = s.troubles.list(status.Position)
	return status
}

// connected reports whether the Syncer has the slot and receives from it.
func (s *Syncer) connected() bool {
	s.link.Lock()
	defer s.link.Unlock()
	return s.st != nil && s.st.alive()
}

// streamEnded returns what is closed when the stream under way has ended.
func (s *Syncer) streamEnded() <-chan struct{} {
	s.link.Lock()
	defer s.link.Unlock()
	if s.st == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	return s.st.ended
}
