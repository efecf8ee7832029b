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
	mapping string // as State.Live.Mapping has it
}

// enter has st be what is known of an index, and documents written to its physical indices.
func (m *Manager) enter(x *index, st control.State) error {
	x.set(st)
	m.proofWake.raise()
	err := m.route(x, &st)
	m.keepPasses(x, &st)
	return err
}

// route says where documents are written to: those of the index in use by the mapping that
// they were made by, where that is another one than the mapping now, and the stream still has
// what it needs.
func (m *Manager) route(x *index, st *control.State) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.held {
		x.documents.SetTargets()
		if x.old != nil {
			x.old.SetTargets()
		}
		return nil
	}
	edited := st.Live.Physical != "" && st.Live.Mapping != "" && !x.joining && !x.EncodedAs(st.Live.Mapping) && !x.Matches(st.Live.Fingerprint, m.o.Catalog.Tables())
	if edited && x.old == nil && !m.follows() {
		before, err := mapping.DecodeIndex(st.Live.Mapping)
		if err != nil {
			return err
		}
		before.MaxDocumentBytes = x.Index.MaxDocumentBytes // of documents of either mapping
		if m.canMake(before) {
			x.old = &oldDocuments{&indexer.Documents{Index: before}, st.Live.Mapping}
			m.o.Keep(x.old.Documents)
		} else {
			m.o.Logger.Warn("the index in use gets documents of the edited mapping until it is replaced: the mapping before reads tables or columns that are not followed any more", "index", st.Name)
		}
	}
	if !edited || x.old == nil || x.old.mapping != st.Live.Mapping {
		x.documents.SetTargets(m.targets(st.Name, st.Live, st.Building)...)
		if x.old != nil {
			x.old.SetTargets() // its documents have been replaced
		}
		return nil
	}
	x.old.SetTargets(m.targets(st.Name, st.Live)...)
	x.documents.SetTargets(m.targets(st.Name, st.Building)...)
	return nil
}

// targets returns where documents of an index's physical indices are written to; a zero version is
// none.
func (m *Manager) targets(name string, versions ...control.Version) (targets []indexer.Target) {
	for _, v := range versions {
		if v.Physical != "" {
			targets = append(targets, indexer.Target{Alias: m.alias(name, v.Physical), Base: v.Base})
		}
	}
	return targets
}

// alias returns what operations on a physical index call it.
func (m *Manager) alias(name, physical string) string {
	return indexer.At(m.o.Cluster, search.WriteAlias(name, physical))
}

// canMake reports whether documents can be made by a mapping that is not in the file any
// more: the stream has all of its tables, and these have what it needs.
func (m *Manager) canMake(ix *mapping.Index) bool {
	tables := m.o.Catalog.Tables()
	for _, name := range ix.Tables() {
		if tables[name] == nil {
			return false
		}
	}
	return len((&mapping.Config{Indices: []*mapping.Index{ix}}).Check(tables)) == 0
}
