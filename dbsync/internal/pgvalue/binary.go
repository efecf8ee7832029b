package pgvalue

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
)

// The binary forms are what the send functions of the types write, see
// src/backend/utils/adt in the source of Postgres. Each render function appends the text
// form to dst, as the type's output function prints it.

// maxText bounds the text of one value, as Postgres does: a few bytes of numeric can stand
// for 131,072 digits.
const maxText = 1 << 30

func renderText(dst, in []byte) ([]byte, bool) { return append(dst, in...), true }

// renderVersioned is for jsonb and jsonpath: a version number, then the text.
func renderVersioned(dst, in []byte) ([]byte, bool) {
	if len(in) == 0 || in[0] != 1 {
		return dst, false
	}
	return append(dst, in[1:]...), true
}

func renderBool(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	if w.uint8() != 0 {
		return append(dst, 't'), w.done()
	}
	return append(dst, 'f'), w.done()
}

// renderQChar writes the type "char": a byte, or nothing for zero.
func renderQChar(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	switch c := w.uint8(); {
	case c == 0:
	case c < 0x80:
		dst = append(dst, c)
	default:
		dst = append(dst, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
	}
	return dst, w.done()
}

func renderInt2(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return strconv.AppendInt(dst, int64(w.int16()), 10), w.done()
}

func renderInt4(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return strconv.AppendInt(dst, int64(w.int32()), 10), w.done()
}

func renderInt8(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return strconv.AppendInt(dst, w.int64(), 10), w.done()
}

func renderUint4(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return strconv.AppendUint(dst, uint64(w.uint32()), 10), w.done()
}

func renderUint8(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return strconv.AppendUint(dst, w.uint64(), 10), w.done()
}

func renderFloat4(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return appendFloat(dst, float64(math.Float32frombits(w.uint32())), 32), w.done()
}

func renderFloat8(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return appendFloat(dst, w.float64(), 64), w.done()
}

// appendFloat writes the shortest text that reads back as the same number, in the form of
// Postgres with extra_float_digits above 0.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	limit := 15 // from which decimal exponent on it is written with one
	if bits == 32 {
		limit = 6
	}
	text := strconv.FormatFloat(f, 'e', -1, bits)
	exponent, _ := strconv.Atoi(text[strings.IndexByte(text, 'e')+1:])
	if exponent < -4 || exponent >= limit {
		return append(dst, text...)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, bits)
}

func renderNumeric(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	count, weight, sign, scale := int(w.uint16()), int(w.int16()), w.uint16(), int(w.uint16())
	if w.short || len(w.in) != 2*count {
		return dst, false
	}
	switch sign {
	case 0x0000:
	case 0x4000:
		dst = append(dst, '-')
	case 0xC000:
		return append(dst, "NaN"...), true
	case 0xD000:
		return append(dst, "Infinity"...), true
	case 0xF000:
		return append(dst, "-Infinity"...), true
	default:
		return dst, false
	}
	// The digits are of base 10000; the first one has the weight 10000^weight.
	digits := make([]int16, count)
	for i := range digits {
		if digits[i] = w.int16(); digits[i] < 0 || digits[i] > 9999 {
			return dst, false
		}
	}
	digit := func(i int) int {
		if i < 0 || i >= count {
			return 0
		}
		return int(digits[i])
	}
	if weight < 0 {
		dst = append(dst, '0')
	} else {
		dst = strconv.AppendInt(dst, int64(digit(0)), 10)
	}
	for i := 1; i <= weight; i++ {
		dst = appendPadded(dst, digit(i), 4)
	}
	if scale == 0 {
		return dst, true
	}
	dst = append(dst, '.')
	end := len(dst) + scale
	for i := weight + 1; len(dst) < end; i++ {
		dst = appendPadded(dst, digit(i), 4)
	}
	return dst[:end], true
}

// appendPadded writes n with leading zeros to at least so many digits.
func appendPadded(dst []byte, n, digits int) []byte {
	for limit := 10; digits > 1; digits-- {
		if n < limit {
			dst = append(dst, "000000"[:digits-1]...)
			break
		}
		limit *= 10
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

// renderMoney writes what lc_monetary C prints, "-$1,234.50". Every other locale has its
// own number of fraction digits, which the binary form does not tell.
func renderMoney(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	cents := w.int64()
	magnitude := uint64(cents)
	if cents < 0 {
		dst = append(dst, '-')
		magnitude = -magnitude // also right for the smallest int64
	}
	dst = append(dst, '$')
	whole := strconv.FormatUint(magnitude/100, 10)
	for i := range len(whole) {
		if i > 0 && (len(whole)-i)%3 == 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, whole[i])
	}
	return appendPadded(append(dst, '.'), int(magnitude%100), 2), w.done()
}

func renderBytea(dst, in []byte) ([]byte, bool) {
	return hex.AppendEncode(append(dst, `\x`...), in), true
}

func renderUUID(dst, in []byte) ([]byte, bool) {
	if len(in) != 16 {
		return dst, false
	}
	for i, size := range []int{4, 2, 2, 2, 6} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, in[:size])
		in = in[size:]
	}
	return dst, true
}

func renderBits(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	count := int(w.int32())
	if w.short || count < 0 || len(w.in) != (count+7)/8 {
		return dst, false
	}
	for i := range count {
		dst = append(dst, '0'+w.in[i/8]>>(7-i%8)&1)
	}
	return dst, true
}

func renderTID(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	dst = strconv.AppendUint(append(dst, '('), uint64(w.uint32()), 10)
	dst = strconv.AppendUint(append(dst, ','), uint64(w.uint16()), 10)
	return append(dst, ')'), w.done()
}

func renderLSN(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return append(dst, pglogrepl.LSN(w.uint64()).String()...), w.done()
}

// renderSnapshot writes "xmin:xmax:xid,xid".
func renderSnapshot(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	count := int(w.int32())
	dst = append(strconv.AppendUint(dst, w.uint64(), 10), ':')
	dst = append(strconv.AppendUint(dst, w.uint64(), 10), ':')
	if w.short || len(w.in)/8 != count {
		return dst, false
	}
	for i := range count {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, w.uint64(), 10)
	}
	return dst, w.done()
}
