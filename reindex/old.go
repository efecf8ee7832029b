package reindex

import (
	"tidemark/indexer"
	"tidemark/mapping"
)

// An index that is rebuilt because its mapping was edited has documents of two kinds for a
// while: those in use are made as before, by the mapping that they were made by, and those
// of the new physical index by the edited one. Searchers notice nothing until the alias
// moves.

// split says where documents are written to. old is for those in use, nil where the mapping
// makes the same ones as before, or the one before cannot be followed any more.
func (m *Manager) split(d *indexer.Documents, st *State) error {
	if m.old[st.Name] == nil && st.Live != "" && st.Building != "" && st.LiveMapping != "" && st.LiveMapping != st.BuildingMapping {
		ix, err := mapping.DecodeIndex(st.LiveMapping)
		if err != nil {
			return err
		}
		if m.followed(ix) {
			old := &indexer.Documents{Index: ix}
			m.o.Keep(old)
			m.mu.Lock()
			m.old[st.Name] = old
			m.mu.Unlock()
		} else {
			m.o.Logger.Warn("the index in use gets documents of the edited mapping until it is replaced: the mapping before reads tables or columns that are not followed any more", "index", st.Name)
		}
	}
	old := m.old[st.Name]
	if old == nil {
		d.SetTargets(targets(st)...)
		return nil
	}
	if st.Building == "" {
		old.SetTargets()
		d.SetTargets(targets(st)...)
		return nil
	}
	old.SetTargets(indexer.WriteAlias(st.Name, st.Live))
	d.SetTargets(indexer.WriteAlias(st.Name, st.Building))
	return nil
}

// followed tells whether documents can be made by a mapping that is not in the file any
// more: all of its tables are followed, and have what it needs.
func (m *Manager) followed(ix *mapping.Index) bool {
	tables := m.o.Catalog.Tables()
	for _, name := range ix.Tables() {
		if tables[name] == nil {
			return false
		}
	}
	return len((&mapping.Config{Indices: []*mapping.Index{ix}}).Check(tables)) == 0
}
