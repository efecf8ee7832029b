package service

import (
	"fmt"
	"sync/atomic"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/internal/admin"
	"tidemark/internal/version"
)

// Status returns the admin server what the instance is doing. It answers from memory.
func (s *Service) Status() admin.Status {
	stream := s.syncer.Status()
	status := admin.Status{
		Version:   version.String(),
		Product:   s.found.Client.Product().String(),
		Slot:      s.config.Postgres.Slot,
		Connected: stream.Connected, Confirmed: stream.Position, WALEnd: stream.WALEnd, NewestCommit: stream.NewestCommit,
		QueueMessages: int64(stream.Messages), QueueBytes: int64(stream.Bytes), Changes: stream.Changes, Batches: stream.Batches,
	}
	status.Behind = stream.Lag
	if wal := stream.SlotWAL; wal != nil {
		status.WAL = admin.WAL{At: wal.At, Kept: wal.Kept, Left: -1, Status: wal.Status}
		if wal.Left != nil {
			status.WAL.Left = max(0, *wal.Left)
		}
	}
	if failure := s.failure.Load(); failure != nil {
		status.Failure = dbsync.WithoutValues(*failure)
	}
	status.Hang = s.hang()
	status.ReadyWhileUnproven = s.config.Verify.ReadyWhileUnproven
	for _, ix := range s.config.Indices {
		status.Indices = append(status.Indices, s.indexStatus(ix.Name))
	}
	reasons := s.alarm.Reasons()
	if s.found.Kafka != nil {
		reasons = append(reasons, s.found.Kafka.Alarm.Reasons()...)
	}
	for _, r := range reasons {
		status.Alarms = append(status.Alarms, admin.Alarm{Key: r.Key, Text: r.Text, Since: r.Since})
	}
	if wait := stream.LockWait; wait != nil {
		status.Alarms = append(status.Alarms, admin.Alarm{Key: "wait for a lock", Text: wait.Text, Since: wait.Since})
	}
	if wait := stream.StandbyWait; wait != nil {
		status.Alarms = append(status.Alarms, admin.Alarm{Key: "wait for standbys", Text: wait.Text, Since: wait.Since})
	}
	for _, trouble := range stream.Troubles {
		status.Alarms = append(status.Alarms, admin.Alarm{Key: trouble.What, Text: fmt.Sprintf("failed %d times in a row: %s", trouble.Times, trouble.Err), Since: trouble.Since})
	}
	status.Letters = s.census.letters()
	status.Bulk = admin.NewBulk(s.bulk.Stats(), s.bulk.Pace())
	for _, d := range s.all() {
		if d.capture != nil {
			status.Topics = append(status.Topics, d.topicStatus())
		}
	}
	status.Measures = s.measures
	return status
}

// topicStatus returns what is known of the topic that operations of a destination go through.
func (d *destination) topicStatus() admin.Topic {
	c, stats := d.capture, d.capture.producer.Stats()
	t := admin.Topic{Name: d.config.Kafka.Topic, Group: d.config.Kafka.Group, Cluster: d.name, Produced: stats.Records.Load(), Bytes: stats.Bytes.Load(), Lag: -1}
	if d.name != "" {
		for _, r := range d.alarm.Reasons() {
			t.Problems = append(t.Problems, r.Key+": "+r.Text)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.askedAt.IsZero() {
		t.Lag, t.Workers = c.lag.Records, c.lag.Members
	}
	return t
}

func (s *Service) indexStatus(name string) admin.Index {
	status := admin.Index{Name: name, State: admin.Backfilling, RowsExpected: -1, Documents: -1, Rows: -1}
	st := s.manager.State(name)
	if st == nil {
		return status // the slot is another instance's
	}
	status.RowsDone, status.RowsExpected, status.Building = st.Done, st.Total, st.Building.Physical
	if st.Building.Physical != "" {
		status.RowsPerSecond = s.o.Display.RowsPerSecond(name)
	}
	status.Changes, status.Filled = s.manager.Written(name)
	status.Documents, status.Rows = s.census.documents(st.Live.Physical), s.census.rowsOf(name)
	status.Physical, status.FanOut = st.Live.Physical, s.manager.FanOut(name)
	if st.Live.Physical != "" {
		proof := s.manager.Proof(name)
		status.Proof = admin.Proof{Proof: proof.Proof, FilledAt: st.FinishedAt, Found: proof.Found, Repaired: proof.Repaired}
	}
	switch {
	case s.manager.Incomplete(name):
		status.State = admin.Incomplete
	case st.Building.Physical == "":
		status.State = admin.Live
	case st.Live.Physical != "":
		status.State = admin.Rebuilding
	}
	for _, physical := range []string{st.Live.Physical, st.Building.Physical} {
		if physical != "" {
			status.DeadLetters += s.census.lettersOf(search.WriteAlias(name, physical))
		}
	}
	return status
}

// counters are what Status reads besides the parts' own.
type counters struct {
	failure atomic.Pointer[error] // why the instance is about to end
	census  census
	retries chan *letterRetry // asked for and not begun
}
