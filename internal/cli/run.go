package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"tidemark/internal/admin"
	"tidemark/internal/logging"
	"tidemark/internal/prepare"
	"tidemark/internal/service"
	"tidemark/internal/systemd"
	"tidemark/internal/version"
	"tidemark/mapping"
)

type runOptions struct {
	common
	once    bool
	adopt   bool
	pprof   bool
	reindex []string
}

func newRun(stderr io.Writer) *cobra.Command {
	o := runOptions{}
	c := &cobra.Command{
		Use:   "run",
		Short: "Keep the indices equal to their tables",
		Long: "Fills the indices that are not complete, and then keeps all of them equal to their tables until it is\n" +
			"stopped. SIGTERM and SIGINT end it within 10 seconds; what was begun is finished or done again later.\n\n" +
			"Status page, metrics and health are at admin.listen of the file. With --once there are none.",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return run(c.Context(), o, stderr) },
	}
	o.add(c)
	c.Flags().BoolVar(&o.once, "once", false, "fill what is missing, catch up with the log, and leave")
	c.Flags().BoolVar(&o.pprof, "pprof", false, "answer with profiles of the process at /debug/pprof/ of admin.listen, to whoever reaches it")
	c.Flags().StringSliceVar(&o.reindex, "reindex", nil, "rebuild these `indices` (a,b,…), or all of them (all), beside the live ones")
	c.Flags().BoolVar(&o.adopt, "adopt", false, "take the names of indices over from indices and aliases that somebody else made, when they are filled;\nan index of the same name is deleted then")
	_ = c.RegisterFlagCompletionFunc("reindex", func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return indexNames(o.file), cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

func run(ctx context.Context, o runOptions, stderr io.Writer) error {
	log, display := o.logger(stderr)
	config, indices, err := readNamed(ctx, o.file, o.reindex, log, prepare.StartTimeout)
	if err != nil {
		return err
	}
	collectFor(config)
	rebuilt := o.reindex
	if !slices.Contains(rebuilt, "all") {
		rebuilt = nil
		for _, ix := range indices {
			rebuilt = append(rebuilt, ix.Name)
		}
	}
	manager, err := systemd.FromEnvironment(os.Getenv)
	if err != nil {
		return &usageError{err, "tidemark run"}
	}
	events := new(admin.Events)
	log = logging.Also(log, events)
	log.Info("tidemark starts", "version", version.String(), "file", o.file, "indices", len(config.Indices), "slot", config.Postgres.Slot)
	if err := serve(ctx, config, o, service.Options{Admin: !o.once, Profiles: o.pprof, Manager: manager, Once: o.once, Reindex: rebuilt, Events: events, Logger: log, Display: display}); err != nil {
		return err
	}
	log.Info("tidemark ends")
	return nil
}

// serve prepares and runs the service. To be stopped is success, but for --once, which has
// something to come to the end of.
func serve(ctx context.Context, config *mapping.Config, o runOptions, options service.Options) error {
	var how []prepare.Option
	if o.adopt {
		how = append(how, prepare.Adopt())
	}
	prepared, err := prepare.Prepare(ctx, config, options.Logger, how...)
	if err == nil {
		err = serveAndReload(ctx, &loaded{config, prepared}, o.file, options)
	}
	switch {
	case ctx.Err() == nil:
		return err
	case o.once:
		return errInterrupted
	case err != nil && !errors.Is(err, context.Cause(ctx)) && !errors.Is(err, context.Canceled): // a driver tells no cause
		options.Logger.Warn("the end was not in order", "error", err)
		return err
	}
	return nil
}
