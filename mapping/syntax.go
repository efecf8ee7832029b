package mapping

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	yamlError = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)
	// fromParser has the errors whose line the YAML library counts from 0.
	fromParser = regexp.MustCompile(`^(did not find expected (<|node content|'-'|key|',')|found (undefined tag handle|duplicate %|incompatible YAML))`)
	// inBlock has those of them whose line is where the mapping or list begins.
	inBlock = regexp.MustCompile(`expected ('-'|key|',')`)
	// badBytes has the errors of the step before, which knows no lines.
	badBytes = regexp.MustCompile(`UTF-8|UTF-16|Unicode|surrogate|control characters`)
)

// syntax reports an error of the YAML library, with the line made right.
func (r *reader) syntax(text []byte, err error) {
	p := Problem{File: r.file, Line: 1, Hint: "indent with spaces; put values with special characters in quotes, and inside { } and [ ] each ${…}, too"}
	m := yamlError.FindStringSubmatch(err.Error())
	if m == nil { // every error of the library has this form
		m = []string{"", "", err.Error()}
	}
	if line, err := strconv.Atoi(m[1]); err == nil {
		p.Line = line
	}
	what := m[2]
	switch {
	case strings.HasPrefix(what, "unknown anchor '"):
		// The library repeats the name without its line. It may be a password that
		// begins with an asterisk, so we do the opposite.
		anchor := "*" + strings.TrimSuffix(strings.TrimPrefix(what, "unknown anchor '"), "' referenced")
		p.Line = lineAt(text, bytes.Index(text, []byte(anchor)))
		what, p.Hint = "an alias without its anchor", "put a value that begins with * in quotes"
	case badBytes.MatchString(what):
		p.Line = lineAt(text, firstBadByte(text))
		p.Hint = "save the file as UTF-8"
	case fromParser.MatchString(what):
		if m[1] != "" {
			p.Line++
		}
		if inBlock.MatchString(what) {
			what += ", in the mapping or list that begins here"
		}
	}
	p.Text = "not YAML: " + what
	r.problems = append(r.problems, p)
}

// lineAt returns the line, from 1, of the byte at offset, or 0 without one.
func lineAt(text []byte, offset int) int {
	if offset < 0 {
		return 0
	}
	return 1 + bytes.Count(text[:offset], []byte("\n"))
}

// firstBadByte returns the offset of what YAML does not take as text, or -1.
func firstBadByte(text []byte) int {
	for i := 0; i < len(text); {
		c, size := utf8.DecodeRune(text[i:])
		if c == utf8.RuneError && size == 1 || unicode.IsControl(c) && !unicode.IsSpace(c) {
			return i
		}
		i += size
	}
	return -1
}
