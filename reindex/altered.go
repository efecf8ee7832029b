package reindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"tidemark/indexer/search"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// Altered takes up that a table is not what it was before. The indices whose documents are
// made of it are looked at by Serve. It does not wait.
func (m *Manager) Altered(table catalog.TableName) {
	for _, x := range m.indices {
		if slices.Contains(x.Tables(), table) {
			x.setAltered()
		}
	}
	m.wake()
}

// alter has an index be as its tables are since they were altered. A table that has only got
// columns which are NULL in the rows that it has costs new fields; otherwise the documents of
// all rows differ, and the index is rebuilt beside the one in use.
func (m *Manager) alter(ctx context.Context, x *index) error {
	st := x.state()
	tables := m.o.Catalog.Tables()
	if x.Matches(st.Live.Fingerprint, tables) {
		return nil
	}
	if control.HasGrown(x.Index, &st, tables) {
		grown, err := m.grow(ctx, x, st)
		if err == nil {
			x.set(grown)
		}
		if !isRefusedMapping(err) {
			return err
		}
	}
	if err := m.buildBeside(ctx, x, "a table was altered"); err != nil {
		return err
	}
	return m.backfill(ctx, x)
}

// isRefusedMapping reports whether the search server takes exception to new fields.
func isRefusedMapping(err error) bool {
	server, ok := errors.AsType[*search.ServerError](err)
	return ok && server.Status == http.StatusBadRequest
}

// grow returns the state of an index after it has put into the index in use the fields that it
// lacks. A crash before the note costs a rebuild.
func (m *Manager) grow(ctx context.Context, x *index, st control.State) (control.State, error) {
	tables := m.o.Catalog.Tables()
	st.Live.Fingerprint = x.Fingerprint(tables)
	body, err := x.Body(tables)
	if err == nil {
		st.Live.Mapping, st.Live.Tables, err = encode(x.Index, tables)
	}
	if err != nil {
		return control.State{}, err
	}
	var parts struct {
		Mappings struct {
			Properties json.RawMessage `json:"properties"`
		} `json:"mappings"`
	}
	if err := json.Unmarshal(body, &parts); err != nil {
		return control.State{}, fmt.Errorf("body of an index: %w", err)
	}
	fields, err := json.Marshal(parts.Mappings)
	if err != nil {
		return control.State{}, err
	}
	err = m.retry(ctx, "add fields to "+st.Live.Physical, func(ctx context.Context) error {
		if err := m.o.Client.PutMapping(ctx, st.Live.Physical, fields); err != nil {
			return err
		}
		return m.o.States.Adopt(ctx, &st)
	})
	if err != nil {
		return control.State{}, err
	}
	m.o.Logger.Info("the index has the fields of new columns", "index", st.Name, "physical", st.Live.Physical)
	return st, nil
}
