package topic

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
)

// told is what a worker has told the instance that follows the slot, or still has to.
type told struct {
	mu         sync.Mutex
	newer      map[string]int64     // the highest version that was told, by index
	missing    map[string]time.Time // when, by index
	unanswered map[string]bool      // indices that are still to be told
}

// missingAgain is after which time an index that is missing is told once more.
const missingAgain = time.Minute

// report appends reports, for as long as it takes.
func (w *Worker) report(ctx context.Context, reports ...Report) error {
	defer dbsync.AtServer(ctx)()
	return retry.Do(ctx, w.o.Alarm, "Kafka does not take reports", func(ctx context.Context) error {
		_, err := w.client.Report(ctx, reports...)
		return w.client.why(err)
	})
}

// Refused tells what the search server refuses for good, as OnRefused of [search.BulkOptions]: the
// instance that follows the slot keeps it as dead letters.
func (w *Worker) Refused(ctx context.Context, refused []search.Refused) error {
	reports := make([]Report, len(refused))
	for i := range refused {
		reports[i] = RefusedReport(refused[i])
	}
	return w.report(ctx, reports...)
}

// Newer tells that a document has a newer version than an operation, as that of [search.BulkOptions]. Of
// each index only a version is told that is higher than all that were.
func (w *Worker) Newer(ctx context.Context, op *dbsync.Operation, version int64) error {
	t := &w.told
	t.mu.Lock()
	defer t.mu.Unlock() // while it is told, too: others wait for what they would tell less of
	if version <= t.newer[op.Index] {
		return nil
	}
	if err := w.report(ctx, NewerReport(op, version)); err != nil {
		return err
	}
	t.newer[op.Index] = version
	return nil
}

// Unanswered notes that there was no answer to a request, as that of [search.BulkOptions]. It is told
// before anything else is committed.
func (w *Worker) Unanswered(ops []dbsync.Operation) {
	w.told.mu.Lock()
	defer w.told.mu.Unlock()
	for i := range ops {
		if i == 0 || ops[i].Index != ops[i-1].Index {
			w.told.unanswered[ops[i].Index] = true
		}
	}
}

// Missing tells that an index is not there, as that of [search.BulkOptions]: operations on it are passed
// over. An index is made before its first operation is produced, so it was dropped. Whether it was one
// in use, the instance that follows the slot finds out.
func (w *Worker) Missing(ctx context.Context, index string) (drop bool, err error) {
	t := &w.told
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.missing[index]; ok && time.Since(at) < missingAgain {
		return true, nil
	}
	if err := w.report(ctx, Report{Kind: ReportMissing, Index: index}); err != nil {
		return false, err
	}
	w.o.Logger.Warn("an index is not there, operations on it are passed over", "index", index)
	t.missing[index] = time.Now()
	return true, nil
}

// tell tells what is still to be told.
func (w *Worker) tell(ctx context.Context) error {
	t := &w.told
	t.mu.Lock()
	indices := slices.Sorted(maps.Keys(t.unanswered))
	clear(t.unanswered)
	t.mu.Unlock()
	if len(indices) == 0 {
		return nil
	}
	err := w.report(ctx, Report{Kind: ReportUnanswered, Indices: indices})
	if err != nil { // it is still to be told
		t.mu.Lock()
		for _, index := range indices {
			t.unanswered[index] = true
		}
		t.mu.Unlock()
	}
	return err
}

// anew has what another instance was told told again: one that begins knows none of it.
func (t *told) anew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.newer)
	clear(t.missing)
}
