package value

import (
	"encoding/base64"
	"encoding/hex"

	"tidemark/mapping/jsontext"
)

// byteaChunk is how many bytes are turned into base64 at a time: a multiple of
// three, so that only the last chunk is padded.
const byteaChunk = 192

// appendBytea writes a bytea as a base64 string, from either of its output
// formats: hex (`\x` and digits), which our sessions ask for, or escape.
func appendBytea(dst, text []byte) []byte {
	start := len(dst)
	dst = append(dst, '"')
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' {
		return append(appendEscapeFormat(dst, text), '"')
	}
	var raw [byteaChunk]byte
	for digits := text[2:]; len(digits) > 0; {
		chunk := digits[:min(len(digits), 2*byteaChunk)]
		n, err := hex.Decode(raw[:], chunk)
		if err != nil {
			return jsontext.Append(dst[:start], text)
		}
		dst = base64.StdEncoding.AppendEncode(dst, raw[:n])
		digits = digits[len(chunk):]
	}
	return append(dst, '"')
}

// appendEscapeFormat writes the base64 form of a bytea in escape format, where
// a backslash is `\\` and a byte outside of ASCII `\ooo`.
func appendEscapeFormat(dst, text []byte) []byte {
	var raw [byteaChunk]byte
	n := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			if text[i+1] == '\\' {
				i++
			} else if i+3 < len(text) && isOctal(text[i+1:i+4]) {
				c = (text[i+1]-'0')<<6 | (text[i+2]-'0')<<3 | (text[i+3] - '0')
				i += 3
			}
		}
		raw[n] = c
		if n++; n == len(raw) {
			dst = base64.StdEncoding.AppendEncode(dst, raw[:])
			n = 0
		}
	}
	return base64.StdEncoding.AppendEncode(dst, raw[:n])
}

func isOctal(three []byte) bool {
	return three[0]-'0' <= 3 && three[1]-'0' <= 7 && three[2]-'0' <= 7
}
