package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

type lettersOptions struct {
	grouped
	rows  []int64
	json  bool
	limit int
}

func newDeadLetters(stderr io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "dead-letters",
		Short: "List, retry or drop the documents that the search server refused",
		Long: "A document that the search server refuses for good is kept as a dead letter, with the server's reason, and\n" +
			"everything else goes on. When the reason is fixed, have it retried.",
		RunE: func(c *cobra.Command, _ []string) error {
			return &usageError{errors.New("say what to do with them: list, retry or drop"), c.CommandPath()}
		},
	}
	c.AddCommand(newListLetters(stderr), newRetryLetters(stderr), newDropLetters(stderr))
	return c
}

func newListLetters(stderr io.Writer) *cobra.Command {
	o := &lettersOptions{grouped: grouped{common: common{level: level(slog.LevelWarn)}}}
	c := o.command(stderr, "list [INDEX…]", o.list)
	c.Short = "List dead letters, the oldest first"
	c.Long = "Lists dead letters, the oldest first: those of the indices named, or all that there are."
	c.Example = "  tidemark dead-letters list\n  tidemark dead-letters list products --limit 1000\n  tidemark dead-letters list --row 17 --json"
	c.Flags().BoolVar(&o.json, "json", false, "print each with its document, as a line of JSON")
	c.Flags().IntVar(&o.limit, "limit", 100, "print the first `n`")
	return c
}

func newRetryLetters(stderr io.Writer) *cobra.Command {
	o := &lettersOptions{grouped: grouped{common: common{level: level(slog.LevelWarn)}}}
	c := o.command(stderr, "retry INDEX…|all", o.retry)
	c.Short = "Have the documents of dead letters stored, after the reason was fixed"
	c.Long = "Has the rows of dead letters read again and their documents stored. If no instance is running, this command\n" +
		"follows the slot meanwhile, as run does. A dead letter goes when its document is stored, or replaced by what\n" +
		"was stored since. Exit code 1: some were refused again, or could not be retried."
	c.Example = "  tidemark dead-letters retry products\n  tidemark dead-letters retry --row 17,18"
	return c
}

func newDropLetters(stderr io.Writer) *cobra.Command {
	o := &lettersOptions{grouped: grouped{common: common{level: level(slog.LevelWarn)}}}
	c := o.command(stderr, "drop INDEX…|all", o.drop)
	c.Short = "Give up dead letters"
	c.Long = "Deletes dead letters. Their documents stay as they are in the index, older than their rows or missing, until a\n" +
		"row changes or the index is rebuilt."
	c.Example = "  tidemark dead-letters drop products\n  tidemark dead-letters drop --row 17,18"
	return c
}

// command makes one of the commands.
func (o *lettersOptions) command(stderr io.Writer, use string, do func(ctx context.Context, config *mapping.Config, indices []*mapping.Index, out, stderr io.Writer) error) *cobra.Command {
	c := &cobra.Command{
		Use: use,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return indexNames(o.file), cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 && !o.anyIndex(c.Name()) {
			return &usageError{errors.New("name the indices, or all, or dead letters by --row"), c.CommandPath()}
		}
		log, _ := o.logger(stderr)
		config, indices, err := o.readNamed(c.Context(), args, log, askPatience)
		if err != nil {
			return err
		}
		err = do(c.Context(), config, indices, c.OutOrStdout(), stderr)
		if c.Context().Err() != nil {
			return errInterrupted
		}
		return err
	}
	o.add(c)
	c.Flags().Int64SliceVar(&o.rows, "row", nil, "only these, by the `numbers` that list prints")
	_ = c.RegisterFlagCompletionFunc("row", cobra.NoFileCompletions)
	return c
}

// anyIndex reports whether a command without names is about every index.
func (o *lettersOptions) anyIndex(command string) bool { return command == "list" || len(o.rows) > 0 }

// open opens the table of dead letters; nil: there is none yet, and so no dead letter.
func (o *lettersOptions) open(ctx context.Context, config *mapping.Config, log *slog.Logger) (letters *control.DeadLetters, end func() error, err error) {
	db, err := prepare.Open(ctx, config, log, askPatience)
	if err != nil {
		return nil, nil, err
	}
	found, err := control.Look(ctx, db, config.StateSchema())
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	if found.Made {
		letters = openControl(config, db).DeadLetters(retry.NewAlarm(log))
	}
	return letters, db.Close, nil
}

// filter is for the dead letters of indices, none named: of any; and the rows asked for.
func (o *lettersOptions) filter(ctx context.Context, letters *control.DeadLetters, indices []*mapping.Index) (f control.LetterFilter, err error) {
	f.Rows = o.rows
	if len(indices) == 0 {
		return f, nil
	}
	counts, err := letters.Counts(ctx, f)
	if err != nil {
		return f, err
	}
	f.Indices = []string{}
	for name := range counts {
		if slices.ContainsFunc(indices, func(ix *mapping.Index) bool { return writtenBy(ix, name) }) {
			f.Indices = append(f.Indices, name)
		}
	}
	return f, nil
}

// writtenBy reports whether a write alias is one of an index.
func writtenBy(ix *mapping.Index, alias string) bool {
	_, ok := search.PhysicalOf(ix.Name, alias)
	return ok
}

func (o *lettersOptions) list(ctx context.Context, config *mapping.Config, indices []*mapping.Index, out, stderr io.Writer) error {
	if o.limit < 1 {
		return &usageError{errors.New("--limit: want at least 1"), "tidemark dead-letters list"}
	}
	log, _ := o.logger(stderr)
	letters, end, err := o.open(ctx, config, log)
	if err != nil {
		return err
	}
	defer end()
	if letters == nil {
		if o.json {
			return nil
		}
		return o.printTable(out, nil, config)
	}
	f, err := o.filter(ctx, letters, indices)
	if err != nil {
		return err
	}
	if o.json { // one by one: documents may be large
		for range o.limit {
			page, err := letters.List(ctx, f, 1, true)
			if err != nil || len(page) == 0 {
				return err
			}
			if err := printJSON(out, lineOf(&page[0], config)); err != nil {
				return err
			}
			f.After = page[0].Row
		}
		return nil
	}
	all, err := letters.List(ctx, f, o.limit+1, false)
	if err != nil {
		return err
	}
	return o.printTable(out, all, config)
}

// A letterLine is a dead letter as it is printed.
type letterLine struct {
	Row       int64           `json:"row"`
	Index     string          `json:"index"`
	Physical  string          `json:"physical"`
	ID        string          `json:"id"`
	Routing   string          `json:"routing,omitempty"`
	Operation string          `json:"operation"` // index or delete
	Version   string          `json:"version"`   // the position in the log of what was refused
	Status    int             `json:"status"`
	Type      string          `json:"type"`
	Reason    string          `json:"reason"`
	Attempts  int             `json:"attempts"`
	CreatedAt time.Time       `json:"created_at"`
	Document  json.RawMessage `json:"document,omitempty"`
}

func lineOf(l *control.DeadLetter, config *mapping.Config) *letterLine {
	line := &letterLine{
		Row: l.Row, Physical: strings.ToLower(l.Index), ID: l.ID, Routing: l.Routing, Operation: "index", Version: l.Version.String(),
		Status: l.Status, Type: l.Type, Reason: l.Reason, Attempts: l.Attempts, CreatedAt: l.CreatedAt.UTC(),
	}
	if l.Delete {
		line.Operation = "delete"
	}
	if json.Valid(l.Body) {
		line.Document = l.Body
	}
	for _, ix := range config.Indices {
		if physical, ok := search.PhysicalOf(ix.Name, l.Index); ok {
			line.Index, line.Physical = ix.Name, physical
		}
	}
	return line
}

// printJSON prints a dead letter as a line of JSON.
func printJSON(out io.Writer, l *letterLine) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(l); err != nil {
		return fmt.Errorf("print a dead letter: %w", err)
	}
	return nil
}

const noLetters = "there are no dead letters\n"

// printTable prints the first of the dead letters, as many as the limit says.
func (o *lettersOptions) printTable(out io.Writer, letters []control.DeadLetter, config *mapping.Config) error {
	var b bytes.Buffer
	if len(letters) == 0 {
		b.WriteString(noLetters)
	} else {
		const mostReason = 200
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "row\tphysical index\tid\tversion\trefused\tsince\treason")
		for i := range letters[:min(len(letters), o.limit)] {
			l := lineOf(&letters[i], config)
			id := shortened(l.ID, 60)
			if l.Routing != "" {
				id += " routing " + shortened(l.Routing, 60)
			}
			reason := fmt.Sprintf("%d %s: %s", l.Status, l.Type, l.Reason)
			if l.Operation == "delete" {
				reason = "delete: " + reason
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Row, l.Physical, id, l.Version, counted(int64(l.Attempts), "time", "times"),
				l.CreatedAt.Local().Format(time.DateTime), shortened(reason, mostReason))
		}
		w.Flush() // to memory
		if len(letters) > o.limit {
			fmt.Fprintf(&b, "… and more: --limit, or name the index\n")
		}
	}
	if _, err := out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("print dead letters: %w", err)
	}
	return nil
}

// A refusedError reports dead letters that are there as before.
type refusedError struct{ refused, kept int64 }

func (e *refusedError) Error() string {
	var parts []string
	if e.refused > 0 {
		parts = append(parts, counted(e.refused, "document was", "documents were")+" refused again")
	}
	if e.kept > 0 {
		parts = append(parts, counted(e.kept, "dead letter", "dead letters")+" could not be retried")
	}
	return strings.Join(parts, ", ") + ": tidemark dead-letters list says why"
}

func (o *lettersOptions) retry(ctx context.Context, config *mapping.Config, indices []*mapping.Index, out, stderr io.Writer) error {
	log, display := o.logger(stderr)
	letters, end, err := o.open(ctx, config, log)
	if err != nil {
		return err
	}
	defer end()
	if len(indices) == 0 {
		indices = config.Indices
	}
	if indices, err = o.concerned(ctx, letters, indices); err != nil {
		return err
	}
	if len(indices) == 0 {
		_, err := io.WriteString(out, noLetters)
		return err
	}
	failed := &refusedError{}
	err = whileFollowed(ctx, config, indices, screen{log, display}, func(ctx context.Context, slot *followedSlot) error {
		for _, ix := range indices {
			r, err := verify.RetryLetters(ctx, ix, verify.RetryOptions{
				DB: slot.db, SlotDB: slot.slotDB, Schema: config.StateSchema(), WatermarkSchema: config.Postgres.ControlSchema, Slot: config.Postgres.Slot, Tables: slot.prepared.Tables, Rows: o.rows,
			})
			if err != nil {
				return err
			}
			failed.refused += r.Refused
			failed.kept += r.Kept
			text := fmt.Sprintf("%s: %s retried, %d gone; %s refused again", ix.Name, counted(r.Letters, "dead letter", "dead letters"), r.Gone, counted(r.Refused, "document", "documents"))
			if r.Kept > 0 {
				text += fmt.Sprintf("; %d could not be retried: %s", r.Kept, shortened(r.Why.Error(), 500))
			}
			if _, err := fmt.Fprintln(out, text); err != nil {
				return fmt.Errorf("print the result: %w", err)
			}
		}
		return nil
	})
	if err == nil && failed.refused+failed.kept > 0 {
		err = failed
	}
	return err
}

// concerned are those of the indices that have any of the dead letters that are asked for.
func (o *lettersOptions) concerned(ctx context.Context, letters *control.DeadLetters, indices []*mapping.Index) ([]*mapping.Index, error) {
	if letters == nil {
		return nil, nil
	}
	f, err := o.filter(ctx, letters, indices)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(indices), func(ix *mapping.Index) bool {
		return !slices.ContainsFunc(f.Indices, func(alias string) bool { return writtenBy(ix, alias) })
	}), nil
}

func (o *lettersOptions) drop(ctx context.Context, config *mapping.Config, indices []*mapping.Index, out, stderr io.Writer) error {
	log, _ := o.logger(stderr)
	letters, end, err := o.open(ctx, config, log)
	if err != nil {
		return err
	}
	defer end()
	var n int64
	if letters != nil {
		f, err := o.filter(ctx, letters, indices)
		if err != nil {
			return err
		}
		if n, err = letters.Drop(ctx, f); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "%s dropped\n", counted(n, "dead letter", "dead letters"))
	return err
}
