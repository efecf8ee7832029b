package dbsync

import (
	"sync"
	"sync/atomic"
)

// slabSize is the size of the pieces of storage that many small byte slices are cut from.
const slabSize = 64 << 10

// inSlab reports whether n bytes are cut from a slab, and not given storage of their own.
func inSlab(n int) bool { return n <= slabSize/4 }

// slabs gives out byte slices cut from larger ones, so that a row costs no allocation of its own. A
// slab is freed when nothing of it is in use.
type slabs struct{ rest []byte }

func (s *slabs) alloc(n int) []byte {
	if !inSlab(n) {
		return make([]byte, n)
	}
	if n > len(s.rest) {
		s.rest = make([]byte, slabSize)
	}
	dst := s.rest[:n:n]
	s.rest = s.rest[n:]
	return dst
}

// A slab is storage for messages, and goes back to slabPool when the last one has been dropped. The
// stream brings more bytes than everything else that is allocated: it is not left to the garbage
// collector.
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
