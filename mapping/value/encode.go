package value

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// An Encoder appends the JSON form of one value to dst. text is what the
// output function of the value's type wrote; it is only read, and may lie
// within dst's memory before its end. What it appends is valid JSON on one
// line whatever text holds: a text that the type cannot have written becomes a
// string.
type Encoder func(dst, text []byte) []byte

// maxNumber is the longest number, in bytes, that is written as one. The JSON
// parser of the search servers refuses longer ones, and the document with
// them; as a string every digit is still there.
const maxNumber = 1000

// appendNumber is for integers, numeric and floats. NaN and the infinities
// have no JSON form: null.
func appendNumber(dst, text []byte) []byte {
	if isNumber(text) && len(text) <= maxNumber {
		return append(dst, text...)
	}
	switch string(text) {
	case "NaN", "Infinity", "-Infinity":
		return append(dst, "null"...)
	}
	return AppendString(dst, text)
}

// isNumber reports whether text is a number by the grammar of JSON.
func isNumber(text []byte) bool {
	i, n := 0, len(text)
	if i < n && text[i] == '-' {
		i++
	}
	start := i
	i = digits(text, i)
	if i == start || text[start] == '0' && i > start+1 {
		return false
	}
	if i < n && text[i] == '.' {
		start = i + 1
		if i = digits(text, start); i == start {
			return false
		}
	}
	if i < n && (text[i] == 'e' || text[i] == 'E') {
		i++
		if i < n && (text[i] == '+' || text[i] == '-') {
			i++
		}
		start = i
		if i = digits(text, start); i == start {
			return false
		}
	}
	return i == n
}

// digits returns the end of the run of digits that begins at i.
func digits(text []byte, i int) int {
	for i < len(text) && text[i]-'0' <= 9 {
		i++
	}
	return i
}

// appendBool takes the form of the type's output, and that of a cast to text.
func appendBool(dst, text []byte) []byte {
	switch string(text) {
	case "t", "true":
		return append(dst, "true"...)
	case "f", "false":
		return append(dst, "false"...)
	}
	return AppendString(dst, text)
}

const hexDigits = "0123456789abcdef"

// AppendString writes text as a JSON string. Bytes that are not UTF-8, which a
// SQL_ASCII database may send, become U+FFFD.
func AppendString(dst, text []byte) []byte {
	dst = append(dst, '"')
	if !utf8.Valid(text) {
		dst = appendRepaired(dst, text)
		return append(dst, '"')
	}
	for {
		n := plainPrefix(text)
		dst = append(dst, text[:n]...)
		if n == len(text) {
			return append(dst, '"')
		}
		dst = appendEscaped(dst, text[n])
		text = text[n+1:]
	}
}

// appendEscaped writes one byte below 0x20, a quote or a backslash.
func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// appendRepaired is the slow path of [AppendString], without the quotes.
func appendRepaired(dst, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, "\uFFFD"...)
		case mustEscape(text[0]):
			dst = appendEscaped(dst, text[0])
		default:
			dst = append(dst, text[:size]...)
		}
		text = text[size:]
	}
	return dst
}

func mustEscape(c byte) bool { return c < 0x20 || c == '"' || c == '\\' }

// plainPrefix returns the length of the prefix without a byte that a JSON string
// must escape, eight bytes at a time: most text has none, and long text is
// what a document mostly consists of.
func plainPrefix(text []byte) int {
	const (
		ones = 0x0101010101010101
		tops = 0x8080808080808080
	)
	n := 0
	for ; len(text)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(text[n:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		// A top bit is set for each byte that is below 0x20 or zero. A borrow may
		// set one too many, but only above a right one.
		hit := (x-ones*0x20)&^x | (quote-ones)&^quote | (slash-ones)&^slash
		if hit &= tops; hit != 0 {
			return n + bits.TrailingZeros64(hit)/8
		}
	}
	for ; n < len(text); n++ {
		if mustEscape(text[n]) {
			break
		}
	}
	return n
}
