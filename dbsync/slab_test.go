package dbsync

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestSlabs(t *testing.T) {
	var s slabs
	var got [][]byte
	size := func(i int) int { return i * 7 % 40_000 }
	for i := range 1000 {
		b := s.alloc(size(i))
		copy(b, strings.Repeat(fmt.Sprint(i%10), len(b)))
		got = append(got, b)
	}
	for i, b := range got {
		if string(b) != strings.Repeat(fmt.Sprint(i%10), size(i)) {
			t.Fatalf("slice %d was overwritten", i)
		}
		if cap(b) != len(b) {
			t.Fatalf("slice %d has room to append over its neighbour", i)
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
