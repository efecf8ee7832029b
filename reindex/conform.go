package reindex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// conform has an index be as its tables are, if they are not what it was made of any more: see
// rules for what comes of which difference. What the tables are is noted when all of it is done, so
// a crash costs that it is done again.
func (m *Manager) conform(ctx context.Context, x *index) error {
	strayed := x.takeStrayed()
	err := m.conformOnce(ctx, x, strayed)
	if err != nil && strayed {
		x.setStrayed(true)
	}
	if errors.Is(err, errCancelled) {
		return nil
	}
	return m.failed(ctx, x, err)
}

func (m *Manager) conformOnce(ctx context.Context, x *index, strayed bool) error {
	tables := m.o.Catalog.Present()
	st := x.state()
	need, err := m.needNow(ctx, x, &st, tables)
	if err != nil {
		return err
	}
	if need.Hold != "" {
		return m.retry(ctx, "note that index "+x.Name+" is held", func(ctx context.Context) error { return m.holdFor(ctx, x, need) })
	}
	missed := x.hasMissed() || x.isHeld()
	if need.Joins() && !missed {
		return m.join(ctx, x, st)
	}
	if due := x.takeDue(); need.Backfill == "" {
		need.Backfill = due
	}
	if missed && need.Backfill == "" {
		need.Backfill = "changes are missing: for a while no documents could be made of its tables"
	}
	if need.Grow && need.Backfill == "" { // nothing is being built then, see HasGrown
		grown, err := m.grow(ctx, x, st, tables)
		switch {
		case err == nil:
			st = grown
			x.set(st)
		case isRefusedMapping(err):
			need.Backfill = "the index in use does not take the fields of new columns"
		default:
			return err
		}
	}
	if need.Backfill != "" {
		if err := m.buildBeside(ctx, x, need.Backfill); err != nil {
			return err
		}
		return m.backfill(ctx, x)
	}
	if m.release(x) && need.Compare == "" {
		need.Compare = "for a while it could not be built anew, and documents may have been refused"
	}
	if strayed && !need.Grow && need.Refresh == "" && need.Compare == "" {
		need.Compare = "a table was altered and altered back"
	}
	if err := m.route(x, &st); err != nil {
		return err
	}
	if st.Building.Physical != "" { // work on it has failed before its end
		x.setAltered() // what else is needed is for the index that it becomes
		return m.backfill(ctx, x)
	}
	if need.Refresh != "" {
		if err := m.refreshAll(ctx, x, need.Refresh); err != nil {
			return err
		}
	}
	if need.Compare != "" {
		if err := m.unprove(ctx, x, need.Compare); err != nil {
			return err
		}
	}
	if !need.note {
		return nil
	}
	if st.Live.Mapping, st.Live.Tables, err = encode(x.Index, tables); err != nil {
		return err
	}
	if err := m.retry(ctx, "note what the tables of "+x.Name+" are", func(ctx context.Context) error { return m.o.Control.States().Adopt(ctx, &st) }); err != nil {
		return err
	}
	x.set(st)
	return nil
}

// needNow returns what an index needs while it is followed.
func (m *Manager) needNow(ctx context.Context, x *index, st *control.State, tables catalog.Tables) (need Need, err error) {
	err = m.retry(ctx, "look what index "+x.Name+" needs", func(ctx context.Context) error {
		generation, err := m.generation(ctx, x)
		if err == nil {
			need, err = NeedOf(ctx, m.o.Client, x.Index, st, tables, generation)
		}
		return err
	})
	return need, err
}

// refreshAll stores the documents of all rows again, since values in them differ.
func (m *Manager) refreshAll(ctx context.Context, x *index, why string) error {
	m.o.Logger.Info("a table was altered: the documents of all rows are stored again", "index", x.Name, "why", why)
	rows := int64(0)
	for _, s := range x.Sources {
		n, err := m.refreshSource(ctx, x, s)
		if err != nil {
			return err
		}
		rows += n
	}
	m.o.Logger.Info("the documents of all rows were stored again", "index", x.Name, "rows", rows)
	return nil
}

// isRefusedMapping reports whether the search server takes exception to fields, or to the settings
// or mappings of a new index.
func isRefusedMapping(err error) bool {
	server, ok := errors.AsType[*search.ServerError](err)
	return ok && server.Status == http.StatusBadRequest
}

// grow returns the state of an index after it has put into the index in use the fields that it
// lacks. tables are those that it was found to need no more for: a newer one may need a rebuild. A
// crash before the note costs a rebuild.
func (m *Manager) grow(ctx context.Context, x *index, st control.State, tables catalog.Tables) (control.State, error) {
	fields, err := fieldsOf(x.Index, tables)
	if err != nil {
		return control.State{}, err
	}
	st.Live.Fingerprint = x.Fingerprint(tables)
	err = m.retry(ctx, "add fields to "+st.Live.Physical, func(ctx context.Context) error {
		if err := m.o.Client.PutMapping(ctx, st.Live.Physical, fields); err != nil {
			return err
		}
		return m.o.Control.States().Adopt(ctx, &st)
	})
	if err != nil {
		return control.State{}, err
	}
	m.o.Logger.Info("the index has the fields of new columns", "index", st.Name, "physical", st.Live.Physical)
	return st, nil
}

// fieldsOf returns the mappings of an index, with its fields alone.
func fieldsOf(ix *mapping.Index, tables catalog.Tables) ([]byte, error) {
	body, err := ix.Body(tables)
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
	return json.Marshal(parts.Mappings)
}
