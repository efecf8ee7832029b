// Package jsontext writes texts as JSON strings, for documents and for the lines of bulk requests.
package jsontext

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// Append appends text to dst as a JSON string. Bytes that are not UTF-8, which a
// SQL_ASCII database may send, become U+FFFD. text may lie within dst's memory before its end.
func Append(dst, text []byte) []byte {
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

// AppendString is [Append] for what is a string already.
func AppendString(dst []byte, text string) []byte {
	if len(text) > shortText {
		return appendCopied(dst, text)
	}
	for i := range len(text) {
		if c := text[i]; mustEscape(c) || c >= utf8.RuneSelf {
			return appendCopied(dst, text)
		}
	}
	return append(append(append(dst, '"'), text...), '"')
}

// shortText is the length up to which a look at each byte is quicker than a copy for [Append].
const shortText = 64

// appendCopied is [AppendString] for long texts, and for those that are not plain ASCII.
func appendCopied(dst []byte, text string) []byte {
	// Most are short: then the copy is on the stack.
	var room [256]byte
	return Append(dst, append(room[:0], text...))
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

// appendRepaired is the slow path of [Append], without the quotes.
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
