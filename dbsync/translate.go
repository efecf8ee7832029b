package dbsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pglogrepl"
)

// translation says what the messages of a batch came to, besides the operations in it.
type translation struct {
	tx       *pglogrepl.BeginMessage // that the first message is inside of, nil for none
	messages int                     // how many were translated
	changes  int                     // of rows, among them
	stop     bool                    // the handler wants to end
	cut      bool                    // the rows of a window have filled the batch, which ends with the group
	handed   []*Window               // whose rows are in the batch
	marks    []*mark                 // that were passed
	newest   time.Time               // when the last transaction among them was committed; zero: none was
	before   int                     // changes before the transaction that the last message belongs to; -1: it began in an earlier batch
}

// translate hands the messages of a batch to the handler, which marks documents in
// s.building. done is what was translated of them before. When the handler fails, all
// messages of the batch are handed to it again, without end, unless it says that this
// cannot help.
func (s *Syncer) translate(run context.Context, msgs []message, done translation) (translation, error) {
	again := false
	return retry(run, s, "translate changes", func() (translation, error) {
		t := done
		if err := s.forgetVisible(run); err != nil {
			return t, err
		}
		if again || t.messages == 0 {
			t = translation{tx: done.tx}
			if t.tx != nil {
				t.before = -1
			}
			began, translating := s.building.report.Began, s.building.report.Translating
			s.building.reset()
			s.building.report.Began, s.building.report.Translating = began, translating
			s.setTx(t.tx)
		}
		if again && t.tx != nil {
			// The messages begin inside a transaction. The handler may have seen its end and
			// the beginning of others since.
			s.tracker.begin(t.tx.Xid, t.tx.FinalLSN)
			if err := s.handler().HandleBeginMessage(-1, t.tx); err != nil {
				return t, err
			}
		}
		again = true
		for i := t.messages; i < len(msgs) && !(t.cut && msgs[i-1].endsGroup()); i++ {
			s.group = msgs[i].group
			cut, err := s.handle(run, i, &msgs[i], &t)
			t.cut = t.cut || cut
			if errors.Is(err, ErrStopProcessingMessages) {
				t.stop = true
				return t, nil
			}
			if err != nil {
				return t, fmt.Errorf("message at %s: %w", msgs[i].lsn, err)
			}
			t.messages++
		}
		return t, nil
	})
}

// handler returns the MessageHandler, or one that does nothing.
func (s *Syncer) handler() MessageHandler {
	if s.MessageHandler == nil {
		return &DefaultMessageHandler{}
	}
	return s.MessageHandler
}

// setTx makes tx, nil for none, the transaction to which what the handler marks belongs.
func (s *Syncer) setTx(tx *pglogrepl.BeginMessage) {
	s.tx, s.version, s.xid = tx, 0, 0
	if tx != nil {
		s.version, s.xid = tx.FinalLSN, tx.Xid
	}
}

// handle hands one message to the handler. cut says that the batch should end here,
// because a window has filled it.
func (s *Syncer) handle(run context.Context, idx int, m *message, t *translation) (cut bool, err error) {
	decoded, err := s.decoder.decode(m.data)
	if err != nil {
		return false, &PermanentError{err}
	}
	h := s.handler()
	switch msg := decoded.(type) {
	case nil: // a kind that says nothing about rows
	case *pglogrepl.BeginMessage:
		s.setTx(msg)
		t.before = t.changes
		s.tracker.begin(msg.Xid, msg.FinalLSN)
		return false, h.HandleBeginMessage(idx, msg)
	case *pglogrepl.CommitMessage:
		if err := h.HandleCommitMessage(idx, msg); err != nil {
			return false, err
		}
		s.tracker.end()
		s.setTx(nil)
		t.newest = msg.CommitTime
		if t.changes > t.before {
			s.building.report.Commits = append(s.building.report.Commits, msg.CommitTime)
		}
	case *pglogrepl.RelationMessage:
		return false, s.handleRelation(run, idx, msg)
	case *pglogrepl.InsertMessage:
		r, err := s.relation(msg.RelationID)
		if err != nil {
			return false, err
		}
		if s.isWatermarks(r) {
			return s.handleWatermark(msg.Tuple, r, t)
		}
		t.changes++
		s.touch(r, msg.Tuple)
		return false, h.HandleInsertMessage(idx, msg, r, s.GetTableInfo(msg.RelationID))
	case *pglogrepl.UpdateMessage:
		r, err := s.relation(msg.RelationID)
		if err != nil {
			return false, err
		}
		if s.isWatermarks(r) {
			return s.handleWatermark(msg.NewTuple, r, t)
		}
		t.changes++
		s.touch(r, msg.OldTuple)
		s.touch(r, msg.NewTuple)
		return false, h.HandleUpdateMessage(idx, msg, r, s.GetTableInfo(msg.RelationID))
	case *pglogrepl.DeleteMessage:
		r, err := s.relation(msg.RelationID)
		if err != nil || s.isWatermarks(r) {
			return false, err
		}
		t.changes++
		s.touch(r, msg.OldTuple)
		return false, h.HandleDeleteMessage(idx, msg, r, s.GetTableInfo(msg.RelationID))
	case *pglogrepl.TruncateMessage:
		return false, s.handleTruncate(idx, msg)
	case *pglogrepl.LogicalDecodingMessage:
		if h, ok := h.(LogicalMessageHandler); ok {
			return false, h.HandleLogicalMessage(idx, msg)
		}
	}
	return false, nil
}

// relation returns the description of a table that a change names.
func (s *Syncer) relation(id uint32) (*pglogrepl.RelationMessage, error) {
	if r := s.GetRelation(id); r != nil {
		return r, nil
	}
	return nil, &PermanentError{fmt.Errorf("change of table %d, which the stream has not described", id)}
}

// handleRelation takes up a table's description.
func (s *Syncer) handleRelation(run context.Context, idx int, msg *pglogrepl.RelationMessage) error {
	before := s.GetRelation(msg.RelationID)
	if s.isWatermarks(msg) {
		s.describe(msg, nil)
		return nil
	}
	info, err := s.updateStreamed(run, msg, s.xid)
	if err != nil {
		return err
	}
	if before == nil || !sameColumns(before, msg) {
		delete(s.keys, msg.RelationID)
		// The rows of a window that is open may have been read before the change.
		for _, relation := range s.tracker.having(msg.RelationID) {
			for _, w := range s.windows.on(relation) {
				w.changed = true
			}
		}
	}
	return s.handler().HandleRelationMessage(idx, msg, info)
}

// handleTruncate hands on a TRUNCATE. Whatever a window has read of these tables is void.
func (s *Syncer) handleTruncate(idx int, msg *pglogrepl.TruncateMessage) error {
	var tables []*pglogrepl.RelationMessage
	for _, id := range msg.RelationIDs {
		r, err := s.relation(id)
		if err != nil {
			return err
		}
		if s.isWatermarks(r) {
			continue
		}
		for _, relation := range s.tracker.having(id) {
			s.tracker.touchAll(relation)
		}
		tables = append(tables, r)
	}
	h, ok := s.handler().(TruncateHandler)
	if !ok {
		s.log.Warn("a TRUNCATE was passed over, the handler does not take it", "tables", len(tables), "position", s.version.String())
		return nil
	}
	return h.HandleTruncateMessage(idx, msg, tables)
}

// handleWatermark acts on a watermark of ours. One of a window that was given up, or of
// an earlier process, means nothing.
func (s *Syncer) handleWatermark(row *pglogrepl.TupleData, r *pglogrepl.RelationMessage, t *translation) (cut bool, err error) {
	wm, ok := s.readWatermark(row, r)
	if !ok {
		return false, nil
	}
	window, mark := s.windows.find(wm.id)
	switch {
	case wm.kind == lowWatermark && window != nil:
		s.openWindow(window, s.version)
	case wm.kind == highWatermark && window != nil:
		s.version, s.group, s.xid = window.low, 0, 0
		defer s.setTx(s.tx)
		ok, err := s.closeWindow(window)
		if err != nil {
			return false, fmt.Errorf("rows of a window: %w", err)
		}
		if !ok {
			window.say(readAgain)
			return false, nil
		}
		t.handed = append(t.handed, window)
		return true, nil
	case wm.kind == markWatermark && mark != nil:
		t.marks = append(t.marks, mark)
	}
	return false, nil
}

// keyCache is where the columns stand by which a table's rows are remembered.
type keyCache struct {
	generation uint64 // of the tracker's tables
	relation   *pglogrepl.RelationMessage
	of         []trackedKey // the table itself, and those that have its rows as well
}

// A trackedKey is by what the rows of one table are remembered.
type trackedKey struct {
	relation  uint32
	positions []int // nil: nobody asks
}

// Inherit says that the rows of a table are rows of parents as well, all by their oids: what the
// stream brings of the table from now on is a change of theirs for windows that are read from
// them. What was said of the table before is forgotten; without parents it is a table by itself,
// as all are at first. To be called by a handler from HandleRelationMessage, or from Begin on, in
// the goroutine of Run.
func (s *Syncer) Inherit(relation uint32, parents ...uint32) { s.tracker.inherit(relation, parents) }

// touch notes that the open transaction touched a row. A nil row is none.
func (s *Syncer) touch(r *pglogrepl.RelationMessage, row *pglogrepl.TupleData) {
	if row == nil {
		return
	}
	cache, ok := s.keys[r.RelationID]
	if g := s.tracker.generation.Load(); !ok || cache.generation != g || cache.relation != r {
		cache = keyCache{generation: g, relation: r}
		for _, relation := range s.tracker.having(r.RelationID) {
			cache.of = append(cache.of, trackedKey{relation, s.keyPositions(r, relation)})
		}
		s.keys[r.RelationID] = cache
	}
	for _, k := range cache.of {
		if k.positions != nil {
			if id, ok := recordID(row, k.positions); ok {
				s.tracker.touch(k.relation, id)
				continue
			}
		}
		s.tracker.touchAll(k.relation)
	}
}

// keyPositions returns where in rows of r the key stands by which rows of a relation are
// remembered, nil where they are not.
func (s *Syncer) keyPositions(r *pglogrepl.RelationMessage, relation uint32) []int {
	key := s.tracker.key(relation)
	if key == nil {
		return nil
	}
	// Only the replica identity is in every change, old and new.
	p := positions(r, key)
	if len(p) != len(key) || slices.ContainsFunc(p, func(i int) bool { return !isIdentity(r.Columns[i]) }) {
		return nil
	}
	return p
}

// MarkUpdated puts a document into the batch under way: it is stored when the batch is
// written, unless a later change of the same document replaces it. To be called by a
// handler.
func (d *Syncer) MarkUpdated(doctype string, docid string, doc StringMap) {
	d.MarkOperation(Operation{Index: doctype, ID: docid, Doc: doc})
}

// MarkDeleted puts the removal of a document into the batch under way, as MarkUpdated
// does a document.
func (d *Syncer) MarkDeleted(doctype string, docid string) {
	d.MarkOperation(Operation{Kind: Delete, Index: doctype, ID: docid})
}

// MarkTruncated puts the removal of all documents of an index into the batch under way; what that
// holds of the index so far becomes deletions. It needs an [OperationBatcher]. To be
// called by a handler.
func (s *Syncer) MarkTruncated(index string) {
	s.MarkOperation(Operation{Kind: Truncate, Index: index})
}

// MarkOperation puts an operation into the batch under way. Version, Group and Xid are filled in
// unless the handler has set a Version, and Body is copied unless it is Given. To be called by a handler.
func (s *Syncer) MarkOperation(op Operation) {
	if op.Version == 0 {
		op.Version, op.Group, op.Xid = s.version, s.group, s.xid
	}
	s.building.put(&op)
}

// Group returns in which group of its transaction the message is that the handler gets, counted
// from 0. A group has MaxMessagesToRead changes of the transaction, or as many as have 4 MiB; the
// last one may have fewer. Which changes have one group follows from the transaction alone, so it is the same
// whenever, and to whomever, the transaction comes, and no group is written in parts. To be called
// by a handler.
func (s *Syncer) Group() uint32 { return s.group }
