package reindex

import (
	"fmt"
	"strings"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

const (
	// chunkBytes bounds what one chunk holds in memory. Two are under way at a time, for each
	// of the indices that are filled at a time.
	chunkBytes = 4 << 20
	// chunkTime is how long the select of a chunk may take: its snapshot holds vacuum back, and
	// what changes meanwhile is remembered.
	chunkTime = 2 * time.Second
	// slowChunk is how many rows are asked for at least where a row takes long: each select
	// has a price of its own.
	slowChunk = 100
	// firstChunk is how many rows the first chunk has at most: how large rows are is not
	// known yet.
	firstChunk = 1000
)

// chunks reads a table in chunks by its key, or the rows of given keys.
type chunks struct {
	plan   *indexer.RowPlan
	where  string     // a condition in SQL, "" for all rows
	keys   [][][]byte // of the rows that are left to read, in the order of the id; nil: all rows
	key    []string   // columns, in the order of their index
	most   int        // rows of a chunk, as the mapping has it
	limit  int        // rows of the next chunk
	doubt  int        // so many rows, the next ones, have one among them that no document can be made of
	cursor [][]byte   // key of the last row that was read, nil at the beginning
}

func newChunks(plan *indexer.RowPlan, cursor []string) *chunks {
	s := plan.Source
	most := s.Index.Reindex.Chunk
	if perSecond := s.Index.Reindex.MaxRowsPerSecond; perSecond > 0 {
		most = min(most, perSecond)
	}
	c := &chunks{plan: plan, key: s.PageColumns(plan.Table), most: most, limit: min(most, firstChunk)}
	for _, v := range cursor {
		c.cursor = append(c.cursor, []byte(v))
	}
	return c
}

// next returns the select of the chunk after the last one that was read.
func (c *chunks) next() dbsync.Select { return c.selectOf(c.plan) }

func (c *chunks) selectOf(plan *indexer.RowPlan) dbsync.Select {
	sel := dbsync.Select{Relation: plan.Table.OID, Related: plan.Related, Key: c.key, MaxBytes: chunkBytes, Tag: plan}
	if c.keys != nil {
		sel.Query, sel.Args = indexer.KeysQuery(plan, c.keys[:min(c.limit, len(c.keys))])
	} else {
		sel.Query, sel.Args = chunkQuery(plan, c.key, c.where, c.cursor != nil, c.limit), c.cursor
	}
	return sel
}

// narrow returns the select of a smaller chunk, because of an error that one row of the last
// one caused. When that was the only row, it reads the columns alone that tell which it is.
func (c *chunks) narrow(why error) (sel dbsync.Select, refusing bool) {
	if c.limit > 1 {
		c.doubt, c.limit = c.limit, c.limit/2
		return c.next(), false
	}
	c.doubt = 0
	return c.selectOf(c.plan.Refusing(why)), true
}

// read takes up what a chunk gave. more is false when it was the last one.
func (c *chunks) read(w *dbsync.Window) (more bool, err error) {
	last, err := w.Last()
	if err != nil {
		return false, err
	}
	more = w.Truncated() || w.Len() == c.limit
	if c.keys != nil {
		if w.Truncated() && c.limit > 1 {
			c.limit = max(1, c.limit/4) // which rows are left out cannot be told: all of them come again
			return true, nil
		}
		c.keys = c.keys[min(c.limit, len(c.keys)):]
		more = len(c.keys) > 0
	}
	if last != nil {
		c.cursor = last
		c.limit = c.fitting(w.Len(), w.Bytes(), w.Took())
		if c.doubt = max(0, c.doubt-w.Len()); c.doubt > 0 {
			c.limit = min(c.limit, (c.doubt+1)/2)
		}
	}
	return more, nil
}

// fitting is how many rows the next chunk may have, by how large those just read were, and
// how long they took. It grows by steps, so that one chunk of small rows does not let the
// next one be cut.
func (c *chunks) fitting(rows, bytes int, took time.Duration) int {
	large := int64(rows) * chunkBytes / int64(max(bytes, 1)) * 3 / 4
	slow := max(slowChunk, int64(rows)*int64(chunkTime)/int64(max(took, 1)))
	return int(max(1, min(large, slow, int64(c.limit)*4, int64(c.most))))
}

// chunkQuery returns the select of a chunk: keyset pagination over the key's index. The
// database compares and orders, so every type of key works. After the first chunk the
// key's values are its parameters.
func chunkQuery(p *indexer.RowPlan, key []string, condition string, after bool, limit int) string {
	names := make([]string, len(key))
	for i, c := range key {
		names[i] = mapping.Root + "." + catalog.QuoteIdent(c)
	}
	from, where := p.Table.From(), ""
	if condition != "" {
		from = fmt.Sprintf("(SELECT * FROM %s WHERE (%s\n))", from, condition)
	}
	if after {
		where = " WHERE " + p.Table.After(mapping.Root, key, 1)
	}
	return fmt.Sprintf("SELECT %s FROM %s %s%s ORDER BY %s LIMIT %d", p.Selection.List, from, mapping.Root, where, strings.Join(names, ", "), limit)
}
