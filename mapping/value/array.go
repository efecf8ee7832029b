package value

import (
	"bytes"

	"tidemark/mapping/jsontext"
)

// arrayEncoder returns the encoder of an array whose elements elem encodes and
// delim parts. Dimensions become nesting, an element NULL becomes null, and
// lower bounds are dropped. The empty array is [].
func arrayEncoder(elem Encoder, delim byte) Encoder {
	return func(dst, text []byte) []byte {
		start := len(dst)
		dst, ok := appendArray(dst, text, elem, delim)
		if !ok {
			return jsontext.Append(dst[:start], text)
		}
		return dst
	}
}

// maxDimensions bounds the nesting that is followed. Postgres has at most six.
const maxDimensions = 6

// appendArray reads what array_out wrote:
//
//	{1,NULL,"a \"b\" \\","NULL"}   {{1,2},{3,4}}   [2:3]={1,2}   {(1,1),(0,0);(2,2),(1,1)}
func appendArray(dst, text []byte, elem Encoder, delim byte) (_ []byte, ok bool) {
	if len(text) > 0 && text[0] == '[' { // lower bounds: [2:3][0:1]=
		i := bytes.IndexByte(text, '=')
		if i < 0 {
			return dst, false
		}
		text = text[i+1:]
	}
	depth := 0
	state := opened
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '{':
			if depth == maxDimensions || state == ended {
				return dst, false
			}
			dst = append(dst, '[')
			depth++
			i++
			state = opened
		case depth == 0:
			return dst, false
		case c == '}':
			if state == parted {
				return dst, false
			}
			dst = append(dst, ']')
			depth--
			i++
			state = ended
			if depth == 0 {
				return dst, i == len(text)
			}
		case c == delim:
			if state != ended {
				return dst, false
			}
			dst = append(dst, ',')
			i++
			state = parted
		case state == ended:
			return dst, false
		case c == '"':
			n := quotedLen(text[i:])
			if n == 0 {
				return dst, false
			}
			dst = appendQuoted(dst, text[i+1:i+n-1], elem)
			i += n
			state = ended
		default:
			n := i
			for n < len(text) && text[n] != delim && text[n] != '}' {
				n++
			}
			if word := text[i:n]; string(word) == "NULL" {
				dst = append(dst, "null"...)
			} else {
				dst = elem(dst, word)
			}
			i = n
			state = ended
		}
	}
	return dst, false
}

// Where the reading of an array stands.
const (
	opened = iota // after a brace that opens, or before the first
	parted        // after a delimiter
	ended         // after an element or a brace that closes
)

// quotedLen returns the length of the quoted element that text begins with, its
// quotes included; 0 if it has no end.
func quotedLen(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// appendQuoted encodes an element from between its quotes, where a backslash
// stands before each quote and backslash. The element is laid bare at the end
// of dst first, so that no other memory is needed.
func appendQuoted(dst, text []byte, elem Encoder) []byte {
	if bytes.IndexByte(text, '\\') < 0 {
		return elem(dst, text)
	}
	start := len(dst)
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		dst = append(dst, text[i])
	}
	bare := len(dst)
	dst = elem(dst, dst[start:bare])
	n := copy(dst[start:], dst[bare:])
	return dst[:start+n]
}

// TextArray returns values in the text form of an array of text; nil is NULL.
func TextArray(values [][]byte) []byte {
	dst := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		if v == nil {
			dst = append(dst, "NULL"...)
			continue
		}
		dst = append(dst, '"')
		for _, b := range v {
			if b == '"' || b == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, b)
		}
		dst = append(dst, '"')
	}
	return append(dst, '}')
}
