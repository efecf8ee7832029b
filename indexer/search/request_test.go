package search

import (
	"bytes"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"

	"tidemark/dbsync"
)

// Documents that are sent from where they are stand in the body in their places, however often it
// is read, and the request can be used for others after them.
func TestEncodeLargeDocuments(t *testing.T) {
	large := func(c byte) []byte { return bytes.Repeat([]byte{c}, largeDocument+1) }
	small := []byte(`{"a":1}`)
	tests := map[string][][]byte{
		"alone": {large('a')}, "first": {large('a'), small}, "last": {small, large('a')}, "two": {large('a'), large('b')},
		"in the middle": {small, large('a'), small, large('b'), small}, "none": {small, small},
	}
	for _, level := range []int{noCompression, fastCompression} {
		r := newBulkRequest(level)
		for name, bodies := range tests {
			var ops []dbsync.Operation
			var want []byte
			for i, body := range bodies {
				op := dbsync.Operation{Index: "i", ID: string('a' + byte(i)), Version: 1, Body: body}
				ops = append(ops, op, dbsync.Operation{Kind: dbsync.Delete, Index: "i", ID: "gone", Version: 1})
				want = append(append(append(want, appendAction(nil, &op, false)...), body...), '\n')
				want = append(want, appendAction(nil, &ops[len(ops)-1], false)...)
			}
			if err := r.encode(partOf(ops)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				reader := r.newReader()
				got, err := io.ReadAll(reader)
				reader.Close()
				if err != nil || len(got) != r.size {
					t.Fatalf("%s: %d bytes, %d were said: %v", name, len(got), r.size, err)
				}
				if level != noCompression {
					z, err := gzip.NewReader(bytes.NewReader(got))
					if err != nil {
						t.Fatal(err)
					}
					if got, err = io.ReadAll(z); err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(got, want) || r.raw != len(want) {
					t.Errorf("%s, level %d: %d bytes became %d, %d were said", name, level, len(want), len(got), r.raw)
				}
			}
			reader := r.newReader()
			if r.close(); len(r.readers) > 0 {
				t.Errorf("%s: readers are kept", name)
			}
			if n, err := reader.Read(make([]byte, 10)); n > 0 || err == nil {
				t.Errorf("%s: %d bytes were read after the request, %v", name, n, err)
			}
			if cap(r.text) > largeDocument || cap(r.plain) > largeDocument {
				t.Errorf("%s: a large document was copied", name)
			}
			if r.reset(); cap(r.documents) > 0 && r.documents[:1][0].body != nil {
				t.Errorf("%s: the request holds a document after it", name)
			}
		}
	}
}
