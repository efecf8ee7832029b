package dbsync

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pglogrepl"
)

const (
	// peekWait bounds how long GetMessages waits for what was committed before the call.
	peekWait = 5 * time.Second
	// askInterval is how often it asks the server how far it has sent.
	askInterval = 50 * time.Millisecond
)

// GetMessages appends to out the messages at the head of the slot, at most numMessages,
// and returns it: what was committed before the call, and perhaps more. Repeated calls return the same messages until [Syncer.Forward] has
// taken them, or consume does so at once.
//
// It is the way to the raw stream, for use without Run: while the Syncer runs it returns
// an error. What can be peeked at is bounded by three times MaxMessagesToRead messages and
// 6 MiB.
func (s *Syncer) GetMessages(numMessages int, consume bool, out []PGMSG) (msgs []PGMSG, err error) {
	return s.getMessages(context.Background(), numMessages, consume, out)
}

func (s *Syncer) getMessages(ctx context.Context, numMessages int, consume bool, out []PGMSG) ([]PGMSG, error) {
	if s.IsRunning() {
		return out, errors.New("get messages: the syncer is running")
	}
	if numMessages < 0 {
		return out, fmt.Errorf("get %d messages: want 0 or more", numMessages)
	}
	raw, err := s.peek(ctx, numMessages)
	if err != nil {
		return out, fmt.Errorf("get messages: %w", err)
	}
	for _, m := range raw {
		out = append(out, PGMSG{LSN: m.lsn.String(), Xid: uint64(m.xid), Data: m.data})
	}
	if consume {
		return out, s.Forward(len(raw))
	}
	return out, nil
}

// peek returns messages from the head of the queue, and connects if it has to.
func (s *Syncer) peek(ctx context.Context, n int) ([]message, error) {
	if !s.connected() {
		if q := s.queue(); q.length() == 0 {
			if err := s.tryConnect(ctx); err != nil {
				return nil, err
			}
		}
	}
	q := s.queue()
	msgs, err := q.peek(q.head(), bounds{n, math.MaxInt}, nil)
	if err != nil || len(msgs) == n {
		return msgs, err
	}

	// More may be on the way: the server says when it has sent everything.
	var text string
	if err := s.db.QueryRowContext(ctx, "SELECT pg_catalog.pg_current_wal_flush_lsn()::text").Scan(&text); err != nil {
		return nil, fmt.Errorf("read the log's end: %w", err)
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return nil, fmt.Errorf("read the log's end: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, peekWait)
	defer cancel()
	for {
		caughtUp := q.caughtUp(end)
		msgs, err := q.peek(q.head(), bounds{n, math.MaxInt}, nil)
		if err != nil || len(msgs) == n || caughtUp || len(msgs) > 0 && q.isFull() {
			return msgs, err
		}
		if err := s.askServer(); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return msgs, nil
		case <-q.arrived:
		case <-time.After(askInterval):
		}
	}
}

// askServer has the server say how far it has sent.
func (s *Syncer) askServer() error {
	s.link.Lock()
	st := s.st
	s.link.Unlock()
	if st == nil {
		return errStreamClosed
	}
	return st.sendStatus(replyWanted)
}

// Forward takes nummsgs messages from the head of what GetMessages returns: they are
// dealt with. The slot follows when a transaction is complete; a position inside of one
// is remembered and never confirmed. The server hears of it at once, but at most once a
// second; Close and the end of Process do not leave before it has.
func (s *Syncer) Forward(nummsgs int) error {
	if s.IsRunning() {
		return errors.New("forward: the syncer is running")
	}
	return s.queue().forward(nummsgs)
}

// Process calls f with the messages at the head of the slot, at most MaxMessagesToRead at
// a time, and forwards by as many as f says, until f stops or ctx is done. It waits for
// messages, and makes a broken connection again after f was told of the error; an error
// that repeating cannot cure is returned.
func (s *Syncer) Process(ctx context.Context, f EventsProcessor) error {
	defer s.flush(ctx)
	delay := s.DelayBetweenPeekRetries
	for ctx.Err() == nil {
		msgs, err := s.getMessages(ctx, s.MaxMessagesToRead, false, nil)
		if IsPermanent(err) {
			return err
		}
		if err != nil || len(msgs) > 0 {
			n, stop := f(msgs, err)
			if err := s.Forward(n); err != nil {
				return err
			}
			if stop {
				return nil
			}
		}
		if len(msgs) > 0 {
			delay = s.DelayBetweenPeekRetries
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.queue().arrived:
		case <-time.After(delay):
			delay = min(time.Duration(float32(delay)*max(s.TimerDelayBackoffFactor, 1)), s.MaxDelayBetweenEmptyPeeks)
		}
	}
	return context.Cause(ctx)
}
