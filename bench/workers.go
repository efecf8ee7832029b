package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/indexer/topic"
)

// What a worker's server takes: so long for a request, and so many at a time. Documents are few in a
// request, so that the server is what limits eight workers that share a small machine.
const (
	paceTakes     = 200 * time.Millisecond
	pacePlaces    = 4
	paceDocuments = 250
	roomBulk      = "{requests: 4, documents: 250}"
)

var workerCounts = []int{1, 2, 4, 8}

// workers fills a topic once, and has it applied by more and more workers, each to a server of its own.
func (b *bench) workers(ctx context.Context, n int) (err error) {
	rows := b.o.rows
	b.tell("making %d rows for %s", rows, workers)
	for _, statement := range []string{
		"create table small (id bigint primary key, stock integer not null)",
		fmt.Sprintf("insert into small select n, n %% 1000 from generate_series(1, %d) n", rows),
		"vacuum (analyze) small",
	} {
		if _, err := b.conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%.100s: %w", statement, err)
		}
	}
	t, err := b.newKafkaTool(workers, "table: public.small")
	if err != nil {
		return err
	}
	defer func() {
		_, dropped := b.conn.Exec(context.WithoutCancel(ctx), "drop table small")
		err = errors.Join(err, b.remove(ctx, []*tool{t}, ""), dropTopic(context.WithoutCancel(ctx), t), dropped)
	}()
	if _, err := b.produce(ctx, t, rows); err != nil {
		return err
	}
	var one float64
	for _, count := range workerCounts {
		took, u, err := b.applyBy(ctx, t, count, rows)
		if err != nil {
			return fmt.Errorf("%d workers: %w", count, err)
		}
		s := b.report.of(workers, fmt.Sprintf("%d", count), headName)
		speed := rate(rows, took)
		s.add("applied", "records/s", speed)
		if count == 1 {
			one = speed
		}
		s.add("share of linear", "%", 100*speed/(one*float64(count)))
		s.add("share of what the servers take", "%", 100*speed/(float64(count)*pacePlaces*paceDocuments/paceTakes.Seconds()))
		s.add("processor time per 100,000", "s", per100k(u.CPU.Seconds(), rows))
		s.add("peak memory", "MB", float64(u.Memory)/1e6)
	}
	return nil
}

// produce has a tool fill its topic with the documents of so many rows, while nobody applies them.
func (b *bench) produce(ctx context.Context, t *tool, rows int) (m moment, err error) {
	b.tell("filling the topic of %s", t.name)
	client, err := connectTopic(ctx, t.config)
	if err != nil {
		return m, err
	}
	defer client.Close()
	r, err := t.run()
	if err != nil {
		return m, err
	}
	err = func() (err error) {
		ctx, cancel := r.process.context(ctx)
		defer cancel()
		if err := awaitLag(ctx, client, func(l topic.Lag) bool { return l.Records >= int64(rows+kafkaPartitions) }); err != nil {
			return err
		}
		m, err = r.look(ctx)
		return err
	}()
	_, err = r.stop(ctx, err)
	return m, err
}

// applyBy has a topic applied by so many workers of a group of its own. Their servers answer nothing until
// each worker has begun, and the time is from then until the last answer.
func (b *bench) applyBy(ctx context.Context, t *tool, count, rows int) (took time.Duration, u usage, err error) {
	b.tell("%d workers", count)
	var sinks []*sink
	defer func() {
		for _, s := range sinks {
			err = errors.Join(err, s.close())
		}
	}()
	var all []*running
	defer func() {
		if all != nil {
			_, err = stopAll(ctx, all, err)
		}
	}()
	var client *topic.Client
	for i := range count {
		s, err := startSink()
		if err != nil {
			return 0, u, err
		}
		s.pace = newPace(paceTakes, pacePlaces)
		sinks = append(sinks, s)
		// The group is of this count; the file of each worker names its own server.
		file, config, err := b.workerFile(t, workerIn{group: fmt.Sprint(count), name: fmt.Sprintf("%d-%d", count, i), url: s.url})
		if err != nil {
			return 0, u, err
		}
		if client == nil {
			if client, err = connectTopic(ctx, config); err != nil {
				return 0, u, err
			}
			defer client.Close()
		}
		r, err := t.startWorker(file)
		if err != nil {
			return 0, u, err
		}
		all = append(all, r)
	}
	begun := func(l topic.Lag) bool {
		for _, s := range sinks {
			if s.pace.waiting.Load() == 0 {
				return false
			}
		}
		return l.Members == count
	}
	if err := awaitLag(ctx, client, begun); err != nil {
		return 0, u, err
	}
	begin := time.Now()
	for _, s := range sinks {
		close(s.pace.opened)
	}
	if err := awaitLag(ctx, client, func(l topic.Lag) bool { return l.Records == 0 }); err != nil {
		return 0, u, err
	}
	var last time.Time
	stored := int64(0)
	for _, s := range sinks {
		if at := s.pace.lastAnswer(); at.After(last) {
			last = at
		}
		stored += s.stored.Load()
		b.tell("a worker of %d: %d operations in %d requests, done after %s", count, s.stored.Load(), s.calls.Load(), s.pace.lastAnswer().Sub(begin))
	}
	if stored < int64(rows) {
		return 0, u, fmt.Errorf("the servers got %d operations of %d", stored, rows)
	}
	u, err = stopAll(ctx, all, nil)
	all = nil
	return last.Sub(begin), u, err
}
