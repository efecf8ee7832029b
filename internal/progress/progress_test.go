package progress

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A clock moves only when it is told to.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func (c *clock) add(d time.Duration) { c.Time = c.Time.Add(d) }

func newLog(t *testing.T) (*Display, *clock, func() string) {
	t.Helper()
	var out strings.Builder
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})
	c := &clock{time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}
	d := New(nil, false, slog.New(handler))
	d.now = c.now
	return d, c, func() string {
		defer out.Reset()
		return out.String()
	}
}

func TestLines(t *testing.T) {
	d, c, lines := newLog(t)
	b := d.Index("products", 0, 10_000)
	expect := func(want string) {
		t.Helper()
		if got := lines(); got != want {
			t.Errorf("got  %swant %s", got, want)
		}
	}
	b.Add(1000)
	c.add(4999 * time.Millisecond)
	b.Add(1000)
	expect("")
	c.add(time.Millisecond)
	b.Add(500)
	expect("msg=progress index=products rows=2500 percent=25 rows_per_second=500 remaining=15s\n")
	c.add(4 * time.Second)
	b.Add(100)
	expect("")
	c.add(6 * time.Second)
	b.Add(2400)
	expect("msg=progress index=products rows=5000 percent=50 rows_per_second=250 remaining=15s\n")
	c.add(5 * time.Second)
	b.Add(6000) // more than the estimate
	expect("msg=progress index=products rows=11000 percent=99 rows_per_second=1200\n")
	c.add(2 * time.Second)
	b.Done()
	expect("msg=done index=products rows=11000 rows_per_second=500 took=22s\n")
	b.Add(1)
	b.Done()
	b.Stop()
	expect("")
}

// TestGoingOn has a bar of a backfill that was stopped: what was done before it counts as
// done, not as fast.
func TestGoingOn(t *testing.T) {
	d, c, lines := newLog(t)
	b := d.Index("products", 9000, 10_000)
	c.add(5 * time.Second)
	b.Add(500)
	if got, want := lines(), "msg=progress index=products rows=9500 percent=95 rows_per_second=100 remaining=5s\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
	if got := d.RowsPerSecond("products"); got != 100 {
		t.Errorf("%v rows/s", got)
	}
	c.add(5 * time.Second)
	b.Done()
	if got, want := lines(), "msg=done index=products rows=9500 rows_per_second=50 took=10s\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
	if got := d.RowsPerSecond("products"); got != 0 {
		t.Errorf("%v rows/s after the end", got)
	}

	var out strings.Builder
	d = New(&out, true, nil)
	d.now = c.now
	b = d.Index("products", 9000, 10_000)
	c.add(5 * time.Second)
	b.Add(500)
	want := regexp.MustCompile(`^products +95% \|█+ \| \(9500/10000\) 100/s 5s left$`)
	if got := screen(t, out.String()); len(got) != 1 || !want.MatchString(got[0]) {
		t.Errorf("got %q, want %s", got, want)
	}
	c.add(5 * time.Second)
	b.Done()
	want = regexp.MustCompile(`^products +100% \|█{20}\| \(9500/9500\) 50/s took 10s$`)
	if got := screen(t, out.String()); len(got) != 1 || !want.MatchString(got[0]) {
		t.Errorf("got %q, want %s", got, want)
	}
}

func TestLinesOfUnknownTotal(t *testing.T) {
	d, c, lines := newLog(t)
	b := d.Index("products", 0, 0)
	c.add(10 * time.Second)
	b.Add(50)
	if got, want := lines(), "msg=progress index=products rows=50 rows_per_second=5\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
	b.Stop()
	if got, want := lines(), "msg=stopped index=products rows=50 rows_per_second=5 took=10s\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
}

func TestLinesOfNothing(t *testing.T) {
	d, _, lines := newLog(t)
	d.Index("products", 0, 0).Done()
	if got, want := lines(), "msg=done index=products rows=0 took=0s\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
}

// screen is what a terminal shows after out was written to it.
func screen(t *testing.T, out string) []string {
	t.Helper()
	lines := []string{""}
	row := 0
	up := regexp.MustCompile(`^\x1b\[(\d+)A`)
	for out != "" {
		switch {
		case up.MatchString(out):
			var n int
			fmt.Sscanf(out, "\x1b[%dA", &n)
			if row -= n; row < 0 {
				t.Fatalf("the cursor left the screen: %q", lines)
			}
			out = up.ReplaceAllString(out, "")
		case strings.HasPrefix(out, "\r\x1b[J"):
			lines = append(lines[:row:row], "")
			out = out[len("\r\x1b[J"):]
		case out[0] == '\n':
			row++
			if row == len(lines) {
				lines = append(lines, "")
			}
			out = out[1:]
		default:
			lines[row] += out[:1]
			out = out[1:]
		}
	}
	return lines[:len(lines)-1]
}

func TestBars(t *testing.T) {
	var out strings.Builder
	c := &clock{time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}
	d := New(&out, true, nil)
	d.now = c.now
	expect := func(patterns ...string) {
		t.Helper()
		got := screen(t, out.String())
		if len(got) != len(patterns) {
			t.Fatalf("got %d lines, want %d:\n%s", len(got), len(patterns), strings.Join(got, "\n"))
		}
		for i, pattern := range patterns {
			if !regexp.MustCompile(pattern).MatchString(got[i]) {
				t.Errorf("line %d: got %q, want %s", i, got[i], pattern)
			}
			if n := len([]rune(got[i])); n > 79 {
				t.Errorf("line %d has %d columns: %q", i, n, got[i])
			}
		}
	}

	fmt.Fprintln(d, "before")
	products := d.Index("products", 0, 1000)
	orders := d.Index("orders", 0, 10)
	expect("^before$", `^products +0% \|`, `^orders +0% \|`)

	products.Add(250)
	expect("^before$", `^products +0% \|`, `^orders +0% \|`) // too soon to draw again
	c.add(time.Second)
	orders.Add(20) // more than the estimate
	expect("^before$", `^products +25% \|█+ +\| \(250/1000`, `^orders +9\d% \|█+ *\| \(20/21`)

	fmt.Fprintln(d, "a log line")
	expect("^before$", "^a log line$", `^products +25%`, `^orders +9\d%`)

	products.Done()
	products.Add(1)
	expect("^before$", "^a log line$", `^products +100% \|█{20}\| \(250/250`, `^orders +9\d%`)
	fmt.Fprint(d, "no end of line")
	expect("^before$", "^a log line$", `^products +100%`, "^no end of line$", `^orders +9\d%`)

	orders.Stop()
	unknown := d.Index("unknown", 0, 0)
	unknown.Add(7)
	unknown.Done()
	d.Index("empty", 0, 10).Done()
	fmt.Fprintln(d, "after")
	expect("^before$", "^a log line$", `^products +100%`, "^no end of line$", `^orders +9\d%`, `unknown +\(7/-`, `^empty +no rows$`, "^after$")
	for _, b := range []*Bar{products, orders, unknown} {
		if err := b.Err(); err != nil {
			t.Error(err)
		}
	}
}

type brokenWriter struct{ error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.error }

func TestBarReportsWrite(t *testing.T) {
	broken := errors.New("broken pipe")
	d := New(brokenWriter{broken}, true, nil)
	b := d.Index("products", 0, 10)
	b.Add(1)
	b.Done()
	if err := b.Err(); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func TestConcurrent(t *testing.T) {
	var out strings.Builder
	d := New(&out, true, nil)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			b := d.Index(fmt.Sprint("index", i), 0, 100)
			defer b.Stop()
			for range 100 {
				b.Add(1)
				fmt.Fprintln(d, "text")
			}
			b.Done()
		})
	}
	wg.Wait()
	if got := screen(t, out.String()); len(got) != 404 {
		t.Errorf("%d lines on the screen, want 400 of text and 4 bars", len(got))
	}
}

func TestGraph(t *testing.T) {
	for _, test := range []struct {
		rows, total int64
		want        string
	}{
		{0, 10, "  0% |                    | (0/10)"},
		{5, 10, " 50% |██████████          | (5/10)"},
		{9999, 10_000, " 99% |███████████████████ | (9999/10000)"}, // never full before its end
		{10, 10, "100% |████████████████████| (10/10)"},
		{7, 0, "(7/-)"},
		{7, -1, "(7/-)"},
		{1 << 61, 1 << 62, " 50% |██████████          | (2305843009213693952/4611686018427387904)"},
	} {
		b := &Bar{rows: test.rows, total: test.total}
		if got := b.graph(); got != test.want {
			t.Errorf("%d of %d: got %q, want %q", test.rows, test.total, got, test.want)
		}
	}
}
