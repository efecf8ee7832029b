package reindex

import (
	"fmt"
	"strings"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/mapping"
)

const (
	// chunkBytes bounds what one chunk holds in memory. Two are under way at a time.
	chunkBytes = 8 << 20
	// firstChunk is how many rows the first chunk has at most: how large rows are is not
	// known yet.
	firstChunk = 1000
)

// chunks reads a table in chunks by its key.
type chunks struct {
	plan   *indexer.RowPlan
	key    []string // columns
	most   int      // rows of a chunk, as the mapping has it
	limit  int      // rows of the next chunk
	cursor [][]byte // key of the last row that was read, nil at the beginning
}

func newChunks(plan *indexer.RowPlan, cursor []string) *chunks {
	ix := plan.Documents.Index
	c := &chunks{plan: plan, key: ix.KeyColumns(plan.Table), most: ix.Reindex.Chunk, limit: min(ix.Reindex.Chunk, firstChunk)}
	for _, v := range cursor {
		c.cursor = append(c.cursor, []byte(v))
	}
	return c
}

// next returns the select of the chunk after the last one that was read.
func (c *chunks) next() dbsync.Select {
	return dbsync.Select{
		Relation: c.plan.Table.OID, Key: c.key,
		Query: chunkQuery(c.plan, c.key, c.cursor != nil, c.limit), Args: c.cursor,
		MaxBytes: chunkBytes, Tag: c.plan,
	}
}

// read takes up what a chunk gave. more is false when it was the last one.
func (c *chunks) read(w *dbsync.Window) (more bool, err error) {
	last, err := w.Last()
	if err != nil {
		return false, err
	}
	more = w.Truncated() || w.Len() == c.limit
	if last != nil {
		c.cursor = last
		// As many rows as fit, by the size of those just read; growing by steps, so that one
		// chunk of small rows does not let the next one be cut.
		fit := int64(chunkBytes) * int64(w.Len()) / int64(max(w.Bytes(), 1)) * 3 / 4
		c.limit = int(max(1, min(fit, int64(c.limit)*4, int64(c.most))))
	}
	return more, nil
}

// chunkQuery returns the select of a chunk: keyset pagination over the key's index. The
// database compares and orders, so every type of key works. After the first chunk the
// key's values are its parameters.
func chunkQuery(p *indexer.RowPlan, key []string, after bool, limit int) string {
	columns := make([]string, len(p.Columns))
	for i, c := range p.Columns {
		columns[i] = mapping.QuoteIdent(c)
	}
	names := make([]string, len(key))
	for i, c := range key {
		names[i] = mapping.QuoteIdent(c)
	}
	where := ""
	if after {
		where = " WHERE " + afterCondition(p.Table, key)
	}
	return fmt.Sprintf("SELECT %s FROM %s%s ORDER BY %s LIMIT %d", strings.Join(columns, ", "), indexer.From(p.Table), where, strings.Join(names, ", "), limit)
}

// afterCondition is true for the rows whose keys come after the one in the parameters.
func afterCondition(t *mapping.Table, key []string) string {
	names, values, types := make([]string, len(key)), make([]string, len(key)), make([]*mapping.Type, len(key))
	plain := true
	for i, c := range key {
		types[i] = t.Column(c).Type
		names[i], values[i] = mapping.QuoteIdent(c), fmt.Sprintf("$%d::%s", i+1, types[i].Name)
		plain = plain && indexer.Operator(">", types[i]) == ">"
	}
	if plain {
		return fmt.Sprintf("(%s) > (%s)", strings.Join(names, ", "), strings.Join(values, ", "))
	}
	// The same, with an operator of its own for each column. The index takes the scan to
	// the first row that has the first column's value, and not further.
	compare := func(i int, operator string) string {
		return fmt.Sprintf("%s %s %s", names[i], indexer.Operator(operator, types[i]), values[i])
	}
	last := len(key) - 1
	condition := compare(last, ">")
	for i := last - 1; i >= 0; i-- {
		condition = fmt.Sprintf("%s AND (%s OR %s)", compare(i, ">="), compare(i, ">"), condition)
	}
	return condition
}
