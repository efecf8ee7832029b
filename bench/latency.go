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
)

const (
	sampled   = 10               // one change in so many is looked for in the index
	probes    = 16               // changes that are looked for at a time
	probeStep = time.Millisecond // between two looks
	lost      = 30 * time.Second // a change that is not there after that is lost
)

// delays are times from commit to readable.
type delays struct {
	rate          float64 // changes per second that were committed
	n             int
	p50, p99, max time.Duration
}

// A change is a row that was updated, to be looked for.
type change struct {
	id        int64
	stock     int64 // its new value; it only grows
	committed time.Time
}

// measureLatency has the tool follow rate changes a second, and looks for some of them.
func measureLatency(ctx context.Context, t *tool, s *search, d *dataset, rate int, duration time.Duration) (_ delays, _ usage, err error) {
	var log bytes.Buffer
	p, err := t.start(&log)
	if err != nil {
		return delays{}, usage{}, err
	}
	found, err := follow(ctx, s, d, t.index, rate, duration)
	p.end()
	u, waited := p.wait(context.WithoutCancel(ctx))
	if err = errors.Join(err, waited); err == nil && u.Failed != "" {
		err = errors.New(u.Failed)
	}
	if err != nil {
		return delays{}, u, fmt.Errorf("tidemark run: %w: %s", err, tail(log.Bytes()))
	}
	return found, u, nil
}

func follow(ctx context.Context, s *search, d *dataset, index string, rate int, duration time.Duration) (delays, error) {
	if _, err := d.conn.Exec(ctx, "update items set stock = 0 where id = $1", d.live[0]); err != nil {
		return delays{}, err
	}
	// The first change shows that the tool is there.
	base := int64(1_000_000)
	if err := commit(ctx, d, d.live[0], base); err != nil {
		return delays{}, err
	}
	if _, err := s.await(ctx, index, change{d.live[0], base, time.Now()}); err != nil {
		return delays{}, err
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	changes := make(chan change, 1024)
	var mu sync.Mutex
	var all []time.Duration
	var looking sync.WaitGroup
	for range probes {
		looking.Go(func() {
			for c := range changes {
				delay, err := s.await(ctx, index, c)
				if err != nil {
					cancel(err)
					continue
				}
				mu.Lock()
				all = append(all, delay)
				mu.Unlock()
			}
		})
	}
	var latest change
	begin, n := time.Now(), 0
	for ; time.Since(begin) < duration && ctx.Err() == nil; n++ {
		id, stock := d.live[(n*7919)%len(d.live)], base+int64(n)+1
		if err := commit(ctx, d, id, stock); err != nil {
			cancel(err)
			break
		}
		latest = change{id, stock, time.Now()}
		if n%sampled == 0 {
			select {
			case changes <- latest:
			case <-ctx.Done():
			}
		}
		// One commit that takes long is made up for, as by clients that do not know of each other.
		select {
		case <-time.After(time.Until(begin.Add(time.Duration(n+1) * time.Second / time.Duration(rate)))):
		case <-ctx.Done():
		}
	}
	took := time.Since(begin)
	close(changes)
	looking.Wait()
	if ctx.Err() != nil {
		return delays{}, context.Cause(ctx)
	}
	if _, err := s.await(ctx, index, latest); err != nil { // then all are there
		return delays{}, err
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))] }
	return delays{rate: float64(n) / took.Seconds(), n: len(all), p50: at(0.5), p99: at(0.99), max: at(1)}, nil
}

func commit(ctx context.Context, d *dataset, id, stock int64) error {
	_, err := d.conn.Exec(ctx, "update items set stock = $2, updated_at = now() where id = $1", id, stock)
	return err
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
