package dbsync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// slotLease is how long an answer of the server counts that says that the slot is ours. It is
	// much shorter than the server takes to find out that we are gone (wal_sender_timeout, 60 s
	// unless it is set), and one question in that time costs nothing.
	slotLease = time.Second
	// slotQuestion bounds how long is waited for the answer.
	slotQuestion = 10 * time.Second
)

// A SlotNotHeldError reports that it is not known to be this process that follows the slot:
// another one may, and may have stored what is newer.
type SlotNotHeldError struct {
	Slot string
	Err  error // why it is not known; nil: the server says that it is not this process
}

func (e *SlotNotHeldError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("it is not known whether slot %s is still followed by this process: %v", e.Slot, e.Err)
	}
	return fmt.Sprintf("slot %s is not followed by this process any more", e.Slot)
}

func (e *SlotNotHeldError) Unwrap() error { return e.Err }

// A lease is when the server was asked last who follows the slot, and said that it is this process.
type lease struct {
	asked   atomic.Pointer[time.Time]
	renewal sync.Mutex
}

// holds reports whether the answer still counts. A process may be stopped for any time between two
// instructions, and so may the machine that it runs on: then one clock goes on, or only the other.
func (l *lease) holds() bool {
	asked := l.asked.Load()
	if asked == nil {
		return false
	}
	now := time.Now()
	for _, since := range []time.Duration{now.Sub(*asked), now.Round(0).Sub(asked.Round(0))} {
		if since < 0 || since >= slotLease {
			return false
		}
	}
	return true
}

// HoldsSlot returns nil if the slot was followed by this process at a moment within the last
// second. Its error is a [*SlotNotHeldError]; it passes when the connection to the slot is made
// anew.
//
// Who stores what the stream brings asks before each request that it sends, and while a long one
// is being sent. Versions alone do not keep a late write from doing harm: a store forgets after
// a while which versions its deleted documents had. What was received says nothing either, since
// it may have waited in a buffer for as long as the process was stopped.
func (s *Syncer) HoldsSlot(ctx context.Context) error {
	if s.lease.holds() && s.connected() {
		return nil
	}
	s.lease.renewal.Lock()
	defer s.lease.renewal.Unlock()
	if s.lease.holds() && s.connected() {
		return nil
	}
	s.link.Lock()
	st := s.st
	s.link.Unlock()
	if st == nil || !st.alive() {
		err := errors.New("the replication stream has ended")
		if st != nil {
			if why := st.queue.ended(); why != nil {
				err = fmt.Errorf("the replication stream has ended: %w", why)
			}
		}
		return &SlotNotHeldError{Slot: s.slot, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, slotQuestion)
	defer cancel()
	asked := time.Now()
	var ours bool
	err := s.slotDB.QueryRowContext(ctx, `SELECT coalesce((SELECT active_pid = $2 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1), false)`, s.slot, int64(st.pid)).Scan(&ours)
	if err != nil {
		return &SlotNotHeldError{Slot: s.slot, Err: err}
	}
	if !ours {
		return &SlotNotHeldError{Slot: s.slot}
	}
	s.lease.asked.Store(&asked)
	return nil
}
