package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds what is waited for; it says that something is wrong, not how fast it is.
const patience = 2 * time.Minute

// An instance is a running command.
type instance struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended and all of its output is read
	err   error         // valid then

	killed bool // by the test

	mu      sync.Mutex
	lines   []string      // of the standard error
	changed chan struct{} // closed and replaced when a line has come
}

// start starts the command with the setup's file; a failure of the test shows its log.
// It is killed at the end of the test if it still runs.
func (s *setup) start(t testing.TB, args ...string) *instance {
	t.Helper()
	return s.startBinary(t, binary(t), args...)
}

func (s *setup) startBinary(t testing.TB, path string, args ...string) *instance {
	t.Helper()
	s.write(t)
	s.kafka.begin(t, s, args)
	args = append(args, "-c", s.file, "--log-level", "debug", "--log-format", "json")
	i := &instance{cmd: exec.Command(path, args...), ended: make(chan struct{}), changed: make(chan struct{})}
	i.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	i.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(i.cmd.SysProcAttr)
	pipe, err := i.cmd.StderrPipe()
	must(t, err)
	must(t, i.cmd.Start())
	go func() {
		defer close(i.ended)
		lines := bufio.NewReader(pipe)
		for {
			line, err := lines.ReadString('\n')
			if line = strings.TrimRight(line, "\n"); line != "" {
				i.add(line)
			}
			if err != nil {
				break
			}
		}
		i.err = i.cmd.Wait()
	}()
	t.Cleanup(func() {
		killed := i.killed
		i.kill()
		if t.Failed() && !killed {
			t.Logf("%s ended: %s; its log:\n%s", strings.Join(args, " "), i.outcome(), i.tail(60))
		}
	})
	return i
}

func (i *instance) add(line string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lines = append(i.lines, line)
	close(i.changed)
	i.changed = make(chan struct{})
}

// log is all of the standard error so far.
func (i *instance) log() string { return i.tail(1 << 30) }

// tail is the end of the standard error, where debug lines count only if nothing else
// says anything.
func (i *instance) tail(n int) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return strings.Join(i.lines[max(0, len(i.lines)-n):], "\n")
}

// awaitLog waits for a line with the text in it, and returns it.
func (i *instance) awaitLog(t testing.TB, text string) string {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for seen := 0; ; {
		i.mu.Lock()
		lines, changed := i.lines, i.changed
		i.mu.Unlock()
		for ; seen < len(lines); seen++ {
			if strings.Contains(lines[seen], text) {
				return lines[seen]
			}
		}
		select {
		case <-changed:
		case <-i.ended:
			i.mu.Lock()
			more := len(i.lines) > seen
			i.mu.Unlock()
			if !more {
				t.Fatalf("the instance has ended (%s) without saying %q", i.outcome(), text)
			}
		case <-deadline.C:
			t.Fatalf("the instance has not said %q within %s", text, patience)
		}
	}
}

// mayLog waits for a line with the text in it, no longer than limit.
func (i *instance) mayLog(t testing.TB, text string, limit time.Duration) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for seen := 0; ; {
		i.mu.Lock()
		lines, changed := i.lines, i.changed
		i.mu.Unlock()
		for ; seen < len(lines); seen++ {
			if strings.Contains(lines[seen], text) {
				return
			}
		}
		select {
		case <-changed:
		case <-i.ended:
			return
		case <-deadline.C:
			return
		}
	}
}

// outcome returns how it ended.
func (i *instance) outcome() string {
	select {
	case <-i.ended:
	default:
		return "still running"
	}
	if i.err == nil {
		return "exit code 0"
	}
	return i.err.Error()
}

// wait waits for its end and returns the exit code, -1 if a signal ended it.
func (i *instance) wait(t testing.TB) int {
	t.Helper()
	return i.waitFor(t, patience)
}

func (i *instance) waitFor(t testing.TB, limit time.Duration) int {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	select {
	case <-i.ended:
	case <-deadline.C:
		_ = i.cmd.Process.Signal(syscall.SIGQUIT) // shows what it is at
		<-i.ended
		t.Fatalf("it has not ended within %s:\n%s", limit, i.tail(400))
	}
	return i.cmd.ProcessState.ExitCode()
}

// succeed waits for its end, which must be a success.
func (i *instance) succeed(t testing.TB) {
	t.Helper()
	if code := i.wait(t); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, i.tail(20))
	}
}

// fail waits for its end, which must be with this code, and with every one of the texts
// in what it says at last.
func (i *instance) fail(t testing.TB, code int, texts ...string) {
	t.Helper()
	if got := i.wait(t); got != code {
		t.Fatalf("exit code %d, want %d:\n%s", got, code, i.tail(20))
	}
	for _, text := range texts {
		if last := i.tail(6); !strings.Contains(last, text) {
			t.Errorf("it ends without saying %q:\n%s", text, last)
		}
	}
}

// kill ends it at once, as a crash would.
func (i *instance) kill() {
	i.killed = true
	_ = i.cmd.Process.Kill() // it may have ended
	<-i.ended
}

// stopLimit is how long an orderly end may take.
const stopLimit = 10 * time.Second

// stop asks it to end and waits for that.
func (i *instance) stop(t testing.TB) {
	t.Helper()
	start := time.Now()
	must(t, i.cmd.Process.Signal(syscall.SIGTERM))
	if code := i.waitFor(t, stopLimit); code != 0 {
		t.Fatalf("exit code %d after SIGTERM:\n%s", code, i.tail(20))
	}
	t.Logf("left %s after SIGTERM", time.Since(start).Round(time.Millisecond))
}

// once runs the command with --once, which must succeed, and returns its log.
func (s *setup) once(t testing.TB, args ...string) *instance {
	t.Helper()
	i := s.start(t, append([]string{"run", "--once"}, args...)...)
	i.succeed(t)
	return i
}

// admin is the address of the admin server, from the log: the last one, as each begin has its own.
func (i *instance) admin(t testing.TB) string {
	t.Helper()
	const listens = "admin server listens"
	last := i.awaitLog(t, listens)
	for line := range strings.SplitSeq(i.log(), "\n") {
		if strings.Contains(line, listens) {
			last = line
		}
	}
	var line struct {
		Address string `json:"address"`
	}
	must(t, json.Unmarshal([]byte(last), &line))
	return line.Address
}

// awaitReady waits until /readyz answers with the status, and with the text in the answer.
func (i *instance) awaitReady(t testing.TB, status int, text string) {
	t.Helper()
	i.poll(t, fmt.Sprintf("/readyz answers %d and %q", status, text), func(ctx context.Context) error {
		url := "http://" + i.admin(t) + "/readyz"
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != status || !strings.Contains(string(body), text)) {
			err = errors.New(resp.Status + ": " + string(body))
		}
		return err
	})
}
