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

	"github.com/prometheus/procfs"
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
	Begin  time.Time
	Wall   time.Duration
	CPU    time.Duration // user and system
	Memory int64         // peak resident set, bytes; 0 is not known
	Failed string        // "" is a success

	// What the tender does not know.
	filling   time.Duration // of the index, alone; 0 where there was nothing to fill
	following time.Duration // from the first message of the slot to the end
	written   written
}

// begun is what a tender says first.
type begun struct {
	Process int // number of the command's; 0: it did not start
}

// tend is a tender's main: it runs the command in its arguments to the end, and writes its
// number and then what it took to descriptor 3.
func tend() {
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	os.Unsetenv(tenderVariable)
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C of the terminal is ours to pass on
	told := json.NewEncoder(os.NewFile(3, "usage"))       // nobody reads it any more: then nobody needs it
	u := usage{Begin: time.Now()}
	err := cmd.Start()
	if err != nil {
		_ = told.Encode(begun{})
	} else {
		_ = told.Encode(begun{Process: cmd.Process.Pid})
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
		u.Wall = time.Since(u.Begin)
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
	_ = told.Encode(u)
	os.Exit(0)
}

// A process is a command that runs under a tender.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	number int           // of the command's process; 0: it did not start
	ended  chan struct{} // closed when usage and err are there
	usage  usage
	err    error // of the tender
}

// start starts a command, whose output goes to log. The caller waits for its end.
func start(log io.Writer, command ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self, command...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), tenderVariable+"=1")
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = log, log, []*os.File{w}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.stdin, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	w.Close() // the tender has its own, whose end ends what it says
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	told := json.NewDecoder(r)
	var first begun
	if err := told.Decode(&first); err != nil {
		p.end()
		return nil, errors.Join(fmt.Errorf("tender of %s: %w", command[0], err), p.cmd.Wait(), r.Close())
	}
	p.number = first.Process
	go func() { // until the command ends; wait waits for it
		defer close(p.ended)
		defer r.Close()
		p.err = told.Decode(&p.usage)
		if waited := p.cmd.Wait(); p.err == nil {
			p.err = waited
		}
	}()
	return p, nil
}

// processorTime is what the command has used of the processors until now, user and system.
func (p *process) processorTime() (time.Duration, error) {
	proc, err := procfs.NewProc(p.number)
	if err != nil {
		return 0, err
	}
	stat, err := proc.Stat()
	return time.Duration(stat.CPUTime() * float64(time.Second)), err
}

// context returns a context that ends with the command, too.
func (p *process) context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() { // until the returned function is called
		defer close(watched)
		select {
		case <-p.ended:
			cancel(errors.New("it ended, and was not told to"))
		case <-stop:
		}
	}()
	return ctx, func() { close(stop); <-watched; cancel(nil) }
}

// end asks the command to end.
func (p *process) end() { _ = p.stdin.Close() } // a second time: it ends already

// wait waits for the end of the command, and asks for it when ctx is done.
func (p *process) wait(ctx context.Context) (usage, error) {
	stop := context.AfterFunc(ctx, p.end)
	defer stop()
	<-p.ended
	switch {
	case ctx.Err() != nil:
		return p.usage, context.Cause(ctx)
	case p.err != nil:
		return p.usage, fmt.Errorf("tender of the tool: %w", p.err)
	}
	return p.usage, nil
}
