package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// askPatience is how long the database may not answer: somebody waits for the result.
const askPatience = 15 * time.Second

type reindexOptions struct {
	grouped
	where, source  string
	cancel, noWait bool
}

func newReindex(stderr io.Writer) *cobra.Command {
	o := reindexOptions{}
	c := &cobra.Command{
		Use:   "reindex INDEX…|all",
		Short: "Rebuild indices beside the live ones, or refresh some documents of one",
		Long: "Asks the running instance for a new physical index of each, to be filled beside the one in use, and shows how\n" +
			"far that is; searchers get the new one in one step when it is complete. Where no instance runs, it does the work\n" +
			"itself. With --where it stores the documents of some rows again, in the index in use.\n\n" +
			"Ctrl-C leaves the work to the running instance; --cancel gives it up.",
		Example: "  tidemark reindex products orders\n" +
			"  tidemark reindex products --where \"category_id = 7\"\n" +
			"  tidemark reindex all --no-wait\n" +
			"  tidemark reindex products --cancel",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return indexNames(o.file), cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		err := o.run(c.Context(), args, c.CommandPath(), c.OutOrStdout(), stderr)
		if c.Context().Err() != nil && (err == nil || errors.Is(err, context.Cause(c.Context()))) {
			return errInterrupted
		}
		return err
	}
	o.add(c)
	flags := c.Flags()
	flags.StringVar(&o.where, "where", "", "only rows for which this SQL `condition` over the columns of the table holds")
	flags.StringVar(&o.source, "source", "", "`table` that --where is about, where the index has several")
	flags.BoolVar(&o.cancel, "cancel", false, "give up the rebuild that is under way or was asked for")
	flags.BoolVar(&o.noWait, "no-wait", false, "leave when it is asked for")
	_ = c.RegisterFlagCompletionFunc("where", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("source", cobra.NoFileCompletions)
	return c
}

// run asks for what the options say, or does it.
func (o *reindexOptions) run(ctx context.Context, args []string, command string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return &usageError{errors.New("name the indices, or all"), command}
	}
	log, display := o.logger(stderr)
	config, indices, err := o.readNamed(ctx, args, log, askPatience)
	if err != nil {
		return err
	}
	source, err := o.refreshed(indices)
	if err != nil {
		return &usageError{err, command}
	}
	db, err := prepare.Open(ctx, config, log, askPatience)
	if err != nil {
		return err
	}
	defer db.Close()
	if o.where != "" {
		if err := checkCondition(ctx, db, source, o.where); err != nil {
			if refused, ok := errors.AsType[*prepare.RefusedError](err); ok {
				return &usageError{errors.New("Postgres refuses the condition of --where: " + refused.Said), command}
			}
			return err
		}
	}
	a := newAsker(config, db, stdout, log, display)
	var wanted []*control.Request
	for _, ix := range indices {
		q := &control.Request{Kind: control.KindReindex, Index: ix.Name}
		switch {
		case o.cancel:
			q.Kind = control.KindCancel
		case source != nil:
			q.Kind, q.Condition, q.Source = control.KindRefresh, o.where, source.Table.String()
		}
		wanted = append(wanted, q)
	}
	running, err := a.isFollowed(ctx)
	if err != nil {
		return err
	}
	if o.cancel && (!running || slices.Contains(args, "all")) {
		// Where every index is meant, or no instance would say so, only what there is to give up
		// is asked for.
		if wanted, err = a.rebuilt(ctx, wanted); err != nil {
			return err
		}
	}
	switch {
	case running && o.noWait:
		return a.leave(ctx, wanted, "tidemark status shows how far it is")
	case running:
		return a.ask(ctx, wanted)
	case o.noWait || o.cancel:
		return a.leaveToNext(ctx, wanted)
	case config.Group != "":
		return fmt.Errorf("%w, or --no-wait, which leaves it to the next one", &groupNotFedError{config.Group, config.Postgres.Slot})
	}
	return a.work(ctx, wanted)
}

// refreshed is the table that --where is about, nil without one.
func (o *reindexOptions) refreshed(indices []*mapping.Index) (*mapping.Source, error) {
	if o.where == "" {
		if o.source != "" {
			return nil, errors.New("--source goes with --where")
		}
		return nil, nil
	}
	if o.cancel {
		return nil, errors.New("--cancel gives up rebuilds, and has no --where")
	}
	if len(indices) != 1 {
		return nil, errors.New("--where is a condition over the rows of one index; name it alone")
	}
	ix := indices[0]
	var tables []string
	for _, s := range ix.Sources {
		tables = append(tables, s.Table.String())
		if o.source == s.Table.String() || o.source == s.Table.Name && s.Table.Schema == "public" || o.source == "" && len(ix.Sources) == 1 {
			return s, nil
		}
	}
	if o.source == "" {
		return nil, fmt.Errorf("index %s has several tables; name one by --source: %s", ix.Name, strings.Join(tables, ", "))
	}
	return nil, fmt.Errorf("table %s has no documents of its own in index %s; it has those of %s", o.source, ix.Name, strings.Join(tables, ", "))
}

// checkCondition has Postgres look at a condition, so that a typo is no request that fails
// later.
func checkCondition(ctx context.Context, db *sql.DB, source *mapping.Source, condition string) error {
	table, err := catalog.LoadTable(ctx, db, source.Table.Schema, source.Table.Name)
	if err != nil {
		return fmt.Errorf("table %s: %w", source.Table, err)
	}
	if source.Children {
		table = table.Following()
	}
	return prepare.CheckCondition(ctx, db, table, condition)
}
