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
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pglogrepl"
	"github.com/sourcegraph/conc/pool"
	"github.com/spf13/cobra"

	"tidemark/internal/prepare"
	"tidemark/internal/service"
	"tidemark/reindex/verify"
)

type verifyOptions struct {
	grouped
	repair bool
	sample part
	json   bool
	show   int
}

func newVerify(stderr io.Writer) *cobra.Command {
	o := verifyOptions{grouped: grouped{common: common{level: level(slog.LevelWarn)}}} // the result is what is printed
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
	c.Flags().BoolVar(&o.repair, "repair", false, "repair what differs: have rows read again, and remove documents without one")
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
	log, display := o.logger(stderr)
	config, indices, err := o.readNamed(ctx, names, log, prepare.StartTimeout)
	if err != nil {
		return err
	}
	out = &lockedWriter{w: out}
	counts := make([]int64, len(indices))
	err = whileFollowed(ctx, config, indices, screen{log, display}, func(ctx context.Context, slot *followedSlot) error {
		// What takes its time is mostly to wait for the slot.
		p := pool.New().WithContext(ctx).WithMaxGoroutines(parallelVerify).WithCancelOnError().WithFirstError()
		for i, ix := range indices {
			p.Go(func(ctx context.Context) error {
				printer := verifyPrinter{o: o, out: out}
				verified, err := verify.Run(ctx, ix, verify.Options{
					DB: slot.db, SlotDB: slot.slotDB, Client: slot.prepared.Client, Schema: config.StateSchema(), WatermarkSchema: config.Postgres.ControlSchema, Slot: config.Postgres.Slot, Tables: slot.prepared.Tables, Applied: slot.applied,
					Sample: float64(o.sample), Repair: o.repair, Found: printer.found, Progress: service.Bars{Display: display}, Logger: log,
				})
				if err != nil {
					return err
				}
				counts[i] = verified.Differences()
				return printer.result(verified)
			})
		}
		return p.Wait()
	})
	if err != nil {
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

// A verifyPrinter prints the differences of an index as they are found.
type verifyPrinter struct {
	o     verifyOptions
	out   io.Writer
	shown int
}

func (p *verifyPrinter) found(d verify.Difference) error {
	if p.o.json {
		return p.line(map[string]any{"difference": newDifferenceLine(&d)})
	}
	if p.shown++; p.shown > p.o.show {
		return nil
	}
	return p.print(describeDifference(&d) + "\n")
}

// A differenceLine is a difference as it is printed as JSON. Its version is the position in the
// log, as that of a dead letter is.
type differenceLine struct {
	*verify.Difference
	Version string `json:"version,omitempty"`
}

func newDifferenceLine(d *verify.Difference) *differenceLine {
	line := &differenceLine{Difference: d}
	if d.Version != 0 {
		line.Version = pglogrepl.LSN(d.Version).String()
	}
	return line
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
func describeDifference(d *verify.Difference) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", d.Index, strconv.Quote(d.ID))
	if d.Routing != "" {
		fmt.Fprintf(&b, " routing %s", strconv.Quote(d.Routing))
	}
	switch d.Kind {
	case verify.Missing:
		b.WriteString(": the row has no document")
	case verify.Extra:
		b.WriteString(": the document has no row")
	case verify.Differs:
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
func (p *verifyPrinter) result(v *verify.Result) error {
	if p.o.json {
		return p.line(map[string]any{"result": struct {
			*verify.Result
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
