package reindex

import (
	"context"

	"tidemark/reindex/verify"
)

// unprove has the rows and documents of an index compared, and repairs what differs.
func (m *Manager) unprove(_ context.Context, x *index, why string) error {
	m.o.Logger.Warn("an index may differ from its tables: rows and documents are compared", "index", x.Name, "why", why)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unproven = why
	m.lookWake.raise()
	return nil
}

// prove compares the rows and documents of an index that is unproven.
func (m *Manager) prove(ctx context.Context, x *index) error {
	x.mu.Lock()
	why := x.unproven
	ready := x.runDone && x.known.Building.Physical == ""
	x.mu.Unlock()
	if why == "" || !ready {
		return nil
	}
	v, err := verify.Run(ctx, x.Index, verify.Options{
		DB: m.o.Syncer.DB(), Client: m.o.Client, Schema: m.o.Schema, Slot: m.o.Slot, Tables: m.o.Catalog.Tables(), Logger: m.o.Logger,
		Repair: true, Progress: verify.NoProgress{}, Found: func(verify.Difference) error { return nil },
	})
	if err != nil {
		return err
	}
	m.o.Logger.Info("rows and documents were compared", "index", x.Name, "rows", v.Rows, "documents", v.Documents, "repaired", v.Repaired, "left", v.Differences())
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unproven = ""
	return nil
}
