package dbsync

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgproto3"
)

// WithMaxRowBytes bounds how much memory one row takes, in bytes, 64 KiB to 1 GiB - 1. The default
// is what Postgres allows, nearly 1 GiB.
//
// Of a change in the stream that is larger than 4 MiB, whatever n is, values of more than 64 KiB are
// never held: they are left out as large values are that did not change, which the message does not
// have either ([UnchangedError]). Such a row has to be read from its table. A message of
// pg_logical_emit_message of that size comes without its content.
//
// A row of a select that is larger than n ends the statement with a [*RowTooLargeError]. A
// statement finds out by octet_length, and leaves such values out itself.
func WithMaxRowBytes(n int) SyncerOpt {
	return func(s *Syncer) error {
		if n < keptValue || n >= 1<<30 {
			return fmt.Errorf("WithMaxRowBytes(%d): want %d to %d", n, keptValue, 1<<30-1)
		}
		s.maxRow = n
		return nil
	}
}

// cutBytes is the size of a message from which on it is cut. It does not depend on anything: groups
// are made by the sizes of messages, and have to be the same when a transaction comes again.
const cutBytes = batchBytes

// keptValue is up to which size a value of a change is never left out. Keys are smaller: an entry
// of a btree index has 2.7 kB.
const keptValue = 64 << 10

// A RowTooLargeError reports that a row of a select is larger than [WithMaxRowBytes] lets in. It is
// inside of a [*RowError].
type RowTooLargeError struct {
	Bytes, Max int
	Err        error
}

func (e *RowTooLargeError) Error() string {
	return fmt.Sprintf("a row of the result has %d bytes, and %d are read at the most", e.Bytes, e.Max)
}

func (e *RowTooLargeError) Unwrap() error { return e.Err }

// tooLargeRow makes a [*RowError] of an error that tells of a [*RowTooLargeError].
func tooLargeRow(err error) error {
	if e, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err); ok && !IsRowError(err) {
		return &RowError{&RowTooLargeError{Bytes: e.ActualBodyLen, Max: e.MaxExpectedBodyLen, Err: err}}
	}
	return err
}

// A valueCutter stands between a replication connection and what reads its messages, and leaves
// large values out of changes before anybody has made room for them: a message may have a GiB.
type valueCutter struct {
	in    *bufio.Reader
	limit int    // messages up to this size are handed on as they are
	pass  int    // bytes of the message under way that are handed on as they come
	out   []byte // of a message that was cut, and not yet handed on
	buf   []byte // storage of out
	left  int    // bytes of the message that is being cut, and not read
	err   error  // what is wrong with it
}

func newValueCutter(in io.Reader, limit int) *valueCutter {
	return &valueCutter{in: bufio.NewReaderSize(in, 64<<10), limit: limit}
}

const (
	frameHeader = 5  // Byte1 type, Int32 length, which counts itself
	walHeader   = 25 // Byte1('w') Int64 start, Int64 end, Int64 time
)

// Read hands on what is there, and waits only while that is nothing.
func (c *valueCutter) Read(p []byte) (n int, err error) {
	for n < len(p) {
		switch {
		case len(c.out) > 0:
			k := copy(p[n:], c.out)
			c.out, n = c.out[k:], n+k
		case c.pass > 0 && (n == 0 || c.in.Buffered() > 0):
			k, err := c.in.Read(p[n:min(len(p), n+c.pass)])
			c.pass, n = c.pass-k, n+k
			if err != nil {
				return n, err
			}
		case c.pass == 0 && (n == 0 || c.in.Buffered() >= frameHeader):
			if err := c.begin(); err != nil {
				return n, err
			}
		default:
			return n, nil
		}
	}
	return n, nil
}

// buffered returns how many bytes can be read without waiting, of one message or of several.
func (c *valueCutter) buffered() int { return len(c.out) + c.in.Buffered() }

// begin looks at the next message, and cuts it if it is a large one.
func (c *valueCutter) begin() error {
	header, err := c.in.Peek(frameHeader)
	if err != nil {
		if len(header) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	c.left = int(int32(binary.BigEndian.Uint32(header[1:]))) - 4
	c.pass = frameHeader + max(c.left, 0)
	if header[0] != 'd' || c.left <= c.limit || c.left <= walHeader {
		return nil
	}
	if header, err = c.in.Peek(frameHeader + walHeader + 1); err != nil {
		return err
	}
	if header[frameHeader] != pglogrepl.XLogDataByteID {
		return nil
	}
	kind := pglogrepl.MessageType(header[frameHeader+walHeader])
	switch kind {
	case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeUpdate, pglogrepl.MessageTypeDelete, pglogrepl.MessageTypeMessage:
	default:
		return nil
	}
	if c.buf = c.buf[:0]; cap(c.buf) > maxKeptBuffer {
		c.buf = nil
	}
	c.pass, c.left = 0, c.left+frameHeader // which the length does not count
	c.take(frameHeader + walHeader + 1)
	c.cut(kind)
	if c.err == nil && c.left > 0 {
		c.err = errors.New("bytes are left over")
	}
	if c.err != nil {
		return fmt.Errorf("%s message is broken: %w", kind, c.err)
	}
	binary.BigEndian.PutUint32(c.buf[1:], uint32(len(c.buf)-1))
	c.out = c.buf
	return nil
}

// maxKeptBuffer is the size from which on the storage for a message is not kept.
const maxKeptBuffer = 1 << 20

// cut copies what is kept of a message to buf.
//
// Format: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
func (c *valueCutter) cut(kind pglogrepl.MessageType) {
	if kind == pglogrepl.MessageTypeMessage {
		c.take(1 + 8) // flags, LSN
		c.prefix()
		n := c.length()
		c.skip(n)
		c.buf = binary.BigEndian.AppendUint32(c.buf, 0)
		return
	}
	c.take(4) // the relation's oid
	switch c.byte() {
	case pglogrepl.UpdateMessageTupleTypeKey, pglogrepl.UpdateMessageTupleTypeOld:
		c.tuple()
		if kind == pglogrepl.MessageTypeUpdate {
			c.take(1) // N
			c.tuple()
		}
	default:
		c.tuple()
	}
}

// tuple copies a TupleData without its large values.
func (c *valueCutter) tuple() {
	b := c.take(2)
	if c.err != nil {
		return
	}
	for range binary.BigEndian.Uint16(b) {
		at := len(c.buf)
		kind := c.byte()
		if c.err != nil {
			return
		}
		if kind != pglogrepl.TupleDataTypeText && kind != pglogrepl.TupleDataTypeBinary {
			continue
		}
		n := c.length()
		if n > keptValue {
			c.buf[at] = pglogrepl.TupleDataTypeToast
			c.skip(n)
			continue
		}
		c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(n))
		c.take(n)
	}
}

// prefix copies the name of who has emitted a message, as far as it is one.
func (c *valueCutter) prefix() {
	for n := 0; c.err == nil; n++ {
		b := c.byte()
		if n >= keptValue && b != 0 {
			c.buf = c.buf[:len(c.buf)-1]
		}
		if b == 0 {
			return
		}
	}
}

// take copies the next n bytes to buf, and returns them there; nil after an error.
func (c *valueCutter) take(n int) []byte {
	if c.err == nil && (n < 0 || n > c.left) {
		c.err = errShortMessage
	}
	if c.err != nil {
		return nil
	}
	at := len(c.buf)
	c.buf = slices.Grow(c.buf, n)[:at+n]
	_, c.err = io.ReadFull(c.in, c.buf[at:])
	c.left -= n
	return c.buf[at:]
}

// byte copies a byte to buf.
func (c *valueCutter) byte() byte {
	if b := c.take(1); c.err == nil {
		return b[0]
	}
	return 0
}

// length reads an Int32, and does not copy it.
func (c *valueCutter) length() int {
	b := c.take(4)
	if c.err != nil {
		return 0
	}
	c.buf = c.buf[:len(c.buf)-4]
	return int(int32(binary.BigEndian.Uint32(b)))
}

// skip leaves out the next n bytes.
func (c *valueCutter) skip(n int) {
	if c.err == nil && (n < 0 || n > c.left) {
		c.err = errShortMessage
	}
	if c.err != nil {
		return
	}
	_, c.err = c.in.Discard(n)
	c.left -= n
}
