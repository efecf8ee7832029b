package reindex

import (
	"context"

	"tidemark/indexer/search"
)

// barrier waits until everything that was committed before the call is stored in the cluster.
func (m *Manager) barrier(ctx context.Context) error {
	if err := m.o.Syncer.Barrier(ctx); err != nil {
		return err
	}
	return m.applied(ctx)
}

// applied waits until what the Syncer calls stored is: where operations go through a topic, the slot moves when they
// are in it.
func (m *Manager) applied(ctx context.Context) error {
	if m.o.Applied == nil {
		return nil
	}
	return m.o.Applied(ctx)
}

// Missing is called when somebody else who writes has found no index that a write alias stands for, and
// has passed its operations over: one that is in use, or is being filled, is made anew.
func (m *Manager) Missing(writeAlias string) {
	for _, x := range m.indices {
		physical, ok := search.PhysicalOf(x.Name, writeAlias)
		if st := x.state(); ok && (physical == st.Live.Physical || physical == st.Building.Physical) {
			x.setAltered()
			m.wake()
		}
	}
}
