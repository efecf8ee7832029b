package control

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/mapping/catalog"
)

// A Schema is a control schema, as one process works with it. What its tables are to say changes by
// one process at a time, the one that follows the slot; see [Schema.BeginEpoch].
type Schema struct {
	db         *sql.DB
	name, slot string
	epoch      atomic.Int64 // of this process; 0: it has begun none
}

// Open returns a control schema for the indices that a slot keeps. It asks nothing of the database.
func Open(db *sql.DB, name, slot string) *Schema { return &Schema{db: db, name: name, slot: slot} }

// Name returns the name of the schema.
func (s *Schema) Name() string { return s.name }

// Slot returns the name of the slot.
func (s *Schema) Slot() string { return s.slot }

// table returns the name of a table, quoted, with the schema.
func (s *Schema) table(name string) string {
	return catalog.QuoteIdent(s.name) + "." + catalog.QuoteIdent(name)
}

// setupEpochs is step 8. No slot has had an epoch before.
func setupEpochs(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `CREATE TABLE epochs (
		slot     text PRIMARY KEY,
		epoch    bigint NOT NULL,
		begun_at timestamptz NOT NULL DEFAULT now()
	)`)
	return err
}

// BeginEpoch begins the time in which this process, and no other, notes things. It is called when
// the slot is its own, before anything is read that it goes on with: from then on nothing lands that
// an earlier process notes, which may have been stopped for any time, and what is read here stays.
// Without that its note would be one that nobody acts on: an index that is to be compared, say, and
// is no concern of the one that follows the slot, which has read before that it is equal.
//
// It is called again when the slot was lost and has been had again: if another process has followed
// it in between, its error is a [*TakenOverError]. Who has begun none, as a command that looks at the
// state, asks for something or drops dead letters, notes without it.
//
// This is the fencing token of Kleppmann, How to do distributed locking (2016), with the resource
// that is to be kept from old holders in the same database as the token, so that one transaction
// has both.
func (s *Schema) BeginEpoch(ctx context.Context) error {
	if ours := s.epoch.Load(); ours != 0 {
		var now int64
		err := s.db.QueryRowContext(ctx, `SELECT epoch FROM `+s.table("epochs")+` WHERE slot = $1`, s.slot).Scan(&now)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("read the epoch of slot %s: %w", s.slot, err)
		}
		if now != ours {
			return &TakenOverError{Slot: s.slot}
		}
		return nil
	}
	// It waits for what an earlier process is just noting, for notePatience at the most. An answer
	// that is lost costs a number.
	var ours int64
	err := s.db.QueryRowContext(ctx, `INSERT INTO `+s.table("epochs")+` AS e (slot, epoch) VALUES ($1, 1)
		ON CONFLICT (slot) DO UPDATE SET epoch = e.epoch + 1, begun_at = now() RETURNING epoch`, s.slot).Scan(&ours)
	if err != nil {
		return fmt.Errorf("begin an epoch of slot %s: %w", s.slot, err)
	}
	s.epoch.Store(ours)
	return nil
}

// notePatience is how long Postgres waits for the next statement of a note, in its own words. A
// process that is stopped in the middle of one would hold up who takes over for as long as it is.
const notePatience = "10s"

// note calls do in a transaction that counts only if no other process has begun an epoch; else it
// changes nothing, and its error is a [*TakenOverError]. Its commit waits for the disk of this server
// and for no standby: one that hangs must not stop what is ours.
func (s *Schema) note(ctx context.Context, do func(tx pgx.Tx) error) error {
	defer dbsync.AtServer(ctx)()
	return dbsync.WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SET LOCAL synchronous_commit = local; SET LOCAL idle_in_transaction_session_timeout = '`+notePatience+`'`); err != nil {
				return err
			}
			if ours := s.epoch.Load(); ours != 0 {
				// The lock is held until the commit: who begins an epoch waits for it, and sees what is noted.
				held, err := tx.Exec(ctx, `SELECT FROM `+s.table("epochs")+` WHERE slot = $1 AND epoch = $2 FOR SHARE`, s.slot, ours)
				if err != nil {
					return err
				}
				if held.RowsAffected() == 0 {
					return &TakenOverError{Slot: s.slot}
				}
			}
			return do(tx)
		})
	})
}

// exec notes by one statement, and returns how many rows it has changed.
func (s *Schema) exec(ctx context.Context, statement string, args ...any) (n int64, err error) {
	err = s.note(ctx, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, statement, args...)
		n = done.RowsAffected()
		return err
	})
	return n, err
}

// query notes by one statement that returns a row, and has it scanned. Its error is [pgx.ErrNoRows]
// where there is none.
func (s *Schema) query(ctx context.Context, scan func(row pgx.Row) error, statement string, args ...any) error {
	return s.note(ctx, func(tx pgx.Tx) error { return scan(tx.QueryRow(ctx, statement, args...)) })
}

// A TakenOverError reports that another process has followed the slot, or works on an index: what
// this one has noted of it does not hold any more.
type TakenOverError struct {
	Slot            string // "": an index
	Index, Building string
}

func (e *TakenOverError) Error() string {
	switch {
	case e.Slot != "":
		return fmt.Sprintf("another process has followed slot %s meanwhile", e.Slot)
	case e.Building == "":
		return fmt.Sprintf("index %s: the control schema does not say of it any more what this process has noted, another process has taken over", e.Index)
	}
	return fmt.Sprintf("index %s: %s is not this process's any more, another one has taken over", e.Index, e.Building)
}

// Permanent marks it for dbsync.IsPermanent.
func (e *TakenOverError) Permanent() bool { return true }
