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
	// Fill is why a new physical index has to be filled, "" if the one that is there, or that
	// is being filled, will do.
	Fill string

	// Grow says that the index in use needs fields for new columns, which are NULL in all rows
	// that were there before, and nothing else.
	Grow bool
}

// Judge says what an index needs. st is what is known of it, nil if nothing is; generation
// is that of its tables now, see [Generation].
func Judge(ctx context.Context, client *search.Client, ix *mapping.Index, st *control.State, tables catalog.Tables, generation string) (Need, error) {
	switch {
	case st == nil:
		return Need{Fill: "the index is new"}, nil
	case st.Generation != generation:
		return Need{Fill: "changes may be missing: the slot or a table is another one, or one of them was not followed for a while"}, nil
	}
	physical, of := st.Live.Physical, st.Live.Fingerprint
	if st.Building.Physical != "" {
		physical, of = st.Building.Physical, st.Building.Fingerprint
	}
	need := Need{}
	if !ix.Matches(of, tables) {
		if need.Grow = control.HasGrown(ix, st, tables); !need.Grow {
			return Need{Fill: "the mapping or a table changed"}, nil
		}
	}
	for _, physical := range []string{physical, st.Live.Physical} {
		if physical == "" {
			continue
		}
		there, err := client.IndexExists(ctx, physical, search.WriteAlias(ix.Name, physical))
		if err != nil {
			return Need{}, err
		}
		if !there {
			return Need{Fill: fmt.Sprintf("the physical index %s is gone", physical)}, nil
		}
	}
	return need, nil
}

// encode returns the mapping of an index and what its tables are, for the control schema.
func encode(ix *mapping.Index, tables catalog.Tables) (mappingText, tablesText string, err error) {
	if mappingText, err = ix.Encode(); err != nil {
		return "", "", err
	}
	of := make(catalog.Tables)
	for _, name := range ix.Tables() {
		of[name] = tables[name]
	}
	if tablesText, err = of.Encode(); err != nil {
		return "", "", fmt.Errorf("index %s: %w", ix.Name, err)
	}
	return mappingText, tablesText, nil
}
