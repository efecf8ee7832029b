package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// A Kind says what a request asks for.
type Kind string

const (
	KindReindex Kind = "reindex" // rebuild the index beside the one in use
	KindRefresh Kind = "refresh" // store the documents of some rows again, in the index in use
	KindCancel  Kind = "cancel"  // give up the rebuild under way
)

// A Phase is how far a request is.
type Phase string

const (
	PhaseWaiting   Phase = "waiting"
	PhaseRunning   Phase = "running"
	PhaseDone      Phase = "done"
	PhaseFailed    Phase = "failed"
	PhaseCancelled Phase = "cancelled"
)

// A Request is what somebody asks of the instance that follows a slot.
type Request struct {
	ID    int64
	Kind  Kind
	Index string

	// A refresh is of the rows for which Condition holds, SQL over the columns of the root table,
	// or of those with these Keys, each the text of the key's columns, or of all rows. Source says
	// of which table: its name stands for all sources of that table, a [SourceName] for one of
	// them, and "" for the first source of the index.
	Condition string
	Keys      [][]string
	Source    string

	Phase      Phase
	Message    string // why it failed
	Rows       int64  // that were stored so far
	CreatedAt  time.Time
	FinishedAt time.Time // zero: not yet
}

// SourceName names one source in a request: its table, a blank, and what its ids begin with.
func SourceName(s *mapping.Source) string { return s.Table.String() + " " + s.Prefix() }

// Of returns the sources of an index that the request is about.
func (r *Request) Of(ix *mapping.Index) []*mapping.Source {
	if r.Source == "" {
		return ix.Sources[:1]
	}
	var found []*mapping.Source
	for _, s := range ix.Sources {
		if r.Source == s.Table.String() || r.Source == SourceName(s) {
			found = append(found, s)
		}
	}
	return found
}

// Ended reports whether nothing more becomes of the request.
func (r *Request) Ended() bool { return r.Phase != PhaseWaiting && r.Phase != PhaseRunning }

// Requests is the table of requests. Who asks and who is asked are different processes: the table
// keeps what was asked for, and a notification has the instance look at once.
type Requests struct {
	schema *Schema
	slot   string
	table  string
}

// Requests returns the requests to the instance that follows the slot.
func (s *Schema) Requests() *Requests {
	return &Requests{schema: s, slot: s.slot, table: s.table("requests")}
}

// channel is what a new request is notified on. A slot may have a name that is too long for
// a channel's.
func (r *Requests) channel() string {
	sum := sha256.Sum256([]byte(r.slot))
	return "tidemark_" + hex.EncodeToString(sum[:8])
}

// keptRequests is how many requests that have ended are kept for people to look at.
const keptRequests = 1000

// Add makes a request and notifies the instance. It returns the request's number.
func (r *Requests) Add(ctx context.Context, q *Request) (id int64, err error) {
	err = r.schema.note(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO `+r.table+` (slot, kind, index_name, source, condition, keys) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
			r.slot, string(q.Kind), q.Index, q.Source, q.Condition, q.Keys).Scan(&id)
		if err == nil {
			_, err = tx.Exec(ctx, `DELETE FROM `+r.table+` WHERE slot = $1 AND finished_at IS NOT NULL AND id <= $2`, r.slot, id-keptRequests)
		}
		if err == nil {
			_, err = tx.Exec(ctx, `SELECT pg_catalog.pg_notify($1, '')`, r.channel())
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ask for %s of %s: %w", q.Kind, q.Index, err)
	}
	return id, nil
}

// Await waits until a request has ended, and returns it. Until then it calls meanwhile again and
// again; an error of that ends the waiting.
func (r *Requests) Await(ctx context.Context, id int64, meanwhile func(*Request) error) (q *Request, err error) {
	err = retry.Poll(ctx, func() (bool, error) {
		if q, err = r.Get(ctx, id); err != nil {
			return false, err
		}
		if q == nil {
			return false, fmt.Errorf("request %d is gone", id)
		}
		if q.Ended() {
			return true, nil
		}
		return false, meanwhile(q)
	})
	return q, err
}

const requestColumns = `id, kind, index_name, source, condition, keys, phase, message, rows_done, created_at, finished_at`

// Get returns a request, nil if there is none of this number.
func (r *Requests) Get(ctx context.Context, id int64) (*Request, error) {
	found, err := r.list(ctx, `id = $2`, id)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// Open returns the requests that have not ended, in the order in which they were made.
func (r *Requests) Open(ctx context.Context) ([]*Request, error) {
	return r.list(ctx, `phase IN ('waiting', 'running')`)
}

// Recent returns the last requests, the newest first.
func (r *Requests) Recent(ctx context.Context, n int) ([]*Request, error) {
	found, err := r.list(ctx, `id IN (SELECT id FROM `+r.table+` WHERE slot = $1 ORDER BY id DESC LIMIT $2)`, n)
	slices.Reverse(found)
	return found, err
}

func (r *Requests) list(ctx context.Context, where string, args ...any) (found []*Request, err error) {
	err = dbsync.WithConn(ctx, r.schema.db, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT `+requestColumns+` FROM `+r.table+` WHERE slot = $1 AND `+where+` ORDER BY id`, append([]any{r.slot}, args...)...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Request, error) {
			q := new(Request)
			var finished *time.Time
			err := row.Scan(&q.ID, &q.Kind, &q.Index, &q.Source, &q.Condition, &q.Keys, &q.Phase, &q.Message, &q.Rows, &q.CreatedAt, &finished)
			if finished != nil {
				q.FinishedAt = *finished
			}
			return q, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the requests in %s: %w", r.table, err)
	}
	return found, nil
}

// Begin notes that a request is being worked on. open is false if it has ended, as it was
// cancelled.
func (r *Requests) Begin(ctx context.Context, id int64) (open bool, err error) {
	return r.note(ctx, id, `phase = 'running', rows_done = 0`)
}

// Advance notes how many rows are stored.
func (r *Requests) Advance(ctx context.Context, id, rows int64) error {
	_, err := r.note(ctx, id, `rows_done = $2`, rows)
	return err
}

// CancelWaiting notes that a request is cancelled which nobody has begun to work on, and reports
// whether it was one. It can be repeated when its answer was lost.
func (r *Requests) CancelWaiting(ctx context.Context, id int64) (waited bool, err error) {
	n, err := r.schema.exec(ctx, `UPDATE `+r.table+` SET phase = $2, finished_at = pg_catalog.now() WHERE id = $1 AND phase IN ($2, $3)`, id, string(PhaseCancelled), string(PhaseWaiting))
	if err != nil {
		return false, fmt.Errorf("cancel request %d: %w", id, err)
	}
	return n > 0, nil
}

// End notes what became of a request.
func (r *Requests) End(ctx context.Context, id int64, phase Phase, message string) error {
	_, err := r.note(ctx, id, `phase = $2, message = $3, finished_at = pg_catalog.now()`, string(phase), message)
	return err
}

// note changes a request if it has not ended, and reports whether it had not.
func (r *Requests) note(ctx context.Context, id int64, set string, args ...any) (open bool, err error) {
	n, err := r.schema.exec(ctx, `UPDATE `+r.table+` SET `+set+` WHERE id = $1 AND finished_at IS NULL`, append([]any{id}, args...)...)
	if err != nil {
		return false, fmt.Errorf("note the state of request %d: %w", id, err)
	}
	return n > 0, nil
}

// listenInterval is how often Listen looks for requests of which no notification came: it may
// have been lost with its connection.
const listenInterval = 10 * time.Second

// Listen calls found when there may be new requests, and at once, until ctx is done. While
// the database does not answer it tries again.
func (r *Requests) Listen(ctx context.Context, alarm *retry.Alarm, found func()) error {
	for ctx.Err() == nil {
		err := retry.Do(ctx, alarm, "listen for requests", func(ctx context.Context) error {
			return dbsync.WithConn(ctx, r.schema.db, func(conn *pgx.Conn) error { return r.wait(ctx, conn, found) })
		})
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// wait waits for a notification, for listenInterval at most.
func (r *Requests) wait(ctx context.Context, conn *pgx.Conn, found func()) error {
	if _, err := conn.Exec(ctx, `LISTEN `+catalog.QuoteIdent(r.channel())); err != nil {
		return err
	}
	found() // what came before is looked for, what comes now is notified
	wait, cancel := context.WithTimeout(ctx, listenInterval)
	defer cancel()
	if _, err := conn.WaitForNotification(wait); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err := conn.Exec(ctx, `UNLISTEN *`)
	return err
}
