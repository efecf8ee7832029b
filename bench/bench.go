package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

// A bench is one execution of the program.
type bench struct {
	o       options
	servers *servers
	search  *search
	conn    *pgx.Conn // for statements of its own
	builds  []*build
	folder  string
	report  report
	flat    map[*build]float64 // bytes of documents in a second, of the filling of the plain table in this run
	told    io.Writer          // progress
}

// run does all that was asked for, tells how far it is on progress, and prints what came out.
func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	sandbox, err := testenv.NewSandbox("bench") // its folder goes even if we are killed
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.Close()) }()
	b := &bench{o: o, folder: sandbox.Folder, told: progress, report: report{Time: time.Now().UTC(), Machine: thisMachine()}}
	if o.profile != "" {
		b.builds = []*build{{name: headName, letter: "a"}} // it is in here
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return err
		}
	} else if b.builds, err = buildTools(ctx, b.folder, o.base); err != nil {
		return err
	}
	b.tell("starting the servers")
	if b.servers, err = startServers(ctx, o); err != nil {
		return err
	}
	b.search = b.servers.search
	defer func() { err = errors.Join(err, b.servers.close()) }()
	defer func() { err = errors.Join(err, b.search.drop(context.WithoutCancel(ctx), b.servers.name)) }()
	if b.conn, err = connect(ctx, b.servers.url); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.conn.Close(context.WithoutCancel(ctx))) }()
	b.report.Machine.Postgres, b.report.Machine.Servers = b.servers.postgres, b.servers.told
	if b.report.Machine.Search, err = b.search.version(ctx); err != nil {
		return err
	}
	if o.sink {
		b.report.Machine.Search = "a throw-away sink instead of a search server"
	}
	if b.report.Machine.Busy = o.busy; o.busy > 0 {
		endBusy, err := startBusy(o.busy)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, endBusy()) }()
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	if o.base != "" {
		b.report.compare(b.builds[0].name, b.builds[1].name)
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

// measure does all runs of all steps.
func (b *bench) measure(ctx context.Context) error {
	var items *items
	if b.o.hasItems() || b.o.has(capture) || b.o.has(relay) {
		var err error
		if items, err = b.newItems(ctx); err != nil {
			return err
		}
		defer items.close()
	}
	for n := range b.o.runs {
		b.flat = make(map[*build]float64)
		if b.o.hasItems() {
			if err := b.items(ctx, n, items); err != nil {
				return fmt.Errorf("run %d: %w", n+1, err)
			}
		}
		for _, step := range []struct {
			name string
			do   func(context.Context, int) error
		}{{wide, b.wide}, {large, b.large}, {include, b.include}, {fanout, b.fanout}, {workers, b.workers},
			{capture, func(ctx context.Context, n int) error { return b.capture(ctx, n, items) }},
			{relay, func(ctx context.Context, n int) error { return b.relay(ctx, n, items) }}} {
			if !b.o.has(step.name) {
				continue
			}
			if err := step.do(ctx, n); err != nil {
				return fmt.Errorf("run %d: %s: %w", n+1, step.name, err)
			}
		}
	}
	return nil
}

// inTurn does one thing after the other, from the first to the last in even runs and backwards
// in odd ones, each when nothing is left to do of the one before.
func (b *bench) inTurn(ctx context.Context, n int, things []func() error) error {
	if n%2 == 1 {
		slices.Reverse(things)
	}
	for _, f := range things {
		if err := b.awaitIdle(ctx); err != nil {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// awaitIdle waits until nothing is left to do of the steps before, and what was committed is on disk.
func (b *bench) awaitIdle(ctx context.Context) error {
	if b.servers.sink == nil {
		if err := b.search.awaitIdle(ctx); err != nil {
			return err
		}
	}
	_, err := b.conn.Exec(ctx, "checkpoint")
	return err
}

// settings sets those of a plain load's index.
func (b *bench) settings(ctx context.Context, index, body string) error {
	return b.search.call(ctx, http.MethodPut, "/"+index+"/_settings", []byte(body), nil)
}

// limits are the figures of one step's limits, of one run; 0 is what was not measured.
type limits struct {
	plain  load
	copied time.Duration
	drain  time.Duration
}

// A filling is a backfill to be measured.
type filling struct {
	step   string
	series string // within the step; "": there is one
	what   string // is written: rows, documents
	n      int
	bytes  int64     // of all documents; 0: not known
	query  string    // that COPY reads
	rows   *bulkFile // of the plain load, or nil
	plain  string    // index of the plain load
	body   []byte    // for the creation of that index
	check  func(index string) error
}

// fill measures backfills by all tools beside their limits, and returns what each tool took. A
// step that was not asked for has no figures.
func (b *bench) fill(ctx context.Context, n int, f filling, tools []*tool) (map[*tool]usage, error) {
	var l limits
	asked := b.o.has(f.step)
	used := make(map[*tool]usage)
	var things []func() error
	if f.rows != nil {
		things = append(things, func() (err error) {
			b.tell("run %d: %s: plain load", n+1, f.step)
			l.plain, err = b.plainFilling(ctx, f)
			return err
		})
	}
	if asked {
		things = append(things, func() (err error) {
			b.tell("run %d: %s: COPY", n+1, f.step)
			l.copied, err = copyOut(ctx, b.servers.url, f.query)
			return err
		})
	}
	for _, t := range tools {
		things = append(things, func() (err error) {
			b.tell("run %d: %s: backfill by %s", n+1, f.step, t.name)
			used[t], err = t.once(ctx, f.step)
			if err == nil && used[t].filling <= 0 {
				err = fmt.Errorf("the log of %s does not say how long the filling took", t.name)
			}
			return err
		})
	}
	if err := b.inTurn(ctx, n, things); err != nil {
		return nil, err
	}
	if err := b.checkAll(f.n, used, f.plain, f.check); err != nil || !asked {
		return used, err
	}
	limit := b.report.of(f.step, f.series, "")
	limit.add("COPY", f.what+"/s", rate(f.n, l.copied))
	if f.rows != nil {
		limit.add("plain load", f.what+"/s", rate(f.n, l.plain.whole))
		limit.add("plain load without its refresh", f.what+"/s", rate(f.n, l.plain.written))
	}
	for _, t := range tools {
		u, s := used[t], b.report.of(f.step, f.series, t.name)
		s.add("whole run", f.what+"/s", rate(f.n, u.Wall))
		if f.bytes > 0 {
			s.add("whole run, bytes of documents", "MB/s", float64(f.bytes)/1e6/u.Wall.Seconds())
		}
		if f.rows != nil {
			s.add("whole run, share of the plain load", "%", share(l.plain.whole, u.Wall))
		}
		s.add("filling alone", f.what+"/s", rate(f.n, u.filling))
		s.add("filling alone, share of COPY", "%", share(l.copied, u.filling))
		s.usage(f.n, u)
	}
	return used, nil
}

// plainFilling loads documents into an index that is made as the tool makes it.
func (b *bench) plainFilling(ctx context.Context, f filling) (load, error) {
	if err := b.search.call(ctx, http.MethodPut, "/"+f.plain, f.body, nil); err != nil {
		return load{}, err
	}
	if err := b.settings(ctx, f.plain, `{"index":{"refresh_interval":"-1","number_of_replicas":0}}`); err != nil {
		return load{}, err
	}
	l, err := b.search.load(ctx, f.plain, f.rows, b.o.requests)
	if err != nil {
		return l, err
	}
	return l, b.settings(ctx, f.plain, `{"index":{"refresh_interval":"1s","number_of_replicas":null}}`)
}

// A catching is what tools are to catch up with.
type catching struct {
	step   string
	series string // within the step; "": there is one
	commit func(*operations) (changes int, err error)
	first  int    // version that the first transaction's operations follow
	plain  string // index of the plain load; "": there is none
	check  func(index string) error
}

// catchUp has changes committed while no tool runs, and measures how all tools catch up with
// them beside the limits. It returns the last version, and how long each tool took.
func (b *bench) catchUp(ctx context.Context, n int, c catching, tools []*tool) (version int, took map[*tool]usage, err error) {
	what := operations{version: c.first, changed: make(map[string]bool)}
	if c.plain != "" {
		if what.file, err = newBulkFile(b.folder, "changes", b.o.batch); err != nil {
			return 0, nil, err
		}
		defer what.file.close()
	}
	d, err := newDrain(ctx, b.conn, b.servers.url, b.servers.name)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, d.remove(context.WithoutCancel(ctx), b.conn)) }()
	b.tell("run %d: %s: committing the changes", n+1, c.step)
	changes, err := c.commit(&what)
	if err != nil {
		return 0, nil, err
	}
	var l limits
	used := make(map[*tool]usage)
	var things []func() error
	if c.plain != "" {
		things = append(things, func() (err error) {
			b.tell("run %d: %s: plain load of the changes", n+1, c.step)
			l.plain, err = b.search.load(ctx, c.plain, what.file, b.o.requests)
			return err
		})
	}
	things = append(things, func() (err error) {
		b.tell("run %d: %s: draining the slot", n+1, c.step)
		l.drain, err = d.read(ctx, tools[0].id, changes)
		return err
	})
	for _, t := range tools {
		things = append(things, func() (err error) {
			b.tell("run %d: %s: catch-up by %s", n+1, c.step, t.name)
			used[t], err = t.once(ctx, c.step)
			return err
		})
	}
	if err := b.inTurn(ctx, n, things); err != nil {
		return 0, nil, err
	}
	if err := b.checkAll(len(what.changed), used, c.plain, c.check); err != nil {
		return 0, nil, err
	}
	limit := b.report.of(c.step, c.series, "")
	limit.add("draining the slot", "changes/s", rate(changes, l.drain))
	if c.plain != "" {
		limit.add("plain load", "changes/s", rate(changes, l.plain.whole))
		limit.add("plain load without its refresh", "changes/s", rate(changes, l.plain.written))
	}
	for _, t := range tools {
		u, s := used[t], b.report.of(c.step, c.series, t.name)
		s.add("whole run", "changes/s", rate(changes, u.Wall))
		if c.plain != "" {
			s.add("whole run, share of the plain load", "%", share(l.plain.whole, u.Wall))
		}
		s.add("following alone", "changes/s", rate(changes, u.following))
		s.add("following alone, share of draining the slot", "%", share(l.drain, u.following))
		s.usage(changes, u)
	}
	return what.version, used, nil
}

func rate(n int, in time.Duration) float64 { return float64(n) / in.Seconds() }

// share is how fast what took so long is, in percent of what the limit took.
func share(limit, took time.Duration) float64 { return 100 * limit.Seconds() / took.Seconds() }

// checkAll compares the indices of all tools and of a plain load with the table. Of a sink it
// only knows whether each tool wrote as many operations as documents were to be written, at least.
func (b *bench) checkAll(written int, used map[*tool]usage, plain string, check func(index string) error) error {
	for t, u := range used {
		b.tell("%s sent %d operations in %d requests", t.name, u.written.operations, u.written.requests)
		if b.servers.sink != nil && u.written.operations < int64(written) {
			return fmt.Errorf("the sink got %d operations of %s, and there were %d documents to write", u.written.operations, t.name, written)
		}
	}
	if b.servers.sink != nil {
		return nil
	}
	b.tell("comparing index and table")
	for t := range used {
		if err := check(t.index); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	if plain == "" {
		return nil
	}
	return check(plain)
}
