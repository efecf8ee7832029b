package dbsync

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/sourcegraph/conc"
)

const (
	// statusInterval is how often the server hears from us, whether or not a position
	// moved. The server ends a connection that was silent for wal_sender_timeout, 60 s.
	statusInterval = 10 * time.Second

	// idleStatuses is after how many of them an idle slot advances, which writes to the database.
	idleStatuses = 2

	// silenceLimit is how long the server may be silent, although it is asked for an
	// answer with every status, before the connection counts as broken.
	silenceLimit = 60 * time.Second

	// confirmInterval is the least time between two positions that are confirmed. Each
	// costs one update in the control schema.
	confirmInterval = time.Second

	// announceEvery is how many messages are received at most before who works on them is told.
	announceEvery = 256

	// writeTimeout bounds the sending of a status.
	writeTimeout = 20 * time.Second

	// closeTimeout bounds the wait for the server when a stream is closed.
	closeTimeout = time.Second
)

// notes is what a stream needs of the database beside its own connection.
type notes interface {
	// record notes a position durably, before the server is told of it.
	record(ctx context.Context, position pglogrepl.LSN) error
	// look finds out where the server's log ends.
	look(ctx context.Context) error
}

// stream receives what one replication connection brings. Its two goroutines, the reader
// and the confirmer, are started by startStream and waited for by close.
type stream struct {
	streamOptions
	conn    net.Conn
	front   *pgproto3.Frontend
	in      *valueCutter // that front reads from
	cancel  context.CancelCauseFunc
	workers conc.WaitGroup

	pid       uint32        // of the server's process that sends
	write     sync.Mutex    // for writing to conn
	confirmed atomic.Uint64 // what the server was told, an LSN
	received  atomic.Uint64 // counts what came from the server
	flush     chan chan error
	ended     <-chan struct{}
}

// streamOptions say what a stream receives, and where it goes.
type streamOptions struct {
	slot, publication string
	messages          bool          // of pg_logical_emit_message are wanted
	known             pglogrepl.LSN // up to which the server knows that everything is stored
	queue             *queue        // the stream begins at its position
	groups            bounds        // of one group of changes
	awaited           func() bool   // whether somebody waits for a place in the stream
	lag               *lag
	notes             notes
	log               *slog.Logger
}

// startStream begins to receive from a slot. It takes conn over. The caller closes the stream.
func startStream(ctx context.Context, conn *replicationConn, o streamOptions) (*stream, error) {
	args := []string{"proto_version '1'", fmt.Sprintf("publication_names '%s'", quotePublication(o.publication))}
	if o.messages {
		args = append(args, "messages 'true'")
	}
	// What is stored already and was not confirmed is skipped: the server takes the later
	// one of this position and its own.
	err := pglogrepl.StartReplication(ctx, conn.PgConn, o.slot, o.queue.position(), pglogrepl.StartReplicationOptions{Mode: pglogrepl.LogicalReplication, PluginArgs: args})
	if err != nil {
		conn.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("start replication from slot %s: %w", o.slot, err)
	}
	// From here on the connection is read by one goroutine and written by another, and
	// pgconn, which watches a context per message, would only be in the way.
	hijacked, err := conn.Hijack()
	if err != nil {
		return nil, fmt.Errorf("start replication from slot %s: %w", o.slot, err)
	}
	if err := hijacked.Conn.SetDeadline(time.Time{}); err != nil {
		hijacked.Conn.Close()
		return nil, fmt.Errorf("start replication from slot %s: %w", o.slot, err)
	}
	run, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &stream{streamOptions: o, conn: hijacked.Conn, front: hijacked.Frontend, in: conn.in, pid: hijacked.PID, cancel: cancel, flush: make(chan chan error), ended: run.Done()}
	// Not more than that: what was stored over an earlier connection is noted before the
	// server is told.
	s.confirmed.Store(uint64(o.known))
	if o.queue.position() > o.known {
		signal(o.queue.moved)
	}
	s.workers.Go(func() { s.end(s.read(run)) })
	s.workers.Go(func() { s.end(s.confirm(run)) })
	return s, nil
}

// quotePublication quotes a publication's name as pgoutput's option publication_names
// wants it, an identifier within a string literal.
func quotePublication(name string) string {
	quoted := quoteIdent(name)
	out := make([]byte, 0, len(quoted))
	for i := range len(quoted) {
		if quoted[i] == '\'' {
			out = append(out, '\'')
		}
		out = append(out, quoted[i])
	}
	return string(out)
}

// end ends the stream. What is in the queue stays there, followed by err.
func (s *stream) end(err error) {
	s.queue.fail(err)
	s.cancel(err)
	s.conn.Close()
}

// errStreamClosed ends a stream that its owner closed.
var errStreamClosed = errors.New("stream was closed")

// close ends the stream and waits for its goroutines.
//
// A connection that is closed with something unread is reset, which may take from the
// server what it was told last. So we say that nothing more comes, and read on until the
// server, which has read that, closes its side: then the slot is free, too.
func (s *stream) close() {
	s.queue.fail(errStreamClosed)
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok && s.alive() && c.CloseWrite() == nil {
		select {
		case <-s.ended:
		case <-time.After(closeTimeout):
		}
	}
	s.end(errStreamClosed)
	s.workers.Wait()
}

// alive reports whether the stream still receives.
func (s *stream) alive() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// read puts what the server sends into the queue, until the connection ends.
func (s *stream) read(ctx context.Context) error {
	var storage messageStorage
	defer storage.close()
	var xid uint32
	groups := grouper{max: s.groups}
	var committed pglogrepl.LSN // the end of the last transaction
	unannounced := 0            // messages that are in the queue
	pace := newPace()
	defer pace.stop()
	for {
		if s.drained() {
			if err := pace.wait(ctx, s.awaited); err != nil {
				return err
			}
		}
		received, err := s.front.Receive()
		s.received.Add(1)
		if err != nil {
			return fmt.Errorf("read the replication stream: %w", closedReason(err))
		}
		var data []byte
		switch m := received.(type) {
		case *pgproto3.CopyData:
			data = m.Data
		case *pgproto3.ErrorResponse:
			if m.Code == "42704" { // undefined_object
				return s.unpublished(m.Message)
			}
			refused := pgconn.ErrorResponseToPgError(m)
			if isRowState(m.Code) {
				return fmt.Errorf("read the replication stream: %w", &undecodableError{refused})
			}
			return fmt.Errorf("read the replication stream: %w", refused)
		case *pgproto3.NoticeResponse:
			// object_not_in_prerequisite_state, which is also what is said of a standby that holds up
			// the stream, see StandbyWait. The text is in the server's language.
			if m.Code == "55000" && m.File == "pgoutput.c" {
				return s.unpublished(m.Message)
			}
			s.log.Debug("the server remarks", "slot", s.slot, "severity", m.Severity, "message", withheldMessage(m.Message, m.Code, m.Routine))
			continue
		case *pgproto3.CopyDone:
			return errors.New("read the replication stream: the server has ended it")
		default:
			continue // parameters
		}
		if len(data) == 0 {
			return fmt.Errorf("read the replication stream: %w", errShortMessage)
		}
		switch data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
			if err != nil {
				return fmt.Errorf("read the replication stream: %w", err)
			}
			s.lag.hear(time.Now(), k.ServerWALEnd)
			s.queue.keepalive(k.ServerWALEnd, s.drained())
			pace.atEnd()
			if k.ReplyRequested {
				if err := s.sendStatus(noReply); err != nil {
					return err
				}
			}
		case pglogrepl.XLogDataByteID:
			x, err := pglogrepl.ParseXLogData(data[1:])
			if err != nil {
				return fmt.Errorf("read the replication stream: %w", err)
			}
			data, slab := storage.copy(x.WALData)
			m, err := newMessage(x.WALStart, xid, data)
			m.slab = slab
			if err != nil {
				return fmt.Errorf("read the replication stream at %s: %w", x.WALStart, err)
			}
			xid = m.xid
			pace.received()
			groups.add(&m)
			if err := s.queue.push(ctx, m); err != nil {
				return err
			}
			// Nothing can be done with a part of a group, and while more is there to be read the next
			// message may as well be the one that tells.
			if m.kind == pglogrepl.MessageTypeCommit {
				committed = m.end
			}
			if unannounced++; m.endsGroup() && s.drained() || unannounced >= announceEvery {
				if committed > 0 {
					s.lag.hear(time.Now(), committed)
				}
				s.queue.announce()
				unannounced = 0
			}
		default:
			return fmt.Errorf("read the replication stream: message of unknown kind %q", data[0])
		}
	}
}

// drained reports whether nothing is there to be read without waiting.
func (s *stream) drained() bool { return s.front.ReadBufferLen()+s.in.buffered() == 0 }

// An undecodableError is what Postgres says when it can make no message of a change. Nothing that
// is asked for is wrong, so it is tried again, whatever the state: memory may suffice next time,
// and who waits for the change is told by Status. It does not unwrap, see [IsPermanent].
type undecodableError struct{ refused *pgconn.PgError }

func (e *undecodableError) Error() string { return e.text(e.refused.Error()) }

// WithoutValues is the error for logs, see the function of that name.
func (e *undecodableError) WithoutValues() string { return e.text(WithoutValues(e.refused)) }

func (e *undecodableError) text(refused string) string {
	return fmt.Sprintf("Postgres cannot decode a change: %s; hint: if a value is too large (a bytea takes twice its size, 1 GB at most), and no document needs its column, "+
		"have the publication leave it out; then drop the slot, and start with on_slot_lost: reindex", refused)
}

// unpublished is what comes of a publication that did not exist at this point of the log:
// Postgres 18 warns and skips the changes, older ones refuse to go on. The slot stands
// before that point, so a new process comes to the same end.
func (s *stream) unpublished(message string) error {
	return &SlotLostError{Slot: s.slot, Reason: "its changes cannot be read: " + message, Confirmed: s.queue.position()}
}

// closedReason makes a plain sentence of how a connection ends.
func closedReason(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("the connection was closed: %w", err)
	}
	return err
}

// confirm sends the server the position whenever it moved, and from time to time a sign
// that this process lives. It ends a connection on which the server gives none.
func (s *stream) confirm(ctx context.Context) error {
	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()
	moved := s.queue.moved // nil until confirmInterval is over
	pause := time.NewTimer(confirmInterval)
	defer pause.Stop()
	var heard uint64
	var silent time.Duration
	statuses := 0 // since the position was last confirmed
	for {
		var flushed chan error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-moved:
			moved = nil
			pause.Reset(confirmInterval)
		case <-pause.C:
			moved = s.queue.moved
			continue
		case <-ticker.C:
			if now := s.received.Load(); now != heard || s.queue.isFull() {
				heard, silent = now, 0
			} else if silent += statusInterval; silent >= silenceLimit {
				return fmt.Errorf("read the replication stream: the server has been silent for %s", silent)
			}
			if err := s.sendStatus(replyWanted); err != nil {
				return err
			}
			if statuses++; statuses < idleStatuses {
				if err := s.look(ctx); err != nil {
					return err
				}
				continue
			}
			// Falls through to a position that moved while nothing came.
		case flushed = <-s.flush:
		}
		statuses = 0
		err := s.advance(ctx)
		if flushed != nil {
			flushed <- err
		}
		if err != nil {
			return err
		}
	}
}

// look finds out where the server is.
func (s *stream) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statusInterval/2)
	defer cancel()
	return s.notes.look(ctx)
}

// advance confirms the position if it moved, and finds out where the server is.
func (s *stream) advance(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statusInterval/2)
	defer cancel()
	position := s.queue.position()
	if uint64(position) <= s.confirmed.Load() {
		return s.notes.look(ctx)
	}
	// Noted first: a crash between the two leaves a slot behind the note, which is how it
	// may be. A slot ahead of the note would look like one that somebody else has moved.
	if err := s.notes.record(ctx, position); err != nil {
		return err
	}
	s.confirmed.Store(uint64(position))
	return s.sendStatus(noReply)
}

// confirmNow has the position confirmed without waiting for the interval.
func (s *stream) confirmNow(ctx context.Context) error {
	done := make(chan error, 1)
	select {
	case s.flush <- done:
		return <-done // advance has a bound of its own
	case <-s.ended:
		return errStreamClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reply says whether the server is to answer a status.
type reply byte

const (
	noReply     reply = 0
	replyWanted reply = 1
)

// sendStatus sends the server the confirmed position, from where on it keeps the log.
func (s *stream) sendStatus(r reply) error {
	const pgEpoch = 946_684_800_000_000 // microseconds from 1970 to 2000
	lsn := s.confirmed.Load()
	status := make([]byte, 0, 34)
	status = append(status, pglogrepl.StandbyStatusUpdateByteID)
	for range 3 { // written, flushed, applied
		status = binary.BigEndian.AppendUint64(status, lsn)
	}
	status = binary.BigEndian.AppendUint64(status, uint64(time.Now().UnixMicro()-pgEpoch))
	status = append(status, byte(r))
	buf, err := (&pgproto3.CopyData{Data: status}).Encode(nil)
	if err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("send status: %w", closedReason(err))
	}
	if _, err := s.conn.Write(buf); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("send status: the server has not taken it for %s: %w", writeTimeout, err)
		}
		return fmt.Errorf("send status: %w", closedReason(err))
	}
	return nil
}
