package dbsync

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// A Kind says what is to be done by an [Operation].
type Kind uint8

const (
	// Store stores the document, Body or Doc.
	Store Kind = iota

	// Delete removes the document.
	Delete

	// Refused keeps the place of a document that cannot be made; Err says why. It replaces, and
	// is replaced, as the document would be.
	Refused

	// Reread stores the document of a row as it is in the database when the batch is written,
	// because the message did not hold all of it. Origin and Key say which row.
	Reread

	// Truncate removes all documents of Index whose IDs begin with ID, which may be empty, but
	// for those that other operations of the batch store. What the batch had on such documents
	// before has become their Deletes.
	Truncate

	// Related has the documents of Index read again that rows of another table are put into:
	// the rows that Origin and Key lead to. Which documents that are is found when the batch
	// is written. ID and Routing are empty.
	Related
)

// Ready reports whether operations of a kind are about one document each and say all that is to
// be known of it: Store, Delete and Refused.
func (k Kind) Ready() bool { return k <= Refused }

func (k Kind) String() string {
	names := [...]string{"store", "delete", "refused", "reread", "truncate", "related"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// An Operation is one thing to do to an index; mostly, one document to store or to delete.
// It is self-contained: whoever has it can write it, at any time and any number of times,
// because its version tells whether something newer is there already.
type Operation struct {
	Kind Kind

	// AwaitVisible says that what the batch does depends on what others see of it: its
	// operations are written when every transaction of the batch is visible to other sessions,
	// and what is read for one of them shows all of these. See [Syncer.ReadVisible].
	AwaitVisible bool

	// Xid is the transaction that caused the operation, 0 for a row of a window. A
	// read of the row counts only in a snapshot in which Xid is visible.
	Xid uint32

	// Version is the LSN of the commit that caused the operation. For a row that a
	// window read it is the LSN of the window's low watermark.
	Version pglogrepl.LSN

	// Group is which part of its transaction the operation comes from, counted from 0, see
	// [Syncer.Group]; 0 for a row of a window. Of two operations on one document that have the
	// same Version, the one with the higher Group is newer.
	Group uint32

	// Base is a position that Index may count its versions from, and 0 where it counts them from
	// the beginning of the log. The package does not interpret it.
	Base pglogrepl.LSN

	// Index says where the document is kept. The package does not interpret it.
	Index string

	// ID and Routing identify the document within the index. An operation replaces
	// an earlier one of its batch only when all three are equal: the same ID under
	// another routing is another document if that leads to another shard, which only the
	// search server knows.
	ID, Routing string

	// Body is the document to store, JSON on one line; the batch holds a copy of it. Doc is
	// the document as [Syncer.MarkUpdated] got it. At most one of them is set.
	Body []byte
	Doc  StringMap

	// Origin and Key are for the handler that made the operation, to find rows by when the
	// batch is written. Origin is what in its mapping the operation comes from. Key is the text
	// of the columns that Origin finds rows by, nil for NULL; of a Related operation, nil
	// altogether means every row. Both are kept as they are, not copied.
	Origin Origin
	Key    [][]byte

	// Err says why a Refused document cannot be made.
	Err error
}

// OlderThan reports whether op was caused before other, by commit and group. Two operations of one
// group are neither older than the other: a batch has the last of them on each document.
func (op *Operation) OlderThan(other *Operation) bool {
	return cmp.Or(cmp.Compare(op.Version, other.Version), cmp.Compare(op.Group, other.Group)) < 0
}

// An Origin is a part of a handler's mapping, by which the handler knows again what it has
// marked or asked for. It is comparable. String names it, for errors.
type Origin interface{ String() string }

// An OperationBatcher takes a compacted batch whole, with versions and ready-made
// JSON. A [Batcher] that has this method is called through it and never through
// BatchUpsert and BatchDelete, so that no map stands between row and document.
//
// BatchOperations returns nil when every operation of the batch is stored, or is kept
// somewhere durable because it can never be; only then does the slot move. After an error
// the same batch comes again, so nothing in it may be changed. It and what it points to
// must not be used after the return.
type OperationBatcher interface {
	BatchOperations(ctx context.Context, batch *Batch) error
}

// OperationsOnly makes a Batcher of b. Its BatchUpsert and BatchDelete, which a Syncer
// does not call, pass operations without a version on.
func OperationsOnly(b OperationBatcher) Batcher { return operationsOnly{b} }

type operationsOnly struct{ OperationBatcher }

func (b operationsOnly) BatchUpsert(doctype string, docs []StringMap) (any, error) {
	batch := NewBatch()
	for _, doc := range docs {
		batch.add(&Operation{Index: doctype, Doc: doc}) // which of them are of one document is not known here
	}
	return nil, b.BatchOperations(context.Background(), batch)
}

func (b operationsOnly) BatchDelete(doctype string, docids []string) (any, error) {
	batch := NewBatch()
	for _, id := range docids {
		batch.put(&Operation{Kind: Delete, Index: doctype, ID: id})
	}
	return nil, b.BatchOperations(context.Background(), batch)
}
