package dbsync

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Snapshot says which transactions a reader sees. It is the value of
// pg_current_snapshot(), see
// https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
type Snapshot struct {
	Xmin, Xmax uint64   // every transaction below Xmin has ended; none from Xmax on is visible
	InProgress []uint64 // transactions from Xmin to Xmax that are not visible, ascending
}

// ParseSnapshot reads the text form of a pg_snapshot: xmin:xmax:xip,xip,…
func ParseSnapshot(text string) (Snapshot, error) {
	fail := func() (Snapshot, error) {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: want xmin:xmax:xip,…", text)
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return fail()
	}
	var s Snapshot
	var err error
	if s.Xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return fail()
	}
	if s.Xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return fail()
	}
	for xip := range strings.SplitSeq(parts[2], ",") {
		if xip == "" {
			continue
		}
		x, err := strconv.ParseUint(xip, 10, 64)
		if err != nil {
			return fail()
		}
		s.InProgress = append(s.InProgress, x)
	}
	slices.Sort(s.InProgress)
	return s, nil
}

// Visible reports whether a snapshot shows the transaction xid, which the stream says
// has committed. The stream gives 32 bits of a transaction id and a snapshot 64; the
// two lie less than 2^31 apart, so they are compared modulo 2^32. A transaction that
// was streamed may lie above Xmax: its commit is in the log before it is visible.
func (s Snapshot) Visible(xid uint32) bool {
	full := s.Xmax + uint64(int64(int32(xid-uint32(s.Xmax))))
	if full >= s.Xmax {
		return false
	}
	if full < s.Xmin {
		return true
	}
	_, running := slices.BinarySearch(s.InProgress, full)
	return !running
}
