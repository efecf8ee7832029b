package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/sourcegraph/conc"

	"tidemark/internal/prepare"
	"tidemark/internal/service"
	"tidemark/mapping"
)

// loaded is a mapping file that fits the database and the cluster.
type loaded struct {
	config   *mapping.Config
	prepared *prepare.Prepared
}

// load reads the mapping file and holds it against this host and both servers.
func load(ctx context.Context, file string, options service.Options) (*loaded, error) {
	config, err := mapping.Read(file)
	if err != nil {
		return nil, err
	}
	if options.Admin {
		if err := service.CheckAdmin(ctx, config); err != nil {
			return nil, err
		}
	}
	prepared, err := prepare.Prepare(ctx, config, options.Logger)
	if err != nil {
		return nil, err
	}
	if err := prepared.Refusal(); err != nil {
		prepared.Close()
		return nil, err
	}
	return &loaded{config, prepared}, nil
}

// errReload ends a run whose mapping is replaced by an edited one.
var errReload = errors.New("the mapping file was read again")

// serveAndReload runs the service until ctx is done or it ends. At SIGHUP the mapping file
// is read again: one that fits takes the place of the running one, which comes to its end
// in order; the slot is let go for a moment. One with mistakes is reported, and changes
// nothing.
func serveAndReload(ctx context.Context, now *loaded, file string, options service.Options) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		next, err := serveOnce(ctx, now, file, options, hangups)
		now.prepared.Close()
		if next == nil {
			return err
		}
		now = next
		options.Reindex = nil // done, or noted
	}
}

// serveOnce runs the service with one mapping. next is the one to go on with, nil for none.
func serveOnce(ctx context.Context, now *loaded, file string, options service.Options, hangups <-chan os.Signal) (next *loaded, err error) {
	run, end := context.WithCancelCause(ctx)
	defer end(nil)
	var watcher conc.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-run.Done():
				return
			case <-hangups:
			}
			options.Logger.Info("reading the mapping file again", "file", file)
			edited, err := load(run, file, options)
			if err == nil {
				next = edited
				end(errReload)
				return
			}
			if run.Err() == nil {
				reportReload(options.Logger, err)
			}
		}
	})
	err = service.Run(run, now.config, now.prepared, options)
	reloaded := errors.Is(context.Cause(run), errReload)
	end(nil)
	watcher.Wait()
	if next != nil && (err != nil || !reloaded || ctx.Err() != nil) {
		next.prepared.Close() // the service has ended by itself meanwhile
		next = nil
	}
	return next, err
}

// reportReload says why the running mapping stays in force.
func reportReload(log *slog.Logger, err error) {
	const stays = "the mapping file cannot be used, the running mapping stays in force"
	problems, ok := errors.AsType[mapping.Problems](err)
	if !ok {
		log.Error(stays, "error", err)
		return
	}
	for _, p := range problems {
		log.Error(stays, "file", p.File, "line", p.Line, "problem", p.Text, "hint", p.Hint)
	}
}
