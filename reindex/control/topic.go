package control

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"tidemark/indexer/retry"
	"tidemark/indexer/topic"
)

// A Topic is what is noted of the topics that operations of a slot go through, on their way to the
// workers that write them.
type Topic struct {
	Name string // of the topic of operations; "": they go to the cluster
	topic.State

	// Reports is the offset of the report that is to be taken up next.
	Reports int64

	// Lost is why operations are known to be lost that were produced, "" if none are.
	Lost string
}

// A TopicLostError reports that operations were lost on their way: what the slot has passed is not
// in the indices, as after the loss of the slot.
type TopicLostError struct{ Topic, Reason string }

func (e *TopicLostError) Error() string {
	return fmt.Sprintf("topic %s: %s: operations that were produced may not have been applied", e.Topic, e.Reason)
}

// Permanent marks it for dbsync.IsPermanent.
func (e *TopicLostError) Permanent() bool { return true }

// Check returns a [*TopicLostError] if operations were lost of what was noted, as the topics are now.
func (t *Topic) Check(now topic.State) error {
	lost := func(format string, args ...any) error {
		return &TopicLostError{Topic: t.Name, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case t.Lost != "":
		return lost("%s", t.Lost)
	case now == topic.State{}:
		return lost("it is gone, or that of reports is")
	case now.ID != t.ID:
		return lost("it was deleted and made anew")
	case now.ReportsID != t.ReportsID:
		return lost("the topic of reports was deleted and made anew")
	case now.Partitions != t.Partitions:
		// Documents are in another partition from here on, and nothing says which of both is read first.
		return lost("it has %d partitions, and had %d", now.Partitions, t.Partitions)
	}
	return nil
}

// Topics is the table of topics: one row for each slot whose operations go through some.
type Topics struct {
	schema *Schema
	table  string
}

// Topics returns the topics in a control schema.
func (s *Schema) Topics() *Topics { return &Topics{schema: s, table: s.table("topics")} }

// setupTopics is step 9.
func setupTopics(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `CREATE TABLE topics (
		slot       text PRIMARY KEY,
		name       text NOT NULL,
		topic_id   text NOT NULL,
		reports_id text NOT NULL,
		partitions integer NOT NULL,
		reports    bigint NOT NULL,
		lost       text NOT NULL DEFAULT '',
		noted_at   timestamptz NOT NULL DEFAULT now()
	)`)
	return err
}

// Read returns what is noted of the slot's topics; the zero value if its operations go to the cluster.
func (t *Topics) Read(ctx context.Context) (Topic, error) {
	var noted Topic
	err := t.schema.db.QueryRowContext(ctx, `SELECT name, topic_id, reports_id, partitions, reports, lost FROM `+t.table+` WHERE slot = $1`, t.schema.slot).
		Scan(&noted.Name, &noted.ID, &noted.ReportsID, &noted.Partitions, &noted.Reports, &noted.Lost)
	if errors.Is(err, sql.ErrNoRows) {
		return Topic{}, nil
	}
	if err != nil {
		return Topic{}, fmt.Errorf("read what is noted of the topics of slot %s: %w", t.schema.slot, err)
	}
	return noted, nil
}

// Note notes by which topics operations go from now on; the zero value: by none. It is called before the
// first one is produced.
func (t *Topics) Note(ctx context.Context, now Topic) error {
	if err := t.schema.note(ctx, func(tx pgx.Tx) error { return t.set(ctx, tx, now) }); err != nil {
		return fmt.Errorf("note the topics of slot %s: %w", t.schema.slot, err)
	}
	return nil
}

// Restart notes, after a loss, by which topics operations go from now on, and that every index of the slot
// misses changes, so that each is made anew: both or none. slotGeneration is that of the slot.
func (t *Topics) Restart(ctx context.Context, now Topic, slotGeneration string) error {
	now.Lost = ""
	err := t.schema.note(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE `+t.schema.table("indices")+` SET live_generation = '', building_generation = ''
			WHERE $1 IN (pg_catalog.split_part(live_generation, '/', 1), pg_catalog.split_part(building_generation, '/', 1))`, slotGeneration); err != nil {
			return err
		}
		return t.set(ctx, tx, now)
	})
	if err != nil {
		return fmt.Errorf("note that operations of slot %s were lost: %w", t.schema.slot, err)
	}
	return nil
}

func (t *Topics) set(ctx context.Context, tx pgx.Tx, now Topic) error {
	if now.Name == "" {
		_, err := tx.Exec(ctx, `DELETE FROM `+t.table+` WHERE slot = $1`, t.schema.slot)
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO `+t.table+` (slot, name, topic_id, reports_id, partitions, reports, lost) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (slot) DO UPDATE SET name = excluded.name, topic_id = excluded.topic_id, reports_id = excluded.reports_id, partitions = excluded.partitions,
			reports = excluded.reports, lost = excluded.lost, noted_at = now()`,
		t.schema.slot, now.Name, now.ID, now.ReportsID, now.Partitions, now.Reports, now.Lost)
	return err
}

// Take notes that the reports before next were taken up, and, if lost is not "", that operations are
// lost.
func (t *Topics) Take(ctx context.Context, next int64, lost string) error {
	_, err := t.schema.exec(ctx, `UPDATE `+t.table+` SET reports = $2, lost = CASE WHEN lost = '' THEN $3 ELSE lost END WHERE slot = $1`, t.schema.slot, next, lost)
	if err != nil {
		return fmt.Errorf("note which reports of workers were taken up: %w", err)
	}
	return nil
}

// AwaitApplied waits until everything that was produced before the call is in the cluster, and what workers
// had to say of it has been taken up: documents that were refused are dead letters then.
func (t *Topics) AwaitApplied(ctx context.Context, client *topic.Client) error {
	if err := client.AwaitApplied(ctx); err != nil {
		return err
	}
	end, err := client.ReportsEnd(ctx)
	if err != nil {
		return err
	}
	return retry.Poll(ctx, func() (bool, error) {
		noted, err := t.Read(ctx)
		return noted.Reports >= end || noted.Name == "", err
	})
}
