package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"tidemark/internal/apply"
	"tidemark/internal/systemd"
	"tidemark/internal/version"
	"tidemark/mapping"
)

type applyOptions struct {
	common
	group string
	pprof bool
}

func newApply(stderr io.Writer) *cobra.Command {
	o := applyOptions{}
	c := &cobra.Command{
		Use:   "apply",
		Short: "Write to the cluster what run has produced to Kafka",
		Long: "Is a worker: it reads what tidemark run produces to the topic of Kafka that the file names, and writes it to\n" +
			"the cluster of the file. As many may run as the topic has partitions, on any machines; they share the work,\n" +
			"and take over from each other. A worker needs no Postgres, and reads of the file kafka, search and admin alone.\n\n" +
			"With --group it writes to the cluster of that group, from the topic of its own that this has. The file is that of\n" +
			"run, or one of the worker's own, whose search is the cluster.\n\n" +
			"SIGTERM and SIGINT end it within 10 seconds; what was begun is done again by another worker.\n" +
			"Page, metrics and health are at admin.listen of the file.",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return runWorker(c.Context(), o, stderr) },
	}
	o.add(c)
	c.Flags().StringVar(&o.group, "group", "", "write to the cluster of the group of this `name` in kafka.groups; default: that of search")
	c.Flags().BoolVar(&o.pprof, "pprof", false, "answer with profiles of the process at /debug/pprof/ of admin.listen, to whoever reaches it")
	_ = c.RegisterFlagCompletionFunc("group", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return groupNames(o.file), cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

func runWorker(ctx context.Context, o applyOptions, stderr io.Writer) error {
	log, _ := o.logger(stderr)
	if o.group != "" {
		if err := mapping.CheckGroup(o.group); err != nil {
			return &usageError{fmt.Errorf("--group %s: %w", o.group, err), "tidemark apply"}
		}
	}
	config, err := mapping.ReadApply(o.file, o.group)
	if err != nil {
		return err
	}
	manager, err := systemd.FromEnvironment(os.Getenv)
	if err != nil {
		return &usageError{err, "tidemark apply"}
	}
	log.Info("tidemark starts to apply", "version", version.String(), "file", o.file, "topic", config.Kafka.Topic, "group", config.Kafka.Group)
	err = apply.Run(ctx, config, apply.Options{Manager: manager, Profiles: o.pprof, Logger: log})
	switch {
	case err == nil:
	case ctx.Err() == nil:
		return err
	case !errors.Is(err, context.Cause(ctx)) && !errors.Is(err, context.Canceled):
		log.Warn("the end was not in order", "error", err)
		return err
	}
	log.Info("tidemark ends")
	return nil
}
