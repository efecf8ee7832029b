// Command chaos is a nemesis: it starts Postgres and a search server of its own, two instances of
// tidemark run on one slot, and has everything go wrong that a seed draws, while rows change.
//
//	go run ./testenv/chaos [-seed N] [-minutes 2] [-engine opensearch] [-kafka] [-faults kill,late,…]
//
// It works in rounds. In each, faults come and go for some twenty seconds: instances are killed and
// paused, connections cut, half-open and slow, bulk requests late, their answers lost or refusals,
// servers killed, rebuilds asked for and cancelled, tables altered, mappings edited, slots and
// indices lost, databases and indices set back. Then everything is lifted, and when all is stored
// every index is compared with its table, document by document. All the while no document's version
// may go back, and no position may be confirmed before what it covers is stored.
//
// With -kafka operations go through a broker to workers, which are killed, paused, join and leave as well. A
// position is confirmed when Kafka has what it covers then, and that is stored when the workers' group has
// committed it.
//
// The plan of a seed is always the same, its faults and its changes; the moments at which they meet
// are not. A failure tells the seed, what happened last, and where the logs are.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"tidemark/testenv"
)

// options are what was asked for.
type options struct {
	seed     uint64
	length   time.Duration
	engine   testenv.Engine
	kafka    bool   // operations go through it
	faults   string // kinds, "" for all
	without  string // kinds
	first    int    // number of the round to begin with
	patience time.Duration
	race     bool
	plan     bool // print it, and do nothing
	keep     bool // the logs, whatever comes
}

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // the second Ctrl-C does not wait for the end
	err = wreak(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func parse(args []string, out io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.SetOutput(out)
	seed := fs.String("seed", "", "what faults and changes are drawn from; default: a new one, which is printed")
	minutes := fs.Float64("minutes", 2, "no round begins later")
	engine := fs.String("engine", string(testenv.OpenSearch3), fmt.Sprintf("search server, of %q", testenv.AllEngines()))
	fs.BoolVar(&o.kafka, "kafka", false, "have operations go through Kafka, to workers, with faults of their own")
	fs.StringVar(&o.faults, "faults", "", "only these, separated by commas; default: all")
	fs.StringVar(&o.without, "without", "", "all but these")
	fs.IntVar(&o.first, "round", 1, "number of the round to begin with")
	fs.DurationVar(&o.patience, "patience", 5*time.Minute, "how long changes, and index and table to become equal, may take")
	fs.BoolVar(&o.race, "race", false, "have the binary find data races")
	fs.BoolVar(&o.plan, "plan", false, "print the plan of three rounds and do nothing")
	fs.BoolVar(&o.keep, "keep", false, "keep the logs of a run that found nothing, too")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	engines, err := testenv.ParseEngines(*engine)
	if err != nil || len(engines) != 1 {
		return o, fmt.Errorf("-engine %s: want one of %q", *engine, testenv.AllEngines())
	}
	o.engine, o.length, o.seed = engines[0], time.Duration(*minutes*float64(time.Minute)), rand.Uint64()
	if *seed != "" {
		if _, err := fmt.Sscan(*seed, &o.seed); err != nil {
			return o, fmt.Errorf("-seed %s: want a number from 0 to 18446744073709551615", *seed)
		}
	}
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("%s: no arguments are taken", fs.Arg(0))
	case *minutes <= 0 || o.patience <= 0 || o.first < 1:
		return o, errors.New("-minutes, -patience and -round: want positive numbers")
	}
	_, err = o.chooseKinds()
	return o, err
}

// repeat is the command that makes the same plan again, from the round with that number on.
func (o options) repeat() string {
	var more strings.Builder
	if o.kafka {
		more.WriteString(" -kafka")
	}
	for _, f := range []struct{ name, value string }{{"faults", o.faults}, {"without", o.without}} {
		if f.value != "" {
			fmt.Fprintf(&more, " -%s %s", f.name, f.value)
		}
	}
	if o.first != 1 {
		fmt.Fprintf(&more, " -round %d", o.first)
	}
	command := fmt.Sprintf("make chaos SEED=%d MINUTES=%g ENGINE=%s", o.seed, o.length.Minutes(), o.engine)
	if more.Len() > 0 {
		command += fmt.Sprintf(" ARGS='%s'", strings.TrimSpace(more.String()))
	}
	return command
}

// wreak does what the options say.
func wreak(ctx context.Context, o options, out io.Writer) error {
	kinds, err := o.chooseKinds()
	if err != nil {
		return err
	}
	if o.plan {
		for n := range 3 {
			printPlan(out, drawRound(o.seed, o.first+n, kinds))
		}
		return nil
	}
	fmt.Fprintf(out, "seed %d: %s\n", o.seed, o.repeat())
	folder, err := os.MkdirTemp("", "tidemark-chaos-")
	if err != nil {
		return err
	}
	if err := os.Chmod(folder, 0o755); err != nil { // servers of root run as another user
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	j := newJournal(out, cancel)
	servers := fmt.Sprintf("Postgres and %s", o.engine)
	if o.kafka {
		servers += " and Kafka"
	}
	j.say("starting %s; logs are in %s", servers, folder)
	s, err := open(ctx, o, folder, j)
	rounds := 0
	if err == nil {
		rounds, err = s.run(ctx, o, kinds)
		j.say("%d rounds; %d markers and %d versions were looked at", rounds, s.watch.checked, s.watch.seen)
	}
	failures := j.failures()
	if len(failures) > 0 {
		s.keepLogs()
	}
	err = errors.Join(err, s.close())
	if len(failures) > 0 {
		last := o
		last.first += rounds
		fmt.Fprintf(out, "\nwhat happened last:\n%s\n\nwhat was wrong:\n  %s\n\nlogs: %s\nagain: %s\nfrom that round on: %s\n", j.tail(), strings.Join(failures, "\n  "), folder, o.repeat(), last.repeat())
		return fmt.Errorf("%d things were wrong, see above", len(failures))
	}
	if err != nil {
		fmt.Fprintf(out, "logs: %s\nagain: %s\n", folder, o.repeat())
		return err
	}
	if !o.keep {
		return os.RemoveAll(folder)
	}
	return nil
}

// printPlan prints what happens in a round.
func printPlan(out io.Writer, r *round) {
	fmt.Fprintf(out, "round %d\n", r.number)
	for n := range r.faults {
		fmt.Fprintf(out, "  %s\n", &r.faults[n])
	}
	for w, all := range r.writers {
		for _, t := range all {
			fmt.Fprintf(out, "  writer %d, then %s: %s: %s\n", w, t.pause, t.name, strings.Join(t.statements, "; "))
		}
	}
}
