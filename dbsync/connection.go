package dbsync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// ErrSlotInUse reports that another process has the slot, see [WithSlotTimeout].
var ErrSlotInUse = errors.New("the slot is in use by another process")

// acquire connects to the slot, however long it takes.
func (s *Syncer) acquire(run context.Context) error {
	_, err := retry(run, s, "follow slot "+s.slot, func() (struct{}, error) { return struct{}{}, s.connect(run) })
	if err != nil {
		return err
	}
	_, err = retry(run, s, "begin to follow slot "+s.slot, func() (struct{}, error) {
		var err error
		if s.onSlot != nil {
			err = s.onSlot(run)
		}
		if err == nil {
			// A crash before has the promotion looked at once more. Nothing was confirmed until then.
			err = s.noteTimeline(run)
		}
		if err == nil || IsPermanent(err) || s.connected() {
			return struct{}{}, err
		}
		// The stream has ended meanwhile, and who has to hold the slot for what it does would fail for ever.
		if again := s.connect(run); again != nil {
			return struct{}{}, again
		}
		return struct{}{}, err
	})
	return err
}

// A process that waits for the slot looks again after a pause, of firstBusyPause at first and twice as
// long each time, up to lastBusyPause. It may be this process's own connection of before that the
// server is about to end.
const firstBusyPause, lastBusyPause = 50 * time.Millisecond, time.Second

// errSlotBusy says that another process follows the slot at the moment.
var errSlotBusy = errors.New("another process follows the slot")

// connect begins to receive from the slot, when nobody else does. That is looked up first: each attempt
// to receive from a slot that another process has makes the server log an error.
func (s *Syncer) connect(ctx context.Context) error {
	start, pause := time.Now(), firstBusyPause
	for waited := false; ; waited = true {
		err := s.tryConnect(ctx)
		if !errors.Is(err, errSlotBusy) && sqlState(err) != "55006" { // object_in_use: somebody else was faster
			if err == nil {
				s.slotTimeout = 0 // from now on it is waited for
				if waited {
					s.log.Info("the slot is free, taking over", "slot", s.slot)
				}
			}
			return err
		}
		if s.slotTimeout > 0 && time.Since(start) > s.slotTimeout {
			return &PermanentError{fmt.Errorf("follow slot %s: %w", s.slot, ErrSlotInUse)}
		}
		s.turn(ctx)
		s.lag.reset() // that one stores what waits
		if !waited {
			s.log.Info("the slot is in use by another process, waiting for it", "slot", s.slot)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
			pause = min(2*pause, lastBusyPause)
		}
	}
}

// beginTimeout bounds the time from the connecting of a stream to the answer that it has begun:
// until then nobody notices that the other end is gone.
const beginTimeout = time.Minute

// tryConnect opens a stream from where the slot stands, or from the position up to which
// everything is stored if that is further.
func (s *Syncer) tryConnect(ctx context.Context) error {
	s.disconnect()
	slot, err := s.slotNow(ctx)
	if err != nil {
		return err
	}
	if slot.active {
		return errSlotBusy
	}
	q := s.newQueue(max(slot.confirmed, s.Position()))
	begin, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	conn, err := connectReplication(begin, s.slotConfig, s.maxRow)
	if err != nil {
		return err
	}
	system, err := pglogrepl.IdentifySystem(begin, conn.PgConn)
	if err != nil {
		conn.Close(context.WithoutCancel(ctx))
		return fmt.Errorf("identify the database system: %w", err)
	}
	if err := s.judgeServer(begin, conn, system); err != nil {
		conn.Close(context.WithoutCancel(ctx))
		return err
	}
	if s.wantsFailover() && !slot.failover {
		if err := s.setFailover(begin, conn.PgConn); err != nil {
			conn.Close(context.WithoutCancel(ctx))
			return err
		}
	}
	s.setWALEnd(system.XLogPos) // what another server said of before says nothing
	// A position where the log has not come to yet would be taken as one to begin from, and then be
	// passed over in silence. This is the connection that the stream comes by, so nobody can set the
	// server back in between.
	if q.position() > system.XLogPos {
		conn.Close(context.WithoutCancel(ctx))
		return &SetBackError{Slot: s.slot, Reason: fmt.Sprintf("everything up to %s was received and stored, and the log ends at %s", q.position(), system.XLogPos)}
	}
	st, err := startStream(begin, conn, streamOptions{slot: s.slot, publication: s.publication, messages: s.eventTriggers, known: slot.confirmed, queue: q, groups: s.batchBounds(), awaited: s.windows.awaited, lag: &s.lag, notes: s, log: s.log})
	if err != nil {
		// It may have been dropped or invalidated since it was looked at, which says more.
		if _, now := s.slotNow(ctx); IsPermanent(now) {
			return now
		}
		return err
	}
	if err := s.checkPassedOver(ctx); err != nil {
		st.close()
		return err
	}
	s.link.Lock()
	s.q, s.st = q, st
	s.link.Unlock()
	if s.barrier.wanted() == 0 {
		// Transactions from here on are seen from their beginning.
		change, _ := s.barrier.need()
		var xid uint64
		if err := s.db.QueryRowContext(ctx, "SELECT pg_catalog.pg_current_xact_id()::text").Scan(&xid); err != nil {
			return fmt.Errorf("read the current transaction: %w", err)
		}
		s.barrier.raise(xid, change)
	}
	s.log.Info("following the slot", "slot", s.slot, "position", q.position().String())
	return nil
}

// checkPassedOver notices, when the slot is ours and nobody else can move it, that another
// process had it since this one did. What that one saw is not in the tracker, and the
// watermarks that it saw do not come again.
func (s *Syncer) checkPassedOver(ctx context.Context) error {
	slot, err := s.slotNow(ctx)
	if err != nil || slot.confirmed <= s.Position() {
		return err
	}
	s.barrier.reset()
	return s.passOver(ctx)
}

// passOver has nobody wait for a watermark that may not come: windows are read again, and marks
// written again.
func (s *Syncer) passOver(ctx context.Context) error {
	for _, m := range s.windows.passOver() {
		if err := s.writeWatermark(ctx, watermark{markWatermark, m.id}); err != nil {
			return err
		}
	}
	return nil
}

// slotNow reads the state of the slot and of our note of it, and makes sure that they
// belong together.
func (s *Syncer) slotNow(ctx context.Context) (slot slotState, err error) {
	err = WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		if err := s.checkTimeline(ctx, conn); err != nil {
			return err
		}
		if slot, err = s.readSlot(ctx, conn); err != nil {
			return err
		}
		known, err := s.readSlotRow(ctx, conn)
		if err != nil {
			return err
		}
		if known == nil {
			return &SlotLostError{Slot: s.slot, Reason: "the control schema's note of it is gone", Confirmed: s.Position()}
		}
		if s.generation != "" && known.generation != s.generation {
			return &SlotLostError{Slot: s.slot, Reason: "another process has made it anew", Confirmed: s.Position()}
		}
		var end pglogrepl.LSN
		if err := conn.QueryRow(ctx, "SELECT "+logEnd).Scan(&end); err != nil {
			return fmt.Errorf("read where the log ends: %w", err)
		}
		if err := s.lossOf(slot, known, end); err != nil {
			return err
		}
		s.hasNoted(known.confirmed)
		return nil
	})
	return slot, err
}

// disconnect ends the stream, if there is one.
func (s *Syncer) disconnect() {
	s.link.Lock()
	st := s.st
	s.st = nil
	s.link.Unlock()
	if st != nil {
		st.close()
	}
}

func (s *Syncer) queue() *queue {
	s.link.Lock()
	defer s.link.Unlock()
	return s.q
}

func (s *Syncer) newQueue(position pglogrepl.LSN) *queue {
	most := s.batchBounds()
	return newQueue(bounds{queueBatches * most.messages, most.bytes + readAhead}, position)
}

// batchBounds are those of the messages of one batch, beyond which it has no more than the rest of
// a group, and of the changes of one group.
func (s *Syncer) batchBounds() bounds { return bounds{max(s.MaxMessagesToRead, 1), batchBytes} }

// flush has the server told what is stored. It is the last thing before a stream ends;
// if it fails, what is stored comes again.
func (s *Syncer) flush(run context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(run), statusInterval/2)
	defer cancel()
	s.link.Lock()
	st := s.st
	s.link.Unlock()
	if st == nil {
		return
	}
	if err := st.confirmNow(ctx); err != nil {
		s.log.Debug("the last position was not confirmed", "slot", s.slot, "error", err)
	}
}
