// Command demo is Tidemark at work: it starts Postgres and OpenSearch (see package
// testenv for where they come from), fills a small shop, starts tidemark run on a mapping
// of its tables, keeps changing the shop, and prints what to try:
//
//	go run ./testenv/demo [-for 1m] [-kafka]
//
// With -kafka there is a Kafka as well: tidemark run produces the operations to it, and two workers,
// tidemark apply, write them.
//
// Everything listens on 127.0.0.1 alone. Ctrl-C ends and removes all of it; so does the
// end of this process in any other way.
//
// Where there is no psql, go run ./testenv/demo -url URL -sql STATEMENT does its part.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

func main() {
	length := flag.Duration("for", 0, "end by itself after this time; default: at Ctrl-C")
	kafka := flag.Bool("kafka", false, "operations go by Kafka to two workers")
	url := flag.String("url", "", "database for -sql")
	sql := flag.String("sql", "", "execute a statement, as psql would, and do nothing else")
	flag.Parse()
	if flag.NArg() > 0 || (*sql == "") != (*url == "") || *length < 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // the second Ctrl-C does not wait for the end
	var err error
	if *sql != "" {
		err = execute(ctx, *url, *sql, os.Stdout)
	} else {
		err = demonstrate(ctx, &demo{out: &printer{w: os.Stdout}, withKafka: *kafka}, *length)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func execute(ctx context.Context, url, sql string, out io.Writer) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tag, err := conn.Exec(ctx, sql)
	if err == nil {
		fmt.Fprintln(out, tag)
	}
	return err
}

// demonstrate runs the demo until ctx is done, or for length once it is up.
func demonstrate(ctx context.Context, d *demo, length time.Duration) (err error) {
	err = d.open(ctx)
	defer func() {
		d.out.print("ending everything")
		if e := d.close(context.WithoutCancel(ctx)); e != nil {
			err = errors.Join(err, fmt.Errorf("end: %w", e))
			return
		}
		d.out.print("nothing is left")
	}()
	if err != nil {
		return err
	}
	d.guide()
	if length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, length, context.Canceled)
		defer cancel()
	}
	err = d.trade(ctx)
	if ctx.Err() != nil {
		return nil // that was asked for
	}
	return err
}
