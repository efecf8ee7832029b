package dbsync

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// A TailedChange is a change of rows as [Syncer.Tail] shows it.
type TailedChange struct {
	Commit pglogrepl.LSN // of its transaction
	Xid    uint32

	// Message is a *[pglogrepl.InsertMessage], *[pglogrepl.UpdateMessage], *[pglogrepl.DeleteMessage] or
	// *[pglogrepl.TruncateMessage], and Relations are the tables that it is of: one, but for a TRUNCATE.
	Message   pglogrepl.Message
	Relations []*pglogrepl.RelationMessage

	// Operations are what the MessageHandler has marked for it. They are not to be kept.
	Operations []Operation
}

// NewTail returns a Syncer of which [Syncer.Tail] may be called, and Close. It takes the options of [NewSyncer],
// makes nothing of what that makes, and asks the database for nothing yet.
func NewTail(opts ...SyncerOpt) (*Syncer, error) {
	s, err := openSyncer(opts)
	if err != nil {
		return nil, err
	}
	s.onlyReads = true
	s.q = s.newQueue(0)
	return s, nil
}

// tailMessages is how many messages are looked at at a time.
const tailMessages = 1024

// Tail hands what is committed from now on to the MessageHandler, as Run does, and shows each change with the
// operations that the handler marks for it. Nothing is written anywhere: no Batcher is called, no position noted.
// The messages come by a temporary slot of the name given, which Postgres drops at the end, whatever that is; to
// make it, Postgres waits for the transactions that are writing now to end. It returns the first error of show,
// of the stream, or of the handler that repeating cannot cure, or the cause of ctx's end. A stream that breaks
// is an error: what was committed since is gone with the slot.
func (s *Syncer) Tail(ctx context.Context, slot string, show func(*TailedChange) error) error {
	wrong, err := s.readServer(ctx)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		return wrong[0]
	}
	st, err := s.startTail(ctx, slot)
	if err != nil {
		return err
	}
	defer st.close()
	q := st.queue
	for {
		msgs, err := q.peek(q.head(), bounds{tailMessages, math.MaxInt}, nil)
		if err != nil {
			return err
		}
		for i := range msgs {
			if err := s.tailMessage(ctx, i, &msgs[i], show); err != nil {
				return fmt.Errorf("message at %s: %w", msgs[i].lsn, err)
			}
		}
		if err := q.forward(len(msgs)); err != nil {
			return err
		}
		if len(msgs) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-q.arrived:
		}
	}
}

// startTail makes the slot and begins to receive from it, over one connection: the slot ends with that.
func (s *Syncer) startTail(ctx context.Context, slot string) (*stream, error) {
	defer s.sayWhenSlow(slot)()
	// The publication has to be there at the place in the log where the slot begins.
	err := WithConn(ctx, s.db, func(conn *pgx.Conn) error { return s.awaitReplay(ctx, conn) })
	if err != nil {
		return nil, err
	}
	conn, err := connectReplication(ctx, s.slotConfig, s.maxRow)
	if err != nil {
		return nil, err
	}
	stop := s.announceTransactions(ctx)
	made, err := pglogrepl.CreateReplicationSlot(ctx, conn.PgConn, slot, "pgoutput",
		pglogrepl.CreateReplicationSlotOptions{Temporary: true, Mode: pglogrepl.LogicalReplication, SnapshotAction: "NOEXPORT_SNAPSHOT"})
	stop()
	var begin pglogrepl.LSN
	if err == nil {
		begin, err = pglogrepl.ParseLSN(made.ConsistentPoint)
	}
	if err != nil {
		conn.Close(context.WithoutCancel(ctx))
		if sqlState(err) == "53400" {
			return nil, noFreeSlot(err)
		}
		return nil, fmt.Errorf("make a temporary slot: %w", err)
	}
	s.q = s.newQueue(begin)
	return startStream(ctx, conn, streamOptions{slot: slot, publication: s.publication, messages: s.eventTriggers, known: begin, queue: s.q,
		groups: s.batchBounds(), awaited: s.windows.awaited, lag: &s.lag, notes: unnoted{}, log: s.log})
}

// unnoted are the notes of a stream whose positions nobody needs.
type unnoted struct{}

func (unnoted) record(context.Context, pglogrepl.LSN) error { return nil }
func (unnoted) look(context.Context) error                  { return nil }

// tailMessage hands one message to the handler, and shows it with what came of it.
func (s *Syncer) tailMessage(ctx context.Context, idx int, m *message, show func(*TailedChange) error) error {
	s.group = m.group
	_, err := retry(ctx, s, "translate changes", func() (struct{}, error) {
		s.building.reset()
		if err := s.forgetVisible(ctx); err != nil {
			return struct{}{}, err
		}
		_, err := s.handle(ctx, idx, m, new(translation))
		return struct{}{}, err
	})
	if err != nil {
		return err
	}
	var ids []uint32
	switch m.kind {
	case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeUpdate, pglogrepl.MessageTypeDelete, pglogrepl.MessageTypeTruncate:
	default:
		return nil
	}
	parsed, err := pglogrepl.Parse(m.data)
	if err != nil {
		return err
	}
	switch msg := parsed.(type) {
	case *pglogrepl.InsertMessage:
		ids = []uint32{msg.RelationID}
	case *pglogrepl.UpdateMessage:
		ids = []uint32{msg.RelationID}
	case *pglogrepl.DeleteMessage:
		ids = []uint32{msg.RelationID}
	case *pglogrepl.TruncateMessage:
		ids = msg.RelationIDs
	}
	c := &TailedChange{Commit: s.version, Xid: s.xid, Message: parsed, Operations: s.building.Operations()}
	for _, id := range ids {
		r, err := s.relation(id)
		if err != nil {
			return err
		}
		if !s.isWatermarks(r) {
			c.Relations = append(c.Relations, r)
		}
	}
	if len(c.Relations) == 0 {
		return nil
	}
	return show(c)
}
