package search

import (
	"context"

	"tidemark/dbsync"
)

const (
	MaxAnswer    = maxAnswer
	SuspectBytes = suspectBytes
)

// WritePart writes ops by one request, where Write might make several.
func (b *Bulk) WritePart(ctx context.Context, ops []dbsync.Operation) error {
	return b.writePart(ctx, partOf(ops))
}

// NewEncoder returns what makes the bodies of bulk requests in the same storage, and returns
// their lengths in bytes before compression and after it.
func NewEncoder(level int) func(ops []dbsync.Operation) (raw, sent int, err error) {
	r := newBulkRequest(level)
	return func(ops []dbsync.Operation) (raw, sent int, err error) {
		err = r.encode(partOf(ops))
		return r.raw, r.body.Len(), err
	}
}

// Cut cuts ops into the parts of bulk requests, as Write does before it encodes them.
func (b *Bulk) Cut(ops []dbsync.Operation) error {
	_, _, err := b.cut(ops)
	return err
}

// VersionOf returns the version of an operation.
func VersionOf(op dbsync.Operation) (int64, error) { return version(&op) }
