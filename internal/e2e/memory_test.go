package e2e

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"testing"
)

// TestLargeTransaction has all rows of a large table updated in one transaction: memory
// is bounded whatever its size. It runs the command without the race detector, which
// needs a multiple.
func TestLargeTransaction(t *testing.T) {
	rows := pick(300_000, 3_000_000)
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE items (id bigint PRIMARY KEY, title text, price numeric(10,2), updated_at timestamptz NOT NULL DEFAULT now())`,
		fmt.Sprintf(`INSERT INTO items SELECT i, 'item ' || md5(i::text), i / 7.0 FROM generate_series(1, %d) i`, rows))
	s.index("items", "items", ", fields: {title: {type: keyword}}")
	i := s.startBinary(t, plainBinary(t), "run")
	backfilling := took(t, "to fill the index")
	s.awaitComplete(t, i)
	backfilling()
	t.Logf("peak of memory while the index was filled: %d MB", i.peak(t)>>20)
	updating := took(t, "the update")
	s.db.Exec(t, `UPDATE items SET price = price + 1, updated_at = now()`)
	updating()
	following := took(t, "to follow the update")
	s.awaitCaughtUp(t, i)
	following()
	peak := i.peak(t)
	t.Logf("peak of memory: %d MB", peak>>20)
	if peak > 100<<20 {
		t.Errorf("peak of memory is %d MB, want less than 100", peak>>20)
	}
	s.checkSynced(t)
	i.stop(t)
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak is the most memory that the process has had, in bytes.
func (i *instance) peak(t testing.TB) int64 {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells the peak of a process's memory")
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.cmd.Process.Pid))
	must(t, err)
	m := highWater.FindSubmatch(bytes.TrimSpace(status))
	if m == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	must(t, err)
	return kib << 10
}
