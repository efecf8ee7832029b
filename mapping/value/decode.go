package value

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// A Decoder returns the value that text, which is not kept, stands for; nil where it has none
// in an expression.
type Decoder func(text []byte) (any, error)

// ReadString is the [Decoder] of texts: a string.
func ReadString(text []byte) (any, error) { return string(text), nil }

// ReadInt is the [Decoder] of integers: an int, nil for NaN.
func ReadInt(text []byte) (any, error) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err == nil {
		return int(n), nil
	}
	if string(text) == "NaN" { // a numeric without digits after the point may be it
		return nil, nil
	}
	return nil, unreadable(text, "an integer")
}

// ReadFloat is the [Decoder] of other numbers: a float64, nil for NaN and the infinities.
func ReadFloat(text []byte) (any, error) {
	switch string(text) {
	case "NaN", "Infinity", "-Infinity":
		return nil, nil
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if errors.Is(err, strconv.ErrRange) && !math.IsInf(f, 0) { // closer to zero than a double comes
		err = nil
	}
	if err != nil {
		return nil, unreadable(text, "a double precision number")
	}
	return f, nil
}

// ReadBool is the [Decoder] of booleans: a bool.
func ReadBool(text []byte) (any, error) {
	switch string(text) {
	case "t", "true":
		return true, nil
	case "f", "false":
		return false, nil
	}
	return nil, unreadable(text, "a boolean")
}

// ReadBytea returns the base64 form that the document has.
func ReadBytea(text []byte) (any, error) {
	quoted := appendBytea(nil, text)
	return string(quoted[1 : len(quoted)-1]), nil
}

// ReadJSON returns maps, []any, strings, bools and nil. Numbers are int where
// they are whole and fit, float64 otherwise.
func ReadJSON(text []byte) (any, error) {
	var value any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return nil, unreadable(text, "JSON")
	}
	return withNumbers(value)
}

// withNumbers replaces in a value what json.Decoder.UseNumber left there.
func withNumbers(value any) (_ any, err error) {
	switch v := value.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return int(n), nil
		}
		return ReadFloat([]byte(v))
	case []any:
		for i := range v {
			if v[i], err = withNumbers(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = withNumbers(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return value, nil
}

// unreadable is the error of a decoder. It shows the beginning of the text.
func unreadable(text []byte, as string) error {
	return &UnreadableError{Text: string(text[:min(len(text), 40)]), As: as}
}

// An UnreadableError reports a text that has not the form of its type.
type UnreadableError struct {
	Text string // its beginning
	As   string // what it was to be: "an integer"
}

func (e *UnreadableError) Error() string { return fmt.Sprintf("cannot read %q as %s", e.Text, e.As) }

// WithoutValues is the error for logs.
func (e *UnreadableError) WithoutValues() string { return "cannot read a value as " + e.As }

// ArrayDecoder returns the decoder of an array, whose text [appendArray] shows:
// []any, one in the other for each dimension. An element NULL is nil.
func ArrayDecoder(elem Decoder, delim byte) Decoder {
	return func(text []byte) (any, error) {
		rest := text
		if len(rest) > 0 && rest[0] == '[' { // lower bounds
			_, rest, _ = bytes.Cut(rest, []byte{'='})
		}
		array, rest, err := readArray(rest, elem, delim, maxDimensions)
		if err == nil && len(rest) > 0 {
			err = unreadable(text, "an array")
		}
		if err != nil {
			return nil, err
		}
		return array, nil
	}
}

// readArray reads from a brace to the one that closes it.
func readArray(text []byte, elem Decoder, delim byte, dimensions int) (_ []any, rest []byte, err error) {
	bad := unreadable(text, "an array")
	if len(text) < 2 || text[0] != '{' || dimensions == 0 {
		return nil, nil, bad
	}
	array := []any{}
	if text[1] == '}' {
		return array, text[2:], nil
	}
	for {
		text = text[1:] // the brace, or the delimiter
		var value any
		switch {
		case len(text) == 0:
			return nil, nil, bad
		case text[0] == '{':
			value, text, err = readArray(text, elem, delim, dimensions-1)
		case text[0] == '"':
			n := quotedLen(text)
			if n == 0 {
				return nil, nil, bad
			}
			value, err = elem(unquoted(text[1 : n-1]))
			text = text[n:]
		default:
			n := 0
			for n < len(text) && text[n] != delim && text[n] != '}' {
				n++
			}
			if word := text[:n]; string(word) != "NULL" {
				value, err = elem(word)
			}
			text = text[n:]
		}
		if err != nil {
			return nil, nil, err
		}
		array = append(array, value)
		switch {
		case len(text) > 0 && text[0] == '}':
			return array, text[1:], nil
		case len(text) == 0 || text[0] != delim:
			return nil, nil, bad
		}
	}
}

// unquoted returns what stands between the quotes of an element, where a
// backslash stands before each quote and backslash.
func unquoted(text []byte) []byte {
	if bytes.IndexByte(text, '\\') < 0 {
		return text
	}
	bare := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		bare = append(bare, text[i])
	}
	return bare
}
