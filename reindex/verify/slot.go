package verify

import (
	"cmp"
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
	// slotPatience is how long a slot that an instance follows may stand where it is: while a
	// large transaction is being stored, or the search server does not take anything.
	slotPatience = 15 * time.Minute
	// idlePatience is how long it may be that nobody follows the slot: an instance connects
	// again, or another one takes over.
	idlePatience = 90 * time.Second
)

// A Slot is the replication slot that an instance follows, as others see it, whichever process
// that is: its position says what the instance has stored, and a request has it store more.
type Slot struct {
	db, there  *sql.DB // there leads to the server that has the slot
	name       string
	requests   *control.Requests
	fanOuts    *control.FanOuts
	physical   string // whose documents are looked at; "": none are
	watermarks string // the table, quoted, with the schema
	marker     string // our row in it
	marked     bool   // it may be there

	// Applied, if given, waits until what the instance handed over before the call is in the cluster, where its slot
	// moves before that.
	Applied func(ctx context.Context) error

	// delayed says that there may be synchronous standbys: then a commit may be in the log, and
	// stored, long before others see it.
	delayed bool
}

// SlotOptions says which slot. Everything is required but SlotDB and WatermarkSchema.
type SlotOptions struct {
	DB     *sql.DB // leads to the primary
	SlotDB *sql.DB // leads to the server that has the slot, which may be a standby; nil: DB
	Schema string  // that has the state of the indices which its instance keeps
	Slot   string

	// WatermarkSchema is the schema that has the watermarks of the slot; "": Schema.
	WatermarkSchema string
}

// OpenSlot returns a slot.
func OpenSlot(ctx context.Context, o SlotOptions) (*Slot, error) {
	tables := control.Open(o.DB, o.Schema, o.Slot)
	s := &Slot{db: o.DB, there: cmp.Or(o.SlotDB, o.DB), name: o.Slot, requests: tables.Requests(), fanOuts: tables.FanOuts(), marker: "verify " + o.Slot,
		watermarks: catalog.QuoteIdent(cmp.Or(o.WatermarkSchema, o.Schema)) + "." + catalog.QuoteIdent(dbsync.DEFAULT_DBSYNC_WM_TABLENAME)}
	var standbys string
	if err := o.DB.QueryRowContext(ctx, `SELECT pg_catalog.current_setting('synchronous_standby_names')`).Scan(&standbys); err != nil {
		return nil, fmt.Errorf("ask for synchronous standbys: %w", err)
	}
	s.delayed = standbys != ""
	return s, nil
}

// close removes what was written.
func (s *Slot) close(ctx context.Context) {
	if !s.marked {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	// A row that stays does no harm.
	_, _ = s.db.ExecContext(ctx, `DELETE FROM `+s.watermarks+` WHERE slot = $1`, s.marker)
}

// mark writes something that is published, so that the slot moves when everything before it
// is stored: an idle one moves every ten seconds only. It returns a transaction that is
// newer than any that has begun before.
func (s *Slot) mark(ctx context.Context) (xid uint64, err error) {
	err = s.db.QueryRowContext(ctx, `INSERT INTO `+s.watermarks+` (slot, token) VALUES ($1, '') ON CONFLICT (slot) DO UPDATE SET at = pg_catalog.now()
		RETURNING pg_catalog.txid_current()`, s.marker).Scan(&xid)
	if err != nil {
		return 0, fmt.Errorf("write to %s: %w", s.watermarks, err)
	}
	s.marked = true
	return xid, nil
}

// position returns where the slot is, and reports whether somebody follows it.
func (s *Slot) position(ctx context.Context) (at pglogrepl.LSN, active bool, err error) {
	var text sql.NullString
	err = s.there.QueryRowContext(ctx, `SELECT confirmed_flush_lsn::text, active FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, s.name).Scan(&text, &active)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, fmt.Errorf("there is no replication slot %s; hint: tidemark run", s.name)
	}
	if err == nil && text.Valid {
		at, err = pglogrepl.ParseLSN(text.String)
	}
	if err != nil {
		return 0, false, fmt.Errorf("ask for the position of slot %s: %w", s.name, err)
	}
	return at, active, nil
}

// awaitNow waits until everything that is committed now is stored.
func (s *Slot) awaitNow(ctx context.Context) error {
	var text string
	if err := s.db.QueryRowContext(ctx, `SELECT pg_catalog.pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		return fmt.Errorf("ask for the end of the log: %w", err)
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		return err
	}
	return s.await(ctx, end)
}

// await waits until everything up to a position is stored, also the documents that changes of
// related rows concern and that the stream does not wait for.
func (s *Slot) await(ctx context.Context, end pglogrepl.LSN) error {
	if err := s.awaitPosition(ctx, end); err != nil || s.physical == "" {
		return err
	}
	// What these changes concern is noted before the slot moves past them.
	newest, err := s.fanOuts.Newest(ctx, s.physical)
	if err != nil || newest == 0 {
		return err
	}
	still := newStandstill()
	return retry.Poll(ctx, func() (bool, error) {
		left, progress, err := s.fanOuts.Left(ctx, s.physical, newest)
		if err != nil || left == 0 {
			return true, err
		}
		_, followed, err := s.position(ctx)
		if err != nil {
			return true, err
		}
		switch still.note(progress, followed) {
		case abandoned:
			return false, fmt.Errorf("nobody follows slot %s any more", s.name)
		case stuck:
			return false, fmt.Errorf("the documents of %d related rows that changed are not stored again since %s; hint: see in the log of the instance that follows slot %s what it waits for", left, slotPatience, s.name)
		}
		return false, nil
	})
}

// awaitPosition waits until the slot stands at a position.
func (s *Slot) awaitPosition(ctx context.Context, end pglogrepl.LSN) error {
	if _, err := s.mark(ctx); err != nil {
		return err
	}
	still := newStandstill()
	err := retry.Poll(ctx, func() (bool, error) {
		at, followed, err := s.position(ctx)
		if err != nil || at >= end {
			return true, err
		}
		switch still.note(at.String(), followed) {
		case abandoned:
			return false, fmt.Errorf("nobody follows slot %s any more, it stands at %s", s.name, at)
		case stuck:
			return false, fmt.Errorf("slot %s stands at %s since %s; hint: see in the log of the instance that follows it what it waits for", s.name, at, slotPatience)
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	return s.awaitApplied(ctx)
}

// awaitApplied waits until what the slot has passed is in the cluster.
func (s *Slot) awaitApplied(ctx context.Context) error {
	if s.Applied == nil {
		return nil
	}
	return s.Applied(ctx)
}

// A standstill finds out that waiting is of no use any more.
type standstill struct {
	last            string    // how far it was
	moved, followed time.Time // when it last did, or was
}

// A verdict is what a standstill says.
type verdict int

const (
	waitOn    verdict = iota
	abandoned         // nobody has followed the slot for idlePatience
	stuck             // it has not moved for slotPatience
)

func newStandstill() *standstill {
	now := time.Now()
	return &standstill{moved: now, followed: now}
}

// note takes down how far it is, and whether somebody follows the slot.
func (s *standstill) note(progress string, followed bool) verdict {
	now := time.Now()
	if progress != s.last {
		s.last, s.moved = progress, now
	}
	if followed {
		s.followed = now
	}
	switch {
	case now.Sub(s.followed) > idlePatience:
		return abandoned
	case now.Sub(s.moved) > slotPatience:
		return stuck
	}
	return waitOn
}

// A BehindError says where a slot was when it was not waited for any longer.
type BehindError struct {
	Slot       string
	At, Wanted pglogrepl.LSN
	Followed   bool // an instance follows it
}

func (e *BehindError) Error() string {
	if !e.Followed {
		return fmt.Sprintf("slot %s is at %s, %d bytes before %s, and no instance follows it; hint: tidemark run", e.Slot, e.At, e.Wanted-e.At, e.Wanted)
	}
	return fmt.Sprintf("slot %s is at %s, %d bytes before %s; hint: tidemark status says what its instance is at", e.Slot, e.At, e.Wanted-e.At, e.Wanted)
}

// Await waits until everything that was committed before a position is stored, for as long as ctx lasts; its error
// is a [*BehindError] then. What related rows concern so much that the stream does not wait for it is not waited for.
// The position is one that the log has come to.
func (s *Slot) Await(ctx context.Context, end pglogrepl.LSN) error {
	defer s.close(ctx)
	behind := &BehindError{Slot: s.name, Wanted: end}
	var err error
	if behind.At, behind.Followed, err = s.position(ctx); err != nil {
		return err
	}
	if behind.At >= end {
		return s.awaitApplied(ctx)
	}
	// The slot moves by what is published, and by what is not only now and then.
	if _, err := s.mark(ctx); err != nil {
		return err
	}
	err = retry.Poll(ctx, func() (bool, error) {
		at, followed, err := s.position(ctx)
		if err == nil {
			behind.At, behind.Followed = at, followed
		}
		return at >= end, err
	})
	if err != nil && ctx.Err() != nil {
		return behind
	}
	if err != nil {
		return err
	}
	return s.awaitApplied(ctx)
}

// maxRequestKeys is how many rows one request asks for.
const maxRequestKeys = 1000

// Reread asks the instance to store the documents of rows of a source again, by their keys,
// and waits until it has. why is what the instance says of rows that it could not; with err
// nothing is known of them.
func (s *Slot) Reread(ctx context.Context, source *mapping.Source, keys [][]string) (why, err error) {
	for len(keys) > 0 {
		n := min(len(keys), maxRequestKeys)
		id, err := s.requests.Add(ctx, &control.Request{Kind: control.KindRefresh, Index: source.Index.Name, Source: control.SourceName(source), Keys: keys[:n]})
		if err != nil {
			return nil, err
		}
		ended, err := s.awaitRequest(ctx, id)
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

// ErrBusy reports that the instance does not come to what it is asked for: other indices are filled
// first.
var ErrBusy = errors.New("the instance has not come to it yet; hint: tidemark status says what it is at")

// awaitRequest waits until a request has ended, as long as an instance is at it.
func (s *Slot) awaitRequest(ctx context.Context, id int64) (*control.Request, error) {
	moved, active, rows := time.Now(), time.Now(), int64(-1)
	return s.requests.Await(ctx, id, func(q *control.Request) error {
		_, isActive, err := s.position(ctx)
		now := time.Now()
		if isActive {
			active = now
		}
		if q.Rows != rows {
			rows, moved = q.Rows, now
		}
		switch {
		case err != nil:
		case now.Sub(active) > idlePatience:
			err = fmt.Errorf("nobody follows slot %s any more", s.name)
		case now.Sub(moved) > slotPatience && q.Phase == control.PhaseWaiting:
			err = fmt.Errorf("request %d: %w", id, ErrBusy)
		case now.Sub(moved) > slotPatience:
			err = fmt.Errorf("request %d does not come to an end", id)
		}
		return err
	})
}
