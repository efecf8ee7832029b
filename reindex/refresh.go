package reindex

import (
	"context"
	"fmt"

	"tidemark/indexer"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// refresh stores the documents of some rows again, in every physical index of an index.
func (m *Manager) refresh(ctx context.Context, x *index, q *control.Request) error {
	sources := q.Of(x.Index)
	if len(sources) == 0 {
		return fmt.Errorf("the running mapping has no documents of %s in index %s", q.Source, x.Name)
	}
	if x.isHeld() {
		return fmt.Errorf("no documents are stored in index %s now, see its alarm; when they are again it is built anew, which stores these", x.Name)
	}
	var done int64 // rows of all sources
	for _, s := range sources {
		rows, err := m.refreshedRows(x, s, q)
		if err != nil {
			return err
		}
		err = m.copyRows(ctx, rows, func(c *chunk) error {
			done += int64(c.window.Len())
			return m.retry(ctx, "note the progress of a refresh", func(ctx context.Context) error { return m.o.Control.Requests().Advance(ctx, q.ID, done) })
		})
		if err != nil {
			return err
		}
	}
	return m.applied(ctx) // who has asked looks at the documents then
}

// refreshSource stores the documents of all rows of a source again, and returns how many rows were read.
func (m *Manager) refreshSource(ctx context.Context, x *index, source *mapping.Source) (rows int64, err error) {
	pager, err := m.refreshedRows(x, source, &control.Request{})
	if err != nil {
		return 0, err
	}
	err = m.copyRows(ctx, pager, func(c *chunk) error {
		rows += int64(c.window.Len())
		return nil
	})
	return rows, err
}

// refreshedRows are the rows of one source that a request is about.
func (m *Manager) refreshedRows(x *index, source *mapping.Source, q *control.Request) (*indexer.Pager, error) {
	plan, err := indexer.NewRowPlan(x.documents, source, m.o.Catalog.Tables(), x.documents.Targets()...)
	if err != nil {
		return nil, err
	}
	plan.Live = true
	rows := indexer.NewPager(plan, nil)
	rows.Where = q.Condition
	for _, key := range q.Keys {
		rows.Keys = append(rows.Keys, indexer.KeyOf(key))
	}
	return rows, nil
}
