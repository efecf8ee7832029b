package service

import (
	"context"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
	"tidemark/internal/admin"
	"tidemark/internal/tracing"
)

// An observer is told what is done to batches, and passes it on: to the metrics and to the traces.
type observer struct {
	measures *admin.Measures
	tracer   *tracing.Tracer // nil: nobody wants traces
}

// BatchBegins and BatchEnds are of a [dbsync.Observer].
func (o *observer) BatchBegins(ctx context.Context, r *dbsync.BatchReport) context.Context {
	return o.tracer.BatchBegins(ctx, r)
}

func (o *observer) BatchEnds(ctx context.Context, r *dbsync.BatchReport, err error) {
	if err == nil {
		o.measures.Batch(r)
	}
	o.tracer.BatchEnds(ctx, r, err)
}

func (o *observer) bulkRequest(ctx context.Context, r search.Request) {
	o.measures.Bulk(r)
	o.tracer.Bulk(ctx, r)
}

func (o *observer) reread(ctx context.Context, r indexer.Reread) {
	o.measures.Reread(r)
	o.tracer.Reread(ctx, r)
}
