package topic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
)

const (
	// Bounds of what is in memory: of what one broker sends at a time, before it is decompressed, and of
	// what is written together. A larger record comes alone.
	fetchBytes     = 2 << 20
	partitionBytes = 512 << 10
	maxPolled      = 20_000
	maxFetch       = 256 << 20

	// fetchWait is how long a broker keeps a question to which it has nothing to say. What is asked next on that
	// connection waits for it: as for partitions that a worker has got from one that was killed.
	fetchWait = 500 * time.Millisecond

	// pollTimeout is how long is waited for records before it is looked after the rest.
	pollTimeout = time.Second

	// leaveTimeout bounds what is done at the end.
	leaveTimeout = 3 * time.Second
)

// A session is one membership in the group, with a connection of its own. It ends when the topic is
// another one, or when what Kafka says is not got over otherwise.
type session struct {
	w         *Worker
	reader    *Client
	topic     State
	claims    claims
	committed committed
	gone      gone
	confirmed atomic.Bool // since it was asked last, Kafka has named this worker as a member
	another   atomic.Bool // the topic is not the one that it was at the start
}

// committed are offsets as they were fetched, until reading begins there.
type committed struct {
	mu sync.Mutex
	of map[int32]kmsg.OffsetFetchResponseGroupTopicPartition
}

// gone is what was reported last of each partition: offsets may be fetched twice.
type gone struct {
	mu sync.Mutex
	of map[int32]Report
}

// read joins the group and works until ctx ends or something is wrong.
func (w *Worker) read(ctx context.Context, h *health) error {
	s := &session{w: w, claims: claims{of: make(map[int32]*claim)}, gone: gone{of: make(map[int32]Report)}}
	s.committed.of = make(map[int32]kmsg.OffsetFetchResponseGroupTopicPartition)
	var err error
	if s.topic, err = w.awaitTopic(ctx); err != nil {
		return err
	}
	s.reader, err = open(w.o.Options,
		kgo.ConsumerGroup(w.o.Group), kgo.ConsumeTopics(w.o.Topic), kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.HeartbeatInterval(w.o.HeartbeatInterval), kgo.SessionTimeout(w.o.SessionTimeout), kgo.RebalanceTimeout(w.o.RebalanceTimeout),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(fetchWait), kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(partitionBytes), kgo.BrokerMaxReadBytes(maxFetch),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) { s.assigned(given[w.o.Topic]) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { s.taken(taken[w.o.Topic], false) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { s.taken(taken[w.o.Topic], true) }),
		kgo.OnOffsetsFetched(func(_ context.Context, _ *kgo.Client, r *kmsg.OffsetFetchResponse) error { s.fetched(r); return nil }),
		kgo.AdjustFetchOffsetsFn(s.begin),
	)
	if err != nil {
		return err
	}
	w.session.Store(s)
	var watch conc.WaitGroup
	watched, end := context.WithCancel(ctx)
	watch.Go(func() { s.watch(watched) })
	defer func() {
		end()
		watch.Wait()
		w.session.Store(nil)
		w.member.asked.Store(nil)
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		if left := s.reader.kafka.LeaveGroupContext(leave); left != nil {
			w.o.Logger.Info("the group could not be left: others have the partitions after the session timeout", "group", w.o.Group, "error", left)
		}
		s.reader.Close()
	}()
	for {
		b, err := s.poll(ctx, h)
		if err != nil {
			return err
		}
		if len(b.parts) > 0 {
			if err := w.apply(ctx, s, b); err != nil {
				return err
			}
			continue
		}
		if err := s.idle(ctx, h); err != nil {
			return err
		}
	}
}

// awaitTopic returns what the topics are, as soon as there are any.
func (w *Worker) awaitTopic(ctx context.Context) (State, error) {
	defer dbsync.AtServer(ctx)()
	var state State
	err := retry.Do(ctx, w.o.Alarm, "topic "+w.o.Topic+" is not known", func(ctx context.Context) error {
		found, err := w.client.find(ctx)
		if err != nil {
			return w.client.why(err)
		}
		if state = found.state(w.client); state == (State{}) {
			return fmt.Errorf("it is not there, or %s is not; hint: tidemark run makes them, with the same kafka.topic in its file", w.o.reports())
		}
		return nil
	})
	return state, err
}

// poll returns what there is, and waits a while where there is nothing. No partition comes or goes
// while it is taken apart, so it is known of each record whether it is one of a partition that is ours.
func (s *session) poll(ctx context.Context, h *health) (*load, error) {
	bounded, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	defer dbsync.Await(ctx, pollTimeout+s.w.o.RebalanceTimeout)() // while partitions come or go nothing is read
	fetches := s.reader.kafka.PollRecords(bounded, maxPolled)
	defer s.reader.kafka.AllowRebalance()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.another.Load() {
		return nil, errAnother
	}
	b := &load{polled: time.Now()}
	failed, err := s.errors(ctx, fetches, h)
	if err != nil {
		return nil, err
	}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if err == nil && !failed[p.Partition] {
			err = s.take(b, &p)
		}
	})
	if err == nil && len(b.parts) > 0 {
		h.good()
	}
	return b, err
}

// take takes what was polled of a partition.
func (s *session) take(b *load, p *kgo.FetchTopicPartition) error {
	c := s.claims.get(p.Partition)
	if c == nil {
		return nil
	}
	if p.HighWatermark >= 0 {
		c.end.Store(p.HighWatermark)
	}
	if len(p.Records) == 0 {
		return nil
	}
	to := b.of(c)
	stats := &s.w.stats
	for _, r := range p.Records {
		rec, err := decode(r)
		if err != nil {
			return err
		}
		stats.Records.Add(1)
		stats.Bytes.Add(int64(rec.bytes))
		if b.oldest.IsZero() || r.Timestamp.Before(b.oldest) {
			b.oldest = r.Timestamp
		}
		switch {
		case rec.kind == kindEpoch:
			if rec.epoch > to.after.epoch {
				to.after.epoch = rec.epoch
				s.w.told.anew()
			}
		case rec.epoch < to.after.epoch:
			stats.Older.Add(1) // of an instance that was stopped, and went on when another one had begun
		default:
			to.records = append(to.records, rec)
		}
		to.after.offset, to.after.leader = rec.offset+1, rec.leader
	}
	return nil
}

// errors sees to what Kafka says of partitions, and returns those of which nothing is to be taken. Its
// error ends the session; the next one finds out what is gone of what was to be read next.
func (s *session) errors(ctx context.Context, fetches kgo.Fetches, h *health) (failed map[int32]bool, first error) {
	failed = make(map[int32]bool)
	fetches.EachError(func(topic string, partition int32, err error) {
		var lost *kgo.ErrDataLoss
		var group *kgo.ErrGroupSession
		switch {
		case first != nil, errors.Is(err, context.DeadlineExceeded) && topic == "":
		case errors.As(err, &lost):
			failed[partition] = true
			first = s.cutOff(ctx, lost)
		case errors.As(err, &group):
			h.bad(s.reader.why(err)) // it is joined again
		default:
			first = fmt.Errorf("topic %s, partition %d: %w", topic, partition, s.reader.why(err))
		}
	})
	return failed, first
}

// cutOff goes on where Kafka has lost the end of the log: records are written anew there.
func (s *session) cutOff(ctx context.Context, lost *kgo.ErrDataLoss) error {
	c := s.claims.get(lost.Partition)
	if c == nil {
		return nil
	}
	if err := s.report(ctx, lost.Partition, Report{Kind: ReportLost, Partition: lost.Partition, From: lost.ResetTo, To: lost.ConsumedTo}); err != nil {
		return err
	}
	c.mark = mark{offset: min(c.offset, lost.ResetTo), leader: -1, epoch: c.epoch}
	c.applied.Store(c.offset)
	s.rewind([]*part{{claim: c}})
	return nil
}

// rewind has partitions read again from where they are applied.
func (s *session) rewind(parts []*part) {
	offsets := make(map[int32]kgo.EpochOffset)
	for _, p := range parts {
		offsets[p.claim.partition] = kgo.EpochOffset{Epoch: p.claim.leader, Offset: p.claim.offset}
	}
	s.reader.kafka.SetOffsets(map[string]map[int32]kgo.EpochOffset{s.w.o.Topic: offsets})
}

// idle does what there is to do while there is nothing to write.
func (s *session) idle(ctx context.Context, h *health) error {
	if s.confirmed.Swap(false) {
		h.good()
	}
	return s.w.tell(ctx)
}

// watch raises the alarm while Kafka does not name this worker as a member of the group for longer than
// the session timeout, until ctx ends.
func (s *session) watch(ctx context.Context) {
	var hold *retry.Hold
	defer func() { hold.Release() }()
	ticker := time.NewTicker(s.w.o.SessionTimeout / 2)
	defer ticker.Stop()
	for named := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := s.w.isMember(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			named = time.Now()
			hold.Release()
			hold = nil
			s.confirmed.Store(true)
		case time.Since(named) > s.w.o.SessionTimeout:
			hold = s.w.o.Alarm.Keep(hold, "Kafka does not know this worker", dbsync.WithoutValues(err))
		}
	}
}

// assigned is called when the group gives partitions.
func (s *session) assigned(partitions []int32) {
	s.claims.add(partitions)
	if len(partitions) > 0 {
		s.w.stats.Rebalances.Add(1)
		s.w.o.Logger.Info("partitions were given to this worker", "topic", s.w.o.Topic, "partitions", partitions)
	}
}

// taken is called when the group takes partitions away. When it returns others have them.
func (s *session) taken(partitions []int32, lost bool) {
	if lost {
		s.w.member.asked.Store(nil)
	}
	s.claims.giveUp(partitions, lost)
	if len(partitions) > 0 {
		s.w.stats.Rebalances.Add(1)
		s.w.o.Logger.Info("partitions were given up", "topic", s.w.o.Topic, "partitions", partitions, "lost", lost)
	}
}

// fetched keeps the committed offsets of partitions, until begin.
func (s *session) fetched(r *kmsg.OffsetFetchResponse) {
	s.committed.mu.Lock()
	defer s.committed.mu.Unlock()
	for _, group := range r.Groups {
		for _, topic := range group.Topics { // there is one
			for _, p := range topic.Partitions {
				s.committed.of[p.Partition] = p
			}
		}
	}
}

// errAnother has the group joined again.
var errAnother = errors.New("the topic was made anew")

// begin says where partitions are read from: from the committed offset on where that is in the log, else
// from the start of the log. What is gone between is reported.
func (s *session) begin(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	start, end, err := s.bounds(ctx)
	if err != nil {
		return nil, err
	}
	// What is remembered is of one topic, also where another one has its name now.
	now, err := s.w.awaitTopic(ctx)
	if err != nil {
		return nil, err
	}
	if now != s.topic {
		s.another.Store(true)
		return nil, errAnother
	}
	s.committed.mu.Lock()
	defer s.committed.mu.Unlock()
	for p := range offsets[s.w.o.Topic] {
		c := s.claims.get(p)
		if c == nil {
			continue
		}
		was := s.committed.of[p]
		from := mark{offset: was.Offset, leader: was.LeaderEpoch}
		id := ""
		if was.Metadata != nil {
			from.epoch, id = remembered(*was.Metadata)
		}
		if from.offset < 0 || id != "" && id != s.topic.ID {
			from = mark{leader: -1} // nothing was committed, or of a topic that had the name before
		}
		to, report := inLog(from.offset, start[p], end[p])
		if report != nil {
			if err := s.report(ctx, p, *report); err != nil {
				return nil, err
			}
		}
		if to != was.Offset {
			from.offset, from.leader = to, -1
		}
		c.mark = from
		c.applied.Store(from.offset)
		c.end.Store(end[p])
		offsets[s.w.o.Topic][p] = kgo.NewOffset().At(from.offset).WithEpoch(from.leader)
	}
	return offsets, nil
}

// inLog returns where is read from that is to be read from an offset: there, or from the start of the
// log where it is not in the log, with a report of what is gone.
func inLog(offset, start, end int64) (from int64, gone *Report) {
	switch {
	case offset < start:
		return start, &Report{Kind: ReportLost, From: offset, To: start}
	case offset > end:
		return start, &Report{Kind: ReportLost, From: end, To: offset}
	}
	return offset, nil
}

// report reports once that records of a partition are gone.
func (s *session) report(ctx context.Context, partition int32, r Report) error {
	r.Partition = partition
	s.gone.mu.Lock()
	defer s.gone.mu.Unlock()
	if last, ok := s.gone.of[partition]; ok && last.From == r.From && last.To == r.To {
		return nil
	}
	s.w.o.Logger.Error("records are gone that were not applied, the instance that follows the slot is told", "topic", s.w.o.Topic, "partition", partition, "from", r.From, "to", r.To)
	if err := s.w.report(ctx, r); err != nil {
		return err
	}
	s.w.stats.Lost.Add(r.To - r.From)
	s.gone.of[partition] = r
	return nil
}

// bounds returns the first offset of each partition, and the one that comes next, as soon as Kafka says it.
func (s *session) bounds(ctx context.Context) (start, end []int64, err error) {
	defer dbsync.AtServer(ctx)()
	err = retry.Do(ctx, s.w.o.Alarm, "Kafka does not say where topic "+s.w.o.Topic+" begins", func(ctx context.Context) error {
		var errs [2]error
		start, errs[0] = s.w.client.starts(ctx, s.w.o.Topic)
		end, errs[1] = s.w.client.ends(ctx, s.w.o.Topic)
		return s.w.client.why(cmp.Or(errs[:]...))
	})
	return start, end, err
}

// commit commits that parts are applied, and moves their claims.
func (w *Worker) commit(ctx context.Context, s *session, parts []*part) error {
	for _, p := range parts {
		p.claim.mark = p.after
		p.claim.applied.Store(p.after.offset)
	}
	defer dbsync.AtServer(ctx)()
	var gone error // the topic is
	err := retry.Do(ctx, w.o.Alarm, "Kafka does not take offsets of group "+w.o.Group, func(ctx context.Context) error {
		offsets, metadata := make(map[int32]kgo.EpochOffset), make(map[int32]string)
		for _, p := range parts {
			if !s.claims.isLost(p.claim) {
				offsets[p.claim.partition] = kgo.EpochOffset{Epoch: p.after.leader, Offset: p.after.offset}
				metadata[p.claim.partition] = p.after.metadata(s.topic.ID)
			}
		}
		if len(offsets) == 0 {
			return nil
		}
		err := s.commit(ctx, offsets, metadata)
		if isGone(err) {
			gone = err
			return nil
		}
		return err
	})
	if err != nil && ctx.Err() != nil {
		return nil // whoever has the partitions next writes it again
	}
	return cmp.Or(err, gone)
}

// isGone reports whether a topic is not there any more: franz-go takes no other one for it.
func isGone(err error) bool {
	return errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.UnknownTopicOrPartition)
}

// commit commits offsets once.
func (s *session) commit(ctx context.Context, offsets map[int32]kgo.EpochOffset, metadata map[int32]string) error {
	ctx = kgo.PreCommitFnContext(ctx, func(r *kmsg.OffsetCommitRequest) error {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				p := &r.Topics[i].Partitions[j]
				text := metadata[p.Partition]
				p.Metadata = &text
			}
		}
		return nil
	})
	var failed error
	s.reader.kafka.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{s.w.o.Topic: offsets}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, r *kmsg.OffsetCommitResponse, err error) {
		failed = err
		if err != nil {
			return
		}
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					failed = fmt.Errorf("partition %d: %w", p.Partition, err)
				}
			}
		}
	})
	if failed == nil {
		s.w.stats.Commits.Add(1)
	}
	return s.reader.why(failed)
}
