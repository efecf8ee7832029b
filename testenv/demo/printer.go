package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// A printer writes whole lines for several goroutines.
type printer struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *printer) print(format string, args ...any) { p.line("demo", fmt.Sprintf(format, args...)) }

// line writes a line of whoever it comes from.
func (p *printer) line(from, text string) {
	p.plain(fmt.Sprintf("%-8s | %s\n", from, strings.TrimRight(text, "\n")))
}

func (p *printer) plain(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.w, text) // whom should a failure be told
}
