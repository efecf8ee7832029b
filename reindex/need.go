package reindex

import (
	"context"
	"fmt"
	"slices"

	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// A Need is what has to be done so that an index is as its mapping and its tables have it.
// The zero value is nothing. Each text is why, "" if that need not be done.
type Need struct {
	// Hold: no documents can be made of the tables as they are. Nothing else is needed until
	// they can. Gone says that this is since none of them is left: no row can change meanwhile.
	Hold string
	Gone bool

	// Backfill: a new physical index has to be built and backfilled; "" if the one that is
	// there, or that is being backfilled, will do. What is below is not needed then.
	Backfill string

	// Join are the root tables that came into the place of a pattern, or were made anew there: their rows are
	// to be stored beside the others in the index in use. Leave says that the documents of others, whose
	// tables are gone, are to be removed.
	Join  []catalog.TableName
	Leave bool

	// Grow says that the index in use needs fields for new columns, which are NULL in all rows
	// that were there before.
	Grow bool

	// Refresh: the documents of all rows have to be stored again in the index in use.
	Refresh string

	// Compare: the rows may be others than the documents were made of, and nothing tells which.
	Compare string

	// note says that the tables are to be noted as they are now when the rest is done.
	note bool
}

// NeedOf returns what an index needs: here is said what comes of a change of the mapping, the
// catalog or the slot. st is what is known of the index, nil if nothing is; tables are as the
// catalog has them, nil where one is gone; generation is that of the tables, see [Generation].
func NeedOf(ctx context.Context, client *search.Client, ix *mapping.Index, st *control.State, tables catalog.Tables, generation string) (Need, error) {
	if ix = ix.Present(tables); len(ix.Sources) == 0 {
		return Need{Hold: "all tables that a pattern of it stood for are gone; hint: make the first schema", Gone: true}, nil
	}
	for _, name := range ix.Tables() {
		if why := unusable(name, tables[name]); why != "" {
			return Need{Hold: why}, nil
		}
	}
	if why := ix.Unfit(tables); why != "" {
		return Need{Hold: why}, nil
	}
	if st == nil || st.Live.Physical == "" && st.Building.Physical == "" {
		return Need{Backfill: "the index is new"}, nil
	}
	// A schema that got another name has the same tables, and so the same generation.
	if common, was, joined, left := joinOf(ix, st, tables, generation); common != nil {
		need, err := NeedOf(ctx, client, common, was, tables, was.Live.Generation)
		if err != nil || need.Backfill != "" || need.Hold != "" {
			return need, err
		}
		// The rest of what is needed is seen when they have joined.
		return Need{Join: joined, Leave: left}, nil
	}
	if st.Newest().Generation != generation {
		return Need{Backfill: "changes may be missing: the slot or a table is another one, or one of them was not followed for a while"}, nil
	}
	newest := st.Newest()
	need := Need{}
	if !ix.Matches(newest.Fingerprint, tables) {
		if need.Grow = control.HasGrown(ix, st, tables); !need.Grow {
			return Need{Backfill: "the mapping or a table changed"}, nil
		}
	}
	found, err := effects(ix, newest.Tables, tables)
	if err != nil {
		return Need{}, fmt.Errorf("index %s: %w", ix.Name, err)
	}
	if why := found[rebuild]; why != nil {
		return Need{Backfill: "a table changed: " + list(why)}, nil
	}
	need.Refresh, need.Compare = list(found[refresh]), list(found[compare])
	need.note = len(found) > 0 || need.Grow
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
	need, err := NeedOf(ctx, m.o.Client, x.Index, noted, m.o.Catalog.Present(), generation)
	switch {
	case err != nil || need.Hold != "" || need.Backfill != "":
		return need, err
	case noted.Building.Physical != "":
		if !sameOrder(x.Index, noted.Building.Mapping) {
			need = Need{Backfill: "its tables are read in another order than when they began to be"}
		}
		return need, nil
	case m.o.Rebuild != nil && m.o.Rebuild(x.Name):
		return Need{Backfill: "it was asked for"}, nil
	case m.o.Syncer.Position() > noted.Live.Base+search.MaxSpan/2:
		return Need{Backfill: "the versions of its documents come to their end"}, nil
	}
	return need, m.checkAlias(ctx, noted)
}

// sameOrder reports whether the root tables of an index are those of a mapping as it was stored, in the same order: how
// far a filling or a comparison is was noted by their numbers.
func sameOrder(ix *mapping.Index, stored string) bool {
	if stored == "" {
		return true // an early version noted none
	}
	before, err := mapping.DecodeIndex(stored)
	if err != nil {
		return false
	}
	return slices.EqualFunc(ix.Sources, before.Sources, func(a, b *mapping.Source) bool { return a.Table == b.Table && a.Prefix() == b.Prefix() })
}
