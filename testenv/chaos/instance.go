package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"tidemark/testenv"
)

// restartPause is how long an instance that has ended by itself stays away, as under systemd.
const restartPause = 500 * time.Millisecond

// An instance is a tidemark run, or a worker, that is started again whenever it ends, unless it is kept down.
type instance struct {
	name    string // first, second, or that of a worker
	command string // run or apply
	file    string // of its mapping
	logPath string
	journal *journal
	box     *testenv.Sandbox
	log     *os.File

	mu      sync.Mutex
	down    int           // how many faults keep it down, less those that have it join
	killed  bool          // since the last start
	changed chan struct{} // closed and replaced when down changes
	last    string        // line of the log that says why it ends
}

func newInstance(name, command, folder string, j *journal) (*instance, error) {
	i := &instance{name: name, command: command, file: filepath.Join(folder, name+".yaml"), logPath: filepath.Join(folder, name+".log"), journal: j, changed: make(chan struct{})}
	var err error
	if i.log, err = os.Create(i.logPath); err != nil {
		return nil, err
	}
	if i.box, err = testenv.NewSandbox("chaos-" + name); err != nil {
		return nil, err
	}
	return i, nil
}

// keep has the instance run until ctx is done.
func (i *instance) keep(ctx context.Context, binary string) error {
	for {
		if err := i.awaitUp(ctx); err != nil {
			return i.end()
		}
		i.mu.Lock()
		i.killed, i.last = false, ""
		i.mu.Unlock()
		if err := i.box.Start(i.read, binary, i.command, "-c", i.file, "--log-format", "json", "--log-level", "debug"); err != nil {
			return fmt.Errorf("start instance %s: %w", i.name, err)
		}
		if err := i.box.Wait(ctx); err != nil {
			return i.end()
		}
		i.mu.Lock()
		killed, last := i.killed, i.last
		i.mu.Unlock()
		if !killed {
			i.journal.say("%s ended (%s): %s", i.name, orSuccess(i.box.Outcome()), last)
		}
		if pause(ctx, restartPause) != nil {
			return i.end()
		}
	}
}

func orSuccess(how string) string {
	if how == "" {
		return "success"
	}
	return how
}

// end ends the process; it need not be in order any more.
func (i *instance) end() error {
	if err := i.box.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return i.box.Wait(ctx)
}

// close removes what there is of it but its log.
func (i *instance) close() error {
	err := i.box.Close()
	_ = i.log.Close()
	return err
}

// read takes a line of the log.
func (i *instance) read(line string) {
	_, _ = i.log.WriteString(line) // a full disk shows elsewhere
	for _, bad := range []string{"DATA RACE", "panic: ", "fatal error: "} {
		if strings.HasPrefix(line, bad) || strings.Contains(line, "WARNING: "+bad) {
			i.journal.wrong("instance %s: %s", i.name, strings.TrimSpace(line))
		}
	}
	var entry struct{ Level, Msg, Error string }
	if json.Unmarshal([]byte(line), &entry) != nil {
		entry.Level, entry.Msg = "ERROR", strings.TrimSpace(line) // the error that it ends with
	}
	if entry.Level == "ERROR" {
		i.mu.Lock()
		i.last = shorten(strings.TrimSpace(entry.Msg + " " + entry.Error))
		i.mu.Unlock()
	}
}

func shorten(s string) string {
	const most = 300
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// kill ends it at once and keeps it down until lift.
func (i *instance) kill() error {
	i.set(1)
	i.mu.Lock()
	i.killed = true
	i.mu.Unlock()
	return i.box.Signal(syscall.SIGKILL)
}

// lift takes back one kill.
func (i *instance) lift() { i.set(-1) }

func (i *instance) set(by int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down += by
	close(i.changed)
	i.changed = make(chan struct{})
}

// restart ends it, in order or by SIGKILL, and it begins again by itself.
func (i *instance) restart(sig syscall.Signal) error {
	i.mu.Lock()
	i.killed = true
	i.mu.Unlock()
	return i.box.Signal(sig)
}

func (i *instance) awaitUp(ctx context.Context) error {
	for {
		i.mu.Lock()
		down, changed := i.down, i.changed
		i.mu.Unlock()
		if down <= 0 {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
