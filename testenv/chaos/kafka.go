package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/testenv"
)

// opsTopic is the topic of operations, and the name of the workers' consumer group.
const opsTopic = "chaos"

// workerCount is how many workers there are. The last one is away unless a fault has it join.
const workerCount = 3

// A backbone is what stands between the instances and the search server where operations go through Kafka:
// one broker, and workers, each with a link of its own to the search server.
type backbone struct {
	kafka   *testenv.Kafka
	client  *kgo.Client
	ask     *kadm.Client
	workers []*instance // worker-1, worker-2, …
}

// openBackbone starts a broker and makes the workers. What was started is in it also where the rest was not.
func openBackbone(ctx context.Context, folder string, j *journal) (*backbone, error) {
	b := &backbone{}
	var err error
	if b.kafka, err = testenv.LaunchKafka(ctx, testenv.KafkaOptions{}); err != nil {
		return b, err
	}
	if b.client, err = kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers()...), kgo.RetryTimeout(queryLimit)); err != nil {
		return b, err
	}
	b.ask = kadm.NewClient(b.client)
	for n := range workerCount {
		w, err := newInstance(fmt.Sprintf("worker-%d", n+1), "apply", folder, j)
		if err != nil {
			return b, err
		}
		b.workers = append(b.workers, w)
	}
	b.last().set(1)
	return b, nil
}

func (b *backbone) last() *instance { return b.workers[workerCount-1] }

// chosen returns the workers that a fault is about, none if it is not about workers.
func (b *backbone) chosen(who string) []*instance {
	if b == nil {
		return nil
	}
	if who == "workers" {
		return b.workers
	}
	if n := slices.IndexFunc(b.workers, func(w *instance) bool { return w.name == who }); n >= 0 {
		return b.workers[n : n+1]
	}
	return nil
}

// section is that of the file.
func (b *backbone) section() string {
	if b == nil {
		return ""
	}
	return fmt.Sprintf("kafka: {brokers: [%s], topic: %s, partitions: 6}\n", strings.Join(b.kafka.Brokers(), ", "), opsTopic)
}

// ends returns where each partition of the topic of operations ends.
func (b *backbone) ends(ctx context.Context) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	listed, err := b.ask.ListEndOffsets(ctx, opsTopic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ends of topic %s: %w", opsTopic, err)
	}
	ends := make(map[int32]int64)
	for partition, end := range listed[opsTopic] {
		ends[partition] = end.Offset
	}
	return ends, nil
}

// left returns how many records before these ends the group has not committed.
func (b *backbone) left(ctx context.Context, ends map[int32]int64) (left int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	committed, err := b.ask.FetchOffsets(ctx, opsTopic)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("offsets of group %s: %w", opsTopic, err)
	}
	for partition, end := range ends {
		at := int64(0)
		if of, ok := committed.Lookup(opsTopic, partition); ok {
			at = max(0, of.At)
		}
		left += max(0, end-at)
	}
	return left, nil
}

// atRest returns an error while records are not applied.
func (b *backbone) atRest(ctx context.Context) error {
	if b == nil {
		return nil
	}
	ends, err := b.ends(ctx)
	if err != nil {
		return err
	}
	left, err := b.left(ctx, ends)
	if err == nil && left > 0 {
		err = fmt.Errorf("%d records are not applied", left)
	}
	return err
}

// close ends everything that has started.
func (b *backbone) close() error {
	if b == nil {
		return nil
	}
	var errs []error
	for _, w := range b.workers {
		errs = append(errs, w.close())
	}
	if b.client != nil {
		b.client.Close()
	}
	if b.kafka != nil {
		errs = append(errs, b.kafka.Close())
	}
	return errors.Join(errs...)
}

// kafkaKinds are those that come beside the others where operations go through Kafka. Late, lost and refused
// bulk requests are those of workers then.
func kafkaKinds() []*kind {
	return []*kind{
		{name: "broker-killed", weight: 5, draw: drawLasts(0, 4*time.Second), begin: beginBrokerKilled, end: endBrokerKilled, amid: true},
		{name: "broker-away", weight: 2, draw: drawLasts(8*time.Second, 25*time.Second), begin: beginBrokerKilled, end: endBrokerKilled},
		{name: "broker-paused", weight: 6, draw: drawLasts(500*time.Millisecond, 14*time.Second), begin: beginBrokerPaused, end: endBrokerPaused, amid: true},
		{name: "worker-killed", weight: 8, draw: ofWorkers(drawKill), begin: beginKill, end: endKill, amid: true},
		{name: "worker-paused", weight: 8, draw: ofWorkers(drawPause), begin: beginPause, end: endPause, amid: true},
		{name: "worker-leaves", weight: 5, draw: ofWorkers(drawKill), begin: beginLeave, end: endKill},
		{name: "worker-joins", weight: 6, draw: drawLasts(time.Second, 10*time.Second), begin: beginJoin, end: endJoin},
		{name: "worker-cut", weight: 4, draw: ofWorkers(drawLink(0, 0)), begin: beginCut, amid: true},
		{name: "worker-cut-off", weight: 4, draw: ofWorkers(drawLink(time.Second, 6*time.Second)), begin: beginCutOff, end: endLink, amid: true},
		{name: "worker-half-open", weight: 4, draw: ofWorkers(drawDirection), begin: beginHalfOpen, end: endLink, amid: true},
		{name: "worker-slow", weight: 3, draw: ofWorkers(drawSlow), begin: beginSlow, end: endLink},
		{name: "worker-narrow", weight: 3, draw: ofWorkers(drawNarrow), begin: beginNarrow, end: endLink},
		{name: "worker-broken-off", weight: 3, draw: ofWorkers(drawBrokenOff), begin: beginBrokenOff, end: endLink},
		{name: "topic-deleted", weight: 1, begin: beginTopicDeleted, heavy: true, lenient: true},
	}
}

// ofWorkers draws what draw does, for workers and their connections to the search server.
func ofWorkers(draw func(d *drawer, f *fault)) func(d *drawer, f *fault) {
	return func(d *drawer, f *fault) {
		draw(d, f)
		f.who = one(d, "worker-1", "worker-1", "worker-2", "worker-2", "worker-3", "workers")
		if f.side != "" {
			f.side = "search"
		}
	}
}

// node is the only broker.
func (s *stage) node() *testenv.KafkaNode { return s.kafka.kafka.Nodes[0] }

func beginBrokerKilled(ctx context.Context, s *stage, _ *fault) error { return s.node().Kill(ctx) }

func endBrokerKilled(ctx context.Context, s *stage, _ *fault) error {
	if s.node().Running() {
		return nil // the end of another one has started it
	}
	return s.node().Start(ctx)
}

func beginBrokerPaused(ctx context.Context, s *stage, _ *fault) error { return s.node().Pause(ctx) }

func endBrokerPaused(ctx context.Context, s *stage, _ *fault) error {
	if !s.node().Running() {
		return nil // it was killed meanwhile, which ends a pause
	}
	return s.node().Resume(ctx)
}

// beginLeave has workers end in order, and stay away.
func beginLeave(_ context.Context, s *stage, f *fault) (err error) {
	for _, w := range s.kafka.chosen(f.who) {
		err = errors.Join(err, w.leave())
	}
	return err
}

func beginJoin(_ context.Context, s *stage, _ *fault) error {
	s.kafka.last().lift()
	return nil
}

func endJoin(_ context.Context, s *stage, _ *fault) error { return s.kafka.last().leave() }

// leave ends it in order and keeps it down until lift.
func (i *instance) leave() error {
	i.set(1)
	return i.restart(syscall.SIGTERM)
}

func beginTopicDeleted(ctx context.Context, s *stage, _ *fault) error {
	s.watch.suspend()
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	_, err := s.kafka.ask.DeleteTopic(ctx, opsTopic)
	return err
}
