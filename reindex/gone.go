package reindex

import (
	"context"
	"fmt"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// dropGone drops the indices that a name with {schema} stood for, and whose tables are gone with their schema:
// no row has what is in them, and nobody would ever take it out. Those whose tables are there, as of an index that was
// taken out of the file, stay. A crash in between costs that the rest is dropped by the next start.
func (m *Manager) dropGone(ctx context.Context, kept []string) error {
	others, err := m.o.Control.States().Others(ctx, m.o.Syncer.Generation(), kept)
	if err != nil {
		return err
	}
	for _, name := range others {
		st, err := m.o.Control.States().Read(ctx, name)
		if err != nil {
			return err
		}
		if st == nil {
			continue
		}
		gone, err := m.isGone(ctx, st.Newest().Mapping)
		if err != nil || !gone {
			if err != nil {
				return err
			}
			continue
		}
		for _, physical := range []string{st.Building.Physical, st.Live.Physical} {
			if physical == "" {
				continue
			}
			if err := m.drop(ctx, name, physical); err != nil {
				return fmt.Errorf("index %s, whose tables are gone: %w", name, err)
			}
		}
		if err := m.o.Control.States().Remove(ctx, name); err != nil {
			return err
		}
		if err := m.o.Control.Proofs().Forget(ctx, []string{name}); err != nil {
			return err
		}
		m.o.Logger.Info("an index was dropped, as the schema of its tables is gone", "index", name)
	}
	return nil
}

// isGone reports whether all root tables of a mapping stood in the place of patterns of the file, and are gone.
func (m *Manager) isGone(ctx context.Context, text string) (bool, error) {
	ix, err := mapping.DecodeIndex(text)
	if err != nil {
		return false, nil // it was noted by another version, and stays
	}
	var names []catalog.TableName
	for _, s := range ix.Sources {
		stands := false
		for _, x := range m.indices {
			stands = stands || x.StandsFor(s.Table)
		}
		if !stands {
			return false, nil
		}
		names = append(names, s.Table)
	}
	tables, err := m.o.Catalog.Load(ctx, m.o.Syncer.DB(), names)
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		if t != nil {
			return false, nil
		}
	}
	return len(names) > 0, nil
}
