package reindex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// partitionInterval is how often partitions are looked at.
//
// The stream of a partitioned table has what is done to its rows, and to all of them by
// TRUNCATE. It has nothing of partitions that are attached, detached, dropped or truncated by
// themselves (https://www.postgresql.org/docs/current/sql-createpublication.html,
// publish_via_partition_root), and nothing else tells of them. So the catalog is asked.
const partitionInterval = 30 * time.Second

// maxPartitionFailures bounds how much longer than the interval is waited after an error:
// twice as long each time, half an hour at most.
const maxPartitionFailures = 6

// watchPartitions looks at the partitions of all tables again and again, and changes the indices
// as the partitions have changed, until ctx is done.
func (m *Manager) watchPartitions(ctx context.Context) error {
	interval := cmp.Or(m.o.PartitionInterval, partitionInterval)
	for failures := 0; ; {
		changed, unchanged, failed := false, true, false // one of the indices; all of them; one of them
		for _, x := range m.indices {
			outcome, err := m.applyPartitions(ctx, x)
			if err != nil && ctx.Err() == nil {
				// What is noted is as it was, so it comes again.
				m.o.Logger.Warn("an index is not as the partitions of its tables are yet, trying again", "index", x.Name, "error", err)
				failed = true
			}
			changed = changed || outcome == partitionsApplied
			unchanged = unchanged && outcome == partitionsUnchanged
		}
		if unchanged {
			m.partitionsSeen.Store(true)
			m.serveWake.raise()
		}
		pause, wake := interval, m.partitionWake
		if changed {
			pause = 0 // something may have happened meanwhile
		}
		if !failed {
			failures = 0
		} else {
			failures = min(failures+1, maxPartitionFailures)
			pause, wake = interval<<failures, nil // a request of the next attempt wakes, too, and is no reason for another one
		}
		select {
		case <-time.After(pause):
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// partitionOutcome is what came of a look at the partitions of an index's tables.
type partitionOutcome int

const (
	partitionsUnknown   partitionOutcome = iota // the index was not looked at, since it is being built, or an error came
	partitionsUnchanged                         // they are those that are noted with the index
	partitionsApplied                           // they had changed; the index is as they were when they were looked at
)

// applyPartitions looks at the partitions of an index's tables, changes the documents of the
// index in use as they have changed since they were noted, and notes them. A crash in the middle
// costs that it is done again.
func (m *Manager) applyPartitions(ctx context.Context, x *index) (partitionOutcome, error) {
	tables := m.o.Catalog.Tables()
	parted := partitioned(x.Index, tables)
	if len(parted) == 0 {
		return partitionsUnchanged, nil
	}
	st := x.state()
	if !x.isRunDone() || st.Building.Physical != "" {
		return partitionsUnknown, nil // what is being built has the partitions that it began with noted
	}
	now, err := readPartitions(ctx, m.o.Syncer.DB(), x.Index, tables)
	if err != nil {
		return partitionsUnknown, err
	}
	text, err := now.Encode()
	if err != nil {
		return partitionsUnknown, err
	}
	if text == st.Live.Partitions {
		return partitionsUnchanged, nil
	}
	before, err := control.DecodePartitions(st.Live.Partitions)
	if err != nil {
		return partitionsUnknown, err
	}
	rowsGone := before.Unlisted
	for _, t := range parted {
		name := t.TableName().String()
		changes := changesOf(before.Leaves[name], now.Leaves[name])
		rowsGone = rowsGone || changes.gone
		if err := m.applyLeaves(ctx, x, t, changes); errors.Is(err, errRebuilt) {
			return partitionsApplied, nil // the new index has its own noted
		} else if err != nil {
			return partitionsUnknown, fmt.Errorf("partitions of %s: %w", name, err)
		}
	}
	if rowsGone {
		if err := m.removeRowless(ctx, x, tables); err != nil {
			return partitionsUnknown, err
		}
	}
	return m.notePartitions(ctx, x, &st, text)
}

// notePartitions notes that the index which is in use by st is as these partitions are. If
// another one is in use by now, nothing is noted: that one has its own.
func (m *Manager) notePartitions(ctx context.Context, x *index, st *control.State, now string) (partitionOutcome, error) {
	st.Live.Partitions = now
	if err := m.o.States.NotePartitions(ctx, st); err != nil {
		if _, taken := errors.AsType[*control.TakenOverError](err); taken {
			return partitionsApplied, nil
		}
		return partitionsUnknown, err
	}
	x.setPartitions(st.Live.Physical, now)
	return partitionsApplied, nil
}

// errRebuilt says that the index was rebuilt.
var errRebuilt = errors.New("the index was rebuilt")

// applyLeaves has rows that came with leaves of one table read. Documents whose rows are gone are
// not its business. Where rows of the table are inside of other documents, nothing tells in which,
// and it has the index rebuilt: errRebuilt.
func (m *Manager) applyLeaves(ctx context.Context, x *index, table *catalog.Table, changes leafChanges) error {
	if len(changes.attached) > 0 && m.o.Attached != nil {
		now, err := catalog.LoadTable(ctx, m.o.Syncer.DB(), table.Schema, table.Name)
		if err != nil {
			return err
		}
		m.o.Attached(now)
	}
	var conditions []string // that hold for the rows of leaves which brought some
	for _, leaf := range changes.attached {
		condition, err := readAttached(ctx, m.o.Syncer.DB(), table, leaf)
		if err != nil {
			return err
		}
		if condition != "" {
			conditions = append(conditions, condition)
		}
	}
	if !changes.gone && len(conditions) == 0 {
		return nil
	}
	m.o.Logger.Info("partitions came or went", "index", x.Name, "table", table.TableName().String(), "attached", len(conditions), "gone", changes.gone)
	if isIncluded(x.Index, table.TableName()) {
		if err := m.ask(ctx, &control.Request{Kind: control.KindReindex, Index: x.Name}); err != nil {
			return err
		}
		return errRebuilt
	}
	for _, condition := range conditions {
		if err := m.ask(ctx, &control.Request{Kind: control.KindRefresh, Index: x.Name, Source: table.TableName().String(), Condition: condition}); err != nil {
			return err
		}
	}
	return nil
}

// removeRowless lists the documents of an index and removes those that have no row.
func (m *Manager) removeRowless(ctx context.Context, x *index, tables catalog.Tables) error {
	// A refresh that read the rows before they were gone must not store them afterwards.
	open, err := m.o.Requests.Open(ctx)
	if err != nil {
		return err
	}
	for _, q := range open {
		if q.Index != x.Name {
			continue
		}
		if _, err := m.awaitRequest(ctx, q.ID); err != nil {
			return err
		}
	}
	v, err := verify.Run(ctx, x.Index, verify.Options{
		DB: m.o.Syncer.DB(), Client: m.o.Client, Schema: m.o.Schema, Slot: m.o.Slot, Tables: tables, Logger: m.o.Logger,
		Listed: true, Repair: true, Progress: verify.NoProgress{}, Found: func(verify.Difference) error { return nil },
	})
	if err != nil {
		return err
	}
	m.o.Logger.Info("documents whose rows went with a partition are removed", "index", x.Name, "documents", v.Repaired, "looked_at", v.Documents)
	if n := v.Differences() + v.Undecided; n > 0 {
		return fmt.Errorf("%d documents without a row could not be removed, or are being written", n)
	}
	return nil
}
