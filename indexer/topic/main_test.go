package topic

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/indexer/retry"
	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// startFake starts three brokers in this process.
func startFake(t testing.TB, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// options are those of a client of a cluster.
func options(t testing.TB, cluster *kfake.Cluster) Options {
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	return Options{Brokers: cluster.ListenAddrs(), Topic: "ops", Group: "workers", Alarm: retry.NewAlarm(logger), Logger: logger}
}

// connect connects to a cluster.
func connect(t testing.TB, cluster *kfake.Cluster) *Client {
	t.Helper()
	return connectAs(t, options(t, cluster))
}

func connectAs(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// aPlan is what topics of tests are made like.
var aPlan = Plan{Partitions: 4, Replication: 3, Retention: 168 * time.Hour, MaxRecordBytes: 1 << 20}

// ensure makes the topics of a client.
func ensure(t testing.TB, c *Client) State {
	t.Helper()
	state, remarks, err := c.Ensure(t.Context(), aPlan)
	if err != nil || len(remarks) != 0 {
		t.Fatal(remarks, err)
	}
	return state
}

// commit has the group commit an offset of a partition of the topic of operations.
func commit(t testing.TB, c *Client, partition int32, offset int64) {
	t.Helper()
	var offsets kadm.Offsets
	offsets.AddOffset(c.o.Topic, partition, offset, -1)
	if err := c.admin.CommitAllOffsets(t.Context(), c.o.Group, offsets); err != nil {
		t.Fatal(err)
	}
}

// join has somebody be a member of the group until the test ends, or left is called.
func join(t testing.TB, c *Client, cluster *kfake.Cluster) (left func()) {
	t.Helper()
	member, err := kgo.NewClient(kgo.SeedBrokers(c.o.Brokers...), kgo.ConsumerGroup(c.o.Group), kgo.ConsumeTopics(c.o.Topic), kgo.DisableAutoCommit(), kgo.HeartbeatInterval(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Close)
	if _, err := cluster.WaitGroupStable(t.Context(), c.o.Group, 1); err != nil {
		t.Fatal(err)
	}
	return member.Close
}

// hold has the cluster keep the next request of a kind until goOn is called, or the test ends. asked is closed
// when it has come.
func hold(t testing.TB, cluster *kfake.Cluster, key kmsg.Key) (asked <-chan struct{}, goOn func()) {
	come, on := make(chan struct{}), make(chan struct{})
	goOn = sync.OnceFunc(func() { close(on) })
	t.Cleanup(goOn)
	var held atomic.Bool
	cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.DropControl() // when it is through: others may come before
		if !held.Swap(true) {
			close(come)
			cluster.SleepControl(func() { <-on })
		}
		return nil, nil, false
	})
	return come, goOn
}

// until waits for something to be so.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute: " + what)
		}
		if err := retry.Sleep(t.Context(), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// errTest is what tests have go wrong.
var errTest = errors.New("it was to go wrong")

// ended returns a context that ends with errTest when end is called.
func ended(t testing.TB) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	return ctx, func() { cancel(errTest) }
}
