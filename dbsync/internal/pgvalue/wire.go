package pgvalue

import (
	"bytes"
	"encoding/binary"
	"math"
)

// A wire reads the fields of a binary form. After a read beyond the end all reads give
// zero, and done gives false.
type wire struct {
	in    []byte
	short bool
}

func (w *wire) next(n int) []byte {
	if w.short || n < 0 || n > len(w.in) {
		w.short = true
		return nil
	}
	field := w.in[:n:n]
	w.in = w.in[n:]
	return field
}

func (w *wire) uint8() uint8 {
	if b := w.next(1); b != nil {
		return b[0]
	}
	return 0
}

func (w *wire) uint16() uint16 {
	if b := w.next(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (w *wire) uint32() uint32 {
	if b := w.next(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (w *wire) uint64() uint64 {
	if b := w.next(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (w *wire) int16() int16     { return int16(w.uint16()) }
func (w *wire) int32() int32     { return int32(w.uint32()) }
func (w *wire) int64() int64     { return int64(w.uint64()) }
func (w *wire) float64() float64 { return math.Float64frombits(w.uint64()) }

// cstring reads up to the next zero byte, and that byte.
func (w *wire) cstring() []byte {
	s := w.next(bytes.IndexByte(w.in, 0)) // -1 is short
	w.next(1)
	return s
}

// done reports whether everything was there and nothing is left.
func (w *wire) done() bool { return !w.short && len(w.in) == 0 }
