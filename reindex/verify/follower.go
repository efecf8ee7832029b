package verify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

const (
	// slotPatience is how long a slot that is followed may stand where it is: while a large
	// transaction is being stored, or the search server does not take anything.
	slotPatience = 15 * time.Minute
	// idlePatience is how long it may be that nobody follows the slot: an instance connects
	// again, or another one takes over.
	idlePatience = 90 * time.Second
)

// A follower waits for what another process stores, by the position of its slot.
type follower struct {
	db       *sql.DB
	slot     string
	requests *control.Requests
	table    string // of watermarks, quoted, with the schema
	marked   bool
	marker   string // our row in it
	hangs    bool   // commits may be in the log for long before others see them
}

func NewFollower(ctx context.Context, db *sql.DB, schema, slot string) (*follower, error) {
	f := &follower{db: db, slot: slot, requests: control.NewRequests(db, schema, slot), marker: "verify " + slot,
		table: catalog.QuoteIdent(schema) + "." + catalog.QuoteIdent(dbsync.DEFAULT_DBSYNC_WM_TABLENAME)}
	var standbys string
	if err := db.QueryRowContext(ctx, `SELECT pg_catalog.current_setting('synchronous_standby_names')`).Scan(&standbys); err != nil {
		return nil, fmt.Errorf("ask for synchronous standbys: %w", err)
	}
	f.hangs = standbys != ""
	return f, nil
}

// close removes what was written.
func (f *follower) close(ctx context.Context) {
	if !f.marked {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	// A row that stays does no harm.
	_, _ = f.db.ExecContext(ctx, `DELETE FROM `+f.table+` WHERE slot = $1`, f.marker)
}

// mark writes something that is published, so that the slot moves when everything before it
// is stored: an idle one moves every ten seconds only. It returns a transaction that is
// newer than any that has begun before.
func (f *follower) mark(ctx context.Context) (xid uint64, err error) {
	err = f.db.QueryRowContext(ctx, `INSERT INTO `+f.table+` (slot, token) VALUES ($1, '') ON CONFLICT (slot) DO UPDATE SET at = pg_catalog.now()
		RETURNING pg_catalog.txid_current()`, f.marker).Scan(&xid)
	if err != nil {
		return 0, fmt.Errorf("write to %s: %w", f.table, err)
	}
	f.marked = true
	return xid, nil
}

// position returns where the slot is, and whether somebody follows it.
func (f *follower) position(ctx context.Context) (at pglogrepl.LSN, active bool, err error) {
	var text sql.NullString
	err = f.db.QueryRowContext(ctx, `SELECT confirmed_flush_lsn::text, active FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, f.slot).Scan(&text, &active)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, fmt.Errorf("there is no replication slot %s; hint: tidemark run", f.slot)
	}
	if err == nil && text.Valid {
		at, err = pglogrepl.ParseLSN(text.String)
	}
	if err != nil {
		return 0, false, fmt.Errorf("ask for the position of slot %s: %w", f.slot, err)
	}
	return at, active, nil
}

// pass waits until everything that is committed now is stored.
func (f *follower) pass(ctx context.Context) error {
	var text string
	if err := f.db.QueryRowContext(ctx, `SELECT pg_catalog.pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		return fmt.Errorf("ask for the end of the log: %w", err)
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return err
	}
	return f.await(ctx, end)
}

// await waits until everything up to a position is stored.
func (f *follower) await(ctx context.Context, end pglogrepl.LSN) error {
	if _, err := f.mark(ctx); err != nil {
		return err
	}
	var last pglogrepl.LSN
	moved, followed := time.Now(), time.Now()
	return retry.Poll(ctx, func() (bool, error) {
		at, active, err := f.position(ctx)
		if err != nil || at >= end {
			return true, err
		}
		now := time.Now()
		if at != last {
			last, moved = at, now
		}
		if active {
			followed = now
		}
		switch {
		case now.Sub(followed) > idlePatience:
			return false, fmt.Errorf("nobody follows slot %s any more, it stands at %s", f.slot, at)
		case now.Sub(moved) > slotPatience:
			return false, fmt.Errorf("slot %s stands at %s since %s; hint: see in the log of the instance that follows it what it waits for", f.slot, at, slotPatience)
		}
		return false, nil
	})
}

// maxRequestKeys is how many rows one request asks for.
const maxRequestKeys = 1000

// requestKey is a key as a request has it.
func requestKey(key [][]byte) []string {
	values := make([]string, len(key))
	for i, v := range key {
		values[i] = string(v)
	}
	return values
}

// Reread asks the instance to store the documents of rows of a source again, by their keys,
// and waits for that. why is what it says of rows that it could not.
func (f *follower) Reread(ctx context.Context, s *mapping.Source, keys [][]string) (why, err error) {
	for len(keys) > 0 {
		n := min(len(keys), maxRequestKeys)
		id, err := f.requests.Add(ctx, &control.Request{Kind: control.KindRefresh, Index: s.Index.Name, Source: control.SourceName(s), Keys: keys[:n]})
		if err != nil {
			return nil, err
		}
		ended, err := f.awaitRequest(ctx, id)
		if err != nil {
			return nil, err
		}
		if ended.Phase != control.PhaseDone {
			why = errors.Join(why, fmt.Errorf("to read %d rows again has %s: %s", n, ended.Phase, ended.Message))
		}
		keys = keys[n:]
	}
	return why, nil
}

// awaitRequest waits until a request has ended, as long as an instance is at it.
func (f *follower) awaitRequest(ctx context.Context, id int64) (*control.Request, error) {
	followed, moved, rows := time.Now(), time.Now(), int64(-1)
	return f.requests.Await(ctx, id, func(q *control.Request) error {
		_, active, err := f.position(ctx)
		now := time.Now()
		if active {
			followed = now
		}
		if q.Rows != rows {
			rows, moved = q.Rows, now
		}
		switch {
		case err != nil:
		case now.Sub(followed) > idlePatience:
			err = fmt.Errorf("nobody follows slot %s any more", f.slot)
		case now.Sub(moved) > slotPatience:
			err = fmt.Errorf("request %d does not come to an end", id)
		}
		return err
	})
}
