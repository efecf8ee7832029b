package pgvalue

import "bytes"

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
