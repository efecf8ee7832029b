package mapping

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// maxSecretFile bounds what ${file:…} reads.
const maxSecretFile = 64 << 10

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// An expander fills in the ${…} of one value. What it puts in is not looked at
// again, so a password may hold any character.
type expander struct {
	dir       string // of the mapping file: relative paths begin here
	lookupEnv func(string) (string, bool)
}

// expand replaces ${NAME} by the variable, ${file:PATH} by the file's text
// without the newline at its end, and $$ by $. A $ before anything else stays.
// It gives up at the first one that it cannot fill in, and says why, and the hint.
func (e expander) expand(s string) (expanded, text, hint string) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), "", ""
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			s = after[1:]
			continue
		case !strings.HasPrefix(after, "{"):
			b.WriteByte('$')
			s = after
			continue
		}
		inner, rest, closed := strings.Cut(after[1:], "}")
		if !closed {
			return "", "${ without }", "write $$ for a dollar that is meant literally"
		}
		s = rest
		if path, isFile := strings.CutPrefix(inner, "file:"); isFile {
			value, err := e.readFile(path)
			if err != nil {
				return "", fmt.Sprintf("${file:%s}: %v", path, err), "it must be a file of at most 64KiB, readable for the user that Tidemark runs as"
			}
			b.WriteString(value)
			continue
		}
		if !envName.MatchString(inner) {
			// Not repeated: it may be a piece of a password.
			return "", "between ${ and } stands neither the name of an environment variable nor file:PATH", "write $$ for a dollar that is meant literally"
		}
		value, ok := e.lookupEnv(inner)
		if !ok {
			return "", fmt.Sprintf("the environment variable %s is not set", inner), "set it, or read a file: ${file:/run/secrets/" + strings.ToLower(inner) + "}"
		}
		b.WriteString(value)
	}
}

func (e expander) readFile(path string) (string, error) {
	text, err := readBounded(e.resolve(path), maxSecretFile)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

// resolve returns the path as seen from the folder of the mapping file.
func (e expander) resolve(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(e.dir, path)
}

// readBounded reads a regular file of at most limit bytes: a pipe or a device
// could keep the start waiting for ever. Its errors do not repeat the path.
func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return text, nil
}

func withoutPath(err error) error {
	if e, ok := err.(*os.PathError); ok {
		return e.Err
	}
	return err
}
