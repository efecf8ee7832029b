package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/indexer/search"
)

const (
	// Documents are read from the index so many, or for so many bytes of those of rows, at a
	// time.
	comparedDocuments = 1000
	comparedBytes     = 2 << 20

	// smallTable is up to how many rows a sample reads all of them: rows are chosen then, and
	// not pages.
	smallTable = 1_000_000
)

// A comparer gathers documents of rows and holds them against the stored ones.
type comparer struct {
	v     *verifier
	s     *source
	docs  []*row
	bytes int
}

// readRows holds the documents of all rows of the source with this number, or of a sample, against
// the stored ones.
func (v *verifier) readRows(ctx context.Context, number int) error {
	s := v.sources[number]
	c := &comparer{v: v, s: s}
	if v.o.Sample > 0 {
		_, err := c.read(ctx, s.rows, sampleQuery(s.rows.RowPlan, v.o.Sample), nil, nil)
		if err != nil {
			return fmt.Errorf("read a sample: %w", err)
		}
		return c.compare(ctx)
	}
	chunk := v.pagerOf(s, number)
	pace := newPace(v.ix.Reindex.MaxRowsPerSecond, v.walkRate())
	plan := s.rows
	var suspicion indexer.Suspicion
	for {
		n, err := c.read(ctx, plan, chunk.Query(plan.RowPlan), chunk.Cursor, chunk)
		switch {
		case dbsync.IsRowError(err) && plan.whole:
			next, ended := suspicion.Failed(ctx, chunk.NextRows, err)
			if ended != nil {
				return ended
			}
			if next == 0 {
				plan, next = s.keys, 1 // no document can be made of this row
			}
			chunk.NextRows = next
			continue
		case err != nil:
			return err
		}
		suspicion.Passed(n)
		last := n < chunk.NextRows
		if v.at.Cursor = indexer.KeyTexts(chunk.Cursor); last {
			v.at.Source, v.at.Cursor, v.at.Key = number+1, nil, nil
		}
		if last || v.isNoteDue() {
			if err := c.compare(ctx); err != nil {
				return err
			}
			if err := v.note(ctx); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		chunk.NextRows = suspicion.Bound(min(chunk.NextRows*2, chunk.MaxRows))
		plan = s.rows
		if err := pace.wait(ctx, n); err != nil {
			return err
		}
	}
}

// sampleQuery selects a part of the rows: by pages where there are many.
func sampleQuery(p *indexer.RowPlan, part float64) string {
	method := "SYSTEM"
	if p.Table.EstimatedRows < smallTable {
		method = "BERNOULLI"
	}
	return fmt.Sprintf("SELECT %s FROM %s t TABLESAMPLE %s (%g)", p.Selection.List, p.Table.From(), method, part*100)
}

// read reads rows and compares their documents. It returns how many rows there were, and
// notes in chunk, if given, the key of the last one.
func (c *comparer) read(ctx context.Context, plan rowPlan, query string, args [][]byte, chunk *indexer.Pager) (n int, err error) {
	var at []int
	if chunk != nil {
		for _, name := range chunk.Key {
			at = append(at, slices.Index(plan.Selection.Names, name))
		}
	}
	err = dbsync.WithConn(ctx, c.v.o.DB, func(conn *pgx.Conn) error {
		rows := conn.PgConn().ExecParams(ctx, query, args, nil, nil, nil)
		for rows.NextRow() {
			n++
			values := rows.Values()
			if err := c.add(ctx, plan, values); err != nil {
				rows.Close()
				return err
			}
			if chunk != nil {
				cursor := make([][]byte, len(at))
				for i, j := range at {
					cursor[i] = slices.Clone(values[j])
				}
				chunk.Cursor = cursor
			}
		}
		_, err := rows.Close()
		return dbsync.AtRows(err)
	})
	return n, err
}

// add takes up one row.
func (c *comparer) add(ctx context.Context, plan rowPlan, values [][]byte) error {
	r, err := rowOf(plan, values)
	if err != nil {
		return err
	}
	c.v.bar.Add(1)
	c.v.at.Rows++
	if !r.holds && r.unmade == nil {
		return nil // a document of it is found among the documents
	}
	if c.s.IsHashed(r.id) && len(c.s.hashed) < maxHashed {
		c.s.hashed[r.location] = true
	}
	c.v.result.Rows++
	if r.unmade != nil || !plan.whole {
		return c.v.suspect(ctx, &suspect{location: r.location, source: c.s, key: r.key})
	}
	c.docs = append(c.docs, r)
	c.bytes += len(r.body)
	if len(c.docs) < comparedDocuments && c.bytes < comparedBytes {
		return nil
	}
	return c.compare(ctx)
}

// compare holds the documents that were gathered against the stored ones.
func (c *comparer) compare(ctx context.Context) error {
	if len(c.docs) == 0 {
		return nil
	}
	locations := make([]location, len(c.docs))
	for i := range c.docs {
		locations[i] = c.docs[i].location
	}
	stored, err := c.v.get(ctx, locations)
	if err != nil {
		return err
	}
	for i := range c.docs {
		d := c.docs[i]
		differs, err := c.v.compareStored(d.location, d.body, &stored[i])
		if err != nil {
			return fmt.Errorf("document %q: %w", d.id, err)
		}
		if differs == nil {
			continue
		}
		if err := c.v.suspect(ctx, &suspect{location: d.location, source: c.s, key: d.key}); err != nil {
			return err
		}
	}
	clear(c.docs)
	c.docs, c.bytes = c.docs[:0], 0
	return nil
}

// get reads documents from the index.
func (v *verifier) get(ctx context.Context, locations []location) (stored []search.Stored, err error) {
	for len(locations) > 0 {
		n := min(len(locations), comparedDocuments)
		listed := make([]search.Listed, n)
		for i, l := range locations[:n] {
			listed[i] = search.Listed{ID: l.id, Routing: l.routing}
		}
		var found []search.Stored
		err := v.retry(ctx, "read documents of "+v.physical, func(ctx context.Context) (err error) {
			found, err = v.o.Client.Get(ctx, v.physical, listed)
			return err
		})
		if err != nil {
			return nil, err
		}
		stored = append(stored, found...)
		locations = locations[n:]
	}
	return stored, nil
}

// compareStored returns how a stored document differs from what it should be, nil if it does not.
func (v *verifier) compareStored(at location, body []byte, stored *search.Stored) (*Difference, error) {
	d := &Difference{Index: v.ix.Name, ID: at.id, Routing: at.routing, Version: stored.Version}
	switch {
	case !stored.Found:
		d.Kind = Missing
	case stored.Routing != at.routing:
		d.Kind, d.Path, d.Want, d.Got = Differs, "_routing", valueText(at.routing), valueText(stored.Routing)
	case v.stored == storedNot:
		return nil, nil
	default:
		found, err := compareDocuments(body, stored.Source, v.stored)
		if err != nil || found == nil {
			return nil, err
		}
		d.Kind, d.Path, d.Want, d.Got, d.More = Differs, found.path, found.want, found.got, found.more
	}
	return d, nil
}

// A row as it was read.
type row struct {
	location
	key    [][]byte
	holds  bool // it is a document
	body   []byte
	unmade error // why no document can be made of it
}

// rowOf makes the document of a row, if the row is whole. What it returns has storage of its
// own.
func rowOf(plan rowPlan, values [][]byte) (*row, error) {
	tuple := indexer.RowOf(values)
	id, ok := plan.Plan.ID(tuple)
	routing, routed := plan.Plan.Routing(tuple)
	if !ok || !routed {
		return nil, fmt.Errorf("a row of %s has no key", plan.Table.TableName())
	}
	r := &row{location: location{id, routing}, key: plan.Plan.KeyValues(tuple)}
	if r.holds, r.unmade = plan.Plan.Holds(tuple); plan.whole && r.holds && r.unmade == nil {
		r.body, r.unmade = plan.Plan.AppendDocument(nil, tuple)
	}
	return r, nil
}

// isSampled reports whether a document is looked at.
func (v *verifier) isSampled() bool { return v.o.Sample == 0 || rand.Float64() < v.o.Sample }
