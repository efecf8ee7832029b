package cli

import (
	"bytes"
	"io"
	"os"
	"regexp"

	"golang.org/x/term"
)

// A color is the code of one, for terminals as of ECMA-48.
type color string

const (
	red    color = "31"
	green  color = "32"
	yellow color = "33"
	cyan   color = "36"
	bold   color = "1"
)

// isColored reports whether what is written to w is read in colours: by a terminal, unless NO_COLOR
// (https://no-color.org) or TERM says otherwise.
func isColored(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd()))
}

// A painting gives a color to what a pattern finds: to its first group, or all of it.
type painting struct {
	find *regexp.Regexp
	with color
}

var (
	paintedErrors = []painting{
		{regexp.MustCompile(`(?m)^(tidemark: |[^\s:][^:\n]*:\d+: )`), red},
		{regexp.MustCompile(`(?m)^ +(hint:)`), cyan},
	}
	paintedLogs = []painting{
		{regexp.MustCompile(`level=(ERROR)\b`), red},
		{regexp.MustCompile(`level=(WARN)\b`), yellow},
		{regexp.MustCompile(`\bmsg=("(?:[^"\\]|\\.)*"|\S+)`), bold},
		{regexp.MustCompile(`[ "\\n](hint[:=])`), cyan},
	}
	paintedStatus = []painting{
		{regexp.MustCompile(`(?m)^\S+ +(live)\b`), green},
		{regexp.MustCompile(`(?m)^\S+ +(backfilling|rebuilding)\b`), yellow},
		{regexp.MustCompile(`(?m)^\S+ +(incomplete|missing)\b`), red},
		{regexp.MustCompile(`\b(no instance follows it|does not exist)\b`), red},
	}
)

// paint returns text with colors, which take no room in it.
func paint(text []byte, paintings []painting) []byte {
	for _, p := range paintings {
		var b bytes.Buffer
		at := 0
		for _, m := range p.find.FindAllSubmatchIndex(text, -1) {
			begin, end := m[0], m[1]
			if len(m) > 3 && m[2] >= 0 {
				begin, end = m[2], m[3]
			}
			b.Write(text[at:begin])
			b.WriteString("\x1b[" + string(p.with) + "m")
			b.Write(text[begin:end])
			b.WriteString("\x1b[0m")
			at = end
		}
		b.Write(text[at:])
		text = b.Bytes()
	}
	return text
}

// A painter writes what it is given in colors. Each Write is whole lines.
type painter struct {
	w         io.Writer
	paintings []painting
}

func (p painter) Write(text []byte) (int, error) {
	if _, err := p.w.Write(paint(text, p.paintings)); err != nil {
		return 0, err
	}
	return len(text), nil
}
