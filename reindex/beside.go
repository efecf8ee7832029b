package reindex

import (
	"context"
	"fmt"
)

// A cluster beside the first one may be away when the slot becomes ours, and holds nobody up: what its
// indices are is known from the control schema, and documents go to the topic that its workers read. What
// has to be done in the cluster itself is done when it answers, while the stream goes on, in the way in which it is
// done when tables are altered: see conform.

// Resume has documents of the indices written to where they were noted to be written to. It is called in the
// place of [Manager.Begin] when the slot is ours, and asks nothing of the cluster. An index of which nothing
// is noted gets no documents before [Manager.BeginBeside].
func (m *Manager) Resume(ctx context.Context) error {
	if err := m.o.Control.BeginEpoch(ctx); err != nil {
		return err
	}
	if m.follows() {
		return m.checkOurs(ctx)
	}
	for _, x := range m.indices {
		noted, err := m.o.Control.States().Read(ctx, x.Name)
		if err == nil && noted != nil {
			err = m.enter(x, *noted)
		}
		if err != nil {
			return fmt.Errorf("index %s: %w", x.Name, err)
		}
	}
	m.resumed.Store(true)
	return nil
}

// BeginBeside does the rest of what [Manager.Begin] does, when [Manager.Resume] has returned: it connects to the cluster, and
// finds out what every index needs. Serve does that. After an error it may be called again.
func (m *Manager) BeginBeside(ctx context.Context) error {
	if m.o.Client == nil {
		var err error
		if m.o.Client, m.o.Bulk, err = m.o.Connect(ctx); err != nil {
			return err
		}
	}
	claims, err := m.claim(ctx)
	if err != nil {
		return err
	}
	if err := m.forgetOthers(ctx); err != nil {
		return err
	}
	for _, x := range m.indices {
		if err := m.beginIndexBeside(ctx, x, claims[x]); err != nil {
			return fmt.Errorf("index %s: %w", x.Name, err)
		}
	}
	if err := m.lookAtRecoveries(ctx); err != nil {
		return err
	}
	close(m.begun)
	return nil
}

func (m *Manager) beginIndexBeside(ctx context.Context, x *index, c *claimed) error {
	if c.noted != nil {
		if err := m.enter(x, *c.noted); err != nil { // without what is somebody else's
			return err
		}
		if err := m.checkNewest(ctx, x); err != nil {
			return err
		}
	}
	if err := m.beginProof(ctx, x); err != nil {
		return err
	}
	if c.unproven != "" {
		if err := m.unprove(ctx, x, c.unproven); err != nil {
			return err
		}
	}
	if p := m.o.Syncer.Promotion(); p != nil && x.state().Live.Physical != "" {
		if err := m.unprove(ctx, x, p.String()+": rows that were read before may have had changes that it lacked"); err != nil {
			return err
		}
	}
	if c.noted != nil {
		generation, err := m.generation(ctx, x)
		if err != nil {
			return err
		}
		need, err := m.need(ctx, x, c.noted, generation)
		if err != nil {
			return err
		}
		x.setDue(need.Backfill)
	}
	x.setAltered()
	return nil
}
