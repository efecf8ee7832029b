package cli

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/conc/pool"
	"github.com/spf13/cobra"

	"tidemark/dbsync"
	"tidemark/internal/prepare"
	"tidemark/internal/progress"
	"tidemark/internal/service"
	"tidemark/mapping"
	"tidemark/reindex"
)

type verifyOptions struct {
	common
	repair bool
	sample part
	json   bool
	show   int
}

func newVerify(stderr io.Writer) *cobra.Command {
	o := verifyOptions{common: common{level: level(slog.LevelWarn)}} // the result is what is printed
	c := &cobra.Command{
		Use:   "verify INDEX…",
		Short: "Compare indices with their tables, document by document",
		Long: "Compares every row's document with the stored one, and finds documents without a row, while writes go on.\n" +
			"What differs is looked at again when the stream has passed, so that only real differences are reported.\n" +
			"If no instance is running, this command follows the slot meanwhile, as run does. Exit code 0: equal or\n" +
			"repaired, 1: there are differences.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("name the indices, or all")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			err := runVerify(c.Context(), o, args, c.OutOrStdout(), stderr)
			if c.Context().Err() != nil {
				return errInterrupted
			}
			return err
		},
		ValidArgsFunction: func(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			names := slices.DeleteFunc(indexNames(o.file), func(name string) bool { return slices.Contains(given, name) })
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	o.add(c)
	c.Flags().BoolVar(&o.repair, "repair", false, "mend what differs: have rows read again, and remove documents without one")
	c.Flags().Var(&o.sample, "sample", "look at a random `part` of the rows and documents: 1%, 0.5%")
	c.Flags().BoolVar(&o.json, "json", false, "print every difference and the result of each index, each as a line of JSON")
	c.Flags().IntVar(&o.show, "show", 20, "print the first `n` differences of each index")
	return c
}

// A DifferentError reports indices that differ from their tables.
type differentError struct {
	count   int64
	indices []string
}

func (e *differentError) Error() string {
	return fmt.Sprintf("%s from %s", counted(e.count, "document differs", "documents differ"), "the tables: "+strings.Join(e.indices, ", "))
}

func runVerify(ctx context.Context, o verifyOptions, names []string, out, stderr io.Writer) error {
	config, err := mapping.Read(o.file)
	if err != nil {
		return err
	}
	indices, err := named(config, names)
	if err != nil {
		return err
	}
	log, display := o.logger(stderr)
	prepared, err := prepare.Prepare(ctx, config, log)
	if err != nil {
		return err
	}
	defer prepared.Close()
	if err := verifiable(ctx, config, prepared, indices); err != nil {
		return err
	}
	db, err := dbsync.OpenDB(config.Postgres.ConnString())
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	end, err := follow(ctx, cancel, config, prepared, db, log, display)
	if err != nil {
		cancel(nil)
		return err
	}
	defer end()
	defer cancel(nil)

	// What takes its time is mostly to wait for the slot.
	out = &lockedWriter{w: out}
	counts := make([]int64, len(indices))
	p := pool.New().WithContext(ctx).WithMaxGoroutines(parallelVerify).WithCancelOnError().WithFirstError()
	for i, ix := range indices {
		p.Go(func(ctx context.Context) error {
			printer := verifyPrinter{o: o, out: out}
			verified, err := reindex.Verify(ctx, ix, reindex.VerifyOptions{
				DB: db, Client: prepared.Client, Schema: config.Postgres.ControlSchema, Slot: config.Postgres.Slot, Tables: prepared.Tables,
				Sample: float64(o.sample), Repair: o.repair, Found: printer.found, Progress: bars{display}, Logger: log,
			})
			if err != nil {
				return err
			}
			counts[i] = verified.Differences()
			return printer.result(verified)
		})
	}
	if err := p.Wait(); err != nil {
		if cause := context.Cause(ctx); ctx.Err() != nil && !errors.Is(cause, context.Canceled) {
			return cause // of the service
		}
		return err
	}
	different := &differentError{}
	for i, n := range counts {
		if n > 0 {
			different.count += n
			different.indices = append(different.indices, indices[i].Name)
		}
	}
	if different.count > 0 {
		return different
	}
	return nil
}

// parallelVerify is how many indices are verified at a time.
const parallelVerify = 2

// A lockedWriter is written to by several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(text)
}

// verifiable makes sure that the indices are what the mapping makes of them: to verify
// something must not rebuild it.
func verifiable(ctx context.Context, config *mapping.Config, prepared *prepare.Prepared, indices []*mapping.Index) error {
	plans, err := prepared.Plan(ctx, config)
	if err != nil {
		return err
	}
	for _, plan := range plans {
		if slices.Contains(indices, plan.Index) && plan.Need.Fill != "" {
			return fmt.Errorf("index %s has to be filled before it can be verified: %s%s", plan.Index.Name, plan.Need.Fill, withMend("tidemark run"))
		}
	}
	return nil
}

const (
	readyInterval = 100 * time.Millisecond
	// readyPatience is how long it may take until the slot is followed. Filling has no limit.
	readyPatience = time.Minute
)

// follow makes sure that the slot is followed: by an instance that is running, or by this
// process until end is called, which waits for it. When it ends before, cancel is told why.
func follow(ctx context.Context, cancel context.CancelCauseFunc, config *mapping.Config, prepared *prepare.Prepared, db *sql.DB, log *slog.Logger, display *progress.Display) (end func(), err error) {
	active := func() (bool, error) { return isFollowed(ctx, db, config.Postgres.Slot) }
	if yes, err := active(); yes || err != nil {
		return func() {}, err
	}
	log.Info("no instance is running: this one follows the slot", "slot", config.Postgres.Slot)
	run, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := service.Run(run, config, prepared, service.Options{Logger: log, Display: display})
		if run.Err() == nil {
			if err == nil {
				err = errors.New("following the slot has ended")
			}
			cancel(err)
		}
	}()
	end = func() { stop(); <-ended }
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	for start := time.Now(); ; {
		yes, err := active()
		if err == nil && !yes && time.Since(start) > readyPatience {
			err = fmt.Errorf("slot %s was not followed within %s", config.Postgres.Slot, readyPatience)
		}
		if yes || err != nil {
			if err != nil {
				end()
				err = errors.Join(context.Cause(ctx), err)
			}
			return end, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			end()
			return nil, context.Cause(ctx)
		}
	}
}

// bars shows on a Display how far verifying is.
type bars struct{ display *progress.Display }

func (b bars) Begin(index string, done, total int64) reindex.Bar {
	return b.display.Index(index, done, total)
}

// A verifyPrinter prints the differences of an index as they are found.
type verifyPrinter struct {
	o     verifyOptions
	out   io.Writer
	shown int
}

func (p *verifyPrinter) found(d reindex.Difference) error {
	if p.o.json {
		return p.line(map[string]any{"difference": d})
	}
	if p.shown++; p.shown > p.o.show {
		return nil
	}
	return p.print(describeDifference(&d) + "\n")
}

func (p *verifyPrinter) line(value any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return p.print(b.String())
}

func (p *verifyPrinter) print(text string) error {
	if _, err := io.WriteString(p.out, text); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// describeDifference says what a difference is: products 7: price: want 2.50, got 2.5
func describeDifference(d *reindex.Difference) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", d.Index, strconv.Quote(d.ID))
	if d.Routing != "" {
		fmt.Fprintf(&b, " routing %s", strconv.Quote(d.Routing))
	}
	switch d.Kind {
	case reindex.Missing:
		b.WriteString(": the row has no document")
	case reindex.Extra:
		b.WriteString(": the document has no row")
	case reindex.Differs:
		fmt.Fprintf(&b, ": %s: want %s, got %s", d.Path, orNone(d.Want), orNone(d.Got))
		if d.More > 0 {
			fmt.Fprintf(&b, ", and %d more", d.More)
		}
	}
	if d.Note != "" {
		b.WriteString(": " + d.Note)
	}
	if d.Repaired {
		b.WriteString(" (repaired)")
	}
	return b.String()
}

func orNone(value string) string {
	if value == "" {
		return "no field"
	}
	return value
}

// result prints what came of one index.
func (p *verifyPrinter) result(v *reindex.Verified) error {
	if p.o.json {
		return p.line(map[string]any{"result": struct {
			*reindex.Verified
			Sample float64 `json:"sample,omitempty"`
		}{v, float64(p.o.sample)}})
	}
	var b strings.Builder
	if p.shown > p.o.show {
		fmt.Fprintf(&b, "%s: … and %d more\n", v.Index, p.shown-p.o.show)
	}
	of := ""
	if p.o.sample > 0 {
		of = "a sample of " + p.o.sample.String() + ": "
	}
	fmt.Fprintf(&b, "%s: %s%s and %s compared: ", v.Index, of, counted(v.Rows, "row", "rows"), counted(v.Documents, "document", "documents"))
	if v.Missing+v.Extra+v.Differing == 0 {
		b.WriteString("equal")
	} else {
		fmt.Fprintf(&b, "%d missing, %d without a row, %d different", v.Missing, v.Extra, v.Differing)
		if p.o.repair {
			fmt.Fprintf(&b, "; %d repaired", v.Repaired)
		}
	}
	if v.Undecided > 0 {
		fmt.Fprintf(&b, "; %s at every look, and could not be compared", counted(v.Undecided, "document changed", "documents changed"))
	}
	b.WriteByte('\n')
	return p.print(b.String())
}

func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}

// A part is the value of a flag: a percentage above 0 and below 100; 0: all.
type part float64

func (p *part) String() string {
	if *p == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(*p)*100, 'g', 6, 64) + "%"
}

func (p *part) Type() string { return "part" }

func (p *part) Set(text string) error {
	number, ok := strings.CutSuffix(strings.TrimSpace(text), "%")
	value, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(value > 0 && value <= 100) {
		return errors.New("want a percentage above 0 and up to 100, such as 1%")
	}
	if *p = part(value / 100); *p == 1 {
		*p = 0
	}
	return nil
}
