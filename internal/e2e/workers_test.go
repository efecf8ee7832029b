package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/testenv"
)

// allThroughKafka names the environment variable that has the operations of every test go through
// Kafka, to one worker.
const allThroughKafka = "TIDEMARK_TEST_THROUGH_KAFKA"

// workers are what a setup has beside its instance when its operations go through Kafka. None is begun before
// the first instance is.
type workers struct {
	kafka   *testenv.Kafka
	brokers []string // as the file has them: a proxy may stand in between
	topic   string
	more    string // more keys of kafka, with a comma in front
	count   int    // how many there are from the beginning

	started bool
	running []*instance
}

// throughKafka has operations go through Kafka, to so many workers.
func (s *setup) throughKafka(t testing.TB, count int) *workers {
	t.Helper()
	k := testenv.SharedKafka(t)
	s.kafka = &workers{kafka: k, brokers: k.Brokers(), topic: k.NewPrefix(t) + "ops", count: count}
	return s.kafka
}

// section is that of the file.
func (w *workers) section() string {
	if w == nil {
		return ""
	}
	brokers, _ := json.Marshal(w.brokers)
	return fmt.Sprintf("kafka: {brokers: %s, topic: %s, partitions: 4%s}\n", brokers, w.topic, w.more)
}

// begin starts the workers with the first command that needs them.
func (w *workers) begin(t testing.TB, s *setup, args []string) {
	t.Helper()
	if w == nil || w.started || !slices.Contains([]string{"run", "verify", "dead-letters"}, args[0]) {
		return
	}
	w.started = true
	for range w.count {
		w.add(t, s)
	}
}

// add starts one more worker.
func (w *workers) add(t testing.TB, s *setup) *instance {
	t.Helper()
	w.started = true
	i := s.startBinary(t, binary(t), "apply")
	w.running = append(w.running, i)
	return i
}

// awaitApplied waits until the group has committed offsets behind everything that was produced.
func (w *workers) awaitApplied(t testing.TB) {
	t.Helper()
	if w == nil || !w.started {
		return
	}
	err := w.asking(t, func(ctx context.Context, ask *kadm.Client) error {
		tick := time.NewTicker(pollInterval)
		defer tick.Stop()
		for {
			lag, err := w.lag(ctx, ask)
			if err == nil && lag == 0 {
				return nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("%d records are not applied within %s: %w", lag, patience, err)
			}
		}
	})
	if err != nil {
		for _, worker := range w.running {
			t.Logf("worker: %s\n%s", worker.outcome(), worker.tail(30))
		}
		t.Fatal(err)
	}
}

// lag returns how many records the group has not applied.
func (w *workers) lag(ctx context.Context, ask *kadm.Client) (lag int64, err error) {
	ends, err := ask.ListEndOffsets(ctx, w.topic)
	if err != nil {
		return -1, err
	}
	committed, err := ask.FetchOffsets(ctx, w.topic)
	if err != nil {
		return -1, err
	}
	for partition, end := range ends[w.topic] {
		at := int64(0)
		if of, is := committed.Lookup(w.topic, partition); is && of.At > 0 {
			at = of.At
		}
		lag += max(0, end.Offset-at)
	}
	return lag, nil
}

// replace starts a worker in the place of one that has ended.
func (w *workers) replace(t testing.TB, s *setup) *instance {
	t.Helper()
	return s.startBinary(t, binary(t), "apply")
}

// use has another Kafka in the place of the shared one, before anything is started.
func (w *workers) use(k *testenv.Kafka) { w.kafka, w.brokers = k, k.Brokers() }

// stop stops the workers, none of which has ended by itself.
func (w *workers) stop(t testing.TB) {
	t.Helper()
	if w == nil {
		return
	}
	for _, worker := range w.running {
		worker.stop(t)
	}
}

// asking calls f with a client of Kafka.
func (w *workers) asking(t testing.TB, f func(ctx context.Context, ask *kadm.Client) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return w.askingOnce(func(ask *kadm.Client) error { return f(ctx, ask) })
}

// committed is what the group has committed in all partitions.
func (w *workers) committed(ctx context.Context) (sum string, err error) {
	err = w.askingOnce(func(ask *kadm.Client) error {
		offsets, err := ask.FetchOffsets(ctx, w.topic)
		if err != nil {
			return err
		}
		n := int64(0)
		offsets.Each(func(of kadm.OffsetResponse) { n += of.At })
		sum = strconv.FormatInt(n, 10)
		return offsets.Error()
	})
	return sum, err
}

// shared returns an error unless every worker has a share of the topic.
func (w *workers) shared(ctx context.Context) error {
	return w.askingOnce(func(ask *kadm.Client) error {
		groups, err := ask.DescribeGroups(ctx, w.topic)
		if err != nil {
			return err
		}
		group := groups[w.topic]
		if group.Err == nil && (group.State != "Stable" || len(group.Members) != len(w.running)) {
			return fmt.Errorf("the group is %s, of %d workers", group.State, len(group.Members))
		}
		return group.Err
	})
}

// leads returns an error while the node leads a partition of the topic, or nobody does.
func (w *workers) leads(ctx context.Context, node int32) error {
	return w.askingOnce(func(ask *kadm.Client) error {
		topics, err := ask.ListTopics(ctx, w.topic)
		if err != nil {
			return err
		}
		for _, partition := range topics[w.topic].Partitions {
			if partition.Leader == node || partition.Leader < 0 {
				return fmt.Errorf("partition %d is led by %d", partition.Partition, partition.Leader)
			}
		}
		return topics.Error()
	})
}

// askingOnce calls f with a client of Kafka.
func (w *workers) askingOnce(f func(ask *kadm.Client) error) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.Brokers()...))
	if err != nil {
		return err
	}
	defer client.Close()
	return f(kadm.NewClient(client))
}

// left returns how many records the group has not applied.
func (w *workers) left(t testing.TB) (n int64, err error) {
	t.Helper()
	err = w.asking(t, func(ctx context.Context, ask *kadm.Client) error {
		n, err = w.lag(ctx, ask)
		return err
	})
	return n, err
}

// deleteTopics deletes the topic of operations.
func (w *workers) deleteTopics(t testing.TB) {
	t.Helper()
	must(t, w.asking(t, func(ctx context.Context, ask *kadm.Client) error {
		_, err := ask.DeleteTopic(ctx, w.topic)
		return err
	}))
}

// report appends a report to those of the workers.
func (w *workers) report(t testing.TB, text string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.Brokers()...))
	must(t, err)
	defer client.Close()
	must(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: w.topic + ".reports", Value: []byte(text), Headers: []kgo.RecordHeader{{Key: "tm", Value: []byte("1")}}}).FirstErr())
}
