package reindex

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/reindex/control"
)

// checkAlias makes sure that searchers see the index that is kept.
func (m *Manager) checkAlias(ctx context.Context, st *control.State) error {
	of, err := m.o.Client.AliasTargets(ctx, st.Name)
	if err != nil || slices.Equal(of, []string{st.Live.Physical}) {
		return err
	}
	if len(of) > 0 {
		return &dbsync.PermanentError{Err: fmt.Errorf("the alias stands for %s, and not for %s, which is kept equal to the table; "+
			"hint: remove the alias, then it is put back, or give the mapping another name", strings.Join(of, ", "), st.Live.Physical)}
	}
	m.o.Logger.Warn("the alias was gone, it is put back", "index", st.Name, "physical", st.Live.Physical)
	_, err = m.o.Client.MoveAlias(ctx, st.Name, st.Live.Physical)
	return err
}

// checkForeign makes sure that the name of an index that is new does not stand for one that
// somebody else made: it would be taken away from that without having been asked for.
func (m *Manager) checkForeign(ctx context.Context, name string) error {
	of, err := m.o.Client.AliasTargets(ctx, name)
	if err != nil {
		return err
	}
	if foreign := Foreign(name, of); len(foreign) > 0 {
		return &dbsync.PermanentError{Err: fmt.Errorf("the alias stands for %s, which somebody else made; "+
			"hint: give the mapping another name, or let run --adopt backfill an index and move the alias to it", strings.Join(foreign, ", "))}
	}
	return nil
}

// Foreign returns those of the indices behind an alias that were not made by Tidemark.
func Foreign(alias string, indices []string) (foreign []string) {
	for _, physical := range indices {
		if _, ours := search.PhysicalTime(alias, physical); !ours {
			foreign = append(foreign, physical)
		}
	}
	return foreign
}
