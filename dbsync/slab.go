package dbsync

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jackc/pglogrepl"
)

// slabSize is the size of the pieces of storage that many small byte slices are cut from: with its
// counter a slab takes 64 KiB, which is what the runtime has whole pages for.
const slabSize = 64<<10 - 8

// inSlab reports whether n bytes are cut from a slab, and not given storage of their own.
func inSlab(n int) bool { return n <= slabSize/4 }

// A slab is storage for messages, or for rows of a window, and goes back to slabPool when the last one
// has been dropped. These are more bytes than everything else that is allocated: they are not left to
// the garbage collector.
type slab struct {
	users atomic.Int32 // messages, and who still cuts from it
	bytes [slabSize]byte
}

var slabPool = sync.Pool{New: func() any { return new(slab) }}

// drop says that one of the users uses it no more. nil has none.
func (s *slab) drop() {
	if s != nil && s.users.Add(-1) == 0 {
		slabPool.Put(s)
	}
}

// messageStorage is where what a stream receives is copied to.
type messageStorage struct {
	slab *slab // that is cut from, or nil
	used int   // bytes of it
}

// copy returns a copy of data, and the slab that it is in: nil for one that is large. The slab is
// to be dropped once.
func (m *messageStorage) copy(data []byte) ([]byte, *slab) {
	n := len(data)
	if !inSlab(n) {
		return append([]byte(nil), data...), nil
	}
	if m.slab == nil || n > slabSize-m.used {
		m.close()
		m.slab, m.used = slabPool.Get().(*slab), 0
		m.slab.users.Store(1)
	}
	dst := m.slab.bytes[m.used : m.used+n : m.used+n]
	m.used += n
	m.slab.users.Add(1)
	copy(dst, data)
	return dst, m.slab
}

// close ends the cutting.
func (m *messageStorage) close() {
	m.slab.drop()
	m.slab = nil
}

// rowStorage is where the rows of a window are kept, in the form that tuple.read reads.
type rowStorage struct {
	pieces []rowPiece
	count  int // rows
	at     int // where the last row begins in the last piece
}

// A rowPiece has rows one behind the other, or a large one alone.
type rowPiece struct {
	data []byte
	slab *slab // that data is in; nil: in storage of its own
}

// add adds a row of n bytes, see tupleSize.
func (r *rowStorage) add(values [][]byte, n int) {
	r.count++
	if !inSlab(n) {
		r.at = 0
		r.pieces = append(r.pieces, rowPiece{data: appendTuple(make([]byte, 0, n), values)})
		return
	}
	last := len(r.pieces) - 1
	if last < 0 || r.pieces[last].slab == nil || cap(r.pieces[last].data)-len(r.pieces[last].data) < n {
		slab := slabPool.Get().(*slab)
		slab.users.Store(1)
		r.pieces = append(r.pieces, rowPiece{slab.bytes[:0], slab})
		last++
	}
	r.at = len(r.pieces[last].data)
	r.pieces[last].data = appendTuple(r.pieces[last].data, values)
}

// each calls f with every row, which is valid until f returns.
func (r *rowStorage) each(f func(row *pglogrepl.TupleData) error) error {
	var t tuple
	for _, piece := range r.pieces {
		for in := (reader{data: piece.data}); len(in.data) > 0; {
			row := t.read(&in)
			if in.err != nil {
				return fmt.Errorf("row of a window: %w", in.err)
			}
			if err := f(row); err != nil {
				return err
			}
		}
	}
	return nil
}

// last returns the last row. There must be one.
func (r *rowStorage) last() []byte { return r.pieces[len(r.pieces)-1].data[r.at:] }

// free lets go of all rows.
func (r *rowStorage) free() {
	for _, piece := range r.pieces {
		piece.slab.drop()
	}
	*r = rowStorage{}
}
