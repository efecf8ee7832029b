// Package progress shows how far long work on indices has come: a bar for each index on a
// terminal, log lines elsewhere. It starts no goroutines; what is shown changes when
// something is added.
package progress

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	lineInterval = 5 * time.Second        // between two log lines of one index
	drawInterval = 100 * time.Millisecond // between two drawings of the bars
)

// A Display shows the bars that belong to it. It may be used by several goroutines at once.
type Display struct {
	w        io.Writer
	terminal bool
	logger   *slog.Logger
	now      func() time.Time

	mu    sync.Mutex // guards the fields below, and the bars
	bars  []*Bar     // that have not ended, in the order they are drawn in
	lines int        // that are drawn below the text
	drawn time.Time
}

// New returns a Display without bars. On a terminal it draws on w, elsewhere it logs to
// logger, which may be nil on a terminal.
//
// Whatever else is written to that terminal must go through [Display.Write], so that it
// comes to stand above the bars: give the Display to the logger in place of w.
func New(w io.Writer, terminal bool, logger *slog.Logger) *Display {
	return &Display{w: w, terminal: terminal, logger: logger, now: time.Now}
}

// Write writes whole lines to the Display's writer, above the bars if there are any.
func (d *Display) Write(text []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.terminal || len(d.bars) == 0 {
		return d.w.Write(text)
	}
	if err := d.draw(text); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Index adds a bar for the index of that name. total is how many rows are expected,
// usually an estimate, and below 1 if nothing is known; when more come, it grows. done of
// them were counted in an earlier run: they are part of the total, not of the rate.
func (d *Display) Index(name string, done, total int64) *Bar {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	b := &Bar{display: d, name: name, total: total, before: done, rows: done, start: now, rate: newRate(now), last: now, lastRows: done}
	d.bars = append(d.bars, b)
	if d.terminal {
		b.raiseTotal()
		b.drawError = d.draw(nil)
	}
	return b
}

// RowsPerSecond is how many rows of an index were counted in a second over the last half
// minute; 0 if it has no bar.
func (d *Display) RowsPerSecond(index string) float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.bars {
		if b.name == index {
			return b.rate.perSecond(d.now())
		}
	}
	return 0
}

// draw writes text and then the bars, over the bars that were drawn before.
func (d *Display) draw(text []byte) error {
	var out bytes.Buffer
	if d.lines > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", d.lines) // to the first of them
	}
	out.WriteString("\r\x1b[J") // clears to the end of the screen
	out.Write(text)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		out.WriteByte('\n')
	}
	width := d.width()
	for _, b := range d.bars {
		out.WriteString(b.line(width))
		out.WriteByte('\n')
	}
	d.lines = len(d.bars)
	d.drawn = d.now()
	if _, err := d.w.Write(out.Bytes()); err != nil {
		return fmt.Errorf("draw progress: %w", err)
	}
	return nil
}

// width is how many columns a line may have: one more would make it two.
func (d *Display) width() int {
	if f, ok := d.w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 1 {
			return columns - 1
		}
	}
	return 79
}

// A Bar counts the rows of one index.
type Bar struct {
	display *Display
	name    string

	// Guarded by the Display's mutex.
	total     int64 // below 1 if it is not known
	before    int64 // rows of an earlier run
	rows      int64 // with those
	start     time.Time
	rate      rate
	last      time.Time // of the last log line
	lastRows  int64     // as of that line
	ended     bool
	drawError error
}

// Add counts n more rows.
func (b *Bar) Add(n int64) {
	d := b.display
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.ended {
		return
	}
	now := d.now()
	b.rows += n
	b.rate.add(now, n)
	if d.terminal {
		b.raiseTotal()
		if now.Sub(d.drawn) >= drawInterval {
			b.drawError = cmp.Or(b.drawError, d.draw(nil))
		}
		return
	}
	if now.Sub(b.last) >= lineInterval {
		b.log("progress", now)
		b.last, b.lastRows = now, b.rows
	}
}

// raiseTotal keeps a bar from being full before Done says so: the estimate was too low.
func (b *Bar) raiseTotal() {
	if b.total > 0 && b.rows >= b.total {
		b.total = b.rows + max(1, b.rows/100)
	}
}

// Done says that all rows were counted. Only the first call of Done or Stop counts.
func (b *Bar) Done() { b.end(true) }

// Stop says that the work ended before its end, and is meant to be deferred: after Done it
// does nothing.
func (b *Bar) Stop() { b.end(false) }

func (b *Bar) end(complete bool) {
	d := b.display
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.ended {
		return
	}
	b.ended = true
	d.bars = slices.DeleteFunc(d.bars, func(other *Bar) bool { return other == b })
	if !d.terminal {
		message := "stopped"
		if complete {
			message = "done"
		}
		b.lastRows, b.last = b.before, b.start // the rate of all of it
		b.log(message, d.now())
		return
	}
	if complete && b.total > 0 {
		b.total = b.rows // what there was, not the estimate
	}
	last := b.line(d.width()) // becomes text above those that go on
	if complete && b.rows == 0 {
		last = fmt.Sprintf("%-20s no rows", b.name)
	}
	b.drawError = cmp.Or(b.drawError, d.draw([]byte(last)))
}

// Err returns what went wrong with the drawing, nil if nothing did. It is no reason to end
// the work that is shown.
func (b *Bar) Err() error {
	b.display.mu.Lock()
	defer b.display.mu.Unlock()
	return b.drawError
}

// line is the bar as text of at most width columns.
func (b *Bar) line(width int) string {
	now := b.display.now()
	text := fmt.Sprintf("%-20s %s", b.name, b.graph())
	elapsed := now.Sub(b.start)
	if b.ended {
		if s := elapsed.Seconds(); s > 0 {
			text += fmt.Sprintf(" %.0f/s", float64(b.rows-b.before)/s)
		}
		text += fmt.Sprintf(" took %v", elapsed.Round(time.Second))
	} else {
		text += fmt.Sprintf(" %.0f/s", b.rate.perSecond(now))
		if left, ok := b.left(now); ok {
			text += fmt.Sprintf(" %v left", left)
		}
	}
	columns := []rune(text)
	return string(columns[:min(len(columns), width)])
}

// graph is the bar itself: "25% |█████               | (250/1000)", or the rows alone if
// their total is not known.
func (b *Bar) graph() string {
	if b.total < 1 {
		return fmt.Sprintf("(%d/-)", b.rows)
	}
	const width = 20
	part := float64(b.rows) / float64(b.total)
	full := int(part * width)
	return fmt.Sprintf("%3d%% |%s%s| (%d/%d)", int(part*100), strings.Repeat("█", full), strings.Repeat(" ", width-full), b.rows, b.total)
}

// left is how long the rest takes at the present rate, if that can be said.
func (b *Bar) left(now time.Time) (time.Duration, bool) {
	perSecond := b.rate.perSecond(now)
	if perSecond <= 0 || b.total <= b.rows {
		return 0, false
	}
	return time.Duration(float64(b.total-b.rows) / perSecond * float64(time.Second)).Round(time.Second), true
}

// log writes one line: the rows, what part of the total they are, their rate since the last
// line, and how long the rest takes.
func (b *Bar) log(message string, now time.Time) {
	attrs := []any{"index", b.name, "rows", b.rows}
	if !b.ended && b.total > 0 {
		attrs = append(attrs, "percent", min(99, b.rows*100/b.total))
	}
	if since := now.Sub(b.last).Seconds(); since > 0 {
		attrs = append(attrs, "rows_per_second", int64(float64(b.rows-b.lastRows)/since))
	}
	if b.ended {
		attrs = append(attrs, "took", now.Sub(b.start).Round(time.Millisecond))
	} else if left, ok := b.left(now); ok {
		attrs = append(attrs, "remaining", left)
	}
	b.display.logger.Info(message, attrs...)
}
