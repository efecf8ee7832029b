package topic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
)

// A Lag is what was produced and is not applied.
type Lag struct {
	Records     int64
	ByPartition []int64
	Members     int // workers in the group
}

// Lag returns what the group has not applied yet.
func (c *Client) Lag(ctx context.Context) (Lag, error) {
	// The offsets first: what is committed meanwhile makes the lag larger, not smaller.
	committed, err := c.committed(ctx)
	if err != nil {
		return Lag{}, fmt.Errorf("lag of group %s: %w", c.o.Group, err)
	}
	ends, err := c.ends(ctx, c.o.Topic)
	if err != nil {
		return Lag{}, fmt.Errorf("lag of group %s: %w", c.o.Group, err)
	}
	at, err := c.begun(ctx, committed, ends)
	if err != nil {
		return Lag{}, fmt.Errorf("lag of group %s: %w", c.o.Group, err)
	}
	members, err := c.members(ctx)
	if err != nil {
		return Lag{}, fmt.Errorf("lag of group %s: %w", c.o.Group, err)
	}
	lag := lagOf(ends, at)
	lag.Members = members
	return lag, nil
}

// lagOf returns the lag behind ends where at is applied.
func lagOf(ends, at []int64) Lag {
	lag := Lag{ByPartition: make([]int64, len(ends))}
	for i, end := range ends {
		lag.ByPartition[i] = max(0, end-at[i])
		lag.Records += lag.ByPartition[i]
	}
	return lag
}

// ReportsEnd returns the offset that the next report gets.
func (c *Client) ReportsEnd(ctx context.Context) (int64, error) {
	ends, err := c.ends(ctx, c.o.reports())
	if err != nil {
		return 0, fmt.Errorf("end of topic %s: %w", c.o.reports(), err)
	}
	return ends[0], nil
}

// ends returns the offset after the last record of each partition of a topic, 1 or more. What was
// acknowledged is before it.
func (c *Client) ends(ctx context.Context, topic string) ([]int64, error) {
	return c.offsets(ctx, topic, c.admin.ListEndOffsets)
}

// starts returns the offset of the first record of each partition that is still there.
func (c *Client) starts(ctx context.Context, topic string) ([]int64, error) {
	return c.offsets(ctx, topic, c.admin.ListStartOffsets)
}

func (c *Client) offsets(ctx context.Context, topic string, list func(context.Context, ...string) (kadm.ListedOffsets, error)) ([]int64, error) {
	listed, err := list(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, err
	}
	of := listed[topic]
	offsets := make([]int64, len(of))
	for i := range offsets {
		one, is := of[int32(i)]
		if !is {
			return nil, fmt.Errorf("partition %d is not among the %d that Kafka lists", i, len(of))
		}
		offsets[i] = one.Offset
	}
	if len(offsets) == 0 {
		return nil, kerr.UnknownTopicOrPartition
	}
	return offsets, nil
}

// committed returns the offset that the group has committed for partitions of the topic of operations.
func (c *Client) committed(ctx context.Context) (map[int32]int64, error) {
	asked := time.Now()
	answers, err := c.admin.FetchOffsets(ctx, c.o.Group)
	c.seekCoordinator(ctx, asked, err)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	at := make(map[int32]int64)
	for partition, answer := range answers[c.o.Topic] {
		if answer.Err != nil {
			return nil, answer.Err
		}
		if answer.At >= 0 {
			at[partition] = answer.At
		}
	}
	return at, nil
}

// begun returns what is applied of each partition. Where the group has committed nothing it begins at the
// first record that is there.
func (c *Client) begun(ctx context.Context, committed map[int32]int64, ends []int64) ([]int64, error) {
	at := make([]int64, len(ends))
	var starts []int64
	for i := range at {
		offset, is := committed[int32(i)]
		if !is && ends[i] > 0 {
			if starts == nil {
				var err error
				if starts, err = c.starts(ctx, c.o.Topic); err != nil {
					return nil, err
				}
			}
			offset = starts[i]
		}
		at[i] = offset
	}
	return at, nil
}

// members returns how many workers the group has.
func (c *Client) members(ctx context.Context) (int, error) {
	asked := time.Now()
	groups, err := c.admin.DescribeGroups(ctx, c.o.Group)
	c.seekCoordinator(ctx, asked, err)
	if err != nil {
		return 0, err
	}
	group, err := groups.On(c.o.Group, nil)
	if err == nil {
		err = group.Err
	}
	if errors.Is(err, kerr.GroupIDNotFound) {
		return 0, nil
	}
	return len(group.Members), err
}

// Pauses between two questions for what is applied.
const (
	firstAppliedPause = 5 * time.Millisecond
	lastAppliedPause  = 250 * time.Millisecond
)

// AwaitApplied waits until the group has applied everything that was produced before the call. A
// partition without records counts as applied, whether workers know it or not. What Kafka does not answer
// is asked again, with the alarm raised. When ctx ends, the error says what is missing.
func (c *Client) AwaitApplied(ctx context.Context) error {
	defer dbsync.AtServer(ctx)() // workers take as long as they need
	w := c.applied.add()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return c.applied.leave(w, context.Cause(ctx))
	}
}

// applied asks what is applied, for all who wait for something to be: they share each question. It runs
// while somebody waits.
type applied struct {
	client *Client
	ctx    context.Context // ends with the client
	cancel context.CancelFunc
	runs   sync.WaitGroup

	news chan struct{} // somebody else waits; capacity 1

	mu      sync.Mutex
	closed  bool
	waiting map[*appliedWait]struct{}
	stop    context.CancelFunc // of who asks while somebody waits; nil: nobody asks
}

// An appliedWait is one call of AwaitApplied.
type appliedWait struct {
	done chan struct{}
	err  error // valid when done is closed

	// Guarded by applied.mu.
	ends    []int64 // what is to be applied; nil: that was not asked for yet
	lag     *Lag    // what is missing, as far as it is known
	trouble error   // why the last question was not answered
}

var errClosed = errors.New("the client was closed")

func newApplied(c *Client) *applied {
	a := &applied{client: c, waiting: make(map[*appliedWait]struct{}), news: make(chan struct{}, 1)}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// close ends all waiting.
func (a *applied) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel()
	a.runs.Wait()
}

// add has somebody wait for what was produced until now.
func (a *applied) add() *appliedWait {
	w := &appliedWait{done: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		w.err = errClosed
		close(w.done)
		return w
	}
	a.waiting[w] = struct{}{}
	select {
	case a.news <- struct{}{}:
	default:
	}
	if a.stop == nil {
		var ctx context.Context
		ctx, a.stop = context.WithCancel(a.ctx)
		a.runs.Go(func() { a.run(ctx) })
	}
	return w
}

// remove takes one off who waits. Nobody is asked for when nobody is left. mu is held.
func (a *applied) remove(w *appliedWait) {
	delete(a.waiting, w)
	if len(a.waiting) == 0 && a.stop != nil {
		a.stop()
		a.stop = nil
	}
}

// leave returns why somebody waits no longer, who was not answered.
func (a *applied) leave(w *appliedWait, cause error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, waits := a.waiting[w]; !waits {
		return w.err // the answer came at the same time
	}
	a.remove(w)
	group := "group " + a.client.o.Group
	switch {
	case w.trouble != nil:
		return fmt.Errorf("%w; %s cannot be asked what it has applied: %w", cause, group, w.trouble)
	case w.lag == nil:
		return fmt.Errorf("%w; Kafka has not said yet what %s has applied", cause, group)
	}
	partitions := 0
	for _, records := range w.lag.ByPartition {
		if records > 0 {
			partitions++
		}
	}
	err := fmt.Errorf("%w; %s has %d workers, and %d records in %d partitions are not applied", cause, group, w.lag.Members, w.lag.Records, partitions)
	if w.lag.Members == 0 {
		err = fmt.Errorf("%w; hint: tidemark apply writes them", err)
	}
	return err
}

// run asks until ctx ends, which it does when nobody waits any more.
func (a *applied) run(ctx context.Context) {
	pause := firstAppliedPause
	for {
		select {
		case <-a.news: // the next question is for this one, too
			pause = firstAppliedPause
		default:
		}
		if err := retry.Do(ctx, a.client.o.Alarm, "ask Kafka what is applied", a.ask); err != nil {
			if a.ctx.Err() != nil {
				a.end(errClosed)
			} else if ctx.Err() == nil {
				a.end(err)
			}
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-a.news:
			pause = firstAppliedPause
		case <-ctx.Done(): // so does Do
		}
		timer.Stop()
		pause = min(2*pause, lastAppliedPause)
	}
}

// end has all who wait end with an error.
func (a *applied) end(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for w := range a.waiting {
		a.remove(w)
		w.err = err
		close(w.done)
	}
}

// ask asks once: for the ends that newcomers wait for, then what is applied.
func (a *applied) ask(ctx context.Context) error {
	err := a.answers(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	for w := range a.waiting {
		w.trouble = err
	}
	return err
}

func (a *applied) answers(ctx context.Context) error {
	newcomers := a.newcomers()
	if len(newcomers) > 0 {
		ends, err := a.client.ends(ctx, a.client.o.Topic)
		if err != nil {
			return err
		}
		a.mu.Lock()
		for _, w := range newcomers {
			w.ends = ends
		}
		a.mu.Unlock()
	}
	committed, err := a.client.committed(ctx)
	if err != nil {
		return err
	}
	asked := a.asked()
	at, err := a.client.begun(ctx, committed, lastEnds(asked))
	if err != nil {
		return err
	}
	missing := make(map[*appliedWait]Lag)
	for _, w := range asked {
		if lag := lagOf(w.ends, at); lag.Records > 0 {
			missing[w] = lag
		} else {
			a.done(w)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	members, err := a.client.members(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for w, lag := range missing {
		lag.Members = members
		w.lag = &lag
	}
	return nil
}

// newcomers returns those of whom it is not known what they wait for.
func (a *applied) newcomers() (list []*appliedWait) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for w := range a.waiting {
		if w.ends == nil {
			list = append(list, w)
		}
	}
	return list
}

// asked returns those of whom that is known.
func (a *applied) asked() (list []*appliedWait) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for w := range a.waiting {
		if w.ends != nil {
			list = append(list, w)
		}
	}
	return list
}

// lastEnds returns the last end of each partition that somebody waits for.
func lastEnds(of []*appliedWait) (ends []int64) {
	for _, w := range of {
		for i, end := range w.ends {
			if i == len(ends) {
				ends = append(ends, 0)
			}
			ends[i] = max(ends[i], end)
		}
	}
	return ends
}

// done tells one who waits that nothing is missing.
func (a *applied) done(w *appliedWait) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, waits := a.waiting[w]; waits {
		a.remove(w)
		close(w.done)
	}
}
