package dbsync

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"
)

func beginMessage(lsn, final pglogrepl.LSN, xid uint32) message {
	data := binary.BigEndian.AppendUint64([]byte{'B'}, uint64(final))
	data = binary.BigEndian.AppendUint64(data, 0)
	return must(newMessage(lsn, 0, binary.BigEndian.AppendUint32(data, xid)))
}

func commitMessage(lsn, end pglogrepl.LSN, xid uint32) message {
	data := binary.BigEndian.AppendUint64([]byte{'C', 0}, uint64(lsn))
	data = binary.BigEndian.AppendUint64(data, uint64(end))
	return must(newMessage(lsn, xid, binary.BigEndian.AppendUint64(data, 0)))
}

func insertMessage(lsn pglogrepl.LSN, xid uint32, size int) message {
	return must(newMessage(lsn, xid, append([]byte{'I'}, make([]byte, size-1)...)))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestNewMessage(t *testing.T) {
	if m := beginMessage(1, 2, 7); m.xid != 7 || m.kind != 'B' {
		t.Errorf("begin is %+v", m)
	}
	if m := commitMessage(8, 9, 7); m.end != 9 || m.xid != 7 {
		t.Errorf("commit is %+v", m)
	}
	for flags, want := range []uint32{0, 7} { // of no transaction, of the one around it
		if m, err := newMessage(8, 7, []byte{'M', byte(flags)}); err != nil || m.xid != want {
			t.Errorf("a message with flags %d is %+v, %v", flags, m, err)
		}
	}
	for _, data := range [][]byte{nil, {}, {'B'}, {'M'}, make([]byte, 20), append([]byte{'C'}, make([]byte, 24)...)} {
		if len(data) == 20 {
			data[0] = 'B'
		}
		if m, err := newMessage(1, 0, data); !errors.Is(err, errShortMessage) {
			t.Errorf("%q: got %+v, %v", data, m, err)
		}
	}
}

// The position follows what is stored, transaction by transaction, and the server only
// while nothing waits.
func TestQueuePosition(t *testing.T) {
	q := newQueue(bounds{messages: 100, bytes: 1 << 20}, 100)
	position := func(want pglogrepl.LSN) {
		t.Helper()
		if got := q.position(); got != want {
			t.Errorf("the position is %d, want %d", got, want)
		}
	}
	push := func(ms ...message) {
		t.Helper()
		for _, m := range ms {
			if err := q.push(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	forward := func(n int) {
		t.Helper()
		if err := q.forward(n); err != nil {
			t.Fatal(err)
		}
	}
	position(100)
	q.keepalive(150, true)
	position(150)
	q.keepalive(120, true) // an older one
	position(150)

	push(beginMessage(160, 190, 1), insertMessage(170, 1, 10), insertMessage(180, 1, 10), commitMessage(190, 200, 1))
	q.keepalive(300, true)
	position(150) // what waits is not stored
	forward(2)
	position(150) // inside a transaction
	q.keepalive(310, true)
	forward(1)
	position(150)
	forward(1)
	position(310) // all is stored

	push(beginMessage(320, 330, 2), commitMessage(330, 340, 2), beginMessage(350, 380, 3))
	q.keepalive(400, true)
	forward(2)
	position(340) // the next transaction waits
	forward(1)
	if q.length() != 0 {
		t.Errorf("%d messages wait", q.length())
	}
	q.keepalive(410, true)
	position(340) // nothing waits, but the transaction is open
	push(commitMessage(380, 390, 3))
	forward(1)
	position(410)
	for _, n := range []int{-1, 1} {
		if err := q.forward(n); err == nil {
			t.Errorf("forward(%d) of an empty queue gave no error", n)
		}
	}
	forward(0)
	position(410)
}

func TestQueueIsFull(t *testing.T) {
	q := newQueue(bounds{messages: 3, bytes: 100}, 0)
	push := func(m message) error {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errShortMessage)
		defer cancel()
		return q.push(ctx, m)
	}
	// By bytes; a message over the bound passes when it is alone.
	if err := push(insertMessage(1, 1, 500)); err != nil {
		t.Fatal(err)
	}
	if err := push(insertMessage(2, 1, 1)); !errors.Is(err, errShortMessage) || !q.isFull() {
		t.Errorf("a full queue took more, or says it is not full: %v", err)
	}
	// What is translated takes no room, but keeps its place.
	q.release(q.head(), 1)
	if err := push(insertMessage(2, 1, 60)); err != nil || q.isFull() {
		t.Error(err)
	}
	if err := push(insertMessage(3, 1, 60)); err == nil {
		t.Error("the bound of bytes was passed")
	}
	// By messages.
	if err := push(insertMessage(3, 1, 1)); err != nil {
		t.Error(err)
	}
	if err := push(insertMessage(4, 1, 1)); err == nil {
		t.Error("the bound of messages was passed")
	}
	// Room that comes ends the waiting.
	done := make(chan error, 1)
	go func() { done <- q.push(t.Context(), insertMessage(4, 1, 1)) }()
	if err := q.forward(1); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Readers get what there is, then the end.
	end := errors.New("the end")
	q.fail(end)
	q.fail(errors.New("later"))
	if err := push(insertMessage(5, 1, 1)); err != nil {
		t.Error(err) // it is dropped, so that the connection can be read to its end
	}
	msgs, err := q.peek(q.head(), bounds{messages: 10, bytes: 1 << 20}, nil)
	if err != nil || len(msgs) != 3 {
		t.Errorf("got %d messages, %v", len(msgs), err)
	}
	if _, err := q.peek(q.head()+3, bounds{messages: 10, bytes: 1 << 20}, nil); !errors.Is(err, end) {
		t.Errorf("after the last message: %v", err)
	}
	if msgs, err := q.peek(q.head(), bounds{messages: 10, bytes: 60}, nil); err != nil || len(msgs) != 1 {
		t.Errorf("at most 60 bytes: got %d messages, %v", len(msgs), err)
	}
	if msgs, err := q.peek(q.head(), bounds{messages: 2, bytes: 1}, nil); err != nil || len(msgs) != 1 {
		t.Errorf("at most 1 byte: got %d messages, %v", len(msgs), err)
	}
}

// Against a queue that is a plain slice: what is peeked at is what was pushed and not
// forwarded, and the position is never beyond a commit that was not forwarded.
func TestQueueIsASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue(bounds{messages: 20, bytes: 300}, 0)
		var all []message // ever pushed
		forwarded, released := 0, 0
		var lsn pglogrepl.LSN
		xid, open := uint32(0), false
		push := func(m message) {
			ctx, cancel := context.WithCancel(context.Background())
			room := len(all)-forwarded < 20
			bytes := 0
			for i := max(forwarded, released); i < len(all); i++ {
				bytes += len(all[i].data)
			}
			room = room && (bytes == 0 || bytes+len(m.data) <= 300)
			if !room {
				cancel()
			}
			defer cancel()
			if err := q.push(ctx, m); (err == nil) != room {
				t.Fatalf("push gave %v, room is %v", err, room)
			}
			if room {
				all = append(all, m)
			} else {
				t.Skip()
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				size := rapid.IntRange(1, 120).Draw(t, "size")
				switch {
				case !open:
					push(beginMessage(lsn+10, lsn+1000, xid+1))
					xid, open = xid+1, true
				case rapid.IntRange(0, 3).Draw(t, "end") == 0:
					push(commitMessage(lsn+10, lsn+15, xid))
					open = false
				default:
					push(insertMessage(lsn+10, xid, size))
				}
				lsn += 20
			},
			"keepalive": func(t *rapid.T) {
				lsn += 5
				q.keepalive(lsn, true)
			},
			"release": func(t *rapid.T) {
				from := max(released, forwarded)
				n := rapid.IntRange(0, len(all)-from).Draw(t, "n")
				q.release(uint64(from), n)
				released = from + n
			},
			"forward": func(t *rapid.T) {
				n := rapid.IntRange(0, len(all)-forwarded+1).Draw(t, "n")
				err := q.forward(n)
				if (err != nil) != (n > len(all)-forwarded) {
					t.Fatalf("forward(%d) of %d gave %v", n, len(all)-forwarded, err)
				}
				if err == nil {
					forwarded += n
				}
			},
			"": func(t *rapid.T) {
				if q.length() != len(all)-forwarded || q.head() != uint64(forwarded) {
					t.Fatalf("%d messages from %d, want %d from %d", q.length(), q.head(), len(all)-forwarded, forwarded)
				}
				got := must(q.peek(uint64(forwarded), bounds{messages: 1000, bytes: 1 << 20}, nil))
				for i, m := range got {
					want := all[forwarded+i]
					if m.lsn != want.lsn || forwarded+i >= released && !slices.Equal(m.data, want.data) || forwarded+i < released && m.data != nil {
						t.Fatalf("message %d is %v, want %v", forwarded+i, m, want)
					}
				}
				position := q.position()
				for _, m := range all[forwarded:] {
					if m.kind == pglogrepl.MessageTypeCommit && position >= m.end {
						t.Fatalf("position %s, but the commit at %s is not forwarded", position, m.end)
					}
				}
				inside := false
				for _, m := range all[:forwarded] {
					switch m.kind {
					case pglogrepl.MessageTypeBegin:
						inside = true
					case pglogrepl.MessageTypeCommit:
						inside = false
						if position < m.end {
							t.Fatalf("position %s, the commit at %s is forwarded", position, m.end)
						}
					}
				}
				if (inside || forwarded < len(all)) && position > lastEnd(all[:forwarded], q) {
					t.Fatalf("position %s lies beyond what is stored", position)
				}
			},
		})
	})
}

// lastEnd bounds the position while something waits: the first message that waits, or the
// begin of the transaction that is open, has not been confirmed.
func lastEnd(forwarded []message, q *queue) pglogrepl.LSN {
	bound := pglogrepl.LSN(1<<63 - 1)
	if rest := must(q.peek(q.head(), bounds{messages: 1, bytes: 1}, nil)); len(rest) > 0 {
		bound = rest[0].lsn
	}
	for i := len(forwarded) - 1; i >= 0 && forwarded[i].kind != pglogrepl.MessageTypeCommit; i-- {
		if forwarded[i].kind == pglogrepl.MessageTypeBegin {
			bound = forwarded[i].lsn
		}
	}
	return bound
}

// The storage of a queue is used again while messages are forwarded as they come, and holds none that
// were.
func TestQueueStorage(t *testing.T) {
	q := newQueue(bounds{messages: 1000, bytes: 1 << 20}, 0)
	for i := range 100_000 {
		if err := q.push(t.Context(), insertMessage(pglogrepl.LSN(i+1), 7, 10)); err != nil {
			t.Fatal(err)
		}
		if n := q.length(); n == 700 {
			q.release(q.head(), 300)
			if err := q.forward(300); err != nil {
				t.Fatal(err)
			}
			if m, err := q.peek(q.head(), bounds{1, 1 << 20}, nil); err != nil || m[0].lsn != pglogrepl.LSN(i+1-399) {
				t.Fatalf("the head is %v, %v, want %d", m, err, i+1-399)
			}
		}
	}
	if n := len(q.storage); n > 1024 {
		t.Errorf("700 messages are stored in places for %d", n)
	}
	held := 0
	for i := range q.storage {
		if q.storage[i].data != nil {
			held++
		}
	}
	if n := q.length(); held != n {
		t.Errorf("%d messages are held, of %d that wait", held, n)
	}
}
