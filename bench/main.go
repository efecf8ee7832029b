// Command bench measures Tidemark beside a plain bulk load of the same documents
// into the same search server in the same run:
//
//	go run ./bench [-rows 300000] [-changes 200000] [-runs 3] [-only backfill,catchup,transaction,latency,include]
//
// starts Postgres and a search server (see package testenv; servers that its
// environment variables name are used as they are), fills a table, and then, in each
// run, in alternating order:
//
//   - backfill: tidemark run --once into no index at all, beside a plain load of the
//     same documents. The time is from the start of the process to its end, with the
//     making of slot and index before, and refresh and alias after; the plain load's
//     ends with a refresh as well.
//   - catchup: with the tool stopped, changes are committed in transactions of 100 (60
//     updates, 30 inserts, 10 deletes), then tidemark run --once, beside a plain load
//     of the same operations.
//   - transaction: one transaction that updates every row, then tidemark run --once.
//   - latency: tidemark run, 500 changes a second; from the return of COMMIT until a GET
//     by _id gives the new value.
//   - include: tidemark run --once into no index, of a third of the rows with three related
//     rows in each document. It is compared with the backfill, by bytes of documents.
//
// The plain load is the limit: ready-made requests with the same ids, versions and
// documents into an index with the same settings and mappings, no database involved. It
// is done once before the first run to warm the server up. After every step index and
// table are compared, document by document, so that a fast wrong result fails.
//
// The tool is the real binary. Its processor time and peak memory are the kernel's
// figures for the process. -sink writes to a server that answers and stores nothing, which
// finds the tool's own limit; -profile has it run inside this process, for pprof.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"tidemark/testenv"
)

// The steps of a run.
const (
	backfill    = "backfill"
	catchup     = "catchup"
	transaction = "transaction"
	latency     = "latency"
	include     = "include"
)

var steps = []string{backfill, catchup, transaction, latency, include}

// options are what was asked for.
type options struct {
	rows     int           // of the table
	changes  int           // of the catch-up
	runs     int           // of backfill and catch-up; the others are done once
	only     []string      // steps
	engine   string        // search server
	heap     string        // of the search server that is started
	requests int           // concurrent ones, of the plain load and of the tool
	batch    int           // documents of one request of the plain load
	rate     int           // changes per second of the latency step
	duration time.Duration // of the latency step
	sink     bool
	profile  string // folder
	json     string // file, "auto" for one in bench/results
	verbose  bool
}

func (o *options) has(step string) bool { return slices.Contains(o.only, step) }

func main() {
	if os.Getenv(tenderVariable) != "" {
		tend()
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err = run(ctx, o, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.IntVar(&o.rows, "rows", 300_000, "rows of the table")
	fs.IntVar(&o.changes, "changes", 200_000, "changes to catch up with")
	fs.IntVar(&o.runs, "runs", 3, "runs of backfill and catch-up; the median counts")
	only := fs.String("only", strings.Join(steps, ","), "steps to measure")
	fs.StringVar(&o.engine, "engine", string(testenv.OpenSearch3), "search server: opensearch, elasticsearch8 or elasticsearch7")
	fs.StringVar(&o.heap, "heap", "1g", "heap of the search server")
	fs.IntVar(&o.requests, "requests", 4, "concurrent bulk requests, of the tool and of the plain load")
	fs.IntVar(&o.batch, "batch", 2000, "documents of one request of the plain load")
	fs.IntVar(&o.rate, "rate", 500, "changes per second of the latency step")
	fs.DurationVar(&o.duration, "for", 20*time.Second, "length of the latency step")
	fs.BoolVar(&o.sink, "sink", false, "write to a server that stores nothing: the tool's own limit, and no figure of a real server")
	fs.StringVar(&o.profile, "profile", "", "run the tool inside this process and write CPU profiles into this folder")
	fs.StringVar(&o.json, "json", "", "write the result to this file too; auto: to one in bench/results")
	fs.BoolVar(&o.verbose, "v", false, "show the tool's log")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	for step := range strings.SplitSeq(*only, ",") {
		if !slices.Contains(steps, step) {
			return o, fmt.Errorf("-only %s: want some of %s", *only, strings.Join(steps, ","))
		}
		o.only = append(o.only, step)
	}
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("%s: no arguments are taken", fs.Arg(0))
	case o.rows < 100 || o.changes < 100 || o.runs < 1 || o.requests < 1 || o.batch < 1 || o.rate < 1 || o.duration <= 0:
		return o, errors.New("want at least 100 rows and changes, and positive numbers otherwise")
	case o.changes > 5*o.rows:
		return o, errors.New("-changes: at most five times the rows, a tenth are deletes")
	case o.profile != "" && o.has(latency) && *only == strings.Join(steps, ","):
		o.only = []string{backfill, catchup}
	}
	return o, nil
}
