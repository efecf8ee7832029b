package testenv

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// stopGrace is how long an orderly end may take.
const stopGrace = 30 * time.Second

// A program is a server as it can be started and ended again and again.
type program struct {
	command
	stop      syscall.Signal // ends it in order
	container string         // of Docker that the command is attached to, "": none
}

func baseName(path string) string { return filepath.Base(path) }

// errNotOurs is the answer to ending a server that others use.
var errNotOurs = errors.New("the server is shared or was started by somebody else")

// A server is the part of Postgres and search servers that is the same: a
// program in a process.
type server struct {
	process *process // nil: it was started by somebody else
	program *program
	shared  bool                        // by the tests of this process
	ready   func(context.Context) error // waits until it answers, as long as it runs
}

// Start starts it again after Stop or Kill, on the same port and data, and
// waits until it answers.
func (s *server) Start(ctx context.Context) error {
	if s.process == nil || s.shared {
		return errNotOurs
	}
	return s.boot(ctx)
}

func (s *server) boot(ctx context.Context) error {
	if err := s.process.start(s.program.command); err != nil {
		return err
	}
	// The wait ends also when the server does.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := s.process.ended()
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-ended:
			cancel(fmt.Errorf("it ended (%s): %s", s.process.outcome(), s.process.tail()))
		case <-ctx.Done():
		}
	}()
	err := s.ready(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	<-watching
	if err == nil {
		return nil
	}
	stopCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer stop()
	return errors.Join(err, s.halt(stopCtx, s.program.End))
}

// Stop ends it in order: what it has accepted is stored.
func (s *server) Stop(ctx context.Context) error {
	if s.process == nil || s.shared {
		return errNotOurs
	}
	return s.halt(ctx, s.program.stop)
}

// Kill ends it at once, as a crash would.
func (s *server) Kill(ctx context.Context) error {
	if s.process == nil || s.shared {
		return errNotOurs
	}
	if s.program.container != "" && s.process.running() {
		// A signal to the client would end the client.
		if err := runTool(ctx, docker(), "kill", s.program.container); err != nil {
			return err
		}
		return s.process.wait(ctx)
	}
	return s.halt(ctx, s.program.End)
}

// Restart is Stop and Start.
func (s *server) Restart(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.Start(ctx)
}

func (s *server) halt(ctx context.Context, sig syscall.Signal) error {
	return s.process.stop(ctx, sig, stopGrace)
}

// Running reports whether it runs; one started by somebody else does.
func (s *server) Running() bool { return s.process == nil || s.process.running() }

// PID is the process of the server, 0 if it was started by somebody else.
func (s *server) PID() int {
	if s.process == nil {
		return 0
	}
	return s.process.child()
}

// Log is what the server has written lately.
func (s *server) Log() string {
	if s.process == nil {
		return ""
	}
	return s.process.tail()
}

func (s *server) close() error {
	if s.process == nil {
		return nil
	}
	return s.process.close()
}

// poll calls ask until it succeeds or ctx ends. Nothing tells from outside when a
// server is ready.
func poll(ctx context.Context, ask func(context.Context) error) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
