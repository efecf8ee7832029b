package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// A journal is what happens, as it goes. It may be used by several goroutines.
type journal struct {
	out   io.Writer
	begin time.Time

	mu     sync.Mutex
	last   []string // lines, at most memory
	failed []string // what was wrong
	fail   func()   // called when something is
}

// memory is how many lines are repeated after a failure.
const memory = 40

func newJournal(out io.Writer, fail func()) *journal {
	return &journal{out: out, begin: time.Now(), fail: fail}
}

func (j *journal) say(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.add(fmt.Sprintf(format, args...))
}

// add is called with j.mu held.
func (j *journal) add(text string) {
	line := fmt.Sprintf("%7.1f  %s", time.Since(j.begin).Seconds(), strings.ReplaceAll(text, "\n", "\n         "))
	if j.last = append(j.last, line); len(j.last) > memory {
		j.last = j.last[1:]
	}
	fmt.Fprintln(j.out, line)
}

// wrong notes that something is not as it has to be, and ends the run.
func (j *journal) wrong(format string, args ...any) {
	j.mu.Lock()
	text := fmt.Sprintf(format, args...)
	j.add("WRONG: " + text)
	j.failed = append(j.failed, text)
	j.mu.Unlock()
	j.fail()
}

// failures are what was wrong.
func (j *journal) failures() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.failed...)
}

// tail returns the last lines.
func (j *journal) tail() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.last, "\n")
}
