package main

import (
	"errors"
	"net"
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
	t.Setenv("TIDEMARK_TEST_KAFKA_BROKERS", "named:9092")
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
		{`test "$TIDEMARK_TEST_ENGINES,$TIDEMARK_TEST_OPENSEARCH_URL,$TIDEMARK_TEST_KAFKA_BROKERS" = opensearch,http://named,named:9092`, 0},
	} {
		code, err := run(nil, choice{engines: []testenv.Engine{testenv.OpenSearch3}, kafka: true}, []string{"sh", "-c", test.script})
		if code != test.code || err != nil {
			t.Errorf("%s: code %d, %v", test.script, code, err)
		}
	}
	if code, err := run(nil, choice{}, []string{filepath.Join(t.TempDir(), "missing")}); code != 127 || err == nil {
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
		code, err := run(signals, choice{}, []string{"sh", "-c", script})
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

// A Kafka that nobody named is started for the command, which finds it, and ends with it.
func TestRunStartsKafka(t *testing.T) {
	testenv.SkipShort(t)
	named(t)
	t.Setenv(testenv.KafkaVariable, "")
	file := filepath.Join(t.TempDir(), "brokers")
	code, err := run(nil, choice{kafka: true}, []string{"sh", "-c", `printf %s "$TIDEMARK_TEST_KAFKA_BROKERS" > "` + file + `"`})
	if code != 0 || err != nil {
		var missing *testenv.MissingError
		if errors.As(err, &missing) {
			testenv.Lacks(t, missing.What, missing.Hint)
		}
		t.Fatalf("code %d, %v", code, err)
	}
	brokers, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := net.SplitHostPort(string(brokers)); err != nil {
		t.Fatalf("the command is told of %q: %v", brokers, err)
	}
	if conn, err := net.Dial("tcp", string(brokers)); err == nil {
		conn.Close()
		t.Errorf("%s is there after the command", brokers)
	}
}

func TestExports(t *testing.T) {
	// What is printed is read by a shell, whatever the value holds.
	got, err := exec.Command("sh", "-c", export("A=it's $HOME")+"; printf %s \"$A\"").Output()
	if err != nil || strings.TrimSpace(string(got)) != "it's $HOME" {
		t.Errorf("a shell reads %q, %v", got, err)
	}
}
