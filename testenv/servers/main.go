// Command servers runs a command with Postgres, search servers and, if it is asked to, a Kafka for it:
//
//	go run ./testenv/servers [-engines opensearch,elasticsearch8] [-kafka] -- COMMAND ARGUMENTS…
//
// starts each server once (see package testenv), names them in the environment
// of COMMAND, and ends them with it; its exit code is COMMAND's. So all test
// packages share them:
//
//	go run ./testenv/servers -- go test ./...
//
// Without COMMAND it prints the variables as shell exports and waits for Ctrl-C.
// A server that the environment already names is used as it is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"

	"tidemark/testenv"
)

func main() {
	list := flag.String("engines", os.Getenv("TIDEMARK_TEST_ENGINES"), fmt.Sprintf("search servers to start, of %q, or all (default opensearch)", testenv.AllEngines()))
	heap := flag.String("heap", "1g", "heap of each search server")
	kafka := flag.Bool("kafka", false, "start a Kafka, too")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: servers [flags] [-- COMMAND ARGUMENTS…]")
		flag.PrintDefaults()
	}
	flag.Parse()
	engines, err := testenv.ParseEngines(*list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers: -engines:", err)
		os.Exit(2)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code, err := run(signals, choice{engines: engines, heap: *heap, kafka: *kafka}, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
	}
	os.Exit(code)
}

// A choice says which servers there are to be beside Postgres.
type choice struct {
	engines []testenv.Engine
	heap    string // of each search server
	kafka   bool
}

// run returns the exit code.
func run(signals <-chan os.Signal, c choice, args []string) (code int, err error) {
	s, err := start(signals, c)
	defer func() {
		if e := s.close(); e != nil {
			code, err = max(code, 1), errors.Join(err, fmt.Errorf("end servers: %w", e))
		}
	}()
	if err != nil {
		return 1, err
	}
	names := make([]string, len(c.engines))
	for i, e := range c.engines {
		names[i] = string(e)
	}
	s.variables = append(s.variables, "TIDEMARK_TEST_ENGINES="+strings.Join(names, ","))
	if len(args) == 0 {
		for _, v := range s.variables {
			fmt.Println(export(v))
		}
		<-signals
		return 0, nil
	}
	return execute(signals, args, append(os.Environ(), s.variables...))
}

// export returns the shell's line for NAME=VALUE.
func export(variable string) string {
	name, value, _ := strings.Cut(variable, "=")
	return "export " + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// servers are those that were started here, and how to find all.
type servers struct {
	mu        sync.Mutex
	started   []interface{ Close() error }
	variables []string
}

// start starts what the environment does not name, all at a time. On an error
// close ends those that did start.
func start(signals <-chan os.Signal, c choice) (*servers, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	s := &servers{}
	errs := make(chan error)
	launch := func(variable, what string, start func() (server interface{ Close() error }, value string, err error)) int {
		if os.Getenv(variable) != "" {
			return 0
		}
		go func() {
			server, value, err := start()
			if err != nil {
				err = fmt.Errorf("start %s: %w", what, err)
				cancel(err) // of what use are the others
			} else {
				s.mu.Lock()
				s.started = append(s.started, server)
				s.variables = append(s.variables, variable+"="+value)
				s.mu.Unlock()
			}
			errs <- err
		}()
		return 1
	}
	n := launch("TIDEMARK_TEST_POSTGRES_URL", "Postgres", func() (interface{ Close() error }, string, error) {
		p, err := testenv.LaunchPostgres(ctx, testenv.PostgresOptions{})
		if err != nil {
			return nil, "", err
		}
		return p, p.URL("postgres"), nil
	})
	for _, e := range c.engines {
		n += launch(e.URLVariable(), string(e), func() (interface{ Close() error }, string, error) {
			p, err := testenv.LaunchSearch(ctx, e, testenv.SearchOptions{Heap: c.heap})
			if err != nil {
				return nil, "", err
			}
			return p, p.URL, nil
		})
	}
	if c.kafka {
		n += launch(testenv.KafkaVariable, "Kafka", func() (interface{ Close() error }, string, error) {
			k, err := testenv.LaunchKafka(ctx, testenv.KafkaOptions{})
			if err != nil {
				return nil, "", err
			}
			return k, strings.Join(k.Brokers(), ","), nil
		})
	}
	var first error
	for n > 0 {
		select {
		case err := <-errs:
			n--
			if first == nil {
				first = err
			}
		case sig := <-signals:
			cancel(fmt.Errorf("%s", sig))
		}
	}
	return s, first
}

func (s *servers) close() error {
	errs := make(chan error)
	for _, server := range s.started {
		go func() { errs <- server.Close() }()
	}
	var all []error
	for range s.started {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// execute runs the command and passes signals on to it.
func execute(signals <-chan os.Signal, args, env []string) (int, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 127, err
	}
	// Ctrl-C of a terminal reaches the command without us.
	terminal := term.IsTerminal(int(os.Stdin.Fd()))
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGINT || !terminal {
				_ = cmd.Process.Signal(sig) // ended meanwhile: that comes next
			}
		case err := <-done:
			var exit *exec.ExitError
			switch {
			case err == nil:
				return 0, nil
			case !errors.As(err, &exit):
				return 1, err
			}
			if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				return 128 + int(status.Signal()), nil
			}
			return exit.ExitCode(), nil
		}
	}
}
