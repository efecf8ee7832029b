package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sourcegraph/conc"

	"tidemark/dbsync"
	"tidemark/internal/prepare"
	"tidemark/internal/service"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// loaded is a mapping file that fits the database and the cluster.
type loaded struct {
	config   *mapping.Config
	prepared *prepare.Prepared
}

// load reads the mapping file and holds it against this host and both servers.
func load(ctx context.Context, file string, options service.Options) (*loaded, error) {
	config, err := prepare.Read(ctx, file, options.Logger, prepare.StartTimeout)
	if err != nil {
		return nil, err
	}
	return hold(ctx, config, options)
}

// loadTables is load for the file as it was read last, with the tables that its patterns stand for now: whoever edits it
// has not asked for anything yet.
func loadTables(ctx context.Context, now *loaded, options service.Options) (*loaded, error) {
	config, err := prepare.ReadTables(ctx, now.config, options.Logger, prepare.StartTimeout)
	if err != nil {
		return nil, err
	}
	return hold(ctx, config, options)
}

// hold holds a mapping against this host and both servers.
func hold(ctx context.Context, config *mapping.Config, options service.Options) (*loaded, error) {
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

// takeOverPause is how long the service has to have run before it begins anew because another
// instance has taken over, or a standby has: two that take the slot from each other all the time are somebody's to look at.
const takeOverPause = time.Second

// serveAndReload runs the service until ctx is done or it ends. At SIGHUP the mapping file
// is read again, and where its patterns stand for other tables by now, these are looked up again: one that fits takes the place of the running one, which comes to its end
// in order; the slot is let go for a moment. One with mistakes is reported, and changes
// nothing. Where another instance has followed the slot meanwhile, what this one knows of the indices
// is old: it begins anew, as one that waits for its turn. So it does where a standby was promoted.
func serveAndReload(ctx context.Context, now *loaded, file string, options service.Options) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		begun := time.Now()
		next, err := serveOnce(ctx, now, file, options, hangups)
		now.prepared.Close()
		if why := beginsAnew(err); why != "" && !options.Once && ctx.Err() == nil && time.Since(begun) > takeOverPause {
			options.Logger.Warn(why, "error", err)
			next, err = load(ctx, file, options)
		}
		if next == nil {
			return err
		}
		now = next
		options.Reindex = nil // done, or noted
	}
}

// beginsAnew says why what this instance knows of the database or of the indices is old after an error, and has
// to be found out again; "" where the error is one to end with.
func beginsAnew(err error) string {
	switch {
	case is[*control.TakenOverError](err):
		return "another instance has followed the slot, this one begins anew and waits for its turn"
	case is[*dbsync.PromotedError](err):
		return "a standby was promoted, this instance begins anew with it"
	}
	return ""
}

// serveOnce runs the service with one mapping. next is the one to go on with, nil for none.
func serveOnce(ctx context.Context, now *loaded, file string, options service.Options, hangups <-chan os.Signal) (next *loaded, err error) {
	run, end := context.WithCancelCause(ctx)
	defer end(nil)
	resolved := make(chan struct{}, 1)
	if !options.Once {
		options.Resolved = func() {
			select {
			case resolved <- struct{}{}:
			default:
			}
		}
	}
	var watcher conc.WaitGroup
	watcher.Go(func() {
		for {
			var edited *loaded
			var err error
			select {
			case <-run.Done():
				return
			case <-hangups:
				options.Logger.Info("reading the mapping file again", "file", file)
				edited, err = load(run, file, options)
			case <-resolved:
				options.Logger.Info("the patterns of the mapping file stand for other tables by now", "file", file)
				edited, err = loadTables(run, now, options)
			}
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
