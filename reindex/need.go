package reindex

import (
	"context"
	"fmt"

	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// A Need is what has to be done so that an index is as its mapping and its tables have it.
// The zero value is nothing.
type Need struct {
	// Backfill is why a new physical index has to be built and backfilled, "" if the one that is
	// there, or that is being backfilled, will do.
	Backfill string

	// Grow says that the index in use needs fields for new columns, which are NULL in all rows
	// that were there before, and nothing else.
	Grow bool
}

// NeedOf returns what an index needs: here is said when a rebuild is due. st is what is known of
// the index, nil if nothing is; generation is that of its tables now, see [Generation].
func NeedOf(ctx context.Context, client *search.Client, ix *mapping.Index, st *control.State, tables catalog.Tables, generation string) (Need, error) {
	switch {
	case st == nil:
		return Need{Backfill: "the index is new"}, nil
	case st.Generation != generation:
		return Need{Backfill: "changes may be missing: the slot or a table is another one, or one of them was not followed for a while"}, nil
	}
	newest := st.Live
	if st.Building.Physical != "" {
		newest = st.Building
	}
	need := Need{}
	if !ix.Matches(newest.Fingerprint, tables) {
		if need.Grow = control.HasGrown(ix, st, tables); !need.Grow {
			return Need{Backfill: "the mapping or a table changed"}, nil
		}
	}
	for _, physical := range []string{newest.Physical, st.Live.Physical} {
		if physical == "" {
			continue
		}
		there, err := client.IndexExists(ctx, physical, search.WriteAlias(ix.Name, physical))
		if err != nil {
			return Need{}, err
		}
		if !there {
			return Need{Backfill: fmt.Sprintf("the physical index %s is gone", physical)}, nil
		}
	}
	return need, nil
}

// need returns what an index needs at the start, by what the control schema has of it.
func (m *Manager) need(ctx context.Context, x *index, noted *control.State, generation string) (Need, error) {
	need, err := NeedOf(ctx, m.o.Client, x.Index, noted, m.o.Catalog.Tables(), generation)
	switch {
	case err != nil || need.Backfill != "" || noted.Building.Physical != "":
		return need, err
	case m.o.Rebuild != nil && m.o.Rebuild(x.Name):
		return Need{Backfill: "it was asked for"}, nil
	}
	return need, m.checkAlias(ctx, noted)
}
