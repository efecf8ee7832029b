package indexer

import (
	"context"
	"log/slog"
	"strings"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
)

// A Writer takes finished operations over: when it returns nil, the position of the slot may move past
// them. [Direct] stores them in the cluster; a producer of package topic appends them to a log, from
// which others store them.
type Writer interface {
	// Write takes ops, at most one of each document, as [search.Bulk.Write] does.
	Write(ctx context.Context, ops []dbsync.Operation) error

	// Truncate has all documents of op.Index removed that are older than op and whose ids begin with
	// op.ID.
	Truncate(ctx context.Context, op *dbsync.Operation) error
}

// Direct is a Writer that stores operations in the cluster.
type Direct struct {
	*search.Bulk
	Client *search.Client // of the same cluster
	Logger *slog.Logger
}

// Truncate removes documents, see [Writer].
func (d Direct) Truncate(ctx context.Context, op *dbsync.Operation) error {
	return d.TruncateWhere(ctx, op, func(string) bool { return true })
}

// TruncateWhere does what Truncate does to the documents of which ours reports true, by their ids.
//
// Not every server has _delete_by_query, and none lets it carry our versions; so the ids are listed
// and removed like any others.
func (d Direct) TruncateWhere(ctx context.Context, op *dbsync.Operation, ours func(id string) bool) error {
	d.Logger.Info("removing all documents, the table was truncated", "index", op.Index, "version", op.Version.String())
	return retry.Do(ctx, d.Alarm(), "remove all documents of "+op.Index, func(ctx context.Context) error {
		held := func(err error) error {
			if over, asked := d.PassesOver(ctx, op.Index, err); over || asked != nil {
				return asked
			}
			return search.Held(op.Index, err)
		}
		// What was written before must be in the list.
		if err := d.Client.Refresh(ctx, op.Index); err != nil {
			return held(err)
		}
		var failed error // of Write, which itself has waited for whatever passes
		err := d.Client.Scroll(ctx, op.Index, func(page []search.Listed) error {
			ops := make([]dbsync.Operation, 0, len(page))
			for _, listed := range page {
				if strings.HasPrefix(listed.ID, op.ID) && ours(listed.ID) {
					gone := deletion(op)
					gone.ID, gone.Routing = listed.ID, listed.Routing
					ops = append(ops, gone)
				}
			}
			failed = d.Write(ctx, ops)
			return failed
		})
		if failed != nil {
			return failed
		}
		return held(err)
	})
}
