package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/spf13/cobra"

	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/internal/admin"
	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/reindex"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

type waitOptions struct {
	grouped
	lsn        position
	indices    []string
	timeout    time.Duration
	searchable bool
}

func newWait(stderr io.Writer) *cobra.Command {
	o := waitOptions{grouped: grouped{common: common{level: level(slog.LevelWarn)}}}
	c := &cobra.Command{
		Use:   "wait",
		Short: "Wait until what was committed is in the indices",
		Long: "Waits until everything that was committed before a position of the log is stored in the indices, and prints that\n" +
			"position. Without --lsn it is the end of the log now. Documents that are stored again beside the stream, since very\n" +
			"many have a related row in them that has changed, are waited for, too, and so is an index that is filled for the first time.\n" +
			"Exit code 1: it was not stored in time; what is missing is said.\n\n" +
			"An instance notes how far it is once a second at the most. Programs that wait for their own writes ask the instance itself:\n" +
			"GET /wait of admin.listen answers within milliseconds.",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.timeout <= 0 {
				return &usageError{errors.New("--timeout: want a time above 0, such as 5s"), c.CommandPath()}
			}
			config, indices, err := o.readNamed(c.Context(), orAll(o.indices), slog.New(slog.DiscardHandler), o.timeout)
			if err != nil {
				return err
			}
			at, err := o.wait(c.Context(), config, indices, stderr)
			if c.Context().Err() != nil {
				return errInterrupted
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), at)
			return err
		},
	}
	o.add(c)
	c.Flags().Var(&o.lsn, "lsn", "`position` as pg_current_wal_insert_lsn() gave it after the commit: 16/B374D848")
	c.Flags().StringSliceVar(&o.indices, "index", nil, "wait for these `indices` (a,b,…) alone; default: all")
	c.Flags().DurationVar(&o.timeout, "timeout", 5*time.Second, "wait for this `time` at the most")
	c.Flags().BoolVar(&o.searchable, "searchable", false, "have searches see it, too: the indices are refreshed")
	_ = c.RegisterFlagCompletionFunc("lsn", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("index", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return indexNames(o.file), cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

// orAll are the names, or all where there are none.
func orAll(names []string) []string {
	if len(names) == 0 {
		return []string{"all"}
	}
	return names
}

// wait waits by what everybody can see of the instance: its slot, and what it has noted.
func (o *waitOptions) wait(ctx context.Context, config *mapping.Config, indices []*mapping.Index, stderr io.Writer) (at pglogrepl.LSN, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("waited for %s", o.timeout))
	defer cancel()
	log, _ := o.logger(stderr)
	db, err := prepare.Open(ctx, config, log, o.timeout)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	if at, err = o.meant(ctx, db); err != nil {
		return 0, err
	}
	if err := awaitControl(ctx, db, config.StateSchema()); err != nil {
		return 0, err
	}
	wait := &reindex.Wait{
		Position: func(ctx context.Context) error {
			return prepare.AtSlot(config, db, func(there *sql.DB) error {
				slot, err := verify.OpenSlot(ctx, verify.SlotOptions{DB: db, SlotDB: there, Schema: config.StateSchema(), WatermarkSchema: config.Postgres.ControlSchema, Slot: config.Postgres.Slot})
				if err != nil {
					return err
				}
				return prepare.WithApplied(ctx, config, db, log, o.timeout, func(applied func(context.Context) error) error {
					slot.Applied = applied
					return slot.Await(ctx, at)
				})
			})
		},
		Schema: openControl(config, db),
	}
	for _, ix := range indices {
		wait.Indices = append(wait.Indices, ix.Name)
	}
	if o.searchable {
		options := prepare.SearchOptions(config, log)
		options.StartTimeout = o.timeout
		client, err := search.Connect(ctx, options)
		if err != nil {
			return 0, err
		}
		defer client.Close()
		wait.Client = client
	}
	return at, wait.Await(ctx)
}

// meant returns the position that is waited for.
func (o *waitOptions) meant(ctx context.Context, db *sql.DB) (pglogrepl.LSN, error) {
	var text string
	if err := db.QueryRowContext(ctx, `SELECT pg_catalog.pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		return 0, fmt.Errorf("ask for the end of the log: %w", err)
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return 0, fmt.Errorf("ask for the end of the log: %w", err)
	}
	switch wanted := pglogrepl.LSN(o.lsn); {
	case wanted == 0:
		return end, nil
	case wanted > end:
		return 0, fmt.Errorf("the log has not come to %s, it ends at %s%s", wanted, end, withHint("it is a position of another server, or of before this database was restored"))
	default:
		return wanted, nil
	}
}

// awaitControl waits until the control schema is as this version has it: an instance that has just begun
// makes or migrates it.
func awaitControl(ctx context.Context, db *sql.DB, schema string) error {
	missing := errors.New("nothing was filled yet; hint: tidemark run")
	err := retry.Poll(ctx, func() (bool, error) {
		found, err := control.Look(ctx, db, schema)
		if err != nil || !found.Made {
			return false, err
		}
		if older := found.Current(); older != nil {
			missing = older
			return false, nil
		}
		return true, nil
	})
	if err != nil && ctx.Err() != nil {
		return &reindex.NotYetError{Missing: missing.Error(), Err: err}
	}
	return err
}

// A position is the value of a flag: one in the log, 0: none is given.
type position pglogrepl.LSN

func (p *position) String() string {
	if *p == 0 {
		return ""
	}
	return pglogrepl.LSN(*p).String()
}

func (p *position) Type() string { return "position" }

func (p *position) Set(text string) error {
	at, err := admin.ParsePosition(text)
	*p = position(at)
	return err
}
