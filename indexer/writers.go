package indexer

import (
	"context"
	"slices"
	"strings"

	"github.com/sourcegraph/conc/pool"

	"tidemark/dbsync"
)

// At returns what operations call an index of a cluster beside the first one; "" is the first. No name of an
// index has a colon.
func At(cluster, index string) string {
	if cluster == "" {
		return index
	}
	return cluster + ":" + index
}

// Writers is a Writer for several clusters: each operation goes to that of its own cluster, with the name that
// the index has there. Everything has been taken over when all of them have.
type Writers struct {
	First  Writer
	Others map[string]Writer // by the name of the cluster
}

// of returns the Writer of an operation, and what the index is called there.
func (w *Writers) of(index string) (Writer, string) {
	if cluster, name, ok := strings.Cut(index, ":"); ok {
		return w.Others[cluster], name
	}
	return w.First, index
}

// Write implements [Writer].
func (w *Writers) Write(ctx context.Context, ops []dbsync.Operation) error {
	parts := make(map[Writer][]dbsync.Operation, 1+len(w.Others))
	for i := range ops {
		to, index := w.of(ops[i].Index)
		part, ok := parts[to]
		if !ok {
			part = make([]dbsync.Operation, 0, len(ops))
		}
		part = append(part, ops[i]) // the batch stays as it is: it may come again
		part[len(part)-1].Index = index
		parts[to] = part
	}
	p := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError()
	for to, part := range parts {
		p.Go(func(ctx context.Context) error { return to.Write(ctx, slices.Clip(part)) })
	}
	return p.Wait()
}

// Truncate implements [Writer].
func (w *Writers) Truncate(ctx context.Context, op *dbsync.Operation) error {
	there := *op
	var to Writer
	to, there.Index = w.of(op.Index)
	return to.Truncate(ctx, &there)
}
