package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A Sandbox runs a command of ours beside the servers: like them it does not outlive
// this process, however that ends, and neither does the Sandbox's folder.
type Sandbox struct {
	Folder string // temporary, for whatever the command needs

	process *process
	read    chan struct{} // closed when all output was handed on; nil before the first start
}

// NewSandbox makes the folder, whose name has name in it.
func NewSandbox(name string) (*Sandbox, error) {
	p, err := newProcess(name)
	if err != nil {
		return nil, err
	}
	return &Sandbox{Folder: p.folder, process: p}, nil
}

// Start starts a command, as the user of this process and in the Sandbox's folder. It
// calls output, one line at a time, for what the command prints.
func (s *Sandbox) Start(output func(line string), path string, args ...string) error {
	if s.process.running() {
		return errors.New("it already runs")
	}
	if s.read != nil {
		<-s.read
	}
	// Between the two ends stands the supervisor: a named pipe connects them. It ends when
	// the last process that has it open for writing does.
	pipe := filepath.Join(s.Folder, "output")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("make a pipe: %w", err)
	}
	from, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	err = s.process.start(command{Path: path, Args: args, Env: environment(), Log: pipe, End: syscall.SIGTERM})
	if err != nil {
		return errors.Join(err, from.Close())
	}
	s.read = make(chan struct{})
	go func() {
		defer close(s.read)
		defer from.Close()
		lines := bufio.NewReader(from)
		for {
			line, err := lines.ReadString('\n')
			if line != "" {
				output(line)
			}
			if err != nil {
				return
			}
		}
	}()
	return nil
}

// Ended is closed when the command is not running.
func (s *Sandbox) Ended() <-chan struct{} { return s.process.ended() }

// Stop asks the command to end, waits for that and for its last output, for grace at
// most, and returns an error unless it ended with success.
func (s *Sandbox) Stop(ctx context.Context, grace time.Duration) error {
	if err := s.process.stop(ctx, syscall.SIGTERM, grace); err != nil {
		return err
	}
	if s.read != nil {
		<-s.read
	}
	if how := s.process.outcome(); how != "" {
		return errors.New(how)
	}
	return nil
}

// PID is the process of the command that was started last.
func (s *Sandbox) PID() int { return s.process.child() }

// Signal sends the command a signal, if it runs.
func (s *Sandbox) Signal(sig syscall.Signal) error { return s.process.signal(sig) }

// Outcome says how the last command ended; "" is a success.
func (s *Sandbox) Outcome() string { return s.process.outcome() }

// Wait waits until the command has ended and all it printed was handed on.
func (s *Sandbox) Wait(ctx context.Context) error {
	if err := s.process.wait(ctx); err != nil {
		return err
	}
	if s.read != nil {
		<-s.read
	}
	return nil
}

// Close ends the command if it runs, and removes the folder.
func (s *Sandbox) Close() error {
	err := s.process.close()
	if s.read != nil {
		<-s.read
	}
	return err
}
