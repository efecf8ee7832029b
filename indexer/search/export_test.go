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
	return b.writePart(ctx, ops)
}

// NewEncoder returns what makes the bodies of bulk requests in the same storage, and returns
// their lengths in bytes before compression and after it.
func NewEncoder(level int) func(ops []dbsync.Operation) (raw, sent int, err error) {
	r := newBulkRequest(level)
	return func(ops []dbsync.Operation) (raw, sent int, err error) {
		_, err = r.encode(ops)
		return r.raw, r.body.Len(), err
	}
}
