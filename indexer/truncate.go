package indexer

import (
	"context"
	"strings"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
)

// truncate removes the documents of an index that are older than the operation, and whose
// ids begin as it says: those of one table, where the index has several. Not every
// server has _delete_by_query, and none lets it carry our versions; so the ids are listed
// and removed like any others.
func (h *Handler) truncate(ctx context.Context, op *dbsync.Operation) error {
	h.o.Logger.Info("removing all documents, the table was truncated", "index", op.Index, "version", op.Version.String())
	return retry.Do(ctx, h.o.Bulk.Alarm(), "remove all documents of "+op.Index, func(ctx context.Context) error {
		// What was written before must be in the list.
		if err := h.o.Client.Refresh(ctx, op.Index); err != nil {
			return search.Held(op.Index, err)
		}
		var failed error // of Write, which itself has waited for whatever passes
		err := h.o.Client.Scroll(ctx, op.Index, func(page []search.Listed) error {
			ops := make([]dbsync.Operation, 0, len(page))
			for _, d := range page {
				if strings.HasPrefix(d.ID, op.ID) {
					gone := deletion(op)
					gone.ID, gone.Routing = d.ID, d.Routing
					ops = append(ops, gone)
				}
			}
			failed = h.o.Bulk.Write(ctx, ops)
			return failed
		})
		if failed != nil {
			return failed
		}
		return search.Held(op.Index, err)
	})
}
