// Command bench measures Tidemark beside the limits of the same run on the same servers:
//
//	go run ./bench [-sink] [-short] [-runs 3] [-only backfill,catchup,…] [-base COMMIT]
//
// starts Postgres and a search server (see package testenv; servers that its environment
// variables name are used as they are), and does the steps that are asked for, in each run:
//
//   - backfill: tidemark run --once into no index at all.
//   - catchup: with the tool stopped, changes are committed in transactions of 100 (60
//     updates, 30 inserts, 10 deletes), then tidemark run --once.
//   - single: the same in transactions of one change each.
//   - transaction: one transaction that updates every row, then tidemark run --once.
//   - hot: as many updates of -hot rows, beside as many of rows that are all different.
//   - live: tidemark run, and each of -rates changes a second; from the return of COMMIT until
//     a GET by _id gives the new value.
//   - idle: tidemark run while nothing is committed.
//   - wide: backfill and catch-up of a table with 50 columns.
//   - large: the same with a value of 100 KB in each row, which the updates leave as it is.
//   - include: backfill of documents that hold 20 related rows each, and changes of these.
//   - fanout: a row is changed that -fanout documents include; the latency of other changes
//     meanwhile, and the time until all are done.
//
// and with -sink, where they are asked for, on a Kafka of one broker:
//
//   - capture: a backfill and a catch-up by tidemark run into a topic that nobody reads, beside
//     the same without Kafka.
//   - workers: a topic is applied by 1, 2, 4 and 8 workers to a server that takes 200 ms for a
//     request, and four at a time of each worker.
//   - relay: as live, beside the same through Kafka and a worker; and how late changes are when a
//     worker joins, leaves or is killed.
//
// A limit is what the same machine does without the tool: the plain load sends ready-made
// requests with the same ids, versions and documents into an index with the same settings, no
// database involved; COPY reads the rows that a backfill reads, and passes over them; draining
// reads a slot that was made at the same position, and counts. Limits and tool take turns:
// every second run goes backwards. After every step index and table are compared, document by
// document, so that a fast wrong result fails.
//
// The tool is the real binary. Its processor time and peak memory are the kernel's figures for
// the process. -sink writes to a server that answers and stores nothing, which finds the tool's
// own limit; -profile has it run inside this process, for pprof. -base has the tool of another
// commit take turns with that of this tree, and says which differences are real.
//
// docs/performance.md has what came out, and how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tidemark/testenv"
)

// The steps of a run.
const (
	backfill    = "backfill"
	catchup     = "catchup"
	single      = "single"
	transaction = "transaction"
	hot         = "hot"
	live        = "live"
	idle        = "idle"
	wide        = "wide"
	large       = "large"
	include     = "include"
	fanout      = "fanout"
	capture     = "capture"
	workers     = "workers"
	relay       = "relay"
)

var steps = []string{backfill, catchup, single, transaction, hot, live, idle, wide, large, include, fanout, capture, workers, relay}

// kafkaSteps need a Kafka and a sink, and are done where they are asked for.
var kafkaSteps = []string{capture, workers, relay}

// usual are the steps that are done when none is named.
var usual = slices.DeleteFunc(slices.Clone(steps), func(step string) bool { return slices.Contains(kafkaSteps, step) })

// watched steps have the tool go on until it is told to end, and read its figures meanwhile.
var watched = []string{live, idle, fanout, capture, workers, relay}

// options are what was asked for.
type options struct {
	rows     int           // of the table
	changes  int           // of catch-ups
	hotRows  int           // that all changes of the hot step are of
	fanout   int           // documents that include one row
	rates    []int         // changes per second of the live steps
	duration time.Duration // of each live step
	idle     time.Duration // of the idle step
	runs     int
	only     []string // steps
	engine   string   // search server
	heap     string   // of the search server that is started
	requests int      // concurrent ones of the plain load
	batch    int      // documents of one request of the plain load
	bulk     string   // YAML of search.bulk, or ""
	reindex  string   // YAML of reindex of each index, or ""
	kafka    string   // YAML of keys of kafka in the tool's file, or ""
	busy     int      // busy loops beside
	base     string   // commit whose tool is measured, too
	sink     bool
	profile  string   // folder
	json     string   // file, "auto" for one in bench/results
	tables   []string // files of that, to be printed as tables and nothing else
	verbose  bool
}

func (o *options) has(step string) bool { return slices.Contains(o.only, step) }

// hasItems reports whether a step needs the plain table filled.
func (o *options) hasItems() bool {
	return slices.ContainsFunc(o.only, func(step string) bool {
		return slices.Contains([]string{backfill, catchup, single, transaction, hot, live, idle}, step)
	})
}

// hasKafka reports whether a step needs a Kafka.
func (o *options) hasKafka() bool {
	return slices.ContainsFunc(o.only, func(step string) bool { return slices.Contains(kafkaSteps, step) })
}

func main() {
	if os.Getenv(tenderVariable) != "" {
		tend()
	}
	if os.Getenv(busyVariable) != "" {
		beBusy()
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if len(o.tables) > 0 {
		if err := printMatrices(o.tables, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err = run(ctx, o, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// shortened are the sizes that -short sets where they are not given.
var shortened = map[string]string{"rows": "200000", "changes": "100000", "fanout": "50000", "for": "10s", "idle": "20s"}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.IntVar(&o.rows, "rows", 1_000_000, "rows of the table; a fifth of them with 50 columns, a thousandth with 100 KB, a twentieth with 20 related rows")
	fs.IntVar(&o.changes, "changes", 500_000, "changes to catch up with")
	fs.IntVar(&o.hotRows, "hot", 1000, "rows that the updates of the hot step are of")
	fs.IntVar(&o.fanout, "fanout", 1_000_000, "documents that include the row that is changed")
	rates := fs.String("rates", "500,5000", "changes per second of the live steps")
	fs.DurationVar(&o.duration, "for", 20*time.Second, "length of each live step")
	fs.DurationVar(&o.idle, "idle", 30*time.Second, "length of the idle step")
	short := fs.Bool("short", false, fmt.Sprintf("smaller sizes where they are not given: %v", shortened))
	fs.IntVar(&o.runs, "runs", 0, "runs of every step; the median counts (default 3, with -base 8, below which no difference can be shown to be real)")
	only := fs.String("only", strings.Join(usual, ","), "steps to measure; and "+strings.Join(kafkaSteps, ", ")+", which take -sink")
	fs.StringVar(&o.engine, "engine", string(testenv.OpenSearch3), fmt.Sprintf("search server, of %q", testenv.AllEngines()))
	fs.StringVar(&o.heap, "heap", "1g", "heap of the search server")
	fs.IntVar(&o.requests, "requests", 4, "concurrent bulk requests of the plain load")
	fs.IntVar(&o.batch, "batch", 2000, "documents of one request of the plain load")
	fs.StringVar(&o.bulk, "bulk", "", "search.bulk of the tool's YAML, such as {requests: 8, bytes: 4MiB} (default: left out)")
	fs.StringVar(&o.reindex, "reindex", "", "reindex of each index in the tool's YAML, such as {chunk: 20000} (default: left out)")
	fs.StringVar(&o.kafka, "kafka", "", "more keys of kafka in the tool's YAML, such as 'compression: none' (default: left out)")
	fs.IntVar(&o.busy, "busy", 0, "busy loops to run beside")
	fs.StringVar(&o.base, "base", "", "a commit whose tool takes turns with that of this tree")
	fs.BoolVar(&o.sink, "sink", false, "write to a server that stores nothing: the tool's own limit, and no figure of a real server")
	fs.StringVar(&o.profile, "profile", "", "run the tool inside this process and write CPU profiles into this folder")
	fs.StringVar(&o.json, "json", "", "write the result to this file too; auto: to one in bench/results")
	tables := fs.String("tables", "", "print what -json wrote to these files as the tables of docs/performance.md, and measure nothing")
	fs.BoolVar(&o.verbose, "v", false, "show the tool's log")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if *tables != "" {
		o.tables = strings.Split(*tables, ",")
	}
	if *short {
		if err := shorten(fs); err != nil {
			return o, err
		}
	}
	for step := range strings.SplitSeq(*only, ",") {
		if !slices.Contains(steps, step) {
			return o, fmt.Errorf("-only %s: want some of %s", *only, strings.Join(steps, ","))
		}
		if o.profile != "" && slices.Contains(watched, step) {
			if *only != strings.Join(usual, ",") {
				return o, fmt.Errorf("-only %s: a profile is of steps that end by themselves", step)
			}
			continue
		}
		o.only = append(o.only, step)
	}
	for rate := range strings.SplitSeq(*rates, ",") {
		n, err := strconv.Atoi(rate)
		if err != nil || n < 1 {
			return o, fmt.Errorf("-rates %s: want numbers of changes a second, such as 500,5000", *rates)
		}
		o.rates = append(o.rates, n)
	}
	if o.runs == 0 {
		o.runs = 3
		if o.base != "" {
			o.runs = realPairs
		}
	}
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("%s: no arguments are taken", fs.Arg(0))
	case o.rows < 100 || o.changes < 100 || o.fanout < 100:
		return o, errors.New("want at least 100 rows, changes and documents of the fan-out")
	case o.runs < 1 || o.requests < 1 || o.batch < 1 || o.duration <= 0 || o.idle <= 0 || o.busy < 0:
		return o, errors.New("want positive numbers")
	case o.changes > 5*o.rows:
		return o, errors.New("-changes: at most five times the rows, a tenth are deletes")
	case o.hotRows < 100 || o.hotRows > o.rows/2:
		return o, errors.New("-hot: want at least 100, which are changed by one transaction, and at most half of the rows")
	case o.hasKafka() && (!o.sink || o.base != ""):
		return o, fmt.Errorf("-only %s: these write through Kafka into a sink, by the tool of this tree: want -sink, and no -base", strings.Join(kafkaSteps, ","))
	case o.profile != "" && o.base != "":
		return o, errors.New("-profile has the tool of this tree run inside of this process, -base that of another one outside: want one of them")
	}
	return o, nil
}

// shorten sets what is shortened and was not given.
func shorten(fs *flag.FlagSet) error {
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range shortened {
		if !given[name] {
			if err := fs.Set(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}
