package indexer

import (
	"bytes"
	"context"
	"fmt"
	"slices"
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
	Until     [][]byte   // key of the last row to read, or where it would be; nil: the table's last one
	measures  bool       // see Measure

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
	switch {
	case c.Keys != nil:
		sel.Query, sel.Args = KeysQuery(plan, c.Keys[:min(c.NextRows, len(c.Keys))])
	case c.measures || !plan.Selection.Measures():
		sel.Query, sel.Args = c.Query(plan), c.bounds()
	default:
		sel.Query, sel.Args = plan.Selection.Unmeasured(c.page(plan.Table)), c.bounds()
		sel.MaxRowBytes = chunkBytes
	}
	return sel
}

// Measure has the statements from now on find out themselves which rows are too large for a
// document, and reports whether they have not before. At first none does: a row that is larger
// than a chunk may be ends the statement, and what is smaller is measured as a document. So
// tables pay for large rows that have some.
func (c *Pager) Measure() (changed bool) {
	changed = !c.measures && c.Keys == nil && c.Plan.Selection.Measures()
	c.measures = c.measures || changed
	return changed
}

// Divisible reports whether Cut can be called: rows that are chosen by a condition or by their keys
// are read by one after the other, since most of a span of the key might be none of them.
func (c *Pager) Divisible() bool { return c.Keys == nil && c.Where == "" && c.Plan.Source.Only == nil }

// Boundary returns the statement that finds up to where the next chunk goes: the key of its last
// row, and no row where fewer are left. It reads the index alone, as far as vacuum was there.
func (c *Pager) Boundary() (query string, args [][]byte) {
	return fmt.Sprintf("SELECT %s FROM %s OFFSET %d LIMIT 1", c.names(), c.from(c.Plan.Table), c.NextRows-1), c.bounds()
}

// Cut returns the Pager of the rows up to a key, nil for all that are left, and goes on behind it.
// Rows come and go meanwhile: each row is of one of the two, whatever the boundary was when it was
// looked for. The sizes of chunks are learnt from both, see Learn.
func (c *Pager) Cut(boundary [][]byte) *Pager {
	span := *c
	span.Until = boundary
	c.Cursor = boundary
	return &span
}

// Learn takes up what a chunk of a span that was cut off says of those to come.
func (c *Pager) Learn(span *Pager, w *dbsync.Window) {
	c.Plan, c.measures = span.Plan, c.measures || span.measures
	if span.suspicion.most > 0 { // others may not have found yet that there are too many rows at a time
		c.suspicion.most, c.suspicion.fitting = span.suspicion.most, span.suspicion.fitting
	}
	if w.Len() > 0 {
		c.NextRows = c.suspicion.Bound(c.Fitting(w.Len(), w.Bytes(), w.Took()))
	}
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
	more = w.Truncated() || w.Len() == c.NextRows && !(c.Until != nil && slices.EqualFunc(last, c.Until, bytes.Equal))
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

// Query returns the select of the next chunk, of the columns of plan, and of the size of rows that
// are too large: keyset pagination over the key's index. The database compares and orders, so every
// type of key works. Cursor and Until have its parameters.
func (c *Pager) Query(plan *RowPlan) string { return plan.Selection.Statement(c.page(plan.Table)) }

// page returns what stands behind FROM in the select of the next chunk.
func (c *Pager) page(t *catalog.Table) string {
	return fmt.Sprintf("%s LIMIT %d", c.from(t), c.NextRows)
}

// from returns the rows that are left to read, in the order of the key.
func (c *Pager) from(t *catalog.Table) string {
	from, where := c.Plan.Source.From(t), ""
	if c.Where != "" {
		// Of the table itself: the condition may name what a subselect does not have, such as tableoid.
		from = fmt.Sprintf("(SELECT * FROM %s WHERE (%s\n)%s)", t.From(), c.Where, c.and(t))
	}
	var conditions []string
	if c.Cursor != nil {
		conditions = append(conditions, t.After(mapping.Root, c.Key, 1))
	}
	if c.Until != nil {
		conditions = append(conditions, t.UpTo(mapping.Root, c.Key, 1+len(c.Cursor)))
	}
	if len(conditions) > 0 {
		where = " WHERE " + strings.Join(conditions, " AND ")
	}
	return fmt.Sprintf("%s %s%s ORDER BY %s", from, mapping.Root, where, c.names())
}

// and returns what stands behind a condition on rows of the table, for which it has no other name.
func (c *Pager) and(t *catalog.Table) string {
	if rows := c.Plan.Source.RowsOf(t, catalog.QuoteIdent(t.Name)); rows != "" {
		return " AND " + rows
	}
	return ""
}

// bounds returns the parameters of from.
func (c *Pager) bounds() [][]byte { return slices.Concat(c.Cursor, c.Until) }

// names returns the columns of the key, as they are called in the select.
func (c *Pager) names() string {
	names := make([]string, len(c.Key))
	for i, name := range c.Key {
		names[i] = mapping.Root + "." + catalog.QuoteIdent(name)
	}
	return strings.Join(names, ", ")
}

// Limiter bounds how many rows are read in a second; 0: no bound. A chunk has no more rows
// than that, see NewPager.
func Limiter(perSecond int) *rate.Limiter {
	if perSecond == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), perSecond)
}
