package mapping

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"one": "p4ss\n", "two": "a\n\nb\r\n", "large": strings.Repeat("x", maxSecretFile+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := expander{dir: dir, lookupEnv: env("A", "1", "EMPTY", "", "NESTED", "${A}$$")}
	tests := []struct{ in, want, text string }{
		{"", "", ""},
		{"plain", "plain", ""},
		{"${A}", "1", ""},
		{"x${A}y${A}z${EMPTY}", "x1y1z", ""},
		{"${NESTED}", "${A}$$", ""},
		{"$$", "$", ""},
		{"$${A}", "${A}", ""},
		{"$$$$", "$$", ""},
		{"$$${A}", "$1", ""},
		{"^a$ $1 $", "^a$ $1 $", ""},
		{"${file:one}", "p4ss", ""},
		{"${file:" + filepath.Join(dir, "two") + "}", "a\n\nb", ""},
		{"${B}", "", "the environment variable B is not set"},
		{"${file:none}", "", "${file:none}: no such file or directory"},
		{"${file:large}", "", "${file:large}: more than 65536 bytes"},
		{"${file:}", "", "${file:}: not a regular file"},
		{"${A", "", "${ without }"},
		{"${A:-x}", "", "between ${ and } stands neither the name of an environment variable nor file:PATH"},
		{"${}", "", "between ${ and } stands neither the name of an environment variable nor file:PATH"},
	}
	for _, test := range tests {
		got, text, hint := e.expand(test.in)
		if got != test.want || text != test.text || (text == "") != (hint == "") {
			t.Errorf("%s: got %q, %q (%q), want %q, %q", test.in, got, text, hint, test.want, test.text)
		}
	}
}

// TestExpandedYAMLIsNoYAML puts everything that means something in YAML into a value.
func TestExpandedYAMLIsNoYAML(t *testing.T) {
	const password = "a: [b, *c]\n- &d !e {f: \"g'\n# ${A} $$ %"
	for _, value := range []string{"${P}", `"${P}"`, "'${P}'", "|-\n    ${P}"} {
		c, err := Parse("t.yaml", []byte("postgres:\n  password: "+value+"\nsearch: {urls: [http://h]}\nindices: {t: {table: t}}"), env("P", password))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Postgres.Password.Reveal(); got != password {
			t.Errorf("%s: got %q", value, got)
		}
	}
}
