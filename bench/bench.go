package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

// A bench is one execution of the program.
type bench struct {
	o       options
	servers *servers
	search  *search
	data    *dataset
	tool    *tool
	folder  string
	body    []byte // for the creation of an index as the tool makes it
	rows    *bulkFile
	report  report
	flat    float64   // bytes of documents in a second, of the last backfill
	told    io.Writer // progress
}

// run does all that was asked for, tells how far it is on progress, and prints what came out.
func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	sandbox, err := testenv.NewSandbox("bench") // its folder goes even if we are killed
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Close()) }()
	b := &bench{o: o, folder: sandbox.Folder, told: progress, report: report{Time: time.Now().UTC(), Machine: thisMachine()}}
	b.tell("starting the servers")
	if b.servers, err = startServers(ctx, o); err != nil {
		return err
	}
	b.search = b.servers.search
	defer func() { err = errors.Join(err, b.servers.close()) }()
	defer func() { err = errors.Join(err, b.search.drop(context.WithoutCancel(ctx), b.servers.name)) }()
	if b.tool, err = newTool(ctx, b.folder, b.servers, o, progress); err != nil {
		return err
	}
	b.report.Machine.Postgres, b.report.Machine.Servers = b.servers.postgres, b.servers.told
	if b.report.Machine.Search, err = b.search.version(ctx); err != nil {
		return err
	}
	if o.sink {
		b.report.Machine.Search = "a throw-away sink instead of a search server"
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	if err := b.report.print(out); err != nil || o.json == "" {
		return err
	}
	file, err := b.report.write(o.json)
	if err == nil {
		b.tell("wrote %s", file)
	}
	return err
}

func (b *bench) tell(format string, args ...any) {
	fmt.Fprintf(b.told, "bench: %4.0f s  %s\n", time.Since(b.report.Time).Seconds(), fmt.Sprintf(format, args...))
}

// measure does all steps.
func (b *bench) measure(ctx context.Context) (err error) {
	ix := b.tool.config.Indices[0]
	b.tell("filling a table with %d rows", b.o.rows)
	if b.data, err = newDataset(ctx, b.servers.url, ix, b.o.rows); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.data.close(ctx)) }()
	if b.body, err = ix.Body(b.data.tables()); err != nil {
		return err
	}
	if b.rows, err = newBulkFile(b.folder, "rows", b.o.batch); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.rows.close()) }()
	if err := b.data.all(ctx, func(doc document) error { return b.rows.store(1, doc) }); err != nil {
		return err
	}
	b.report.Data = fmt.Sprintf("%d rows of %d bytes as COPY writes them, documents of %d bytes; plain load: %d requests at a time, %d documents each",
		b.o.rows, b.data.bytes/int64(b.o.rows), b.rows.bytes/int64(b.rows.operations), b.o.requests, b.o.batch)
	if !b.o.sink {
		b.tell("warming up with a plain load")
		if _, err := b.plainBackfill(ctx, b.plain("warm")); err != nil {
			return err
		}
		if err := b.search.drop(ctx, b.plain("warm")); err != nil {
			return err
		}
	}
	for n := range b.o.runs {
		if n > 0 {
			if err := b.startOver(ctx); err != nil {
				return err
			}
		}
		last := n == b.o.runs-1
		if err := b.once(ctx, n, last); err != nil {
			return fmt.Errorf("run %d: %w", n+1, err)
		}
	}
	return nil
}

// once is one run.
func (b *bench) once(ctx context.Context, n int, last bool) error {
	plain := b.plain(fmt.Sprint(n))
	if err := b.backfill(ctx, n, plain); err != nil {
		return fmt.Errorf("backfill: %w", err)
	}
	if b.o.has(catchup) {
		if err := b.catchup(ctx, n, plain); err != nil {
			return fmt.Errorf("catch-up: %w", err)
		}
	}
	if last && b.o.has(transaction) {
		if err := b.transaction(ctx); err != nil {
			return fmt.Errorf("one large transaction: %w", err)
		}
	}
	if last && b.o.has(latency) && !b.o.sink {
		if err := b.latency(ctx); err != nil {
			return fmt.Errorf("latency: %w", err)
		}
	}
	if last && b.o.has(include) && !b.o.sink {
		if err := b.include(ctx, b.flat); err != nil {
			return fmt.Errorf("related rows: %w", err)
		}
	}
	return nil
}

// plain names an index for a plain load.
func (b *bench) plain(of string) string { return b.servers.name + "-plain-" + of }

// startOver removes what a run has left.
func (b *bench) startOver(ctx context.Context) error {
	b.tell("starting over")
	if err := b.search.drop(ctx, b.servers.name); err != nil {
		return err
	}
	if err := dropSlot(ctx, b.data.conn, b.servers.name); err != nil {
		return err
	}
	c := b.tool.config.Postgres
	for _, statement := range []string{
		"drop publication " + pgx.Identifier{c.Publication}.Sanitize(),
		"drop schema " + pgx.Identifier{c.ControlSchema}.Sanitize() + " cascade",
	} {
		if _, err := b.data.conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return b.data.reset(ctx)
}

// alternate does the one first in even runs and the other in odd ones.
func (b *bench) alternate(ctx context.Context, n int, one, other func() error) error {
	if n%2 == 1 {
		one, other = other, one
	}
	for _, f := range []func() error{one, other} {
		if err := b.awaitIdle(ctx); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// awaitIdle waits until nothing is left to do of the steps before.
func (b *bench) awaitIdle(ctx context.Context) error {
	if b.o.sink {
		return nil
	}
	if err := b.search.awaitIdle(ctx); err != nil {
		return err
	}
	_, err := b.data.conn.Exec(ctx, "checkpoint")
	return err
}

// plainBackfill is the plain load of all rows, into an index made as the tool makes it.
func (b *bench) plainBackfill(ctx context.Context, index string) (load, error) {
	if err := b.search.call(ctx, http.MethodPut, "/"+index, b.body, nil); err != nil {
		return load{}, err
	}
	if err := b.settings(ctx, index, `{"index":{"refresh_interval":"-1","number_of_replicas":0}}`); err != nil {
		return load{}, err
	}
	l, err := b.search.load(ctx, index, b.rows, b.o.requests)
	if err != nil {
		return l, err
	}
	return l, b.settings(ctx, index, `{"index":{"refresh_interval":"1s","number_of_replicas":null}}`)
}

func (b *bench) settings(ctx context.Context, index, body string) error {
	return b.search.call(ctx, http.MethodPut, "/"+index+"/_settings", []byte(body), nil)
}

func (b *bench) backfill(ctx context.Context, n int, plain string) error {
	var l load
	var u usage
	var filling time.Duration
	loadPlain := func() (err error) {
		if b.o.sink {
			return nil
		}
		b.tell("run %d: plain load", n+1)
		l, err = b.plainBackfill(ctx, plain)
		return err
	}
	runTool := func() (err error) {
		b.tell("run %d: backfill", n+1)
		u, filling, err = b.tool.once(ctx, backfill)
		return err
	}
	if err := b.alternate(ctx, n, loadPlain, runTool); err != nil {
		return err
	}
	if err := b.check(ctx, b.o.rows, b.tool.index, plain); err != nil {
		return err
	}
	b.flat = float64(b.rows.bytes) / u.Wall.Seconds()
	if b.o.has(backfill) {
		b.compare(backfill, "rows", b.o.rows, l, u)
		if filling > 0 {
			b.report.add(backfill, "tidemark, the filling alone", "rows/s", rate(b.o.rows, filling))
		}
	}
	return nil
}

// compare notes the figures of a plain load and of the tool.
func (b *bench) compare(step, what string, n int, l load, u usage) {
	if l.whole > 0 {
		b.report.add(step, "plain load", what+"/s", rate(n, l.whole))
	}
	b.report.add(step, "tidemark", what+"/s", rate(n, u.Wall))
	if l.whole > 0 {
		b.report.add(step, "tidemark to plain load", "%", 100*l.whole.Seconds()/u.Wall.Seconds())
		b.report.add(step, "plain load without its refresh", what+"/s", rate(n, l.written))
	}
	b.usage(step, what, n, u)
}

func (b *bench) usage(step, what string, n int, u usage) {
	b.report.add(step, "tidemark, processor time per 100,000 "+what, "s", u.CPU.Seconds()*1e5/float64(n))
	if u.Memory > 0 {
		b.report.add(step, "tidemark, peak memory", "MB", float64(u.Memory)/1e6)
	}
}

func rate(n int, in time.Duration) float64 { return float64(n) / in.Seconds() }

// catchup commits changes while nobody follows, and has both catch up.
func (b *bench) catchup(ctx context.Context, n int, plain string) error {
	b.tell("run %d: committing %d changes", n+1, b.o.changes)
	operations, err := newBulkFile(b.folder, "changes", b.o.batch)
	if err != nil {
		return err
	}
	defer operations.close()
	changed := make(map[string]bool)
	// The rows were stored with version 1.
	stored := func(tx int, doc document) error {
		changed[doc.id] = true
		return operations.store(1+tx, doc)
	}
	deleted := func(tx int, id string) error {
		changed[id] = true
		return operations.delete(1+tx, id)
	}
	if err := b.data.change(ctx, b.o.changes, stored, deleted); err != nil {
		return err
	}
	var l load
	var u usage
	loadPlain := func() (err error) {
		if b.o.sink {
			return nil
		}
		b.tell("run %d: plain load of the changes", n+1)
		l, err = b.search.load(ctx, plain, operations, b.o.requests)
		return err
	}
	runTool := func() (err error) {
		b.tell("run %d: catch-up", n+1)
		u, _, err = b.tool.once(ctx, catchup)
		return err
	}
	if err := b.alternate(ctx, n, loadPlain, runTool); err != nil {
		return err
	}
	if err := b.check(ctx, len(changed), b.tool.index, plain); err != nil {
		return err
	}
	b.compare(catchup, "changes", b.o.changes, l, u)
	return nil
}

// transaction commits one that changes every row, and has the tool catch up with it.
func (b *bench) transaction(ctx context.Context) error {
	b.tell("one transaction that updates every row")
	n, err := b.data.updateAll(ctx)
	if err == nil {
		err = b.awaitIdle(ctx)
	}
	if err != nil {
		return err
	}
	u, _, err := b.tool.once(ctx, transaction)
	if err != nil {
		return err
	}
	if err := b.check(ctx, n, b.tool.index); err != nil {
		return err
	}
	b.report.add(transaction, "tidemark", "changes/s", rate(n, u.Wall))
	b.usage(transaction, "changes", n, u)
	return nil
}

func (b *bench) latency(ctx context.Context) error {
	b.tell("following %d changes a second for %s", b.o.rate, b.o.duration)
	if err := b.awaitIdle(ctx); err != nil {
		return err
	}
	found, u, err := measureLatency(ctx, b.tool, b.search, b.data, b.o.rate, b.o.duration)
	if err != nil {
		return err
	}
	b.report.add(latency, "changes", "/s", found.rate)
	b.report.add(latency, fmt.Sprintf("commit to readable, median of %d", found.n), "ms", float64(found.p50.Microseconds())/1000)
	b.report.add(latency, "commit to readable, 99th percentile", "ms", float64(found.p99.Microseconds())/1000)
	b.report.add(latency, "commit to readable, largest", "ms", float64(found.max.Microseconds())/1000)
	b.usage(latency, "changes", int(found.rate*b.o.duration.Seconds()), u)
	return b.check(ctx, 0, b.tool.index)
}

// check compares indices with the table. Of a sink it only knows whether it got as many
// operations as documents were to be written, at least, since it was asked last.
func (b *bench) check(ctx context.Context, written int, indices ...string) error {
	if sink := b.servers.sink; sink != nil {
		got := sink.stored.Swap(0)
		b.tell("the sink got %d operations in %d requests", got, sink.calls.Swap(0))
		if got < int64(written) {
			return fmt.Errorf("the sink got %d operations, and there were %d documents to write", got, written)
		}
		return nil
	}
	b.tell("comparing index and table")
	for _, index := range indices {
		if err := check(ctx, b.search, b.data, index); err != nil {
			return err
		}
	}
	return nil
}
