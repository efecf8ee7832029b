// Package pgvalue knows the two forms in which Postgres gives a value, text and binary, and
// the Go value that both stand for. It knows no connection and no column.
//
// A type is known by its name, as format_type(oid, NULL) or as pg_type.typname has it; a type
// modifier, as in "numeric(10,2)", is skipped. Text is that of a session with DateStyle ISO,
// and the text that is made of a binary form is that of a session with TimeZone UTC,
// IntervalStyle postgres and lc_monetary C, too.
//
// Nothing here panics, keeps its input, or quotes a value in an error.
package pgvalue

import (
	"bytes"
	"fmt"
)

// FromText returns the Go value of a text form; the table at dbsync's PGColumnInfo.DecodeText
// says which. nil is SQL NULL and gives nil. A text that is not of the type gives the text as
// a string together with an error; a type that is not known gives the text.
func FromText(typeName string, text []byte) (any, error) {
	if text == nil {
		return nil, nil
	}
	t := lookupType(typeName)
	if t == nil || t.decode == nil {
		return string(text), nil
	}
	v, ok := t.decode(text)
	if !ok {
		return string(text), fmt.Errorf("not a valid %s in text form", typeName)
	}
	return v, nil
}

// FromBinary returns the Go value of a binary form, the same as [FromText] of the same value's
// text. nil is SQL NULL and gives nil. Bytes that are not of the type, or of a type whose
// binary form is not known, give a copy of the bytes together with an error.
func FromBinary(typeName string, in []byte) (any, error) {
	if in == nil {
		return nil, nil
	}
	text, err := TextOfBinary(typeName, in)
	if err != nil {
		return bytes.Clone(in), err
	}
	// The text form is the only one that is turned into Go values, so the two forms of a
	// value cannot give different ones.
	v, err := FromText(typeName, text)
	if err != nil {
		return bytes.Clone(in), fmt.Errorf("not a valid %s in binary form", typeName)
	}
	return v, nil
}

// TextOfBinary returns the text form of a value in binary form, never nil without an error.
// Of regclass and its kin the binary form has a number only, which is then the text.
func TextOfBinary(typeName string, in []byte) ([]byte, error) {
	t := lookupType(typeName)
	if t == nil || t.render == nil {
		return nil, fmt.Errorf("the binary form of type %s is not known", typeName)
	}
	text, ok := t.render(make([]byte, 0, len(in)+16), in)
	if !ok {
		return nil, fmt.Errorf("not a valid %s in binary form", typeName)
	}
	return text, nil
}
