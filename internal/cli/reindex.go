package cli

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/spf13/cobra"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/internal/prepare"
	"tidemark/internal/progress"
	"tidemark/internal/service"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

const (
	// askPatience is how long the database may not answer: somebody waits for the result.
	askPatience = 15 * time.Second
	// followInterval is how often is asked how far a request is.
	followInterval = 300 * time.Millisecond
	// slotPatience is how long is waited for the slot by a command that was told that nobody
	// has it: an instance that has died is noticed within that time, and one that was just
	// started is asked then.
	slotPatience = 10 * time.Second
	// idlePatience is how long a request may wait before it is said that nobody takes it up.
	idlePatience = 20 * time.Second
)

type reindexOptions struct {
	common
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

// indexNames are what can be named where indices are asked for.
func indexNames(file string) []string {
	names := []string{"all"}
	if config, err := mapping.Read(file); err == nil {
		for _, ix := range config.Indices {
			names = append(names, ix.Name)
		}
	}
	return names
}

// run asks for what the options say, or does it.
func (o *reindexOptions) run(ctx context.Context, args []string, command string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return &usageError{errors.New("name the indices, or all"), command}
	}
	config, indices, err := readNamed(o.file, args)
	if err != nil {
		return err
	}
	source, err := o.refreshed(indices)
	if err != nil {
		return &usageError{err, command}
	}
	log, display := o.logger(stderr)
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
	running, err := isFollowed(ctx, a.db, a.slot)
	switch {
	case err != nil:
		return err
	case o.cancel:
		return a.giveUp(ctx, wanted, running, o.noWait, slices.Contains(args, "all"))
	case running || o.noWait:
		return a.ask(ctx, wanted, running, o.noWait)
	}
	return a.work(ctx, wanted, source != nil)
}

// readNamed reads the mapping file, and gives the indices of these names.
func readNamed(file string, names []string) (*mapping.Config, []*mapping.Index, error) {
	config, err := mapping.Read(file)
	if err != nil {
		return nil, nil, err
	}
	indices, err := named(config, names)
	return config, indices, err
}

// named are the indices of the file with these names; "all" stands for every one.
func named(config *mapping.Config, names []string) ([]*mapping.Index, error) {
	var found []*mapping.Index
	for _, name := range names {
		i := slices.IndexFunc(config.Indices, func(ix *mapping.Index) bool { return ix.Name == name })
		if name != "all" && i < 0 {
			return nil, &service.UnknownIndexError{Name: name}
		}
	}
	for _, ix := range config.Indices {
		if slices.Contains(names, "all") || slices.Contains(names, ix.Name) {
			found = append(found, ix)
		}
	}
	return found, nil
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

// checkCondition has Postgres judge a condition, so that a typo is no request that fails
// later.
func checkCondition(ctx context.Context, db *sql.DB, source *mapping.Source, condition string) error {
	table, err := catalog.LoadTable(ctx, db, source.Table.Schema, source.Table.Name)
	if err != nil {
		return fmt.Errorf("table %s: %w", source.Table, err)
	}
	return prepare.CheckCondition(ctx, db, table, condition)
}

// An asker asks the instance that follows a slot.
type asker struct {
	config   *mapping.Config
	db       *sql.DB
	slot     string
	requests *control.Requests
	states   *control.States
	stdout   io.Writer
	log      *slog.Logger
	display  *progress.Display
	patience time.Duration // with the slot, see work
}

func newAsker(config *mapping.Config, db *sql.DB, stdout io.Writer, log *slog.Logger, display *progress.Display) *asker {
	return &asker{
		config: config, db: db, slot: config.Postgres.Slot, stdout: stdout, log: log, display: display, patience: slotPatience,
		requests: control.NewRequests(db, config.Postgres.ControlSchema, config.Postgres.Slot),
		states:   control.NewStates(db, config.Postgres.ControlSchema),
	}
}

// isFollowed reports whether an instance follows a slot. One that does not exist nobody does.
func isFollowed(ctx context.Context, db *sql.DB, slot string) (active bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT coalesce(bool_or(active), false) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, slot).Scan(&active)
	if err != nil {
		return false, fmt.Errorf("ask who follows slot %s: %w", slot, err)
	}
	return active, nil
}

// ask makes requests, and follows them to their end unless that is not waited for.
func (a *asker) ask(ctx context.Context, wanted []*control.Request, running, noWait bool) error {
	if there, err := a.hasTables(ctx, running); err != nil {
		return err
	} else if !there {
		return fmt.Errorf("nothing was filled by slot %s yet: tidemark run fills every index", a.slot)
	}
	if err := a.add(ctx, wanted); err != nil {
		return err
	}
	if !noWait {
		return a.follow(ctx, wanted)
	}
	for _, q := range wanted {
		when := "tidemark status shows how far it is"
		if !running {
			when = "no instance runs now, the next one does it"
		}
		fmt.Fprintf(a.stdout, "%s: asked for, request %d; %s\n", q.Index, q.ID, when)
	}
	return nil
}

// hasTables reports whether the control schema has the tables that requests need. Its error is a
// [*control.OlderSchemaError] if they are of an earlier version. Those of an instance that is
// running are waited for: one that has just begun makes or migrates them.
func (a *asker) hasTables(ctx context.Context, running bool) (there bool, err error) {
	start := time.Now()
	err = retry.Poll(ctx, func() (bool, error) {
		found, err := control.Look(ctx, a.db, a.config.Postgres.ControlSchema)
		if err != nil {
			return false, err
		}
		there = found.Made
		if running && len(found.Pending) > 0 && time.Since(start) < a.patience {
			return false, nil
		}
		return true, found.Current()
	})
	return there, err
}

func (a *asker) add(ctx context.Context, wanted []*control.Request) (err error) {
	for _, q := range wanted {
		if q.ID, err = a.requests.Add(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// giveUp asks to cancel. Where every index is meant, or no instance would say so, only what
// there is to give up is asked for.
func (a *asker) giveUp(ctx context.Context, wanted []*control.Request, running, noWait, all bool) error {
	if there, err := a.hasTables(ctx, running); err != nil {
		return err
	} else if !there {
		return errors.New("no index is being rebuilt")
	}
	if all || !running {
		open, err := a.requests.Open(ctx)
		if err != nil {
			return err
		}
		var left []*control.Request
		for _, q := range wanted {
			st, err := a.states.Read(ctx, q.Index)
			if err != nil {
				return err
			}
			asked := slices.ContainsFunc(open, func(other *control.Request) bool { return other.Index == q.Index && other.Kind == control.KindReindex })
			if asked || st != nil && st.Building.Physical != "" {
				left = append(left, q)
			}
		}
		if wanted = left; len(wanted) == 0 {
			return errors.New("no index is being rebuilt")
		}
	}
	return a.ask(ctx, wanted, running, noWait || !running)
}

// work does what is wanted in this process, as no other one follows the slot. If one has taken
// the slot meanwhile, it is asked.
func (a *asker) work(ctx context.Context, wanted []*control.Request, refresh bool) error {
	prepared, err := prepare.Prepare(ctx, a.config, a.log)
	if err != nil {
		return err
	}
	defer prepared.Close()
	options := service.Options{Once: true, SlotTimeout: a.patience, Logger: a.log, Display: a.display}
	if !refresh || !prepared.Control.Made { // what was never filled is now
		for _, q := range wanted {
			if q.Kind == control.KindReindex {
				options.Reindex = append(options.Reindex, q.Index)
			}
		}
		if err := service.Run(ctx, a.config, prepared, options); errors.Is(err, dbsync.ErrSlotInUse) {
			return a.ask(ctx, wanted, true, false)
		} else if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return errInterrupted
		}
		for _, q := range wanted {
			q.Kind = control.KindReindex
			if err := a.report(ctx, q); err != nil {
				return err
			}
		}
		return nil
	}
	if err := prepared.Control.Current(); err != nil {
		return err
	}
	if err := a.add(ctx, wanted); err != nil {
		return err
	}
	watch, end := context.WithCancel(ctx)
	defer end()
	var watcher conc.WaitGroup
	var followed error
	watcher.Go(func() { followed = a.follow(watch, wanted) })
	err = service.Run(ctx, a.config, prepared, options)
	if errors.Is(err, dbsync.ErrSlotInUse) {
		err = nil // the instance that has it does what is asked for
	} else if err != nil || ctx.Err() != nil {
		end()
	}
	watcher.Wait()
	if ctx.Err() != nil {
		return errInterrupted
	}
	return cmp.Or(err, followed)
}

// A leftError says that work goes on that was not waited for to its end.
type leftError struct{ indices []string }

func (e *leftError) Error() string {
	names := strings.Join(e.indices, " ")
	return fmt.Sprintf("not waited for any longer: the running instance goes on with %s\n    tidemark status shows how far it is; tidemark reindex --cancel %s gives a rebuild up", names, names)
}

// A requestError is what became of a request that was not done.
type requestError struct{ *control.Request }

func (e *requestError) Error() string {
	if e.Phase == control.PhaseCancelled {
		return fmt.Sprintf("index %s: the %s was cancelled", e.Index, noun(e.Kind))
	}
	return fmt.Sprintf("index %s: the %s failed: %s", e.Index, noun(e.Kind), e.Message)
}

func noun(kind control.Kind) string {
	switch kind {
	case control.KindReindex:
		return "rebuild"
	case control.KindCancel:
		return "cancelling"
	}
	return string(kind)
}

// A followed request is one with what is shown of it.
type followed struct {
	*control.Request
	bar  *progress.Bar
	rows int64 // that the bar has counted
}

// follow shows how far requests are until all have ended. Its error names those that were
// not done.
func (a *asker) follow(ctx context.Context, wanted []*control.Request) error {
	var open []*followed
	for _, q := range wanted {
		open = append(open, &followed{Request: q})
	}
	defer func() {
		for _, f := range open {
			f.stop()
		}
	}()
	ticker := time.NewTicker(followInterval)
	defer ticker.Stop()
	start, said := time.Now(), false
	var silent time.Time // since when the database does not answer; zero: it does
	var failed []error
	for {
		for _, f := range slices.Clone(open) {
			err := a.look(ctx, f)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				if silent.IsZero() {
					silent = time.Now()
					a.log.Warn("cannot see how far it is, trying again", "error", err)
				}
				if time.Since(silent) > askPatience {
					return err
				}
			case f.Ended():
				silent = time.Time{}
				open = slices.DeleteFunc(open, func(other *followed) bool { return other == f })
				f.end()
				if err := a.ended(ctx, f.Request); err != nil {
					failed = append(failed, err)
				}
			default:
				silent = time.Time{}
			}
		}
		if len(open) == 0 {
			return errors.Join(failed...)
		}
		waiting := slices.ContainsFunc(open, func(f *followed) bool { return f.Phase == control.PhaseWaiting || f.Phase == "" })
		if !said && waiting && time.Since(start) > idlePatience {
			if running, err := isFollowed(ctx, a.db, a.slot); err == nil && !running {
				said = true
				a.log.Warn("no instance follows the slot any more, the next one takes up what was asked for", "slot", a.slot)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			left := &leftError{}
			for _, f := range open {
				left.indices = append(left.indices, f.Index)
			}
			return left
		}
	}
}

// look reads how far a request is, and shows it.
func (a *asker) look(ctx context.Context, f *followed) error {
	now, err := a.requests.Get(ctx, f.ID)
	if err != nil {
		return err
	}
	if now == nil {
		return fmt.Errorf("index %s: request %d is gone from the control schema", f.Index, f.ID)
	}
	f.Request = now
	if now.Phase != control.PhaseRunning {
		return nil
	}
	done, total := now.Rows, int64(-1)
	if now.Kind == control.KindReindex {
		st, err := a.states.Read(ctx, now.Index)
		if err != nil {
			return err
		}
		if st == nil || st.Building.Physical == "" || st.StartedAt.Before(now.CreatedAt) {
			return nil
		}
		done, total = st.Done, st.Total
	}
	if f.bar == nil {
		f.bar, f.rows = a.display.Index(now.Index, done, total), done
	}
	f.bar.Add(max(0, done-f.rows))
	f.rows = max(f.rows, done)
	return nil
}

func (f *followed) end() {
	if f.bar == nil {
		return
	}
	if f.Phase == control.PhaseDone {
		f.bar.Done()
	} else {
		f.bar.Stop()
	}
}

func (f *followed) stop() {
	if f.bar != nil {
		f.bar.Stop()
	}
}

// ended says what became of a request.
func (a *asker) ended(ctx context.Context, q *control.Request) error {
	if q.Phase != control.PhaseDone {
		return &requestError{q}
	}
	return a.report(ctx, q)
}

// report says what was done.
func (a *asker) report(ctx context.Context, q *control.Request) (err error) {
	switch q.Kind {
	case control.KindCancel:
		_, err = fmt.Fprintf(a.stdout, "%s: the rebuild is given up\n", q.Index)
	case control.KindRefresh:
		_, err = fmt.Fprintf(a.stdout, "%s: %d rows read and stored again\n", q.Index, q.Rows)
	default:
		st, err := a.states.Read(ctx, q.Index)
		if err != nil {
			return err
		}
		if st == nil {
			return fmt.Errorf("index %s: the control schema does not know it any more", q.Index)
		}
		_, err = fmt.Fprintf(a.stdout, "%s: rebuilt as %s, %d rows\n", q.Index, st.Live.Physical, st.Done)
		return err
	}
	return err
}
