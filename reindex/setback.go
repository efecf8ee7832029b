package reindex

import (
	"context"
	"errors"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/reindex/control"
)

// Positions in the log start over where the database was set back to what it was, with its system
// identifier and its timeline: a volume that was restored from a snapshot, say. The control schema is
// as it was then, and the slot, too. What is left of the future that was lost is in the indices:
// documents with versions that are ahead of the log. docs/set-back.md says what else shows it.

// CheckNewest looks at the documents of an index that were written last, and returns what ahead says of
// the highest version among them. Only a physical index counts whose
// documents have versions of the log that is followed: st is what is noted of the index, nil if nothing
// is, and generation that of its tables now.
//
// An index that this user cannot search, or that is closed, is passed over: what is written to it is
// held back by its own reasons, and the versions that writes find there count all the same.
func CheckNewest(ctx context.Context, client *search.Client, st *control.State, generation string, ahead func(ctx context.Context, version pglogrepl.LSN, what string) error) error {
	for _, v := range versions(st) {
		if v.Generation != generation {
			continue
		}
		newest, err := client.Newest(ctx, v.Physical)
		if server, ok := errors.AsType[*search.ServerError](err); ok && server.Permanent() {
			continue
		}
		if err != nil {
			return err
		}
		if !newest.Found {
			continue
		}
		if err := ahead(ctx, search.Position(newest.Version, v.Base), "a document of "+v.Physical); err != nil {
			return err
		}
	}
	return nil
}

// checkNewest is CheckNewest for an index of this process.
func (m *Manager) checkNewest(ctx context.Context, x *index) error {
	generation, err := m.generation(ctx, x)
	if err != nil {
		return err
	}
	st := x.state()
	return CheckNewest(ctx, m.o.Client, &st, generation, m.o.Syncer.SetBack)
}

// Newer takes up the version that an operation has found in the search server in place of its own:
// newer than its own it is a matter of course, and ahead of the log it cannot be. Its error is a
// [*dbsync.SetBackError] then, and nothing of the batch is confirmed.
func (m *Manager) Newer(ctx context.Context, op *dbsync.Operation, version int64) error {
	for _, x := range m.indices {
		if physical, ok := search.PhysicalOf(x.Name, op.Index); ok {
			if st := x.state(); !st.Follows(physical) || x.hasMissed() {
				return nil
			}
			return m.o.Syncer.SetBack(ctx, search.Position(version, op.Base), "a document of "+physical+", or its deletion,")
		}
	}
	return nil
}
