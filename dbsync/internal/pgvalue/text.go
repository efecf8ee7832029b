package pgvalue

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"
)

func decodeBool(text []byte) (any, bool) {
	switch string(text) {
	case "t", "true":
		return true, true
	case "f", "false":
		return false, true
	}
	return nil, false
}

func decodeInt2(text []byte) (any, bool) {
	n, err := strconv.ParseInt(string(text), 10, 16)
	return int16(n), err == nil
}

func decodeInt4(text []byte) (any, bool) {
	n, err := strconv.ParseInt(string(text), 10, 32)
	return int32(n), err == nil
}

func decodeInt8(text []byte) (any, bool) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	return n, err == nil
}

func decodeUint4(text []byte) (any, bool) {
	n, err := strconv.ParseUint(string(text), 10, 32)
	return uint32(n), err == nil
}

func decodeUint8(text []byte) (any, bool) {
	n, err := strconv.ParseUint(string(text), 10, 64)
	return n, err == nil
}

func decodeFloat4(text []byte) (any, bool) {
	f, err := strconv.ParseFloat(string(text), 32)
	return float32(f), err == nil
}

func decodeFloat8(text []byte) (any, bool) {
	f, err := strconv.ParseFloat(string(text), 64)
	return f, err == nil
}

func decodeNumeric(text []byte) (any, bool) {
	switch string(text) {
	case "NaN", "Infinity", "-Infinity":
		return string(text), true
	}
	// What Postgres prints for a finite numeric is a JSON number without exponent.
	digits := bytes.TrimPrefix(text, []byte("-"))
	whole, fraction, hasFraction := bytes.Cut(digits, []byte("."))
	if !isDigits(whole) || hasFraction && !isDigits(fraction) || len(whole) > 1 && whole[0] == '0' {
		return nil, false
	}
	return json.Number(text), true
}

func isDigits(text []byte) bool {
	for _, b := range text {
		if b < '0' || b > '9' {
			return false
		}
	}
	return len(text) > 0
}

// decodeBytea reads both forms of bytea_output.
func decodeBytea(text []byte) (any, bool) {
	if digits, ok := bytes.CutPrefix(text, []byte(`\x`)); ok {
		out := make([]byte, hex.DecodedLen(len(digits)))
		_, err := hex.Decode(out, digits)
		return out, err == nil
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '\\':
			out = append(out, text[i])
		case i+1 < len(text) && text[i+1] == '\\':
			out = append(out, '\\')
			i++
		case i+3 < len(text):
			b, err := strconv.ParseUint(string(text[i+1:i+4]), 8, 8)
			if err != nil {
				return nil, false
			}
			out = append(out, byte(b))
			i += 3
		default:
			return nil, false
		}
	}
	return out, true
}

func decodeJSON(text []byte) (any, bool) {
	if !json.Valid(text) {
		return nil, false
	}
	return json.RawMessage(bytes.Clone(text)), true
}
