package pgvalue

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
)

// The binary forms are what the send functions of the types write, see
// src/backend/utils/adt in the source of Postgres. Each render function appends the text
// form to dst, as the type's output function prints it.

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

// Postgres counts days and microseconds from 2000-01-01; the extreme values are the
// infinities.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func renderDate(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	days := w.int32()
	switch days {
	case math.MaxInt32:
		return append(dst, "infinity"...), w.done()
	case math.MinInt32:
		return append(dst, "-infinity"...), w.done()
	}
	date := postgresEpoch.AddDate(0, 0, int(days))
	dst, isBC := appendDate(dst, date)
	return appendEra(dst, isBC), w.done()
}

func renderTimestamp(dst, in []byte) ([]byte, bool)   { return appendTimestamp(dst, in, "") }
func renderTimestamptz(dst, in []byte) ([]byte, bool) { return appendTimestamp(dst, in, "+00") }

func appendTimestamp(dst, in []byte, zone string) ([]byte, bool) {
	w := wire{in: in}
	micros := w.int64()
	switch micros {
	case math.MaxInt64:
		return append(dst, "infinity"...), w.done()
	case math.MinInt64:
		return append(dst, "-infinity"...), w.done()
	}
	const day = 24 * 60 * 60 * 1_000_000
	days, rest := micros/day, micros%day
	if rest < 0 {
		days, rest = days-1, rest+day
	}
	dst, isBC := appendDate(dst, postgresEpoch.AddDate(0, 0, int(days)))
	dst = appendClock(append(dst, ' '), uint64(rest))
	return appendEra(append(dst, zone...), isBC), w.done()
}

func appendDate(dst []byte, date time.Time) (out []byte, isBC bool) {
	year, month, day := date.Date()
	if isBC = year < 1; isBC {
		year = 1 - year
	}
	dst = append(appendPadded(dst, year, 4), '-')
	dst = append(appendPadded(dst, int(month), 2), '-')
	return appendPadded(dst, day, 2), isBC
}

func appendEra(dst []byte, isBC bool) []byte {
	if isBC {
		return append(dst, " BC"...)
	}
	return dst
}

// appendClock writes "15:04:05.25": at least two digits of hours, and the fraction without
// trailing zeros.
func appendClock(dst []byte, micros uint64) []byte {
	seconds := micros / 1_000_000
	dst = append(appendPadded(dst, int(seconds/3600), 2), ':')
	dst = append(appendPadded(dst, int(seconds/60%60), 2), ':')
	dst = appendPadded(dst, int(seconds%60), 2)
	if fraction := micros % 1_000_000; fraction != 0 {
		dst = appendPadded(append(dst, '.'), int(fraction), 6)
		dst = bytes.TrimRight(dst, "0")
	}
	return dst
}

const maxTime = 24 * 60 * 60 * 1_000_000 // 24:00:00 is a valid time

func renderTime(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	micros := w.uint64()
	return appendClock(dst, micros), w.done() && micros <= maxTime
}

func renderTimetz(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	micros, west := w.uint64(), int(w.int32())
	if !w.done() || micros > maxTime || west < -86400 || west > 86400 {
		return dst, false
	}
	dst = appendClock(dst, micros)
	sign, offset := byte('+'), -west
	if offset < 0 {
		sign, offset = '-', west
	}
	dst = appendPadded(append(dst, sign), offset/3600, 2)
	if offset%3600 != 0 {
		dst = appendPadded(append(dst, ':'), offset/60%60, 2)
	}
	if offset%60 != 0 {
		dst = appendPadded(append(dst, ':'), offset%60, 2)
	}
	return dst, true
}

// renderInterval writes IntervalStyle postgres: "1 year -2 mons +3 days -04:05:06".
func renderInterval(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	micros, days, months := w.int64(), w.int32(), w.int32()
	if !w.done() {
		return dst, false
	}
	switch {
	case micros == math.MaxInt64 && days == math.MaxInt32 && months == math.MaxInt32:
		return append(dst, "infinity"...), true
	case micros == math.MinInt64 && days == math.MinInt32 && months == math.MinInt32:
		return append(dst, "-infinity"...), true
	}
	start, afterNegative := len(dst), false
	for _, part := range []struct {
		value int32
		unit  string
	}{{months / 12, " year"}, {months % 12, " mon"}, {days, " day"}} {
		if part.value == 0 {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		if afterNegative && part.value > 0 {
			dst = append(dst, '+')
		}
		dst = append(strconv.AppendInt(dst, int64(part.value), 10), part.unit...)
		if part.value != 1 {
			dst = append(dst, 's')
		}
		afterNegative = part.value < 0
	}
	if micros == 0 && len(dst) > start {
		return dst, true
	}
	if len(dst) > start {
		dst = append(dst, ' ')
	}
	magnitude := uint64(micros)
	switch {
	case micros < 0:
		dst = append(dst, '-')
		magnitude = -magnitude // also right for the smallest int64
	case afterNegative:
		dst = append(dst, '+')
	}
	return appendClock(dst, magnitude), true
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

func renderInet(dst, in []byte) ([]byte, bool) { return appendNetwork(dst, in, false) }
func renderCIDR(dst, in []byte) ([]byte, bool) { return appendNetwork(dst, in, true) }

func appendNetwork(dst, in []byte, isCIDR bool) ([]byte, bool) {
	w := wire{in: in}
	family, bits := w.uint8(), int(w.uint8())
	w.uint8() // whether it is a cidr: the column's type says so
	raw := w.next(int(w.uint8()))
	addr, ok := netip.AddrFromSlice(raw)
	if !ok || !w.done() || addr.Is4() != (family == 2) || bits > addr.BitLen() {
		return dst, false
	}
	dst = addr.AppendTo(dst)
	if isCIDR || bits < addr.BitLen() {
		dst = strconv.AppendInt(append(dst, '/'), int64(bits), 10)
	}
	return dst, true
}

func renderMACAddr(dst, in []byte) ([]byte, bool)  { return appendMAC(dst, in, 6) }
func renderMACAddr8(dst, in []byte) ([]byte, bool) { return appendMAC(dst, in, 8) }

func appendMAC(dst, in []byte, size int) ([]byte, bool) {
	if len(in) != size {
		return dst, false
	}
	for i := range in {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = hex.AppendEncode(dst, in[i:i+1])
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

// appendPoints writes n points, "(x,y),(x,y)".
func appendPoints(dst []byte, w *wire, n int) []byte {
	if n < 0 {
		w.short = true
	}
	for i := 0; i < n && !w.short; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendFloat(append(dst, '('), w.float64(), 64), ',')
		dst = append(appendFloat(dst, w.float64(), 64), ')')
	}
	return dst
}

func renderPoint(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return appendPoints(dst, &w, 1), w.done()
}

func renderLseg(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return append(appendPoints(append(dst, '['), &w, 2), ']'), w.done()
}

func renderBox(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	return appendPoints(dst, &w, 2), w.done()
}

func renderPath(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	left, right := byte('['), byte(']')
	if isClosed := w.uint8() != 0; isClosed {
		left, right = '(', ')'
	}
	n := int(w.int32())
	return append(appendPoints(append(dst, left), &w, n), right), w.done()
}

func renderPolygon(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	n := int(w.int32())
	return append(appendPoints(append(dst, '('), &w, n), ')'), w.done()
}

func renderCircle(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	dst = append(appendPoints(append(dst, '<'), &w, 1), ',')
	return append(appendFloat(dst, w.float64(), 64), '>'), w.done()
}

func renderLine(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	dst = append(appendFloat(append(dst, '{'), w.float64(), 64), ',')
	dst = append(appendFloat(dst, w.float64(), 64), ',')
	return append(appendFloat(dst, w.float64(), 64), '}'), w.done()
}

// appendLexeme writes a word of a tsvector or tsquery in quotes.
func appendLexeme(dst, word []byte) []byte {
	dst = append(dst, '\'')
	for _, b := range word {
		if b == '\'' || b == '\\' {
			dst = append(dst, b)
		}
		dst = append(dst, b)
	}
	return append(dst, '\'')
}

func renderTSVector(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	count := int(w.int32())
	for i := 0; i < count && !w.short; i++ {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = appendLexeme(dst, w.cstring())
		separator := byte(':')
		for range w.uint16() {
			position := w.uint16()
			dst = strconv.AppendUint(append(dst, separator), uint64(position&0x3fff), 10)
			if weight := position >> 14; weight > 0 {
				dst = append(dst, 'D'-byte(weight))
			}
			separator = ','
		}
	}
	return dst, w.done() && count >= 0
}

// The operators of a tsquery by number, and how strongly each binds.
const (
	tsNot    = 1
	tsAnd    = 2
	tsOr     = 3
	tsPhrase = 4
)

var tsPriority = [...]int{tsNot: 4, tsAnd: 2, tsOr: 1, tsPhrase: 3}

// maxTSQueryDepth bounds the recursion over a tsquery.
const maxTSQueryDepth = 1 << 14

func renderTSQuery(dst, in []byte) ([]byte, bool) {
	w := wire{in: in}
	if w.uint32() == 0 { // number of items
		return dst, w.done()
	}
	text, ok := tsQueryItem(&w, 0, false, 0)
	return append(dst, text...), ok && w.done()
}

// tsQueryItem writes the item that comes next, with its operands, which follow it, the
// right one first. parent is the priority of the operator it belongs to.
func tsQueryItem(w *wire, parent int, isRightOfPhrase bool, depth int) ([]byte, bool) {
	if depth > maxTSQueryDepth {
		return nil, false
	}
	if kind := w.uint8(); kind == 1 { // a word
		weights, isPrefix := w.uint8(), w.uint8() != 0
		text := appendLexeme(nil, w.cstring())
		if isPrefix || weights != 0 {
			text = append(text, ':')
		}
		if isPrefix {
			text = append(text, '*')
		}
		for bit := 3; bit >= 0; bit-- {
			if weights>>bit&1 != 0 {
				text = append(text, 'D'-byte(bit))
			}
		}
		return text, !w.short
	} else if kind != 2 {
		return nil, false
	}
	operator := int(w.uint8())
	if operator < tsNot || operator > tsPhrase {
		return nil, false
	}
	priority := tsPriority[operator]
	var text []byte
	needsParens := priority < parent || operator == tsPhrase && isRightOfPhrase
	if needsParens {
		text = append(text, "( "...)
	}
	if operator == tsNot {
		operand, ok := tsQueryItem(w, priority, false, depth+1)
		if !ok {
			return nil, false
		}
		text = append(append(text, '!'), operand...)
	} else {
		symbol := " & "
		switch operator {
		case tsOr:
			symbol = " | "
		case tsPhrase:
			symbol = " <-> "
			if distance := w.uint16(); distance != 1 {
				symbol = " <" + strconv.Itoa(int(distance)) + "> "
			}
		}
		right, ok := tsQueryItem(w, priority, operator == tsPhrase, depth+1)
		if !ok {
			return nil, false
		}
		left, ok := tsQueryItem(w, priority, false, depth+1)
		if !ok {
			return nil, false
		}
		text = append(append(append(text, left...), symbol...), right...)
	}
	if needsParens {
		text = append(text, " )"...)
	}
	return text, true
}

// The flags of a range.
const (
	rangeEmpty         = 0x01
	rangeLowerIncluded = 0x02
	rangeUpperIncluded = 0x04
	rangeLowerInfinite = 0x08
	rangeUpperInfinite = 0x10
)

// renderRange writes "[1,5)", "(,2026-01-01)" or "empty".
func renderRange(bound func(dst, in []byte) ([]byte, bool)) func(dst, in []byte) ([]byte, bool) {
	return func(dst, in []byte) ([]byte, bool) {
		w := wire{in: in}
		flags := w.uint8()
		if flags&rangeEmpty != 0 {
			return append(dst, "empty"...), w.done()
		}
		appendBound := func() bool {
			text, ok := bound(nil, w.next(int(w.int32())))
			dst = appendQuoted(dst, text, `"\(),[]`, '"')
			return ok
		}
		if flags&rangeLowerIncluded != 0 {
			dst = append(dst, '[')
		} else {
			dst = append(dst, '(')
		}
		if flags&rangeLowerInfinite == 0 && !appendBound() {
			return dst, false
		}
		dst = append(dst, ',')
		if flags&rangeUpperInfinite == 0 && !appendBound() {
			return dst, false
		}
		if flags&rangeUpperIncluded != 0 {
			dst = append(dst, ']')
		} else {
			dst = append(dst, ')')
		}
		return dst, w.done() && len(dst) <= maxText
	}
}

// renderMultirange writes "{[1,2),[5,7)}".
func renderMultirange(bound func(dst, in []byte) ([]byte, bool)) func(dst, in []byte) ([]byte, bool) {
	render := renderRange(bound)
	return func(dst, in []byte) ([]byte, bool) {
		w := wire{in: in}
		count := int(w.int32())
		dst = append(dst, '{')
		for i := 0; i < count && !w.short; i++ {
			if i > 0 {
				dst = append(dst, ',')
			}
			var ok bool
			if dst, ok = render(dst, w.next(int(w.int32()))); !ok {
				return dst, false
			}
		}
		return append(dst, '}'), w.done() && count >= 0
	}
}

// appendQuoted writes text, in double quotes if it is empty or holds white space or one of
// the special characters. Within quotes, escape or the character itself stands before a
// quote, and before a backslash.
func appendQuoted(dst, text []byte, special string, escapeQuote byte) []byte {
	if len(text) > 0 && !bytes.ContainsAny(text, special+" \t\n\r\v\f") {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for _, b := range text {
		switch b {
		case '"':
			dst = append(dst, escapeQuote)
		case '\\':
			dst = append(dst, '\\')
		}
		dst = append(dst, b)
	}
	return append(dst, '"')
}

// An arrayWire is the binary form of an array: dimensions, then the elements.
type arrayWire struct {
	wire
	dims, lower []int
}

// newArrayWire reads the dimensions. The number of elements is known to be no more than
// the bytes that are left can hold.
func newArrayWire(in []byte) (w arrayWire, ok bool) {
	w.in = in
	n := int(w.int32())
	w.uint32() // whether there are NULLs
	w.uint32() // OID of the element's type: the column's type says it
	if w.short || n < 0 || n > maxDim {
		return w, false
	}
	w.dims, w.lower = make([]int, n), make([]int, n)
	for i := range n {
		w.dims[i], w.lower[i] = int(w.int32()), int(w.int32())
	}
	count := 1
	for _, size := range w.dims {
		if size < 0 || size > len(w.in) {
			return w, false
		}
		if count *= size; count > len(w.in)/4 {
			return w, false
		}
	}
	return w, !w.short
}

func renderArray(dst, in []byte, delim byte, elem func(dst, in []byte) ([]byte, bool)) ([]byte, bool) {
	w, ok := newArrayWire(in)
	if !ok {
		return dst, false
	}
	if len(w.dims) == 0 {
		return append(dst, "{}"...), w.done()
	}
	for _, lower := range w.lower {
		if lower == 1 {
			continue
		}
		for i, size := range w.dims {
			dst = strconv.AppendInt(append(dst, '['), int64(w.lower[i]), 10)
			dst = strconv.AppendInt(append(dst, ':'), int64(w.lower[i]+size-1), 10)
			dst = append(dst, ']')
		}
		dst = append(dst, '=')
		break
	}
	special := `"\{}` + string(rune(delim))
	var level func(dim int) bool
	level = func(dim int) bool {
		dst = append(dst, '{')
		for i := range w.dims[dim] {
			if i > 0 {
				dst = append(dst, delim)
			}
			if dim+1 < len(w.dims) {
				if !level(dim + 1) {
					return false
				}
				continue
			}
			size := int(w.int32())
			if size == -1 {
				dst = append(dst, "NULL"...)
				continue
			}
			text, ok := elem(nil, w.next(size))
			if !ok || w.short || len(dst)+len(text) > maxText {
				return false
			}
			if bytes.EqualFold(text, []byte("NULL")) {
				dst = append(append(append(dst, '"'), text...), '"')
				continue
			}
			dst = appendQuoted(dst, text, special, '\\')
		}
		dst = append(dst, '}')
		return true
	}
	return dst, level(0) && w.done()
}

// renderVector writes int2vector and oidvector, whose binary form is that of an array:
// elements separated by spaces.
func renderVector(elem func(dst, in []byte) ([]byte, bool)) func(dst, in []byte) ([]byte, bool) {
	return func(dst, in []byte) ([]byte, bool) {
		w, ok := newArrayWire(in)
		if !ok || len(w.dims) > 1 {
			return dst, false
		}
		if len(w.dims) == 0 {
			return dst, w.done()
		}
		for i := range w.dims[0] {
			if i > 0 {
				dst = append(dst, ' ')
			}
			if dst, ok = elem(dst, w.next(int(w.int32()))); !ok {
				return dst, false
			}
		}
		return dst, w.done()
	}
}
