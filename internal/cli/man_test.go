package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMan writes the man pages: one for each command, the same each time, which name every flag.
func TestMan(t *testing.T) {
	folder, again := filepath.Join(t.TempDir(), "man1"), t.TempDir()
	for _, f := range []string{folder, again} {
		if code, out, wrong := tidemark(t, "man", f); code != exitDone || out+wrong != "" {
			t.Fatalf("%d %s%s", code, out, wrong)
		}
	}
	root, _ := newRoot(os.Stderr)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	pages := 0
	for _, c := range withPage(root) {
		pages++
		name := pageName(c) + ".1"
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if same, err := os.ReadFile(filepath.Join(again, name)); err != nil || string(same) != string(text) {
			t.Errorf("%s is another one the second time, %v", name, err)
		}
		// The help of the command has nothing that the page lacks.
		plain := strings.NewReplacer(`\-`, "-", `\e`, `\`, `\&`, "", `\[u2026]`, "…").Replace(string(text))
		for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(c.UsageString(), -1) {
			if !strings.Contains(plain, flag) {
				t.Errorf("%s lacks %s", name, flag)
			}
		}
		if !strings.Contains(plain, c.Short[1:]) {
			t.Errorf("%s does not say what the command is for", name)
		}
		if groff, err := exec.LookPath("groff"); err == nil {
			out, err := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z", filepath.Join(folder, name)).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("groff on %s: %v\n%s", name, err, out)
			}
		}
	}
	if pages < 15 {
		t.Errorf("there are %d pages", pages)
	}
	if got, want := roff(".SH\n'x \\a-b…"), "\\&.SH\n\\&'x \\ea\\-b\\[u2026]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
