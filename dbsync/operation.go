package dbsync

import (
	"context"

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
	// another routing is another document on another shard.
	ID, Routing string

	// Version is the LSN of the commit that caused the operation. For a row that a
	// window read it is the LSN of the window's low watermark.
	Version pglogrepl.LSN

	// Xid is the transaction that caused the operation, 0 for a row of a window. A
	// read of the row counts only in a snapshot in which Xid is visible.
	Xid uint32

	// Delete says that the document is to be removed. Body is nil then.
	Delete bool

	// Reread says that Body has to be made from the row as it is in the database
	// when the batch is written, because the message did not hold all of it.
	Reread bool

	// Body is the document, JSON on one line. Doc is the document as [Syncer.MarkUpdated]
	// got it. At most one of them is set.
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

// docKey identifies a document within a batch.
type docKey struct{ index, id, routing string }

// batch is what one read of the slot comes to: the last operation of each document.
type batch struct {
	ops   []Operation
	at    map[docKey]int // position in ops
	bytes int
}

func newBatch() *batch { return &batch{at: make(map[docKey]int)} }

// put adds op, or replaces the operation that the batch holds for the same document.
func (b *batch) put(op Operation) {
	key := docKey{op.Index, op.ID, op.Routing}
	b.bytes += len(op.Body)
	if i, ok := b.at[key]; ok {
		b.bytes -= len(b.ops[i].Body)
		b.ops[i] = op
		return
	}
	b.at[key] = len(b.ops)
	b.ops = append(b.ops, op)
}

// reset empties the batch and keeps its storage for the next one.
func (b *batch) reset() {
	clear(b.ops) // lets go of the bodies
	b.ops = b.ops[:0]
	clear(b.at)
	b.bytes = 0
}
