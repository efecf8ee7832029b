package main

import (
	"context"
	"errors"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/indexer/topic"
)

// relayRate is how many changes are committed a second.
const relayRate = 500

// An event is what happens to workers while changes are followed.
type event struct {
	name string
	do   func(*crew, context.Context) error // nil: nothing
}

// A crew are workers.
type crew struct {
	tool    *tool
	workers []*running
	killed  *running
}

func (c *crew) join(context.Context) error {
	r, err := c.tool.startWorker(c.tool.file)
	if err == nil {
		c.workers = append(c.workers, r)
	}
	return err
}

func (c *crew) leave(ctx context.Context) error {
	_, err := stopAll(ctx, c.workers[:1], nil)
	c.workers = c.workers[1:]
	return err
}

func (c *crew) kill(context.Context) error {
	c.killed, c.workers = c.workers[0], c.workers[1:]
	return syscall.Kill(c.killed.process.number, syscall.SIGKILL)
}

// relay measures how late changes are without Kafka, through it, and while workers come and go.
func (b *bench) relay(ctx context.Context, n int, i *items) (err error) {
	direct, err := b.newTool(b.builds[0], relay, "table: public.items")
	if err != nil {
		return err
	}
	kafka, err := b.newKafkaTool(relay, "table: public.items")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.remove(ctx, []*tool{direct, kafka}, ""), dropTopic(context.WithoutCancel(ctx), kafka))
	}()
	things := []func() error{
		func() error { return b.relayed(ctx, direct, i.dataset, 0, event{name: "500/s"}) },
		func() error { return b.relayed(ctx, kafka, i.dataset, 1, event{name: "500/s"}) },
	}
	for _, e := range []event{{"a worker joins", (*crew).join}, {"a worker leaves", (*crew).leave}, {"a worker is killed", (*crew).kill}} {
		things = append(things, func() error { return b.relayed(ctx, kafka, i.dataset, 2, e) })
	}
	return b.inTurn(ctx, n, things)
}

// relayed has a tool follow changes, with so many workers beside it, and an event in the middle.
func (b *bench) relayed(ctx context.Context, t *tool, d *dataset, workers int, e event) error {
	b.tell("%d changes a second for %s, followed by %s: %s", relayRate, b.o.duration, t.name, e.name)
	b.servers.sink.keep()
	defer b.servers.sink.pass()
	r, err := t.run()
	if err != nil {
		return err
	}
	c := &crew{tool: t}
	var found delays
	var begin, end moment
	err = func() (err error) {
		ctx, cancel := r.process.context(ctx)
		defer cancel()
		for range workers {
			if err := c.join(ctx); err != nil {
				return err
			}
		}
		if workers > 0 {
			if err := awaitMembers(ctx, t, workers); err != nil {
				return err
			}
		}
		// The index first: a sink counts what is written, and a change meanwhile would be counted as a document.
		if err := poll(ctx, func() bool { return b.servers.sink.hasAlias(t.index) }); err != nil {
			return err
		}
		if err := b.awaitFollowing(ctx, t, "items", d.live[0]); err != nil {
			return err
		}
		if begin, err = r.look(ctx); err != nil {
			return err
		}
		until, cancelUntil := context.WithTimeout(ctx, b.o.duration)
		defer cancelUntil()
		var both errgroup.Group
		both.Go(func() (err error) {
			found, err = b.delays(ctx, until, t.index, stream{"items", d.live, relayRate})
			return err
		})
		both.Go(func() error {
			if e.do == nil {
				return nil
			}
			select {
			case <-time.After(b.o.duration / 4):
				return e.do(c, ctx)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		if err := both.Wait(); err != nil {
			return err
		}
		if end, err = r.look(ctx); err != nil {
			return err
		}
		return b.awaitConfirmed(ctx, t)
	}()
	_, err = r.stop(ctx, err)
	if _, err = stopAll(ctx, c.workers, err); err != nil {
		return err
	}
	if c.killed != nil {
		if _, err := c.killed.process.wait(ctx); err != nil {
			return err
		}
	}
	s := b.report.of(relay, e.name, t.name)
	found.add(s)
	s.add("processor time per 100,000", "s", per100k((end.processor-begin.processor).Seconds(), found.changes))
	return nil
}

// awaitMembers waits until so many workers are in the group, and nothing waits for them.
func awaitMembers(ctx context.Context, t *tool, workers int) error {
	client, err := connectTopic(ctx, t.config)
	if err != nil {
		return err
	}
	defer client.Close()
	return awaitLag(ctx, client, func(l topic.Lag) bool { return l.Members == workers && l.Records == 0 })
}
