package indexer

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/time/rate"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

// A Pager reads a table in chunks by its key, or the rows of given keys.
type Pager struct {
	Plan      *RowPlan
	Where     string     // a condition in SQL, "" for all rows
	Keys      [][][]byte // of the rows that are left to read, in the order of the id; nil: all rows
	Key       []string   // columns, in the order of their index
	MaxRows   int        // rows of a chunk, as the mapping has it
	NextRows  int        // rows of the next chunk
	suspicion Suspicion  // of the next rows
	Cursor    [][]byte   // key of the last row that was read, nil at the beginning

	// Since is from where on changes of the stream go where the rows go, see [dbsync.Select].
	Since dbsync.Moment
}

// NewPager returns the Pager of a table, from after the row with the key cursor on; nil: from the
// beginning.
func NewPager(plan *RowPlan, cursor []string) *Pager {
	s := plan.Source
	most := s.Index.Reindex.Chunk
	if perSecond := s.Index.Reindex.MaxRowsPerSecond; perSecond > 0 {
		most = min(most, perSecond)
	}
	return &Pager{Plan: plan, Key: s.PageColumns(plan.Table), Cursor: KeyOf(cursor), MaxRows: most, NextRows: min(most, FirstChunk)}
}

// Next returns the select of the chunk after the last one that was read.
func (c *Pager) Next() dbsync.Select { return c.selectOf(c.Plan) }

func (c *Pager) selectOf(plan *RowPlan) dbsync.Select {
	sel := dbsync.Select{Relation: plan.Table.OID, Related: plan.Related, Since: c.Since, Key: c.Key, MaxBytes: chunkBytes, Origin: plan}
	if c.Keys != nil {
		sel.Query, sel.Args = KeysQuery(plan, c.Keys[:min(c.NextRows, len(c.Keys))])
	} else {
		sel.Query, sel.Args = c.Query(plan), c.Cursor
	}
	return sel
}

// Narrow returns the select to try after one that failed with why, a *[dbsync.RowError]: that of a
// smaller chunk, or the same again. When one row is to blame, it reads the columns alone that tell
// which it is. It may wait before, see [Suspicion.Failed]; its error is the end of ctx.
func (c *Pager) Narrow(ctx context.Context, why error) (sel dbsync.Select, refusing bool, err error) {
	next, err := c.suspicion.Failed(ctx, c.NextRows, why)
	if err != nil {
		return sel, false, err
	}
	if next == 0 {
		return c.selectOf(c.Plan.Refusing(why)), true, nil
	}
	c.NextRows = next
	return c.Next(), false, nil
}

// Read takes up what a chunk gave. more is false when it was the last one.
func (c *Pager) Read(w *dbsync.Window) (more bool, err error) {
	last, err := w.Last()
	if err != nil {
		return false, err
	}
	more = w.Truncated() || w.Len() == c.NextRows
	passed := w.Len()
	if c.Keys != nil {
		if w.Truncated() && c.NextRows > 1 {
			c.NextRows = max(1, c.NextRows/4) // which rows are left out cannot be told: all of them come again
			return true, nil
		}
		passed = min(c.NextRows, len(c.Keys)) // some of them may be gone
		c.Keys = c.Keys[passed:]
		more = len(c.Keys) > 0
	}
	c.suspicion.Passed(passed)
	if last != nil {
		c.Cursor = last
		c.NextRows = c.suspicion.Bound(c.Fitting(w.Len(), w.Bytes(), w.Took()))
	}
	return more, nil
}

// Query returns the select of the next chunk, of the columns of plan: keyset pagination over the
// key's index. The database compares and orders, so every type of key works. Cursor has its
// parameters.
func (c *Pager) Query(plan *RowPlan) string {
	names := make([]string, len(c.Key))
	for i, name := range c.Key {
		names[i] = mapping.Root + "." + catalog.QuoteIdent(name)
	}
	from, where := plan.Table.From(), ""
	if c.Where != "" {
		from = fmt.Sprintf("(SELECT * FROM %s WHERE (%s\n))", from, c.Where)
	}
	if c.Cursor != nil {
		where = " WHERE " + plan.Table.After(mapping.Root, c.Key, 1)
	}
	return fmt.Sprintf("SELECT %s FROM %s %s%s ORDER BY %s LIMIT %d", plan.Selection.List, from, mapping.Root, where, strings.Join(names, ", "), c.NextRows)
}

// Limiter bounds how many rows are read in a second; 0: no bound. A chunk has no more rows
// than that, see NewPager.
func Limiter(perSecond int) *rate.Limiter {
	if perSecond == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), perSecond)
}
