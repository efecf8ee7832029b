package dbsync

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestParseSnapshot(t *testing.T) {
	for text, want := range map[string]Snapshot{
		"10:20:10,14,15":                   {10, 20, []uint64{10, 14, 15}},
		"10:10:":                           {10, 10, nil},
		"4294967290:4294967300:4294967298": {4294967290, 4294967300, []uint64{4294967298}},
	} {
		got, err := ParseSnapshot(text)
		if err != nil || got.Xmin != want.Xmin || got.Xmax != want.Xmax || !slices.Equal(got.InProgress, want.InProgress) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1:2", "1:2:3:4", "a:2:", "1:b:", "1:2:c", "-1:2:", "1:18446744073709551616:"} {
		if got, err := ParseSnapshot(text); err == nil {
			t.Errorf("%q: got %v without an error", text, got)
		}
	}
}

func TestVisible(t *testing.T) {
	const epoch = 1 << 32
	tests := []struct {
		name     string
		snapshot Snapshot
		xid      uint32
		want     bool
	}{
		{"below xmin", Snapshot{10, 20, []uint64{10}}, 9, true},
		{"in progress", Snapshot{10, 20, []uint64{10, 14}}, 10, false},
		{"in progress, not the first", Snapshot{10, 20, []uint64{10, 14}}, 14, false},
		{"ended between xmin and xmax", Snapshot{10, 20, []uint64{10, 14}}, 12, true},
		{"the last below xmax", Snapshot{10, 20, []uint64{10}}, 19, true},
		{"xmax", Snapshot{10, 20, []uint64{10}}, 20, false},
		{"above xmax", Snapshot{10, 20, []uint64{10}}, 25, false},
		{"nothing runs", Snapshot{20, 20, nil}, 19, true},
		{"nothing runs, above", Snapshot{20, 20, nil}, 20, false},

		{"second epoch, below", Snapshot{epoch + 10, epoch + 20, []uint64{epoch + 10}}, 9, true},
		{"second epoch, in progress", Snapshot{epoch + 10, epoch + 20, []uint64{epoch + 10, epoch + 14}}, 14, false},
		{"second epoch, above", Snapshot{epoch + 10, epoch + 20, nil}, 21, false},
		{"before the wrap, below", Snapshot{epoch - 5, epoch + 5, []uint64{epoch - 5}}, math.MaxUint32 - 10, true},
		{"before the wrap, in progress", Snapshot{epoch - 5, epoch + 5, []uint64{epoch - 5, epoch - 1}}, math.MaxUint32, false},
		{"before the wrap, ended", Snapshot{epoch - 5, epoch + 5, []uint64{epoch - 5}}, math.MaxUint32, true},
		{"after the wrap, in progress", Snapshot{epoch - 5, epoch + 5, []uint64{epoch - 5, epoch + 3}}, 3, false},
		{"after the wrap, ended", Snapshot{epoch - 5, epoch + 5, []uint64{epoch - 5}}, 4, true},
		{"after the wrap, above xmax", Snapshot{epoch - 5, epoch + 5, []uint64{epoch - 5}}, 5, false},
		{"the stream has wrapped, the snapshot not yet", Snapshot{epoch - 5, epoch - 2, []uint64{epoch - 5}}, 3, false},
		{"many epochs", Snapshot{7*epoch + 3, 7*epoch + 3, nil}, math.MaxUint32, true},
		{"nearly half a turn below", Snapshot{3 * epoch, 3 * epoch, nil}, 1<<31 + 1, true},
		{"nearly half a turn above", Snapshot{3 * epoch, 3 * epoch, nil}, 1<<31 - 1, false},
	}
	for _, test := range tests {
		if got := test.snapshot.Visible(test.xid); got != test.want {
			t.Errorf("%s: %d in %v: got %v", test.name, test.xid, test.snapshot, got)
		}
	}
}

// With 64 bits the question is simple; with the lower 32 the answer has to be the same
// wherever the two ids lie less than half a turn apart, as Postgres sees to.
func TestVisibleIsThatOf64Bits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xmin := rapid.OneOf(rapid.Uint64Range(3, 1<<40), rapid.Uint64Range(1<<32-100, 1<<32+100)).Draw(t, "xmin")
		xmax := xmin + rapid.Uint64Range(0, 200).Draw(t, "running")
		s := Snapshot{Xmin: xmin, Xmax: xmax}
		for xid := xmin; xid < xmax; xid++ {
			if rapid.Bool().Draw(t, "in progress") {
				s.InProgress = append(s.InProgress, xid)
			}
		}
		low := uint64(3)
		if xmax > 1<<31 {
			low = max(low, xmax-1<<31+1)
		}
		full := rapid.OneOf(rapid.Uint64Range(low, xmax+1<<31-1), rapid.Uint64Range(max(low, xmin-min(xmin, 300)), xmax+300)).Draw(t, "xid")
		want := full < xmax && !slices.Contains(s.InProgress, full)
		if got := s.Visible(uint32(full)); got != want {
			t.Fatalf("%d in %v: got %v", full, s, got)
		}
	})
}
