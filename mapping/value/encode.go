package value

import "tidemark/mapping/jsontext"

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
	return jsontext.Append(dst, text)
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
	return jsontext.Append(dst, text)
}
