package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"unicode/utf8"
)

// A document's _id is made of the text of its key columns:
//
//   - one column: its text; with a `~` before it if it is empty or begins with `~`
//   - several: joined by `|`, in each `~` written as `~~` and `|` as `~|`
//   - NULL: `~N`
//   - what would be longer than 512 bytes, which is all that a search server
//     takes, or is not UTF-8: `~sha256-` and the hex digits of its SHA-256
//
// Different keys give different ids: after a `~` that was not in the key stands
// one of `~`, `|`, N, s or nothing, and each of these says what it is. Only the
// hash could make two keys meet, and does not.

// maxID is the longest _id in bytes.
const maxID = 512

// KeyColumns gives the columns that make the _id: those of ix.ID, or the
// primary key.
func (ix *Index) KeyColumns(t *Table) []string {
	if len(ix.ID) > 0 {
		return ix.ID
	}
	return t.PrimaryKey
}

// joinID gives the _id of a key. A nil value is NULL.
func joinID(dst []byte, values ...[]byte) []byte {
	start := len(dst)
	for i, value := range values {
		if i > 0 {
			dst = append(dst, '|')
		}
		switch {
		case value == nil:
			dst = append(dst, "~N"...)
		case len(values) == 1:
			if len(value) == 0 || value[0] == '~' {
				dst = append(dst, '~')
			}
			dst = append(dst, value...)
		default:
			dst = appendIDPart(dst, value)
		}
	}
	if id := dst[start:]; len(id) > maxID || !utf8.Valid(id) {
		sum := sha256.Sum256(id)
		dst = append(dst[:start], "~sha256-"...)
		dst = hex.AppendEncode(dst, sum[:])
	}
	return dst
}

func appendIDPart(dst, value []byte) []byte {
	for _, c := range value {
		if c == '~' || c == '|' {
			dst = append(dst, '~')
		}
		dst = append(dst, c)
	}
	return dst
}
