package topic

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
)

// acks are what is to come back from Kafka for records that were handed to franz-go.
type acks struct {
	left   atomic.Int64 // records that are not acknowledged, and one while they are handed over
	done   chan struct{}
	mu     sync.Mutex
	failed error // the first
}

// expect begins with n records.
func (a *acks) expect(n int) {
	a.left.Store(int64(n) + 1)
	a.done, a.failed = make(chan struct{}), nil
}

// promise takes what came of a record.
func (a *acks) promise(_ *kgo.Record, err error) {
	if err != nil {
		a.mu.Lock()
		if a.failed == nil {
			a.failed = err
		}
		a.mu.Unlock()
	}
	a.release()
}

func (a *acks) release() {
	if a.left.Add(-1) == 0 {
		close(a.done)
	}
}

// patience is after which time without an acknowledgement it is said that Kafka is away.
const patience = 10 * time.Second

// await waits, when all records are handed over, until franz-go is through with them: it has their storage
// until then. The context that they were produced with ends that, too. It returns the first error.
func (c *Client) await(a *acks) error {
	a.release()
	ticker := time.NewTicker(patience)
	defer ticker.Stop()
	var hold *retry.Hold
	defer func() { hold.Release() }()
	for {
		select {
		case <-a.done:
			return a.failed
		case <-ticker.C:
			text := "no acknowledgement comes"
			if err := c.last.get(); err != nil {
				text = err.Error()
			}
			hold = c.o.Alarm.Keep(hold, "Kafka does not take operations", text)
		}
	}
}

// produce produces records, and returns nil when Kafka has acknowledged all of them.
func (c *Client) produce(ctx context.Context, records ...*kgo.Record) error {
	defer dbsync.AtServer(ctx)()
	var a acks
	a.expect(len(records))
	for _, r := range records {
		c.kafka.Produce(ctx, r, a.promise)
	}
	return c.await(&a)
}
