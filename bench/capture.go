package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	engine "tidemark/indexer/search"
	"tidemark/indexer/topic"
	"tidemark/internal/prepare"
)

// capture has rows and changes written by a tool alone, and handed to a topic by another one, in turns.
func (b *bench) capture(ctx context.Context, n int, i *items) (err error) {
	if n > 0 || b.o.hasItems() {
		if err := i.reset(ctx); err != nil {
			return err
		}
	}
	direct, err := b.newTool(b.builds[0], capture, "table: public.items")
	if err != nil {
		return err
	}
	kafka, err := b.newKafkaTool(capture, "table: public.items")
	if err != nil {
		return err
	}
	tools := []*tool{direct, kafka}
	defer func() {
		err = errors.Join(err, b.remove(ctx, tools, ""), dropTopic(context.WithoutCancel(ctx), kafka))
	}()
	for _, part := range []struct {
		series, unit string
		commit       func() (int, error)
	}{
		{backfill, "rows/s", func() (int, error) { return b.o.rows, nil }},
		{catchup, "changes/s", func() (int, error) {
			return i.updateOf(ctx, min(b.o.changes, b.o.rows), i.live, &operations{changed: make(map[string]bool)})
		}},
	} {
		count, err := part.commit()
		if err != nil {
			return err
		}
		var things []func() error
		for _, t := range tools {
			things = append(things, func() error {
				b.tell("run %d: %s: %s by %s", n+1, capture, part.series, t.name)
				took, u, err := b.captured(ctx, t, count, part.series == backfill)
				if err != nil {
					return fmt.Errorf("%s by %s: %w", part.series, t.name, err)
				}
				s := b.report.of(capture, part.series, t.name)
				s.add("captured", part.unit, rate(count, took))
				s.add("processor time per 100,000", "s", per100k(u.CPU.Seconds(), count))
				s.add("peak memory", "MB", float64(u.Memory)/1e6)
				return nil
			})
		}
		if part.series == backfill {
			things = append(things, func() error { return b.producing(ctx, n, i, kafka) })
		}
		if err := b.inTurn(ctx, n, things); err != nil {
			return err
		}
		d, k := b.report.of(capture, part.series, direct.name).find("processor time per 100,000"), b.report.of(capture, part.series, kafka.name).find("processor time per 100,000")
		b.report.of(capture, part.series, kafka.name).add("processor time, of that without Kafka", "%", 100*k.Runs[n]/d.Runs[n])
	}
	return nil
}

// captured starts a tool, and waits until it has written or produced so many operations. What is produced
// is applied afterwards, which is not measured.
func (b *bench) captured(ctx context.Context, t *tool, count int, filling bool) (took time.Duration, u usage, err error) {
	var client *topic.Client
	if t.partitions > 0 {
		if client, err = connectTopic(ctx, t.config); err != nil {
			return 0, u, err
		}
		defer client.Close()
	}
	before := b.servers.sink.stored.Load()
	begin := time.Now()
	r, err := t.run()
	if err != nil {
		return 0, u, err
	}
	var m moment
	err = func() (err error) {
		ctx, cancel := r.process.context(ctx)
		defer cancel()
		if client != nil {
			err = awaitLag(ctx, client, func(l topic.Lag) bool { return l.Records >= int64(count+kafkaPartitions) }) // and the epoch
		} else {
			err = poll(ctx, func() bool { return b.servers.sink.stored.Load()-before >= int64(count) })
		}
		if err != nil {
			return err
		}
		if m, err = r.look(ctx); err != nil {
			return err
		}
		if client != nil {
			if err := b.drainTopic(ctx, t, client); err != nil {
				return err
			}
		}
		if filling {
			return poll(ctx, func() bool { return b.servers.sink.hasAlias(t.index) })
		}
		return b.awaitConfirmed(ctx, t)
	}()
	u, err = r.stop(ctx, err)
	u.CPU = m.processor
	return m.at.Sub(begin), u, err
}

// drainTopic has what is in the topic applied by a worker.
func (b *bench) drainTopic(ctx context.Context, t *tool, client *topic.Client) error {
	w, err := t.startWorker(t.file)
	if err != nil {
		return err
	}
	err = awaitLag(ctx, client, func(l topic.Lag) bool { return l.Records == 0 })
	_, err = stopAll(ctx, []*running{w}, err)
	return err
}

// poll waits until f reports true.
func poll(ctx context.Context, f func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, onceLimit)
	defer cancel()
	tick := time.NewTicker(lagStep)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// produced is how many operations are produced at a time, as many as a large batch of the tool has.
const produced = 10_000

// producing measures how fast this process produces the documents of the rows, ready-made, to a topic of its
// own: what client and Kafka can do without a database and a capturing instance.
func (b *bench) producing(ctx context.Context, n int, i *items, t *tool) (err error) {
	b.tell("run %d: %s: producing alone", n+1, capture)
	config := *t.config
	of := *config.Kafka
	of.Topic, of.Group = of.Topic+"_alone", of.Group+"_alone"
	config.Kafka = &of
	log := slog.New(slog.DiscardHandler)
	client, err := connectTopic(ctx, &config)
	if err != nil {
		return err
	}
	defer client.Close()
	plan := prepare.KafkaPlan(&config)
	if _, _, err := client.Ensure(ctx, plan); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Delete(context.WithoutCancel(ctx))) }()
	p, err := client.NewProducer(topic.ProducerOptions{
		Partitions: plan.Partitions, MaxRecordBytes: plan.MaxRecordBytes, Fence: func(context.Context) error { return nil },
		OnRefused: func(_ context.Context, refused []engine.Refused) error { return refused[0].Err },
		Alarm:     retry.NewAlarm(log), Logger: log,
	})
	if err != nil {
		return err
	}
	defer p.Close()
	var ops []dbsync.Operation
	if err := i.all(ctx, func(d document) error {
		ops = append(ops, dbsync.Operation{Index: t.index, ID: d.id, Body: slices.Clone(d.body), Version: 1 << 20})
		return nil
	}); err != nil {
		return err
	}
	if err := p.Begin(ctx, t.id); err != nil {
		return err
	}
	begin, before := time.Now(), processorTime()
	var both errgroup.Group // as two batches are under way in the tool
	both.SetLimit(2)
	for batch := range slices.Chunk(ops, produced) {
		both.Go(func() error { return p.Write(ctx, batch) })
	}
	if err := both.Wait(); err != nil {
		return err
	}
	took, used := time.Since(begin), processorTime()-before
	s := b.report.of(capture, "producing alone", "")
	s.add("produced", "records/s", rate(len(ops), took))
	s.add("processor time per 100,000", "s", per100k(used.Seconds(), len(ops)))
	return nil
}
