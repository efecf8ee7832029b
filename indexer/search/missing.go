package search

import (
	"context"
	"errors"

	"tidemark/dbsync"
)

// isMissing reports whether an error of this type says that an index is not there.
func isMissing(kind string) bool {
	return kind == "index_not_found_exception" || // auto-creation is off
		kind == "invalid_index_name_exception" // it was tried: the write alias is gone, and its name cannot be an index's
}

// passOver takes out of what is left the operations on indices that are missing, where that is wanted.
func (b *Bulk) passOver(ctx context.Context, out *outcome) error {
	if b.o.Missing == nil {
		return nil
	}
	for index, reason := range out.missing {
		drop, err := b.o.Missing(ctx, index)
		if err != nil {
			return err
		}
		if !drop {
			continue
		}
		left := make([]dbsync.Operation, 0, len(out.left))
		for i := range out.left {
			if out.left[i].Index != index {
				left = append(left, out.left[i])
			}
		}
		b.stats.Dropped.Add(int64(len(out.left) - len(left)))
		out.left = left
		delete(out.reasons, reason)
	}
	if len(out.left) == 0 {
		*out = outcome{refused: out.refused, newer: out.newer, answer: out.answer}
	}
	return nil
}

// PassesOver reports whether operations on an index are passed over, after another request about it than
// a bulk request had this error: it is not there, and Missing of [BulkOptions] says so.
func (b *Bulk) PassesOver(ctx context.Context, index string, err error) (bool, error) {
	server, ok := errors.AsType[*ServerError](err)
	if b.o.Missing == nil || !ok || !isMissing(server.Type) {
		return false, nil
	}
	drop, err := b.o.Missing(ctx, index)
	if drop && err == nil {
		b.stats.Dropped.Add(1)
	}
	return drop, err
}
