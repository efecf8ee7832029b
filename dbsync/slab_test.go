package dbsync

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
)

// Rows come out as they went in, however large they are and whatever was stored before in what they
// are stored in now.
func TestRowStorage(t *testing.T) {
	for round := range 4 {
		var r rowStorage
		var want []string
		for i := range 1000 {
			values := [][]byte{fmt.Append(nil, round, i), nil, []byte(strings.Repeat(fmt.Sprint(i%10), i*7%40_000))}
			r.add(values, tupleSize(values))
			want = append(want, string(values[0])+string(values[2]))
			in := reader{data: r.last()}
			var last tuple
			if row := last.read(&in); in.err != nil || len(in.data) > 0 || string(row.Columns[0].Data) != string(values[0]) {
				t.Fatalf("the last row is not row %d: %v", i, in.err)
			}
		}
		n := 0
		err := r.each(func(row *pglogrepl.TupleData) error {
			if got := string(row.Columns[0].Data) + string(row.Columns[2].Data); got != want[n] || row.Columns[1].DataType != pglogrepl.TupleDataTypeNull {
				return fmt.Errorf("row %d is another one", n)
			}
			n++
			return nil
		})
		if err != nil || n != len(want) || r.count != n {
			t.Fatalf("%d rows of %d: %v", n, r.count, err)
		}
		r.free()
		if r.count != 0 {
			t.Fatalf("%d rows are left", r.count)
		}
	}
}

// Whatever is dropped, and in whatever order, what is in use stays as it is.
func TestMessageStorage(t *testing.T) {
	var s messageStorage
	type copied struct {
		text string
		data []byte
		slab *slab
	}
	var held []copied
	for i := range 5000 {
		text := strings.Repeat(fmt.Sprint(i%10), rand.IntN(1000))
		if i%500 == 0 {
			text = strings.Repeat("x", slabSize)
		}
		data, slab := s.copy([]byte(text))
		if cap(data) != len(data) && slab != nil {
			t.Fatalf("copy %d has room to append over its neighbour", i)
		}
		held = append(held, copied{text, data, slab})
		for len(held) > 100 {
			n := rand.IntN(len(held))
			c := held[n]
			if string(c.data) != c.text {
				t.Fatalf("a copy of %d bytes was overwritten", len(c.text))
			}
			c.slab.drop()
			held = append(held[:n], held[n+1:]...)
		}
	}
	s.close()
	for _, c := range held {
		if string(c.data) != c.text {
			t.Fatalf("a copy of %d bytes was overwritten", len(c.text))
		}
	}
}

// What a message costs that is received, translated and dropped.
func BenchmarkMessageStorage(b *testing.B) {
	var s messageStorage
	defer s.close()
	message := make([]byte, 400)
	b.ReportAllocs()
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		_, slab := s.copy(message)
		slab.drop()
	}
}
