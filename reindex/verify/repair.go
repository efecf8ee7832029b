package verify

import (
	"context"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
)

// repair repairs what can be fixed, looks at it again, and returns the same differences with what
// came of it.
func (v *verifier) repair(ctx context.Context, real []different) ([]different, error) {
	failed := make(map[*source]error)
	rows := make(map[*source][][]string)
	var extra []dbsync.Operation
	for i := range real {
		d := &real[i]
		switch {
		case d.Kind == Extra:
			seen := search.Stored{ID: d.ID, Routing: d.Routing, Version: d.Version}
			extra = append(extra, search.RemovalOf(search.WriteAlias(v.ix.Name, v.physical), seen, v.base))
		case d.Kind != Unmade:
			rows[d.source] = append(rows[d.source], indexer.KeyTexts(d.key))
		}
	}
	refused, err := v.remove(ctx, extra)
	if err != nil {
		return nil, err
	}
	for s, keys := range rows {
		if failed[s], err = v.slot.Reread(ctx, s.Source, keys); err != nil {
			return nil, err
		}
	}
	for i := range real {
		d := &real[i]
		if d.Kind != Unmade {
			v.suspects[d.location] = &suspect{location: d.location, source: d.source, key: d.key, hashed: d.hashed, tried: &d.Difference}
		}
	}
	still, err := v.decide(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range still {
		if d.tried == nil { // moved here
			continue
		}
		if d.tried.Note == "" {
			d.tried.Note = "it was repaired, and differs all the same: is there a dead letter of it?"
		}
		if why := refused[d.location]; why != nil {
			d.tried.Note = why.Error()
		} else if why := failed[d.source]; why != nil && d.Kind != Extra {
			d.tried.Note = why.Error()
		}
	}
	return real, nil
}

// remove removes documents that have no row, if they are as they were seen: the document of
// a row that has come meanwhile is newer, and stays.
func (v *verifier) remove(ctx context.Context, ops []dbsync.Operation) (refused map[location]error, err error) {
	refused = make(map[location]error)
	if len(ops) == 0 {
		return refused, nil
	}
	bulk, err := search.NewBulk(v.o.Client, search.BulkOptions{Beside: v.o.Bulk, Alarm: v.alarm, Logger: v.o.Logger,
		OnRefused: func(_ context.Context, ops []search.Refused) error {
			for _, r := range ops {
				refused[location{r.Operation.ID, r.Operation.Routing}] = r.Err
			}
			return nil
		}})
	if err != nil {
		return nil, err
	}
	return refused, bulk.Write(ctx, ops)
}
