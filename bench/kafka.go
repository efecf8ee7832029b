package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tidemark/indexer/retry"
	"tidemark/indexer/topic"
	"tidemark/internal/prepare"
	"tidemark/mapping"
)

const (
	kafkaName       = "through Kafka"
	kafkaPartitions = 16
	lagStep         = 20 * time.Millisecond // between two looks at what is in a topic
	kafkaPatience   = time.Minute
)

// newKafkaTool makes a tool of this tree that hands its operations to a topic.
func (b *bench) newKafkaTool(what, index string) (*tool, error) {
	return b.newTool(&build{name: kafkaName, letter: "k", binary: b.builds[0].binary, partitions: kafkaPartitions}, what, index)
}

// connectTopic connects to what a file says of Kafka.
func connectTopic(ctx context.Context, config *mapping.Config) (*topic.Client, error) {
	log := slog.New(slog.DiscardHandler)
	return prepare.ConnectKafka(ctx, config, retry.NewAlarm(log), log, kafkaPatience)
}

// dropTopic removes what a tool has made on Kafka.
func dropTopic(ctx context.Context, t *tool) error {
	client, err := connectTopic(ctx, t.config)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Delete(ctx)
}

// awaitLag waits until f reports that a lag is what was waited for. Until the topic is there Kafka has no answer.
func awaitLag(ctx context.Context, client *topic.Client, f func(topic.Lag) bool) error {
	ctx, cancel := context.WithTimeout(ctx, onceLimit)
	defer cancel()
	tick := time.NewTicker(lagStep)
	defer tick.Stop()
	for {
		l, err := client.Lag(ctx)
		if err == nil && f(l) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d operations are not applied, %d workers: %w, %w", l.Records, l.Members, err, context.Cause(ctx))
		}
	}
}

// A workerIn is where a worker is.
type workerIn struct {
	group string // behind the tool's id
	name  string // of its file
	url   string // of its server
}

// workerFile writes the file of a worker of a tool's topic.
func (b *bench) workerFile(t *tool, in workerIn) (string, *mapping.Config, error) {
	file := filepath.Join(b.folder, t.id+"-"+in.name+".yaml")
	yaml := fmt.Sprintf("kafka: {brokers: [%s], topic: %s, group: %s-%s}\nsearch: {urls: [%q], bulk: %s}\nadmin: {listen: \"127.0.0.1:0\"}\n",
		strings.Join(b.servers.brokers, ", "), t.id, t.id, in.group, in.url, roomBulk)
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		return "", nil, err
	}
	config, err := mapping.ReadApply(file, "")
	return file, config, err
}

// startWorker starts a worker by a file.
func (t *tool) startWorker(file string) (*running, error) {
	r := &running{tool: t}
	var log io.Writer = &r.log
	if t.log != nil {
		log = io.MultiWriter(log, t.log)
	}
	var err error
	r.process, err = start(log, t.binary, "apply", "-c", file)
	return r, err
}

// stopAll ends processes, and returns what they took together.
func stopAll(ctx context.Context, all []*running, err error) (usage, error) {
	var sum usage
	for _, r := range all {
		r.process.end() // all at once: nobody has to take over
	}
	for _, r := range all {
		u, stopped := r.stop(ctx, nil)
		if stopped != nil {
			err = errors.Join(err, stopped)
		}
		sum.CPU += u.CPU
		sum.Memory = max(sum.Memory, u.Memory)
	}
	return sum, err
}
