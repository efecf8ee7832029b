package dbsync

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// decoder turns pgoutput messages into pglogrepl's types. The messages of rows are
// read here, without copies and into storage that the next message uses again: they
// are the hot path, and pglogrepl allocates per column and trusts every length. The
// rare other messages are left to pglogrepl.
//
// Format: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
type decoder struct {
	insert   pglogrepl.InsertMessage
	update   pglogrepl.UpdateMessage
	delete   pglogrepl.DeleteMessage
	old, new tuple
}

// decode returns the message in data, which is valid until the next call. A kind of
// message that the server may send and that concerns nobody here gives nil.
func (d *decoder) decode(data []byte) (pglogrepl.Message, error) {
	if len(data) == 0 {
		return nil, errShortMessage
	}
	kind := pglogrepl.MessageType(data[0])
	r := reader{data: data[1:]}
	switch kind {
	case pglogrepl.MessageTypeInsert:
		d.insert.RelationID = r.uint32()
		r.want('N')
		d.insert.Tuple = d.new.read(&r)
		d.insert.SetType(kind)
		return &d.insert, r.error(kind)
	case pglogrepl.MessageTypeUpdate:
		d.update.RelationID = r.uint32()
		d.update.OldTuple, d.update.OldTupleType = nil, pglogrepl.UpdateMessageTupleTypeNone
		t := r.byte()
		if t == pglogrepl.UpdateMessageTupleTypeKey || t == pglogrepl.UpdateMessageTupleTypeOld {
			d.update.OldTupleType = t
			d.update.OldTuple = d.old.read(&r)
			t = r.byte()
		}
		if t != pglogrepl.UpdateMessageTupleTypeNew {
			r.fail(fmt.Errorf("tuple of type %q where N is expected", t))
		}
		d.update.NewTuple = d.new.read(&r)
		d.update.SetType(kind)
		return &d.update, r.error(kind)
	case pglogrepl.MessageTypeDelete:
		d.delete.RelationID = r.uint32()
		d.delete.OldTupleType = r.byte()
		if t := d.delete.OldTupleType; t != pglogrepl.DeleteMessageTupleTypeKey && t != pglogrepl.DeleteMessageTupleTypeOld {
			r.fail(fmt.Errorf("tuple of type %q where K or O is expected", t))
		}
		d.delete.OldTuple = d.old.read(&r)
		d.delete.SetType(kind)
		return &d.delete, r.error(kind)
	case pglogrepl.MessageTypeTruncate:
		// pglogrepl makes room for as many tables as the message says before it looks.
		if n := int(r.uint32()); r.err == nil && len(r.data) != 1+4*n {
			return nil, fmt.Errorf("%s message is broken: %d bytes do not name %d tables", kind, len(data), n)
		}
		return parse(data)
	case pglogrepl.MessageTypeBegin, pglogrepl.MessageTypeCommit, pglogrepl.MessageTypeRelation, pglogrepl.MessageTypeMessage:
		return parse(data)
	case pglogrepl.MessageTypeType, pglogrepl.MessageTypeOrigin:
		return nil, nil // no row changes by them; type names come from the catalog
	}
	return nil, fmt.Errorf("message of unknown kind %q", data[0])
}

// parse is pglogrepl.Parse, which indexes without looking at lengths: what a broken
// message makes of that is an error here.
func parse(data []byte) (m pglogrepl.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			m, err = nil, fmt.Errorf("message of kind %q is broken: %v", data[0], r)
		}
	}()
	return pglogrepl.Parse(data)
}

// tuple is storage for one TupleData.
type tuple struct {
	data    pglogrepl.TupleData
	columns []pglogrepl.TupleDataColumn
}

// read reads a TupleData, which is valid until the next read.
func (t *tuple) read(r *reader) *pglogrepl.TupleData {
	n := int(r.uint16())
	if cap(t.columns) < n {
		t.columns = make([]pglogrepl.TupleDataColumn, n)
		t.data.Columns = make([]*pglogrepl.TupleDataColumn, n)
		for i := range t.columns {
			t.data.Columns[i] = &t.columns[i]
		}
	}
	t.columns = t.columns[:cap(t.columns)]
	t.data.ColumnNum = uint16(n)
	t.data.Columns = t.data.Columns[:n]
	for i := range n {
		c := &t.columns[i]
		c.DataType, c.Length, c.Data = r.byte(), 0, nil
		switch c.DataType {
		case pglogrepl.TupleDataTypeText, pglogrepl.TupleDataTypeBinary:
			c.Length = r.uint32()
			c.Data = r.bytes(int(c.Length))
		case pglogrepl.TupleDataTypeNull, pglogrepl.TupleDataTypeToast:
		default:
			r.fail(fmt.Errorf("column %d has data of unknown type %q", i+1, c.DataType))
		}
		if r.err != nil {
			t.data.Columns = t.data.Columns[:i]
			break
		}
	}
	return &t.data
}

// appendTuple appends a row in the form that tuple.read reads: the rows of a window
// are kept in it until the high watermark. A nil value is NULL.
func appendTuple(dst []byte, values [][]byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			dst = append(dst, pglogrepl.TupleDataTypeNull)
			continue
		}
		dst = append(dst, pglogrepl.TupleDataTypeText)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v)))
		dst = append(dst, v...)
	}
	return dst
}

// tupleSize returns how many bytes appendTuple appends for values.
func tupleSize(values [][]byte) int {
	n := 2
	for _, v := range values {
		n++
		if v != nil {
			n += 4 + len(v)
		}
	}
	return n
}

// reader reads a message and remembers the first thing that is wrong with it.
type reader struct {
	data []byte
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.data) {
		r.fail(errShortMessage)
		r.data = nil
		return nil
	}
	b := r.data[:n:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) want(b byte) {
	if got := r.byte(); got != b {
		r.fail(fmt.Errorf("tuple of type %q where %c is expected", got, b))
	}
}

func (r *reader) error(kind pglogrepl.MessageType) error {
	if r.err == nil && len(r.data) > 0 {
		r.err = errors.New("bytes are left over")
	}
	if r.err != nil {
		return fmt.Errorf("%s message is broken: %w", kind, r.err)
	}
	return nil
}
