// Command tidemark keeps Elasticsearch and OpenSearch indices equal to what a Postgres
// database holds. See internal/cli for its commands.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"tidemark/internal/cli"
)

// gcPercent trades processor time, of which little is used, for memory: most of what is
// live at a time are batches, and with Go's default of 100 as much again would lie around.
// GOGC in the environment wins.
const gcPercent = 20

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(cli.Run(untilSignal(), os.Args[1:], os.Stdout, os.Stderr))
}

// untilSignal returns a context that ends at the first SIGINT or SIGTERM. The second one
// ends the process: whoever sends it does not want to wait. All that is lost by it is work
// that the next start does again.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		s := <-signals
		cancel(errors.New("stopped by signal: " + s.String()))
		<-signals
		os.Exit(1)
	}()
	return ctx
}
