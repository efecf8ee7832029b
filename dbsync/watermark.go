package dbsync

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pglogrepl"
)

// A watermark is a commit to the watermark table: a place in the stream that the one
// who wrote it knows again, by its token.
type watermark struct {
	kind watermarkKind
	id   string
}

type watermarkKind string

const (
	lowWatermark  watermarkKind = "low"  // opens a window
	highWatermark watermarkKind = "high" // closes it
	markWatermark watermarkKind = "mark" // stands alone, see Syncer.Barrier
)

func (w watermark) String() string { return string(w.kind) + ":" + w.id }

func parseWatermark(token string) (watermark, bool) {
	kind, id, ok := strings.Cut(token, ":")
	return watermark{watermarkKind(kind), id}, ok
}

// newToken returns a name that no other watermark has, of this process or another.
func newToken() string { return rand.Text() }

// writeWatermark commits a watermark. The session's synchronous_commit = local keeps it
// from waiting for a standby.
func (s *Syncer) writeWatermark(ctx context.Context, w watermark) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO `+s.control(s.wmTable)+` AS wm (slot, token) VALUES ($1, $2)
		ON CONFLICT (slot) DO UPDATE SET token = excluded.token, at = now()`, s.slot, w.String())
	if err != nil {
		return fmt.Errorf("write %s watermark: %w", w.kind, err)
	}
	return nil
}

// isWatermarks reports whether a table is the watermark table.
func (s *Syncer) isWatermarks(r *pglogrepl.RelationMessage) bool {
	return r.Namespace == s.namespace && r.RelationName == s.wmTable
}

// readWatermark returns the watermark in a row of the watermark table; ok is false for
// a row of another slot.
func (s *Syncer) readWatermark(row *pglogrepl.TupleData, r *pglogrepl.RelationMessage) (w watermark, ok bool) {
	var slot, token string
	for i, c := range row.Columns {
		if i >= len(r.Columns) {
			break
		}
		switch r.Columns[i].Name {
		case "slot":
			slot = string(c.Data)
		case "token":
			token = string(c.Data)
		}
	}
	if slot != s.slot {
		return watermark{}, false
	}
	return parseWatermark(token)
}

// Barrier returns nil when every change that was committed before the call is stored.
// It needs a running Syncer. While the database does not answer it tries again.
func (s *Syncer) Barrier(ctx context.Context) error {
	m := &mark{id: newToken(), stored: make(chan struct{})}
	write, cancel, err := s.whileRunning(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	s.windows.addMark(m)
	defer s.windows.removeMark(m)
	_, err = retry(write, s, "mark a place in the stream", func() (struct{}, error) {
		return struct{}{}, s.writeWatermark(write, watermark{markWatermark, m.id})
	})
	if err != nil {
		return err
	}
	return s.awaitStored(ctx, m.stored)
}

// whileRunning returns a context that ends with the run under way, too.
func (s *Syncer) whileRunning(ctx context.Context) (_ context.Context, cancel func(), err error) {
	run, err := s.runContext()
	if err != nil {
		return nil, nil, err
	}
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(run, func() { end(context.Cause(run)) })
	return ctx, func() { stop(); end(nil) }, nil
}

// mark is a place in the stream that Barrier waits for.
type mark struct {
	id     string
	stored chan struct{}
	once   sync.Once // the place may come twice
}

func (m *mark) close() { m.once.Do(func() { close(m.stored) }) }
