package testenv

import (
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

// A server must not outlive the test binary, not even one that is killed and
// can clean up nothing. So between them stands a supervisor: this same
// executable, run again. It takes orders from a pipe, and when the pipe ends,
// for whatever reason, it ends its server and removes the server's folders.

// supervisorVariable is set in the environment of a supervisor alone.
const supervisorVariable = "TIDEMARK_TESTENV_SUPERVISOR"

// endGrace is how long a server whose data are thrown away may take to end.
const endGrace = 5 * time.Second

// An order is one line from the test binary to its supervisor.
type order struct {
	Start   *command       `json:",omitempty"`
	Signal  syscall.Signal `json:",omitempty"` // to the running child
	Folders []string       `json:",omitempty"` // to remove at the end
	Finally []command      `json:",omitempty"` // to run at the end, before the folders go
}

// A report is one line from a supervisor: Started or Failed answers a Start,
// Signalled a Signal; Ended says that the child is gone.
type report struct {
	Started, Signalled, Ended bool
	PID                       int
	Failed, How               string
}

// A command is a child of the supervisor.
type command struct {
	Path      string
	Args, Env []string
	Folder    string         // it is started in
	Log       string         // file that its output is appended to
	Account   *account       // it runs under; nil: ours
	End       syscall.Signal // ends it soon, its data are thrown away
}

func init() {
	if os.Getenv(supervisorVariable) == "" {
		return
	}
	// A child asks the kernel to be signalled when the thread that started it
	// ends; locked to the main goroutine, that is the process's main thread.
	runtime.LockOSThread()
	// The test binary may be gone when something is reported, and whoever ended
	// it may have hung up the terminal.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	supervise(os.Stdin, os.Stdout)
	os.Exit(0)
}

type supervisor struct {
	reports *json.Encoder
	child   *exec.Cmd // nil: none runs
	end     syscall.Signal
	exited  chan error // of the child
	folders []string
	finally []command
}

func supervise(in io.Reader, out io.Writer) {
	s := &supervisor{reports: json.NewEncoder(out), exited: make(chan error, 1)}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGINT, syscall.SIGTERM)
	orders := make(chan order)
	go func() {
		defer close(orders)
		for lines := json.NewDecoder(in); ; {
			var o order
			if lines.Decode(&o) != nil {
				return
			}
			orders <- o
		}
	}()
	defer s.cleanUp()
	for {
		select {
		case o, open := <-orders:
			if !open {
				return
			}
			s.obey(o)
		case err := <-s.exited:
			s.child = nil
			s.report(report{Ended: true, How: how(err)})
		case <-terminate:
			return
		}
	}
}

func (s *supervisor) obey(o order) {
	s.folders = append(s.folders, o.Folders...)
	s.finally = append(s.finally, o.Finally...)
	if o.Signal != 0 {
		if s.child != nil {
			_ = s.child.Process.Signal(o.Signal) // ended meanwhile: that is reported
		}
		s.report(report{Signalled: true})
	}
	if o.Start == nil {
		return
	}
	child, err := o.Start.start()
	if err != nil {
		s.report(report{Failed: err.Error()})
		return
	}
	s.child, s.end = child, o.Start.End
	s.report(report{Started: true, PID: child.Process.Pid})
	go func() { s.exited <- child.Wait() }()
}

// report fails only when the test binary is gone, which the orders' end shows.
func (s *supervisor) report(r report) { _ = s.reports.Encode(r) }

func (s *supervisor) cleanUp() {
	if s.child != nil {
		_ = s.child.Process.Signal(s.end)
		select {
		case <-s.exited:
		case <-time.After(endGrace):
			_ = syscall.Kill(-s.child.Process.Pid, syscall.SIGKILL)
			<-s.exited
		}
	}
	for _, c := range s.finally {
		if child, err := c.start(); err == nil {
			_ = child.Wait()
		}
	}
	for _, f := range s.folders {
		removeAll(f)
	}
}

// removeAll tries again for a while: a server's last children may still write.
func removeAll(folder string) {
	for range 50 {
		if os.RemoveAll(folder) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *command) start() (*exec.Cmd, error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Dir = c.Env, c.Folder
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.Account != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.Account.UID, Gid: c.Account.GID}
	}
	signalOnParentDeath(cmd.SysProcAttr, c.End)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return cmd, nil
}

// how says how a process ended; "" is a success.
func how(err error) string {
	if err == nil {
		return ""
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ProcessState.String()
	}
	return err.Error()
}
