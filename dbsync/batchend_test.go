package dbsync

import (
	"testing"
	"time"
)

func TestOpenBatch(t *testing.T) {
	for _, test := range []struct {
		name string
		b    openBatch
		want time.Duration
	}{
		{"nothing yet", openBatch{atEnd: true, full: true, free: true}, forever},
		{"nothing yet, and one is being written", openBatch{writing: true}, forever},
		{"alone", openBatch{begun: true, atEnd: true}, 0},
		{"while one is being written", openBatch{begun: true, writing: true, full: true, atEnd: true, age: time.Hour}, forever},
		{"full", openBatch{begun: true, full: true}, 0},
		{"nothing to be stored", openBatch{begun: true, free: true}, 0},
		{"more is coming", openBatch{begun: true}, batchPatience},
		{"more is coming still", openBatch{begun: true, age: batchPatience / 5}, batchPatience * 4 / 5},
		{"more is coming for long", openBatch{begun: true, age: 2 * batchPatience}, 0},
	} {
		test.b.most = batchPatience
		if got := test.b.wait(); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
