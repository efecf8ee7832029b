package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tidemark/testenv"
)

// named has the environment name all servers, so that none is started.
func named(t *testing.T) {
	t.Setenv("TIDEMARK_TEST_POSTGRES_URL", "postgres://named")
	t.Setenv("TIDEMARK_TEST_OPENSEARCH_URL", "http://named")
}

func TestRunPassesExitCodeOn(t *testing.T) {
	named(t)
	for _, test := range []struct {
		script string
		code   int
	}{
		{"exit 0", 0},
		{"exit 7", 7},
		{"kill -KILL $$", 128 + 9},
		{`test "$TIDEMARK_TEST_ENGINES,$TIDEMARK_TEST_OPENSEARCH_URL" = opensearch,http://named`, 0},
	} {
		code, err := run(nil, []testenv.Engine{testenv.OpenSearch3}, "1g", []string{"sh", "-c", test.script})
		if code != test.code || err != nil {
			t.Errorf("%s: code %d, %v", test.script, code, err)
		}
	}
	if code, err := run(nil, nil, "1g", []string{filepath.Join(t.TempDir(), "missing")}); code != 127 || err == nil {
		t.Errorf("a missing command gives code %d, %v", code, err)
	}
}

func TestRunPassesSignalsOn(t *testing.T) {
	named(t)
	ready := filepath.Join(t.TempDir(), "ready")
	if err := syscall.Mkfifo(ready, 0o600); err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal)
	done := make(chan int)
	go func() {
		script := `trap 'exit 5' TERM; : > "` + ready + `"; while :; do sleep 0.05; done`
		code, err := run(signals, nil, "1g", []string{"sh", "-c", script})
		if err != nil {
			t.Error(err)
		}
		done <- code
	}()
	// Opening a pipe waits for its other end: the trap is set.
	f, err := os.Open(ready)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	signals <- syscall.SIGTERM
	if code := <-done; code != 5 {
		t.Errorf("code %d", code)
	}
}

func TestExports(t *testing.T) {
	// What is printed is read by a shell, whatever the value holds.
	got, err := exec.Command("sh", "-c", export("A=it's $HOME")+"; printf %s \"$A\"").Output()
	if err != nil || strings.TrimSpace(string(got)) != "it's $HOME" {
		t.Errorf("a shell reads %q, %v", got, err)
	}
}
