package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	looked    = 50               // changes a second that are looked for in the index, at most
	probes    = 16               // changes that are looked for at a time
	probeStep = time.Millisecond // between two looks
	lost      = 15 * time.Minute // a change that is not there after that is lost
	writers   = 8                // sessions that commit
)

// A running tool goes on until it is told to end.
type running struct {
	*tool
	process *process
	log     bytes.Buffer
}

// run starts a tool.
func (t *tool) run() (*running, error) {
	r := &running{tool: t}
	var err error
	r.process, err = t.start(&r.log)
	return r, err
}

// stop ends the tool. err is what was wrong meanwhile, or nil.
func (r *running) stop(ctx context.Context, err error) (usage, error) {
	r.process.end()
	u, waited := r.process.wait(context.WithoutCancel(ctx))
	if err = errors.Join(err, waited); err == nil && u.Failed != "" {
		err = errors.New(u.Failed)
	}
	if err != nil {
		return u, fmt.Errorf("%s run: %w: %s", r.name, err, tail(r.log.Bytes()))
	}
	return u, nil
}

// A moment is what a running tool has used and written until then.
type moment struct {
	at        time.Time
	processor time.Duration
	written   written
}

// look tells what the tool has used until now.
func (r *running) look(ctx context.Context) (moment, error) {
	m := moment{at: time.Now()}
	var err error
	if m.processor, err = r.process.processorTime(); err != nil {
		return m, err
	}
	m.written, err = r.servers.written(ctx, r.index)
	return m, err
}

// delays are times from commit to readable.
type delays struct {
	rate          float64 // changes per second that were committed
	changes       int
	n             int // of them that were looked for
	p50, p99, max time.Duration
}

// add notes the figures.
func (d delays) add(s *series) {
	s.add("committed", "changes/s", d.rate)
	s.add("commit to readable, median", "ms", float64(d.p50.Microseconds())/1000)
	s.add("commit to readable, 99th percentile", "ms", float64(d.p99.Microseconds())/1000)
	s.add("commit to readable, largest", "ms", float64(d.max.Microseconds())/1000)
}

// A change is a row that was updated, to be looked for.
type change struct {
	id        int64
	stock     int64 // its new value; it only grows
	committed time.Time
}

// live has a tool follow so many changes a second.
func (b *bench) live(ctx context.Context, t *tool, d *dataset, rate int) error {
	b.tell("%d changes a second for %s, followed by %s", rate, b.o.duration, t.name)
	if err := b.awaitIdle(ctx); err != nil {
		return err
	}
	if sink := b.servers.sink; sink != nil {
		sink.keep()
		defer sink.pass()
	}
	r, err := t.run()
	if err != nil {
		return err
	}
	var found delays
	var begin, end moment
	err = func() (err error) {
		ctx, cancel := r.process.context(ctx)
		defer cancel()
		if err := b.awaitFollowing(ctx, t, "items", d.live[0]); err != nil {
			return err
		}
		if begin, err = r.look(ctx); err != nil {
			return err
		}
		until, cancelUntil := context.WithTimeout(ctx, b.o.duration)
		defer cancelUntil()
		if found, err = b.delays(ctx, until, t.index, stream{"items", d.live, rate}); err != nil {
			return err
		}
		if end, err = r.look(ctx); err != nil {
			return err
		}
		return b.awaitConfirmed(ctx, t) // those that nobody looked for are written, too
	}()
	u, err := r.stop(ctx, err)
	if err != nil {
		return err
	}
	s := b.report.of(live, fmt.Sprintf("%d/s", rate), t.name)
	found.add(s)
	u.CPU, u.written = end.processor-begin.processor, end.written.since(begin.written)
	s.usage(found.changes, u)
	if b.servers.sink != nil {
		return nil
	}
	return check(ctx, b.search, d.table, t.index)
}

// awaitFollowing commits a change and waits until it is readable, which shows that the tool has
// caught up.
func (b *bench) awaitFollowing(ctx context.Context, t *tool, table string, id int64) error {
	var c change
	err := b.conn.QueryRow(ctx, "update "+table+" set stock = stock + 1000000 where id = $1 returning id, stock", id).Scan(&c.id, &c.stock)
	if err != nil {
		return err
	}
	c.committed = time.Now()
	_, err = b.search.await(ctx, t.index, c)
	return err
}

// A stream is of changes at a rate.
type stream struct {
	table string
	ids   []int64 // that are changed by turns
	rate  int     // a second
}

// delays commits changes until one of the contexts ends, one at least by each writer, and looks for some of them in the
// index. What comes late does not slow down what comes after: commits keep their times.
func (b *bench) delays(ctx, until context.Context, index string, s stream) (delays, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	until, cancelUntil := context.WithCancel(until)
	defer cancelUntil()
	stop := context.AfterFunc(ctx, cancelUntil)
	defer stop()
	w := &watch{every: max(1, s.rate/looked), changes: make(chan change, 1<<16)}
	var looking sync.WaitGroup
	for range probes {
		looking.Go(func() {
			if err := w.look(ctx, b.search, index); err != nil {
				cancel(err)
			}
		})
	}
	begin := time.Now()
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			if err := b.write(ctx, until, s, w, begin, i); err != nil {
				cancel(err)
			}
		})
	}
	writing.Wait()
	took := time.Since(begin)
	close(w.changes)
	looking.Wait()
	if ctx.Err() != nil {
		return delays{}, context.Cause(ctx)
	}
	slices.Sort(w.delays)
	at := func(q float64) time.Duration { return w.delays[int(q*float64(len(w.delays)-1))] }
	return delays{rate: float64(w.committed) / took.Seconds(), changes: w.committed, n: len(w.delays), p50: at(0.5), p99: at(0.99), max: at(1)}, nil
}

// A watch looks for some of the changes that writers commit.
type watch struct {
	every   int // of how many one is looked for
	changes chan change

	mu        sync.Mutex
	committed int
	delays    []time.Duration
}

// look looks for one change after the other until there are no more.
func (w *watch) look(ctx context.Context, s *search, index string) error {
	for c := range w.changes {
		delay, err := s.await(ctx, index, c)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.delays = append(w.delays, delay)
		w.mu.Unlock()
	}
	return nil
}

// write is the i-th of the writers: it commits every so many-th change, each at its time.
func (b *bench) write(ctx, until context.Context, s stream, w *watch, begin time.Time, i int) (err error) {
	conn, err := pgx.Connect(ctx, b.servers.url) // whose commits are on disk
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	statement := "update " + s.table + " set stock = stock + 1 where id = $1 returning stock"
	n := 0
	defer func() {
		w.mu.Lock()
		w.committed += n
		w.mu.Unlock()
	}()
	for ; ; n++ {
		number := n*writers + i
		// One commit that takes long is made up for, as by clients that do not know of each other.
		select {
		case <-time.After(time.Until(begin.Add(time.Duration(number) * time.Second / time.Duration(s.rate)))):
		case <-until.Done():
		}
		if n > 0 && until.Err() != nil { // there is something to look for, however soon until ends
			return nil
		}
		c := change{id: s.ids[(number*7919)%len(s.ids)]}
		if err := conn.QueryRow(ctx, statement, c.id).Scan(&c.stock); err != nil {
			return err
		}
		if c.committed = time.Now(); number%w.every == 0 {
			select {
			case w.changes <- c:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// await asks for the document until it has the change, and tells how long after the
// commit that was.
func (s *search) await(ctx context.Context, index string, c change) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lost, fmt.Errorf("change of row %d is not in the index after %s", c.id, lost))
	defer cancel()
	path := fmt.Sprintf("/%s/_doc/%d?_source_includes=stock", index, c.id)
	tick := time.NewTicker(probeStep)
	defer tick.Stop()
	for {
		var answer struct {
			Source struct{ Stock int64 } `json:"_source"`
		}
		if err := s.call(ctx, http.MethodGet, path, nil, &answer); err != nil {
			return 0, err
		}
		if answer.Source.Stock >= c.stock {
			return time.Since(c.committed), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}
