package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// The tool is started by a tender, which is this executable run again, for two reasons.
// The tool must not outlive us, not even when we are killed: the tender ends it when its
// own standard input ends. And the kernel counts into a process's peak memory what the
// process that started it had, so that must be a small one.

// tenderVariable is set in the environment of a tender alone.
const tenderVariable = "TIDEMARK_BENCH_TENDER"

// endGrace is how long the tool may take to end in order.
const endGrace = 15 * time.Second

// usage is what one run of the tool took.
type usage struct {
	Wall   time.Duration
	CPU    time.Duration // user and system
	Memory int64         // peak resident set, bytes
	Failed string        // "" is a success
}

// tend is a tender's main: it runs the command in its arguments to the end, and writes
// what it took to descriptor 3.
func tend() {
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	os.Unsetenv(tenderVariable)
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C of the terminal is ours to pass on
	var u usage
	begin := time.Now()
	err := cmd.Start()
	if err == nil {
		ended := make(chan struct{})
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(endGrace):
				_ = cmd.Process.Kill()
			}
		}()
		err = cmd.Wait()
		u.Wall = time.Since(begin)
		close(ended)
		u.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if rusage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			u.Memory = int64(rusage.Maxrss)
			if runtime.GOOS != "darwin" {
				u.Memory *= 1024
			}
		}
	}
	if err != nil {
		u.Failed = err.Error()
	}
	_ = json.NewEncoder(os.NewFile(3, "usage")).Encode(u) // nobody reads it any more: then nobody needs it
	os.Exit(0)
}

// A process is a command that runs under a tender.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	usage *os.File
}

// start starts a command, whose output goes to log.
func start(log io.Writer, command ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	p := &process{cmd: exec.Command(self, command...), usage: r}
	p.cmd.Env = append(os.Environ(), tenderVariable+"=1")
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = log, log, []*os.File{w}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.stdin, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return p, nil
}

// end asks the command to end.
func (p *process) end() { _ = p.stdin.Close() } // a second time: it ends already

// wait waits for the end of the command, and asks for it when ctx is done.
func (p *process) wait(ctx context.Context) (usage, error) {
	stop := context.AfterFunc(ctx, p.end)
	defer stop()
	defer p.usage.Close()
	var u usage
	err := json.NewDecoder(p.usage).Decode(&u)
	if waited := p.cmd.Wait(); err == nil {
		err = waited
	}
	switch {
	case ctx.Err() != nil:
		return u, context.Cause(ctx)
	case err != nil:
		return u, fmt.Errorf("tender of the tool: %w", err)
	}
	return u, nil
}
