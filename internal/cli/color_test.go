package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestPaint has the words in colors that somebody looks for, and nothing else changed.
func TestPaint(t *testing.T) {
	tests := []struct {
		text, want string
		with       []painting
	}{
		{"t.yaml:2: search.urls: x\n    hint: do this\n", "<31>t.yaml:2: <0>search.urls: x\n    <36>hint:<0> do this\n", paintedErrors},
		{"tidemark: a: b\n", "<31>tidemark: <0>a: b\n", paintedErrors},
		{"time=1 level=WARN msg=\"a \\\" b\" x=\"level=ok\"\n", "time=1 level=<33>WARN<0> msg=<1>\"a \\\" b\"<0> x=\"level=ok\"\n", paintedLogs},
		{"level=INFO msg=done\n", "level=INFO msg=<1>done<0>\n", paintedLogs},
		{"products  live  1\norders    missing\n\nslot s: no instance follows it\n", "products  <32>live<0>  1\norders    <31>missing<0>\n\nslot s: <31>no instance follows it<0>\n", paintedStatus},
	}
	codes := strings.NewReplacer("\x1b[", "<", "31m", "31>", "32m", "32>", "33m", "33>", "36m", "36>", "0m", "0>", "<1m", "<1>")
	for _, test := range tests {
		var b bytes.Buffer
		if n, err := (painter{&b, test.with}).Write([]byte(test.text)); err != nil || n != len(test.text) {
			t.Errorf("%q: wrote %d, %v", test.text, n, err)
		}
		if got := strings.ReplaceAll(codes.Replace(b.String()), "<1m", "<1>"); got != test.want {
			t.Errorf("got  %q\nwant %q", got, test.want)
		}
	}
}

// TestColorsAreForTerminals has none where the output is a file or a pipe.
func TestColorsAreForTerminals(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if isColored(w) || isColored(new(bytes.Buffer)) {
		t.Error("a pipe gets colors")
	}
	if terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0); err == nil {
		defer terminal.Close()
		t.Setenv("TERM", "xterm")
		t.Setenv("NO_COLOR", "")
		if !isColored(terminal) {
			t.Error("a terminal gets no colors")
		}
		for name, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
			t.Setenv("TERM", "xterm")
			t.Setenv("NO_COLOR", "")
			t.Setenv(name, value)
			if isColored(terminal) {
				t.Errorf("%s=%s gets colors", name, value)
			}
		}
	}
}
