package dbsync

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pglogrepl"
)

// message is one pgoutput message as the stream brought it.
type message struct {
	lsn  pglogrepl.LSN // where the server says that it starts
	end  pglogrepl.LSN // of a commit: the end of its transaction, what can be confirmed after it
	xid  uint32        // the transaction that it belongs to; 0: it comes between two
	kind pglogrepl.MessageType
	data []byte // nil once it is translated

	group uint32 // of its transaction, see grouper
	last  bool   // it is the last one of its group
	slab  *slab  // that data is in; nil: in storage of its own
}

// endsGroup reports whether a batch may end after m.
func (m *message) endsGroup() bool { return m.last || m.xid == 0 }

// queue holds the messages that were received and not yet forwarded, oldest first.
// The stream's reader puts them in, and waits while the queue is full; whoever
// works on them peeks at a position, and forwards from the head.
//
// It also knows the position that may be confirmed: the end of the last transaction
// that was forwarded whole, or what a keepalive reported while nothing was waiting.
type queue struct {
	max bounds

	mu       sync.Mutex
	msgs     []message
	storage  []message // that msgs is a part of, up to its end
	first    uint64    // sequence number of msgs[0]
	bytes    int       // of data still held
	err      error     // why nothing comes any more
	full     bool      // the reader waits for room
	short    bool      // who works on the messages has all of them, and waits for the rest of a group
	atEnd    bool      // the server has nothing more to send for now: it has said so after the last message
	openTx   bool      // the last message forwarded lies inside a transaction
	stored   pglogrepl.LSN
	reported pglogrepl.LSN // newest keepalive: nothing before it is still to be sent

	arrived chan struct{} // messages, a keepalive or an error came, see announce; capacity 1
	space   chan struct{} // something was released; capacity 1
	moved   chan struct{} // the position moved by what was stored; capacity 1
}

// gathered are the messages of a batch, whole groups of them.
type gathered struct {
	msgs  []message
	bytes int // of their data

	full  bool // there is no room for more, here or in the queue
	atEnd bool // nothing follows, and the server has said that it has nothing more to send for now
}

// bounds are of a number of messages, and of the bytes of their data.
type bounds struct{ messages, bytes int }

func newQueue(max bounds, stored pglogrepl.LSN) *queue {
	return &queue{
		max: max, stored: stored,
		arrived: make(chan struct{}, 1), space: make(chan struct{}, 1), moved: make(chan struct{}, 1),
	}
}

// signal makes a waiter look again. A signal that nobody has taken yet is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push appends m, and waits while the queue is full. Who works on the messages is told by announce,
// so that not every message wakes somebody. A message larger than the
// bound is taken when the queue holds no other data, so every message passes, and
// one that somebody waits for to have the rest of a group is always taken. When the
// queue has ended, m is dropped.
func (q *queue) push(ctx context.Context, m message) error {
	for {
		q.mu.Lock()
		if q.err != nil {
			q.mu.Unlock()
			return nil
		}
		if q.fits(len(m.data)) {
			q.makeRoom()
			q.msgs = append(q.msgs, m)
			q.bytes += len(m.data)
			q.full, q.short, q.atEnd = false, q.short && !m.endsGroup(), false
			q.mu.Unlock()
			return nil
		}
		q.full = true
		q.mu.Unlock()
		q.announce()
		select {
		case <-q.space:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// makeRoom makes room for one message more: where a quarter of the storage was forwarded, in that, and
// else in one of twice the size. mu is held.
func (q *queue) makeRoom() {
	n := len(q.msgs)
	if n < cap(q.msgs) {
		return
	}
	if n > cap(q.storage)/4*3 {
		q.storage = make([]message, max(2*n, 64))
	}
	moved := q.storage[:copy(q.storage, q.msgs)]
	clear(q.storage[n:]) // what was moved from there is not to be held
	q.msgs = moved
}

// announce tells who works on the messages that there are new ones.
func (q *queue) announce() { signal(q.arrived) }

// fits reports whether a message of n bytes has room. mu is held.
func (q *queue) fits(n int) bool {
	return q.short || len(q.msgs) < q.max.messages && (q.bytes == 0 || q.bytes+n <= q.max.bytes)
}

// isFull reports whether the reader waits for room.
func (q *queue) isFull() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.full
}

// keepalive notes that the server has sent everything before end. drained says that what it has sent
// after that has not come yet.
func (q *queue) keepalive(end pglogrepl.LSN, drained bool) {
	q.mu.Lock()
	q.reported = max(q.reported, end)
	q.atEnd = drained
	q.idle()
	q.mu.Unlock()
	if drained {
		q.announce()
	}
}

// idle keeps the position at the server's while nothing waits to be stored. A
// position inside a transaction is never confirmed, nor one before messages that
// are received and not forwarded. It does not say that the position moved: the note
// that precedes a confirmation writes to the log itself, which would go on for ever.
// mu is held.
func (q *queue) idle() {
	if len(q.msgs) == 0 && !q.openTx && q.reported > q.stored {
		q.stored = q.reported
	}
}

// fail ends the queue: after what it still holds, readers get err.
func (q *queue) fail(err error) {
	q.mu.Lock()
	if q.err == nil {
		q.err = err
	}
	q.mu.Unlock()
	signal(q.arrived)
	signal(q.space)
}

// ended returns why nothing comes any more, nil while something may.
func (q *queue) ended() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// peek appends to out the messages from sequence number from on, within max, but one at
// least. err is set when there is none and there will be none.
func (q *queue) peek(from uint64, max bounds, out []message) ([]message, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rest := q.rest(from)
	bytes := 0
	for i := range rest {
		if i == max.messages || i > 0 && bytes+len(rest[i].data) > max.bytes {
			break
		}
		bytes += len(rest[i].data)
		out = append(out, rest[i])
	}
	if len(rest) == 0 && q.err != nil {
		return out, q.err
	}
	return out, nil
}

// peekGroups adds to g what follows it in the queue, where g begins at the sequence number from:
// whole groups, within max, but one at least. A group that is larger, or for which the queue has no
// room, is waited for: the rest of it is always taken. ended is why no more is received, nil while
// more may be.
func (q *queue) peekGroups(from uint64, max bounds, g *gathered) (ended error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	rest := q.rest(from + uint64(len(g.msgs)))
	whole, bytes := 0, g.bytes
	g.full = false
	for i := range rest {
		if n := len(g.msgs) + i; whole == i && n > 0 && (n >= max.messages || bytes+len(rest[i].data) > max.bytes) {
			g.full = true
			break
		}
		bytes += len(rest[i].data)
		if rest[i].endsGroup() {
			whole, g.bytes = i+1, bytes
		}
	}
	g.msgs = append(g.msgs, rest[:whole]...)
	if len(g.msgs) == 0 && len(rest) > 0 {
		q.short = true
		signal(q.space)
	}
	g.full = g.full || q.full || len(g.msgs) >= max.messages || g.bytes >= max.bytes
	g.atEnd = q.atEnd && whole == len(rest)
	return q.err
}

// rest returns the messages from sequence number from on. mu is held.
func (q *queue) rest(from uint64) []message { return q.msgs[min(int(from-q.first), len(q.msgs)):] }

// release lets go of the data of the n messages from sequence number from on, which is written over
// from then on. They are translated; what is left of them is their place, until they are forwarded.
func (q *queue) release(from uint64, n int) {
	q.mu.Lock()
	msgs := q.msgs[from-q.first:][:n]
	for i := range msgs {
		q.bytes -= len(msgs[i].data)
		msgs[i].slab.drop()
		msgs[i].data, msgs[i].slab = nil, nil
	}
	q.mu.Unlock()
	signal(q.space)
}

// forward takes n messages from the head: they are stored. The position moves to
// the end of the last transaction among them that is complete.
func (q *queue) forward(n int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n < 0 || n > len(q.msgs) {
		return fmt.Errorf("forward %d messages: %d are waiting", n, len(q.msgs))
	}
	for i := range q.msgs[:n] {
		m := &q.msgs[i]
		q.bytes -= len(m.data)
		switch m.kind {
		case pglogrepl.MessageTypeBegin:
			q.openTx = true
		case pglogrepl.MessageTypeCommit:
			q.openTx = false
			if m.end > q.stored {
				q.stored = m.end
				signal(q.moved)
			}
		}
	}
	clear(q.msgs[:n])
	q.msgs = q.msgs[n:] // what is left is moved when the storage is used up
	q.first += uint64(n)
	q.idle()
	signal(q.space)
	return nil
}

// position returns the LSN up to which everything is stored.
func (q *queue) position() pglogrepl.LSN {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stored
}

// head returns the sequence number of the first message that is not forwarded.
func (q *queue) head() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.first
}

// length returns how many messages are received and not forwarded.
func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.msgs)
}

// caughtUp reports whether everything that the server had at lsn has been received.
func (q *queue) caughtUp(lsn pglogrepl.LSN) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reported >= lsn || q.err != nil
}

var errShortMessage = errors.New("message is too short")

// newMessage reads what the queue has to know of a pgoutput message. xid is the
// transaction of the message before it.
func newMessage(lsn pglogrepl.LSN, xid uint32, data []byte) (message, error) {
	if len(data) == 0 {
		return message{}, errShortMessage
	}
	m := message{lsn: lsn, xid: xid, kind: pglogrepl.MessageType(data[0]), data: data}
	switch m.kind {
	case pglogrepl.MessageTypeBegin: // Byte1('B') Int64 final LSN, Int64 time, Int32 xid
		if len(data) < 21 {
			return m, errShortMessage
		}
		m.xid = binary.BigEndian.Uint32(data[17:])
	case pglogrepl.MessageTypeCommit: // Byte1('C') Int8 flags, Int64 LSN, Int64 end LSN, Int64 time
		if len(data) < 26 {
			return m, errShortMessage
		}
		m.end = pglogrepl.LSN(binary.BigEndian.Uint64(data[10:]))
	case pglogrepl.MessageTypeMessage: // Byte1('M') Int8 flags: 1 for one of a transaction
		if len(data) < 2 {
			return m, errShortMessage
		}
		if data[1]&1 == 0 {
			m.xid = 0 // it comes between transactions
		}
	}
	return m, nil
}
