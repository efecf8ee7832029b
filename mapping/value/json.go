package value

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// appendJSONB passes a jsonb value on: Postgres writes it from its own form, on
// one line and each key once.
func appendJSONB(dst, text []byte) []byte {
	if len(text) == 0 { // no value is; nothing would break the document
		return append(dst, "null"...)
	}
	start := len(dst)
	if utf8.Valid(text) {
		dst = append(dst, text...)
	} else {
		dst = appendUTF8(dst, text)
	}
	blankLineEnds(dst[start:])
	return dst
}

// AppendJSON passes a json value on. Postgres checked its syntax and keeps the
// text as it came. A raw line end can only be outside of strings, where a space
// is as good and keeps the document on one line. A key that an object has twice
// would make the search server refuse the document: the last value is kept, as
// in a cast to jsonb.
func AppendJSON(dst, text []byte) []byte {
	if mayRepeatKey(text) {
		if once, ok := withoutRepeats(text); ok {
			return append(dst, once...)
		}
	}
	return appendJSONB(dst, text)
}

// blankLineEnds makes spaces of line ends.
func blankLineEnds(text []byte) {
	for _, end := range [...]byte{'\n', '\r'} {
		for rest := text; ; {
			i := bytes.IndexByte(rest, end)
			if i < 0 {
				break
			}
			rest[i] = ' '
			rest = rest[i+1:]
		}
	}
}

// appendUTF8 copies text with U+FFFD for each byte that is not UTF-8.
func appendUTF8(dst, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		dst = utf8.AppendRune(dst, r)
		text = text[size:]
	}
	return dst
}

// manyKeys is how many keys of an object are compared with each other.
const manyKeys = 256

// mayRepeatKey reports whether an object in text has a key twice, or might:
// keys with escapes and objects of many keys are left to [withoutRepeats].
func mayRepeatKey(text []byte) bool {
	var keysRoom [64][]byte
	var openRoom [32]int
	keys := keysRoom[:0] // of all open objects, outermost first
	open := openRoom[:0] // for each open object where its keys begin, for each open array -1
	key := false         // a string here is a key
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{':
			open = append(open, len(keys))
			key = true
		case '[':
			open = append(open, -1)
			key = false
		case '}', ']':
			if len(open) == 0 {
				return false
			}
			if first := open[len(open)-1]; first >= 0 {
				keys = keys[:first]
			}
			open = open[:len(open)-1]
			key = false
		case ',':
			key = len(open) > 0 && open[len(open)-1] >= 0
		case ':':
			key = false
		case '"':
			n := quotedLen(text[i:])
			if n == 0 {
				return false
			}
			name := text[i+1 : i+n-1]
			i += n - 1
			if !key {
				continue
			}
			siblings := keys[open[len(open)-1]:]
			if len(siblings) == manyKeys || bytes.IndexByte(name, '\\') >= 0 {
				return true
			}
			for _, sibling := range siblings {
				if bytes.Equal(sibling, name) {
					return true
				}
			}
			keys = append(keys, name)
		}
	}
	return false
}

// withoutRepeats writes text anew with each key once. Numbers keep their digits.
// It is not ok where the text is nested too deep, or no JSON.
func withoutRepeats(text []byte) (_ []byte, ok bool) {
	var value any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return nil, false
	}
	once, err := Marshal(value)
	return once, err == nil
}

// Marshal returns JSON with sorted keys, and `<` and `&` as they are: analyzers
// have them in patterns.
func Marshal(value any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
