package service

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/topic"
	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// A capture is how operations get to the workers that write them: see package topic. Without a section
// kafka in the file there is none.
type capture struct {
	client   *topic.Client
	own      bool // the client is closed with it
	producer *topic.Producer
	state    topic.State // of the topics when the process began

	began chan struct{} // closed when the topics are noted for the first time
	once  sync.Once     // for that

	mu       sync.Mutex
	lag      topic.Lag
	askedAt  time.Time // of lag
	produced int64     // records, before that

	holds captureHold // of the alarm
}

// A captureHold is what is known of a lag that does not become smaller.
type captureHold struct {
	hold    *retry.Hold
	applied int64     // produced less lag, when it moved last
	movedAt time.Time // when it did
}

// openCapture makes the topics that are missing.
func (d *destination) openCapture(ctx context.Context) (*capture, error) {
	k := d.s.found.Kafka
	if d.name != "" {
		client, err := prepare.ConnectKafka(ctx, d.config, d.s.found.Kafka.Alarm, d.s.o.Logger, prepare.StartTimeout)
		if err != nil {
			return nil, err
		}
		k = &prepare.Kafka{Client: client, Alarm: k.Alarm}
	}
	if err := k.Ensure(ctx, d.config, d.s.o.Logger); err != nil {
		return nil, err
	}
	c := &capture{own: d.name != "", client: k.Client, state: k.State, began: make(chan struct{})}
	var err error
	c.producer, err = c.client.NewProducer(topic.ProducerOptions{
		Partitions: c.state.Partitions, MaxRecordBytes: prepare.KafkaPlan(d.config).MaxRecordBytes,
		Fence: d.s.syncer.HoldsSlot, OnRefused: d.refused, Alarm: d.alarm, Logger: d.s.o.Logger,
	})
	return c, err
}

// close ends the connections; of no capture nothing.
func (c *capture) close() {
	if c == nil {
		return
	}
	if c.producer != nil {
		c.producer.Close()
	}
	if c.own {
		c.client.Close()
	}
}

// beginCapture is called when the slot is ours, and before what is noted of indices is read. changed says why
// what was produced may not have been applied although nothing was lost: then the indices are compared, and
// note is called after that was noted.
func (d *destination) beginCapture(ctx context.Context) (changed string, note func(context.Context) error, err error) {
	topics := d.control.Topics()
	noted, err := topics.Read(ctx)
	if err != nil {
		return "", nil, err
	}
	c := d.capture
	if c == nil {
		if noted.Name != "" {
			changed = fmt.Sprintf("operations went through topic %s until now, and of what it has nothing is known any more", noted.Name)
		}
		return changed, func(ctx context.Context) error { return topics.Note(ctx, control.Topic{}) }, nil
	}
	now := control.Topic{Name: d.config.Kafka.Topic, Reports: noted.Reports}
	if now.State, err = c.client.State(ctx); err != nil {
		return "", nil, err
	}
	if now.State != c.state { // who produces knows how many partitions there were
		return "", nil, &control.TopicLostError{Topic: now.Name, Reason: "it was made anew, or has other partitions, since the process began"}
	}
	if noted.Name != now.Name || noted.ReportsID != now.ReportsID {
		if now.Reports, err = c.client.ReportsEnd(ctx); err != nil {
			return "", nil, err
		}
	}
	if noted.Name != now.Name {
		other, err := c.client.LastBegin(ctx)
		if err != nil {
			return "", nil, err
		}
		if other != "" && other != d.instance() {
			return "", nil, &dbsync.PermanentError{Err: fmt.Errorf("topic %s is that of another instance: %s; hint: another kafka.topic, or, if that one is gone for good, remove topics %s and %s",
				now.Name, other, now.Name, topic.ReportsOf(now.Name))}
		}
	}
	note = func(ctx context.Context) error { return topics.Note(ctx, now) }
	switch {
	case noted.Name == "":
		err = note(ctx) // what was stored so far is in the cluster
		note = nil
	case noted.Name != now.Name:
		changed = fmt.Sprintf("operations went through topic %s until now, and go through %s", noted.Name, now.Name)
	default:
		note = nil
		if lost := noted.Check(now.State); lost != nil {
			if !d.s.rebuildsLost() && d.name == "" { // a group holds nobody else up
				return "", nil, lost
			}
			d.s.o.Logger.Warn("operations were lost on their way, every index is made anew", "error", lost)
			err = topics.Restart(ctx, now, d.s.syncer.Generation())
		}
	}
	if err != nil {
		return "", nil, err
	}
	return changed, note, c.producer.Begin(ctx, d.instance())
}

// instance says who produces: a generation is that of one slot, and of no other.
func (d *destination) instance() string {
	system, _ := d.s.syncer.System()
	return fmt.Sprintf("slot %s of database system %s, generation %s", d.config.Postgres.Slot, system, d.s.syncer.Generation())
}

// rebuildsLost reports whether every index is made anew after a loss.
func (s *Service) rebuildsLost() bool {
	return s.config.OnSlotLost == mapping.OnSlotLostReindex || slices.Contains(s.o.Reindex, "all")
}

// applied waits until what was produced is in the cluster; see [reindex.Options].
func (d *destination) applied(ctx context.Context) error {
	if d.capture == nil {
		return nil
	}
	return d.control.Topics().AwaitApplied(ctx, d.capture.client)
}

const (
	// lagInterval is how often is looked at the topics, and at what of them is not applied; busyInterval, while something is
	// not: the page shows it.
	lagInterval  = 10 * time.Second
	busyInterval = time.Second

	// roomInterval is how often is looked again where rows are to be read, and too much waits.
	roomInterval = 250 * time.Millisecond

	// lagPatience is after how long it is said that nothing is applied.
	lagPatience = 30 * time.Second

	// goneLooks is how often the topics are looked for before they are taken to be gone: a broker that has just
	// started may not know of them yet.
	goneLooks = 3
)

// room waits until no more operations wait to be applied than kafka.max_lag; see [reindex.Options].
func (d *destination) room(ctx context.Context) error {
	c := d.capture
	if c == nil {
		return nil
	}
	most := int64(d.config.Kafka.MaxLag)
	for c.mayWait() > most {
		err := retry.Do(ctx, d.alarm, "look at topic "+d.config.Kafka.Topic, func(ctx context.Context) error {
			_, err := c.look(ctx)
			return err
		})
		if err != nil || c.mayWait() <= most {
			return err
		}
		if err := retry.Sleep(ctx, roomInterval); err != nil {
			return err
		}
	}
	return nil
}

// mayWait returns how many operations wait to be applied at the most: those that did at the last look, and what
// was produced since.
func (c *capture) mayWait() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.askedAt.IsZero() {
		return math.MaxInt64
	}
	return c.lag.Records + c.producer.Stats().Records.Load() - c.produced
}

// look looks what is not applied.
func (c *capture) look(ctx context.Context) (topic.Lag, error) {
	produced := c.producer.Stats().Records.Load() // what is produced during the look counts twice, and never not at all
	lag, err := c.client.Lag(ctx)
	if err != nil {
		return lag, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lag, c.askedAt, c.produced = lag, time.Now(), produced
	return lag, nil
}

// watchCapture looks at the topics again and again until ctx is done, or something of them is lost.
func (d *destination) watchCapture(ctx context.Context) error {
	c := d.capture
	select {
	case <-c.began:
	case <-ctx.Done():
		return nil
	}
	defer func() { c.holds.hold.Release() }()
	gone := 0
	for {
		err := retry.Do(ctx, d.alarm, "look at topic "+d.config.Kafka.Topic, func(ctx context.Context) error {
			now, err := c.client.State(ctx)
			if err != nil {
				return err
			}
			if gone++; now != (topic.State{}) {
				gone = 0
			}
			if now != c.state && (gone == 0 || gone >= goneLooks) {
				noted := control.Topic{Name: d.config.Kafka.Topic, State: c.state}
				return noted.Check(now)
			}
			if gone > 0 {
				return nil
			}
			lag, err := c.look(ctx)
			if err == nil {
				d.judgeLag(lag)
			}
			return err
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		interval := lagInterval
		if gone == 0 && c.mayWait() > 0 {
			interval = busyInterval
		}
		if retry.Sleep(ctx, interval) != nil {
			return nil
		}
	}
}

// judgeLag raises the alarm where nothing is applied although there is something to apply.
func (d *destination) judgeLag(lag topic.Lag) {
	h := &d.capture.holds
	applied := d.capture.producer.Stats().Records.Load() - lag.Records
	now := time.Now()
	if applied != h.applied || lag.Records == 0 || h.movedAt.IsZero() {
		h.applied, h.movedAt = applied, now
		h.hold.Release()
		h.hold = nil
		return
	}
	if now.Sub(h.movedAt) < lagPatience {
		return
	}
	text := fmt.Sprintf("%d operations in topic %s wait, and none was applied since %s: group %s has %d workers; hint: see in their logs what they wait for",
		lag.Records, d.config.Kafka.Topic, h.movedAt.UTC().Format(time.TimeOnly), d.config.Kafka.Group, lag.Members)
	if lag.Members == 0 {
		text = fmt.Sprintf("%d operations in topic %s wait, and group %s has no worker; hint: tidemark apply -c FILE", lag.Records, d.config.Kafka.Topic, d.config.Kafka.Group)
	}
	h.hold = d.alarm.Keep(h.hold, "operations are not applied", text)
}

// takeReports takes up what workers have to say, until ctx is done or one of it ends the instance.
func (d *destination) takeReports(ctx context.Context) error {
	c := d.capture
	select {
	case <-c.began:
	case <-ctx.Done():
		return nil
	}
	topics := d.control.Topics()
	err := retry.Do(ctx, d.alarm, "read what workers report", func(ctx context.Context) error {
		noted, err := topics.Read(ctx)
		if err != nil {
			return err
		}
		err = c.client.Reports(ctx, noted.Reports, d.takeUp)
		if gone, ok := errors.AsType[*topic.GoneError](err); ok {
			end, err := c.client.ReportsEnd(ctx)
			if err != nil {
				return err
			}
			return d.lose(ctx, end, gone.Error())
		}
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// takeUp takes up reports, and notes that it has. A crash before the note costs that they are taken up again.
func (d *destination) takeUp(ctx context.Context, reports []topic.Reported) error {
	var refused []search.Refused
	lost := ""
	for i := range reports {
		r := &reports[i].Report
		switch r.Kind {
		case topic.ReportBegin:
			if r.Instance != d.instance() {
				lost = fmt.Sprintf("another instance (%s) has begun to produce to it, so that workers pass over what this one does; hint: another kafka.topic for one of them", r.Instance)
			}
		case topic.ReportRefused:
			one, err := r.Refused()
			if err != nil {
				return unreadable(&reports[i], err)
			}
			refused = append(refused, one)
		case topic.ReportNewer:
			op, err := r.Operation()
			if err != nil {
				return unreadable(&reports[i], err)
			}
			if err := d.manager.Newer(ctx, &op, r.Found); err != nil {
				return err
			}
		case topic.ReportUnanswered:
			ops := make([]dbsync.Operation, len(r.Indices))
			for i, index := range r.Indices {
				ops[i].Index = index
			}
			d.manager.Unanswered(ops)
		case topic.ReportMissing:
			d.manager.Missing(r.Index)
		case topic.ReportLost:
			lost = fmt.Sprintf("records %d to %d of partition %d were removed before group %s had applied them; hint: a longer kafka.retention", r.From, r.To, r.Partition, d.config.Kafka.Group)
		default:
			return unreadable(&reports[i], fmt.Errorf("this version does not know what %q is", r.Kind))
		}
	}
	if len(refused) > 0 {
		if err := d.refused(ctx, refused); err != nil {
			return err
		}
	}
	next := reports[len(reports)-1].Offset + 1
	if lost != "" {
		return d.lose(ctx, next, lost)
	}
	return d.control.Topics().Take(ctx, next, "")
}

func unreadable(r *topic.Reported, err error) error {
	return &dbsync.PermanentError{Err: fmt.Errorf("report %d of a worker: %w; hint: the instance is to be of the same version as the workers, or a later one", r.Offset, err)}
}

// lose notes that operations are lost, and returns the error that ends the instance: the next start goes by
// on_slot_lost.
func (d *destination) lose(ctx context.Context, next int64, why string) error {
	if err := d.control.Topics().Take(ctx, next, why); err != nil {
		return err
	}
	return &control.TopicLostError{Topic: d.config.Kafka.Topic, Reason: why}
}
