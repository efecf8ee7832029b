package reindex

import (
	"tidemark/indexer"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// An index that is rebuilt because its mapping was edited has documents of two kinds for a
// while: those in use are made as before, by the mapping that they were made by, and those
// of the new physical index by the edited one. Searchers notice nothing until the alias
// moves.

// An oldDocuments is the documents in use that are made by an earlier mapping.
type oldDocuments struct {
	*indexer.Documents
	mapping string // as State.LiveMapping has it
}

// split says where documents are written to: those of the index in use by the mapping that
// they were made by, where that is another one than the mapping now and can be followed
// still.
func (m *Manager) split(d *indexer.Documents, st *control.State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.old[st.Name]
	edited := st.Live.Physical != "" && st.Live.Mapping != "" && !d.Index.EncodedAs(st.Live.Mapping) && !d.Index.Matches(st.Live.Fingerprint, m.o.Catalog.Tables())
	if edited && old == nil && !m.hasBegun() {
		ix, err := mapping.DecodeIndex(st.Live.Mapping)
		if err != nil {
			return err
		}
		if m.followed(ix) {
			old = &oldDocuments{&indexer.Documents{Index: ix}, st.Live.Mapping}
			m.o.Keep(old.Documents)
			m.old[st.Name] = old
		} else {
			m.o.Logger.Warn("the index in use gets documents of the edited mapping until it is replaced: the mapping before reads tables or columns that are not followed any more", "index", st.Name)
		}
	}
	if !edited || old == nil || old.mapping != st.Live.Mapping {
		d.SetTargets(targets(st)...)
		if old != nil {
			old.SetTargets() // its documents have been replaced
		}
		return nil
	}
	old.SetTargets(search.WriteAlias(st.Name, st.Live.Physical))
	if st.Building.Physical == "" {
		d.SetTargets()
	} else {
		d.SetTargets(search.WriteAlias(st.Name, st.Building.Physical))
	}
	return nil
}

// hasBegun reports whether Begin has succeeded: messages of the stream may be handled.
func (m *Manager) hasBegun() bool {
	select {
	case <-m.begun:
		return true
	default:
		return false
	}
}

// followed reports whether documents can be made by a mapping that is not in the file any
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
