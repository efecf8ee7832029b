package value

import (
	"bytes"
	"slices"

	"tidemark/mapping/jsontext"
)

// The encoders here write values of simple types in forms that are not the
// default of their type, which a mapping asks for.

// appendBit writes a boolean as 1 or 0.
func appendBit(dst, text []byte) []byte {
	switch string(text) {
	case "t", "true":
		return append(dst, '1')
	case "f", "false":
		return append(dst, '0')
	}
	return jsontext.Append(dst, text)
}

// appendTruth writes a boolean as "true" or "false".
func appendTruth(dst, text []byte) []byte {
	switch string(text) {
	case "t":
		return append(dst, `"true"`...)
	case "f":
		return append(dst, `"false"`...)
	}
	return jsontext.Append(dst, text)
}

// appendNotZero writes an integer as false if it is zero, otherwise as true.
func appendNotZero(dst, text []byte) []byte {
	switch {
	case string(text) == "0":
		return append(dst, "false"...)
	case isNumber(text):
		return append(dst, "true"...)
	}
	return jsontext.Append(dst, text)
}

// appendTextNumber writes text that is a number as one, other text as a string.
func appendTextNumber(dst, text []byte) []byte {
	text = bytes.TrimRight(text, " ")
	if isNumber(text) && len(text) <= maxNumber {
		return append(dst, text...)
	}
	return jsontext.Append(dst, text)
}

// What text stands for as a boolean, as in Postgres.
var (
	trueWords  = [...]string{"t", "true", "y", "yes", "on", "1"}
	falseWords = [...]string{"f", "false", "n", "no", "off", "0"}
)

// appendTextBoolean writes text that says yes or no as a boolean, other text as null.
func appendTextBoolean(dst, text []byte) []byte {
	text = bytes.TrimRight(text, " ")
	var room [len("false")]byte
	if len(text) <= len(room) {
		lower := room[:len(text)]
		for i, c := range text {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			lower[i] = c
		}
		switch {
		case slices.Contains(trueWords[:], string(lower)):
			return append(dst, "true"...)
		case slices.Contains(falseWords[:], string(lower)):
			return append(dst, "false"...)
		}
	}
	return append(dst, "null"...)
}

// appendHex writes a bytea as a string of hex digits.
func appendHex(dst, text []byte) []byte {
	if digits, ok := bytes.CutPrefix(text, []byte(`\x`)); ok {
		return jsontext.Append(dst, digits)
	}
	return jsontext.Append(dst, text)
}

// appendNumbers writes an int2vector or oidvector, numbers with spaces between
// them, as an array.
func appendNumbers(dst, text []byte) []byte {
	start := len(dst)
	dst = append(dst, '[')
	for first, rest := true, text; len(rest) > 0; first = false {
		number, after, _ := bytes.Cut(rest, []byte{' '})
		if !isNumber(number) {
			return jsontext.Append(dst[:start], text)
		}
		if !first {
			dst = append(dst, ',')
		}
		dst = append(dst, number...)
		rest = after
	}
	return append(dst, ']')
}
