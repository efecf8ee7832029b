package topic

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// append appends n records to a partition of the topic of operations.
func (c *Client) append(t testing.TB, partition int32, n int) {
	t.Helper()
	for range n {
		if err := c.produce(t.Context(), &kgo.Record{Topic: c.o.Topic, Partition: partition}); err != nil {
			t.Fatal(err)
		}
	}
}

// placing is a client whose records are of the partition that they name.
func placing(t testing.TB, cluster *kfake.Cluster) *Client {
	t.Helper()
	c, err := open(options(t, cluster), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestLag(t *testing.T) {
	cluster := startFake(t)
	c := placing(t, cluster)
	if _, err := c.Lag(t.Context()); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("without a topic: %v", err)
	}
	ensure(t, c)
	expect := func(members int, byPartition ...int64) {
		t.Helper()
		lag, err := c.Lag(t.Context())
		if err != nil || !slices.Equal(lag.ByPartition, byPartition) || lag.Members != members {
			t.Errorf("%+v, %v, want %v and %d members", lag, err, byPartition, members)
		}
		sum := int64(0)
		for _, n := range byPartition {
			sum += n
		}
		if lag.Records != sum {
			t.Errorf("%d records, want %d", lag.Records, sum)
		}
	}
	expect(0, 0, 0, 0, 0)
	c.append(t, 1, 5)
	c.append(t, 3, 2)
	expect(0, 0, 5, 0, 2)
	commit(t, c, 1, 3)
	expect(0, 0, 2, 0, 2)
	// What is gone cannot be applied. Where nothing was committed workers begin at what is there.
	if err := cluster.DeleteRecords("ops", 3, 1); err != nil {
		t.Fatal(err)
	}
	expect(0, 0, 2, 0, 1)
	commit(t, c, 1, 5)
	commit(t, c, 3, 2)
	expect(0, 0, 0, 0, 0)
	leave := join(t, c, cluster)
	expect(1, 0, 0, 0, 0)
	leave()
	expect(0, 0, 0, 0, 0)
}

// waits waits until n calls of AwaitApplied are known to have something to wait for.
func (c *Client) waits(t testing.TB, n int) {
	t.Helper()
	until(t, "waiting for what is applied", func() bool {
		c.applied.mu.Lock()
		defer c.applied.mu.Unlock()
		known := 0
		for w := range c.applied.waiting {
			if w.lag != nil {
				known++
			}
		}
		return known == n
	})
}

func TestAwaitApplied(t *testing.T) {
	cluster := startFake(t)
	c := placing(t, cluster)
	ensure(t, c)
	if err := c.AwaitApplied(t.Context()); err != nil {
		t.Errorf("nothing was produced: %v", err)
	}
	c.append(t, 0, 3)
	c.append(t, 2, 4)
	first := make(chan error, 1)
	go func() { first <- c.AwaitApplied(t.Context()) }()
	c.waits(t, 1)
	// What comes later is not waited for by who came before.
	c.append(t, 1, 5)
	second := make(chan error, 1)
	go func() { second <- c.AwaitApplied(t.Context()) }()
	c.waits(t, 2)
	commit(t, c, 0, 3)
	commit(t, c, 2, 3)
	select {
	case err := <-first:
		t.Fatalf("one record is not applied: %v", err)
	case err := <-second:
		t.Fatalf("records are not applied: %v", err)
	default:
	}
	commit(t, c, 2, 4)
	if err := <-first; err != nil {
		t.Error(err)
	}
	c.waits(t, 1)
	commit(t, c, 1, 5)
	if err := <-second; err != nil {
		t.Error(err)
	}
	until(t, "nobody asks", func() bool {
		c.applied.mu.Lock()
		defer c.applied.mu.Unlock()
		return c.applied.stop == nil
	})
}

// Who gives up says what is missing, and what to do where nobody works at it.
func TestAwaitAppliedGivesUp(t *testing.T) {
	cluster := startFake(t)
	c := placing(t, cluster)
	ensure(t, c)
	c.append(t, 0, 3)
	c.append(t, 2, 4)
	commit(t, c, 2, 1)
	giveUp := func() error {
		ctx, end := ended(t)
		failed := make(chan error, 1)
		go func() { failed <- c.AwaitApplied(ctx) }()
		c.waits(t, 1)
		end()
		return <-failed
	}
	err := giveUp()
	if !errors.Is(err, errTest) || !strings.Contains(err.Error(), "group workers has 0 workers, and 6 records in 2 partitions are not applied; hint: tidemark apply") {
		t.Error(err)
	}
	join(t, c, cluster)
	if err := giveUp(); !strings.Contains(err.Error(), "1 workers") || strings.Contains(err.Error(), "hint") {
		t.Error(err)
	}
}

// However many wait, each question is asked once.
func TestAwaitAppliedTogether(t *testing.T) {
	cluster := startFake(t)
	c := placing(t, cluster)
	ensure(t, c)
	c.append(t, 0, 3)
	commit(t, c, 0, 3)
	asked, goOn := hold(t, cluster, kmsg.OffsetFetch)
	questions := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Group: "workers", Observe: true, Count: -1})
	ends := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "ops", Observe: true, Count: -1})
	var all sync.WaitGroup
	wait := func() {
		if err := c.AwaitApplied(t.Context()); err != nil {
			t.Error(err)
		}
	}
	all.Go(wait)
	<-asked
	perQuestion := ends.Hits()
	for range 19 {
		all.Go(wait)
	}
	until(t, "all wait", func() bool {
		c.applied.mu.Lock()
		defer c.applied.mu.Unlock()
		return len(c.applied.waiting) == 20
	})
	goOn()
	all.Wait()
	if questions.Hits() != 2 || ends.Hits() != 2*perQuestion {
		t.Errorf("%d questions for offsets and %d for ends, want 2 and %d", questions.Hits(), ends.Hits(), 2*perQuestion)
	}
}

// The broker that coordinates the group is gone: another one is asked.
func TestCoordinatorGone(t *testing.T) {
	for name, ask := range map[string]func(ctx context.Context, c *Client) error{
		"offsets": func(ctx context.Context, c *Client) error { _, err := c.committed(ctx); return err },
		"members": func(ctx context.Context, c *Client) error { _, err := c.members(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) {
			cluster := startFake(t)
			var mu sync.Mutex
			var dialed []net.Conn
			c, err := open(options(t, cluster), kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					dialed = append(dialed, conn)
				}
				return conn, err
			}))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			ensure(t, c)
			commit(t, c, 0, 1)
			if err := ask(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if err := cluster.RemoveNode(cluster.CoordinatorFor(c.o.Group)); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			for _, conn := range dialed {
				_ = conn.Close() // the client may have done so
			}
			mu.Unlock()
			until(t, "the question is answered", func() bool {
				err := ask(t.Context(), c)
				if err != nil {
					t.Log(err)
				}
				return err == nil
			})
		})
	}
}

// What Kafka does not answer is asked again, with the alarm raised.
func TestAwaitAppliedRetries(t *testing.T) {
	cluster := startFake(t)
	c := placing(t, cluster)
	ensure(t, c)
	c.append(t, 0, 1)
	commit(t, c, 0, 1)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Group: "workers", Err: kerr.GroupAuthorizationFailed, Count: -1})
	done := make(chan error, 1)
	go func() { done <- c.AwaitApplied(t.Context()) }()
	until(t, "the alarm", func() bool { return len(c.o.Alarm.Reasons()) == 1 })

	// Who gives up meanwhile says why.
	ctx, end := ended(t)
	gaveUp := make(chan error, 1)
	go func() { gaveUp <- c.AwaitApplied(ctx) }()
	until(t, "both are told", func() bool {
		c.applied.mu.Lock()
		defer c.applied.mu.Unlock()
		told := 0
		for w := range c.applied.waiting {
			if w.trouble != nil {
				told++
			}
		}
		return told == 2
	})
	end()
	if err := <-gaveUp; !errors.Is(err, errTest) || !errors.Is(err, kerr.GroupAuthorizationFailed) {
		t.Error(err)
	}
	fault.Remove()
	if err := <-done; err != nil {
		t.Error(err)
	}
	until(t, "no alarm", func() bool { return len(c.o.Alarm.Reasons()) == 0 })
}

// The end of a client is the end of who waits.
func TestAwaitAppliedClosed(t *testing.T) {
	cluster := startFake(t)
	c := placing(t, cluster)
	ensure(t, c)
	c.append(t, 0, 1)
	done := make(chan error, 1)
	go func() { done <- c.AwaitApplied(context.WithoutCancel(t.Context())) }()
	c.waits(t, 1)
	c.Close()
	if err := <-done; !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if err := c.AwaitApplied(t.Context()); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}
