package value

import (
	"bytes"

	"tidemark/mapping/jsontext"
)

// Vectors of pgvector are arrays of numbers. Each search server has its own field
// for them, with parameters that only the mapping knows: the default stores them
// in the document alone.
var (
	vectorForm = &Form{
		Name: "vector 1", Encode: appendVector, Field: map[string]any{"type": "float", "index": false, "doc_values": false},
		sql: func(ref string) string { return ref + "::pg_catalog.text::pg_catalog.json" },
	}
	sparseForm = &Form{Name: "sparsevec 1", Encode: appendSparse, Field: DisabledField, sql: sparseJSON}
)

// appendVector copies the text of a vector or halfvec, [1,2.5,1e-07], which is JSON.
func appendVector(dst, text []byte) []byte {
	n := len(text)
	if n < 2 || text[0] != '[' || text[n-1] != ']' {
		return jsontext.Append(dst, text)
	}
	for rest, more := text[1:n-1], n > 2; more; {
		var number []byte
		number, rest, more = bytes.Cut(rest, []byte{','})
		if !isNumber(number) {
			return jsontext.Append(dst, text)
		}
	}
	return append(dst, text...)
}

// appendSparse writes a sparsevec, {1:1.5,3:2}/5, as an object of the numbers by
// their places: {"1":1.5,"3":2}.
func appendSparse(dst, text []byte) []byte {
	start := len(dst)
	body, _, ok := bytes.Cut(text, []byte("}/"))
	if !ok || len(body) == 0 || body[0] != '{' {
		return jsontext.Append(dst, text)
	}
	dst = append(dst, '{')
	for rest, more := body[1:], len(body) > 1; more; {
		var pair []byte
		pair, rest, more = bytes.Cut(rest, []byte{','})
		place, number, ok := bytes.Cut(pair, []byte{':'})
		if !ok || len(place) == 0 || digits(place, 0) != len(place) || !isNumber(number) {
			return jsontext.Append(dst[:start], text)
		}
		if len(dst) > start+1 {
			dst = append(dst, ',')
		}
		dst = append(append(append(append(dst, '"'), place...), `":`...), number...)
	}
	return append(dst, '}')
}

// sparseJSON is [appendSparse].
func sparseJSON(ref string) string {
	return "pg_catalog.regexp_replace(pg_catalog.split_part(" + ref + `::pg_catalog.text, '/', 1), '([0-9]+):', E'"\\1":', 'g')::pg_catalog.json`
}
