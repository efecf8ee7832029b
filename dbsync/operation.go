package dbsync

import (
	"context"
	"strings"

	"github.com/jackc/pglogrepl"
)

// An Operation is one document to store or to delete. It is self-contained: whoever
// has it can write it, at any time and any number of times, because its version
// tells whether something newer is there already.
type Operation struct {
	// Index says where the document is kept. The package does not interpret it.
	Index string

	// ID and Routing identify the document within the index. An operation replaces
	// an earlier one of its batch only when all three are equal: the same ID under
	// another routing is another document if that leads to another shard, which only the
	// search server knows.
	ID, Routing string

	// Version is the LSN of the commit that caused the operation. For a row that a
	// window read it is the LSN of the window's low watermark.
	Version pglogrepl.LSN

	// Xid is the transaction that caused the operation, 0 for a row of a window. A
	// read of the row counts only in a snapshot in which Xid is visible.
	Xid uint32

	// Delete says that the document is to be removed. Body is nil then.
	Delete bool

	// Truncate says that all documents of Index whose ids begin with ID, which may be empty,
	// are to be removed, but for those that other operations of the batch store. Routing and
	// Body are empty.
	Truncate bool

	// Reread says that Body has to be made from the row as it is in the database
	// when the batch is written, because the message did not hold all of it.
	Reread bool

	// Body is the document, JSON on one line; the batch holds a copy of it. Doc is the
	// document as [Syncer.MarkUpdated] got it. At most one of them is set.
	Body []byte
	Doc  StringMap

	// Tag is for the handler that made the operation: what it needs to read the row
	// again, for example.
	Tag any
}

// An OperationBatcher takes a compacted batch whole, with versions and ready-made
// JSON. A [Batcher] that has this method is called through it and never through
// BatchUpsert and BatchDelete, so that no map stands between row and document.
//
// ops holds at most one operation per (Index, ID, Routing). BatchOperations returns
// nil when every one of them is stored, or is kept somewhere durable because it can
// never be; only then does the slot move. After an error the same batch comes again.
// ops and what it points to must not be used after the return.
type OperationBatcher interface {
	BatchOperations(ctx context.Context, ops []Operation) error
}

// OperationsOnly makes a Batcher of b. Its BatchUpsert and BatchDelete, which a Syncer
// does not call, pass operations without a version on.
func OperationsOnly(b OperationBatcher) Batcher { return operationsOnly{b} }

type operationsOnly struct{ OperationBatcher }

func (b operationsOnly) BatchUpsert(doctype string, docs []StringMap) (any, error) {
	ops := make([]Operation, 0, len(docs))
	for _, doc := range docs {
		ops = append(ops, Operation{Index: doctype, Doc: doc})
	}
	return nil, b.BatchOperations(context.Background(), ops)
}

func (b operationsOnly) BatchDelete(doctype string, docids []string) (any, error) {
	ops := make([]Operation, 0, len(docids))
	for _, id := range docids {
		ops = append(ops, Operation{Index: doctype, ID: id, Delete: true})
	}
	return nil, b.BatchOperations(context.Background(), ops)
}

// docKey identifies a document within a batch.
type docKey struct{ index, id, routing string }

func keyOf(op *Operation) docKey {
	if op.Truncate {
		return docKey{op.Index, op.ID, "\x00truncate"} // no text of Postgres has a zero in it
	}
	return docKey{op.Index, op.ID, op.Routing}
}

// batch is what one read of the slot comes to: the last operation of each document.
type batch struct {
	ops    []Operation
	at     map[docKey]int // position in ops
	bodies arena
}

func newBatch() *batch { return &batch{at: make(map[docKey]int)} }

// put adds op, or replaces the operation that the batch holds for the same document.
func (b *batch) put(op Operation) {
	if op.Truncate {
		b.drop(op.Index, op.ID)
	}
	op.Body = b.bodies.copy(op.Body)
	key := keyOf(&op)
	if i, ok := b.at[key]; ok {
		b.ops[i] = op
		return
	}
	b.at[key] = len(b.ops)
	b.ops = append(b.ops, op)
}

// drop removes the operations on documents of an index whose ids begin with prefix.
func (b *batch) drop(index, prefix string) {
	kept := b.ops[:0]
	for i := range b.ops {
		op := &b.ops[i]
		if op.Index != index || !strings.HasPrefix(op.ID, prefix) {
			b.at[keyOf(op)] = len(kept)
			kept = append(kept, *op)
		} else {
			delete(b.at, keyOf(op))
		}
	}
	clear(b.ops[len(kept):])
	b.ops = kept
}

// reset empties the batch and keeps its storage for the next one.
func (b *batch) reset() {
	clear(b.ops)
	b.ops = b.ops[:0]
	clear(b.at)
	b.bodies.reset()
}

// arena holds the bodies of one batch in blocks that the next batch uses again.
type arena struct {
	blocks [][]byte // of arenaBlock bytes each
	used   int      // blocks that hold something
	rest   []byte   // of the last of them
}

const (
	arenaBlock = 256 << 10
	arenaKept  = 32 // blocks that an arena keeps when it is emptied: 8 MiB
)

// copy returns a copy of data that is valid until reset. A large one is kept apart, and
// freed after the batch.
func (a *arena) copy(data []byte) []byte {
	n := len(data)
	switch {
	case data == nil:
		return nil
	case n > arenaBlock/4:
		return append([]byte(nil), data...)
	case n > len(a.rest):
		if a.used == len(a.blocks) {
			a.blocks = append(a.blocks, make([]byte, arenaBlock))
		}
		a.rest = a.blocks[a.used]
		a.used++
	}
	dst := a.rest[:n:n]
	a.rest = a.rest[n:]
	copy(dst, data)
	return dst
}

func (a *arena) reset() {
	if len(a.blocks) > arenaKept {
		clear(a.blocks[arenaKept:])
		a.blocks = a.blocks[:arenaKept]
	}
	a.used, a.rest = 0, nil
}
