package reindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"tidemark/indexer"
	"tidemark/mapping"
)

// A change is what was done to a table that documents are made of.
type change struct{ before, now *mapping.Table }

// Altered takes up that a table is not what it was before. The indices whose documents are
// made of it are looked at by Serve. It does not wait.
func (m *Manager) Altered(before, now *mapping.Table) {
	m.mu.Lock()
	for _, d := range m.o.Documents {
		if slices.Contains(d.Index.Tables(), now.TableName()) {
			m.altered[d.Index.Name] = append(m.altered[d.Index.Name], change{before, now})
		}
	}
	m.mu.Unlock()
	m.poke()
}

// isSettled tells whether Run is done with an index, and whether there is something that
// takeAltered returns.
func (m *Manager) isSettled(index string) (settled, altered bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled[index], len(m.altered[index]) > 0
}

// takeAltered returns what was done to the tables of an index since it was asked last.
func (m *Manager) takeAltered(index string) []change {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes := m.altered[index]
	delete(m.altered, index)
	return changes
}

// follow has an index follow what was done to its tables. A table that has only got columns
// which are NULL in the rows that it has costs new fields; otherwise the documents of all
// rows differ, and the index is rebuilt beside the one in use.
func (m *Manager) follow(ctx context.Context, d *indexer.Documents, changes []change) error {
	st := m.State(d.Index.Name)
	fingerprint := d.Index.Fingerprint(m.o.Catalog.Tables())
	if st.LiveFingerprint == fingerprint {
		return nil
	}
	grown := !slices.ContainsFunc(changes, func(c change) bool { return !c.now.Grown(c.before) })
	if grown {
		if err := m.grow(ctx, d, st, fingerprint); !isRefusedMapping(err) {
			return err
		}
	}
	if err := m.start(ctx, d, "a table was altered"); err != nil {
		return err
	}
	return m.fill(ctx, d)
}

// isRefusedMapping tells whether the search server takes exception to new fields.
func isRefusedMapping(err error) bool {
	server, ok := errors.AsType[*indexer.ServerError](err)
	return ok && server.Status == http.StatusBadRequest
}

// grow gives the index in use the fields that it lacks. A crash before the note costs a
// rebuild.
func (m *Manager) grow(ctx context.Context, d *indexer.Documents, st *State, fingerprint string) error {
	body, err := d.Index.Body(m.o.Catalog.Tables())
	if err != nil {
		return err
	}
	var parts struct {
		Mappings struct {
			Properties json.RawMessage `json:"properties"`
		} `json:"mappings"`
	}
	if err := json.Unmarshal(body, &parts); err != nil {
		return fmt.Errorf("body of an index: %w", err)
	}
	fields, err := json.Marshal(parts.Mappings)
	if err != nil {
		return err
	}
	return m.retry(ctx, "add fields to "+st.Live, func(ctx context.Context) error {
		if err := m.o.Client.PutMapping(ctx, st.Live, fields); err != nil {
			return err
		}
		if err := m.o.States.adopt(ctx, st, fingerprint); err != nil {
			return err
		}
		grown := *st
		grown.LiveFingerprint = fingerprint
		m.set(&grown)
		m.o.Logger.Info("the index has the fields of new columns", "index", st.Name, "physical", st.Live)
		return nil
	})
}
