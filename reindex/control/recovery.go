package control

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/indexer/search"
)

// A Recovery is what was noted of the shards of a physical index when they were looked at last: what
// has happened to one of them since, whoever looked then.
type Recovery struct {
	Index, Physical string

	// Shards are how the primary copies came to be, by their numbers, see [search.Client.Recoveries].
	Shards map[int]search.Recovery

	// Async says that what the search server had answered was not yet on its disk.
	Async bool

	// UnansweredAt is when a bulk request had no answer last, zero if none is known to have had none
	// that still counts: a copy of it may arrive late.
	UnansweredAt time.Time

	// NotedAt is when this was so, zero if nothing was noted. As UnansweredAt it is by the clock of the process.
	NotedAt time.Time

	// Open says that the process that noted it has not ended in order since, and so may have left
	// a request without an answer.
	Open bool
}

// forgetting is how long a search server remembers which version a deleted document had: index.gc_deletes
// of our indices.
const forgetting = time.Hour

// Doubt returns why an index may differ from its tables, since its shards are as now says and were as
// was noted; "" if nothing speaks for it. async is whether its durability is so now.
//
// A shard that was recovered from the disk lacks what was answered and not yet written there, where
// the durability is async. And whatever a shard is recovered from, it has forgotten which versions its
// deleted documents had: the late copy of a request that had no answer brings them back.
func (r *Recovery) Doubt(now map[int]search.Recovery, async bool) string {
	var existing, restored, emptied, forgot bool
	for shard, s := range now {
		before, known := r.Shards[shard]
		switch {
		case known && before.Type == s.Type && before.At.Equal(s.At), !known && s.Type == search.RecoveredEmpty:
			continue
		case s.Type == search.RecoveredExisting:
			existing = true
		case s.Type == search.RecoveredSnapshot:
			restored = true
		case s.Type == search.RecoveredEmpty:
			emptied = true
		}
		forgot = true
	}
	switch {
	case emptied:
		return "a shard of it was made anew, and is empty"
	case restored:
		return "it was restored from a snapshot of the cluster"
	case existing && (async || r.Async):
		return "the search server was started again, and has translog.durability async: what it had answered may be gone"
	case forgot && !r.UnansweredAt.IsZero() && !r.NotedAt.After(r.UnansweredAt.Add(forgetting)):
		return "a bulk request had no answer, and then a shard was recovered, which forgets what was deleted: a late copy of it may have brought documents back"
	}
	return ""
}

// Take takes up how the shards are now. One that is not there now is as it was.
func (r *Recovery) Take(now map[int]search.Recovery, async bool) (changed bool) {
	if r.Shards == nil {
		r.Shards = make(map[int]search.Recovery)
	}
	changed = r.Async != async
	r.Async = async
	for shard, s := range now {
		if before, known := r.Shards[shard]; !known || before.Type != s.Type || !before.At.Equal(s.At) {
			r.Shards[shard] = s
			changed = true
		}
	}
	return changed
}

// Recoveries is the table of recoveries.
type Recoveries struct {
	schema *Schema
	table  string
}

// Recoveries returns the recoveries in a control schema.
func (s *Schema) Recoveries() *Recoveries {
	return &Recoveries{schema: s, table: s.table("recoveries")}
}

// setupRecoveries is the step that makes the table. Nothing is known of indices before.
func setupRecoveries(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `CREATE TABLE recoveries (
		physical      text PRIMARY KEY,
		index_name    text NOT NULL,
		shards        text NOT NULL,
		async         boolean NOT NULL,
		unanswered_at timestamptz,
		noted_at      timestamptz NOT NULL,
		open          boolean NOT NULL
	)`)
	return err
}

// storedShards is the form in which shards are stored.
type storedShards struct {
	Version int                 `json:"version"`
	Shards  map[int]storedShard `json:"shards,omitempty"`
}

type storedShard struct {
	Type string `json:"type"`
	At   int64  `json:"at"` // ms since 1970
}

// Read returns what was noted of a physical index of an index. Nothing noted is no error.
func (r *Recoveries) Read(ctx context.Context, index, physical string) (*Recovery, error) {
	noted := &Recovery{Index: index, Physical: physical, Shards: make(map[int]search.Recovery)}
	var text string
	var unanswered sql.NullTime
	err := r.schema.db.QueryRowContext(ctx, `SELECT shards, async, unanswered_at, noted_at, open FROM `+r.table+` WHERE physical = $1 AND index_name = $2`, physical, index).
		Scan(&text, &noted.Async, &unanswered, &noted.NotedAt, &noted.Open)
	if errors.Is(err, sql.ErrNoRows) {
		return noted, nil
	}
	var stored storedShards
	if err == nil {
		err = json.Unmarshal([]byte(text), &stored)
	}
	if err == nil && stored.Version != 1 {
		err = fmt.Errorf("it has version %d, want 1", stored.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("read how the shards of %s were recovered: %w", physical, err)
	}
	noted.UnansweredAt = unanswered.Time
	for shard, s := range stored.Shards {
		noted.Shards[shard] = search.Recovery{Type: search.RecoveryType(s.Type), At: time.UnixMilli(s.At)}
	}
	return noted, nil
}

// Note notes it, in place of what was noted of the physical index before.
func (r *Recoveries) Note(ctx context.Context, noted *Recovery) error {
	stored := storedShards{Version: 1, Shards: make(map[int]storedShard)}
	for shard, s := range noted.Shards {
		stored.Shards[shard] = storedShard{string(s.Type), s.At.UnixMilli()}
	}
	text, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	_, err = r.schema.exec(ctx, `INSERT INTO `+r.table+` (physical, index_name, shards, async, unanswered_at, noted_at, open) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (physical) DO UPDATE SET index_name = excluded.index_name, shards = excluded.shards, async = excluded.async,
			unanswered_at = excluded.unanswered_at, noted_at = excluded.noted_at, open = excluded.open`,
		noted.Physical, noted.Index, string(text), noted.Async, sql.NullTime{Time: noted.UnansweredAt, Valid: !noted.UnansweredAt.IsZero()}, noted.NotedAt, noted.Open)
	if err != nil {
		return fmt.Errorf("note how the shards of %s were recovered: %w", noted.Physical, err)
	}
	return nil
}

// Keep forgets what was noted of the physical indices of an index but for some.
func (r *Recoveries) Keep(ctx context.Context, index string, physical []string) error {
	if _, err := r.schema.exec(ctx, `DELETE FROM `+r.table+` WHERE index_name = $1 AND physical <> ALL ($2)`, index, physical); err != nil {
		return fmt.Errorf("forget how the shards of other indices than %v were recovered: %w", physical, err)
	}
	return nil
}
