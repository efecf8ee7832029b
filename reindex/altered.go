package reindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"tidemark/indexer"
	"tidemark/indexer/search"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// Altered takes up that a table is not what it was before. The indices whose documents are
// made of it are looked at by Serve. It does not wait.
func (m *Manager) Altered(table catalog.TableName) {
	m.mu.Lock()
	for _, d := range m.o.Documents {
		if slices.Contains(d.Index.Tables(), table) {
			m.altered[d.Index.Name] = true
		}
	}
	m.mu.Unlock()
	m.poke()
}

// isSettled reports whether Run is done with an index, and whether one of its
// tables was altered since takeAltered.
func (m *Manager) isSettled(index string) (settled, altered bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled[index], m.altered[index]
}

// takeAltered reports whether a table of the index was altered since it was asked last.
func (m *Manager) takeAltered(index string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	altered := m.altered[index]
	delete(m.altered, index)
	return altered
}

// follow has an index follow what was done to its tables. A table that has only got columns
// which are NULL in the rows that it has costs new fields; otherwise the documents of all
// rows differ, and the index is rebuilt beside the one in use.
func (m *Manager) follow(ctx context.Context, d *indexer.Documents) error {
	st := m.State(d.Index.Name)
	tables := m.o.Catalog.Tables()
	if d.Index.Matches(st.Live.Fingerprint, tables) {
		return nil
	}
	if control.HasGrown(d.Index, st, tables) {
		if _, err := m.grow(ctx, d, st); !isRefusedMapping(err) {
			return err
		}
	}
	if err := m.start(ctx, d, "a table was altered"); err != nil {
		return err
	}
	return m.fill(ctx, d)
}

// isRefusedMapping reports whether the search server takes exception to new fields.
func isRefusedMapping(err error) bool {
	server, ok := errors.AsType[*search.ServerError](err)
	return ok && server.Status == http.StatusBadRequest
}

// grow returns the index in use the fields that it lacks. A crash before the note costs a
// rebuild.
func (m *Manager) grow(ctx context.Context, d *indexer.Documents, st *control.State) (*control.State, error) {
	tables := m.o.Catalog.Tables()
	grown := *st
	grown.Live.Fingerprint = d.Index.Fingerprint(tables)
	body, err := d.Index.Body(tables)
	if err == nil {
		grown.Live.Mapping, grown.Live.Tables, err = encode(d.Index, tables)
	}
	if err != nil {
		return nil, err
	}
	var parts struct {
		Mappings struct {
			Properties json.RawMessage `json:"properties"`
		} `json:"mappings"`
	}
	if err := json.Unmarshal(body, &parts); err != nil {
		return nil, fmt.Errorf("body of an index: %w", err)
	}
	fields, err := json.Marshal(parts.Mappings)
	if err != nil {
		return nil, err
	}
	err = m.retry(ctx, "add fields to "+st.Live.Physical, func(ctx context.Context) error {
		if err := m.o.Client.PutMapping(ctx, st.Live.Physical, fields); err != nil {
			return err
		}
		return m.o.States.Adopt(ctx, &grown)
	})
	if err != nil {
		return nil, err
	}
	m.set(&grown)
	m.o.Logger.Info("the index has the fields of new columns", "index", st.Name, "physical", st.Live.Physical)
	return &grown, nil
}
