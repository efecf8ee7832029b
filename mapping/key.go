package mapping

import (
	"encoding/hex"
	"strings"

	"tidemark/mapping/catalog"
)

// hashMark is what a hash in an _id begins with.
const hashMark = "~sha256-"

// Identifies reports whether an _id may be that of a document of the source, and not of
// another one of its index.
func (s *Source) Identifies(id string) bool { return strings.HasPrefix(id, s.Prefix()) }

// KeyOf returns the key that makes an _id, the text of the key columns of t in their order,
// nil for NULL. It is not ok where no key does, or where the _id has only the key's hash.
func (s *Source) KeyOf(t *catalog.Table, id string) (key [][]byte, ok bool) {
	n := len(s.KeyColumns(t))
	if s.Literals != nil {
		key, ok = splitTemplate(s.Literals, id)
		return key, ok && string(templateID(nil, s.Literals, key...)) == id
	}
	if key, ok = splitID(id, n); !ok {
		return nil, false
	}
	return key, string(joinID(nil, key...)) == id
}

// IsHashed reports whether an _id has only the hash of a key of the source.
func (s *Source) IsHashed(id string) bool {
	sum, ok := strings.CutPrefix(id, s.Prefix()+hashMark)
	if !ok || len(sum) != hex.EncodedLen(32) {
		return false
	}
	_, err := hex.DecodeString(sum)
	return err == nil && sum == strings.ToLower(sum)
}

// splitID undoes joinID for n columns.
func splitID(id string, n int) (key [][]byte, ok bool) {
	if n == 1 {
		switch {
		case id == "~N":
			return [][]byte{nil}, true
		case strings.HasPrefix(id, "~"):
			return [][]byte{[]byte(id[1:])}, id == "~" || strings.HasPrefix(id, "~~")
		}
		return [][]byte{[]byte(id)}, id != ""
	}
	for i := range n {
		end := byte('|')
		if i == n-1 {
			end = 0
		}
		value, rest, ok := splitValue(id, end, '|')
		if !ok {
			return nil, false
		}
		key = append(key, value)
		if id = rest; i < n-1 {
			id = id[1:]
		}
	}
	return key, true
}

// splitTemplate undoes templateID.
func splitTemplate(literals []string, id string) (key [][]byte, ok bool) {
	empty := strings.Join(literals, "") == ""
	if id, ok = strings.CutPrefix(id, literals[0]); !ok {
		return nil, false
	}
	if empty && id == "~" {
		return [][]byte{{}}, true
	}
	for _, next := range literals[1:] {
		var end byte
		if next != "" {
			end = next[0]
		}
		value, rest, ok := splitValue(id, end, end)
		if !ok {
			return nil, false
		}
		key = append(key, value)
		if id, ok = strings.CutPrefix(rest, next); !ok {
			return nil, false
		}
	}
	return key, id == ""
}

// splitValue takes a value off the beginning of a text, up to the sign that ends it, which
// is left in rest; 0: it goes to the end. In the value a ~ stands before each ~ and before
// each sign that is escaped.
func splitValue(text string, end, escaped byte) (value []byte, rest string, ok bool) {
	if after, null := strings.CutPrefix(text, "~N"); null && (after == "" && end == 0 || after != "" && after[0] == end) {
		return nil, after, true
	}
	value = []byte{}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '~':
			if i++; i == len(text) || text[i] != '~' && (escaped == 0 || text[i] != escaped) {
				return nil, "", false
			}
			value = append(value, text[i])
		case end != 0 && c == end:
			return value, text[i:], true
		default:
			value = append(value, c)
		}
	}
	return value, "", end == 0
}
