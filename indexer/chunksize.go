package indexer

import (
	"time"
)

const (
	// chunkBytes bounds what one chunk holds in memory. Two are under way at a time, for each
	// of the indices that are filled at a time.
	chunkBytes = 4 << 20
	// ChunkTime is how long the select of a chunk may take: its snapshot holds vacuum back, and
	// what changes meanwhile is remembered.
	ChunkTime = 2 * time.Second
	// SlowChunk is how many rows are asked for at least where a row takes long: each select
	// has a price of its own.
	SlowChunk = 100
	// FirstChunk is how many rows the first chunk has at most: how large rows are is not
	// known yet.
	FirstChunk = 1000
)

// Fitting is how many rows the next chunk may have, by how large those just read were, and
// how long they took. It grows by steps, so that one chunk of small rows does not let the
// next one be cut.
func (c *Pager) Fitting(rows, bytes int, took time.Duration) int {
	large := int64(rows) * chunkBytes / int64(max(bytes, 1)) * 3 / 4
	slow := max(SlowChunk, int64(rows)*int64(ChunkTime)/int64(max(took, 1)))
	return int(max(1, min(large, slow, int64(c.NextRows)*4, int64(c.MaxRows))))
}
