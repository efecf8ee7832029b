package topic

import (
	"tidemark/dbsync"
	"tidemark/indexer/search"
)

// A document is what operations have in common of which one counts.
type document struct{ index, id, routing string }

// A compaction keeps of each document the operation that counts: the one with the highest version, and
// of those with the same the one that comes last. Of two routings of one id both stay, since they may
// lead to two shards.
type compaction struct {
	at       map[document]int // in ops
	ops      []dbsync.Operation
	versions []int64 // of ops
	dropped  int     // operations that do not count
}

// reset has it forget everything. What ops had is somebody else's then.
func (c *compaction) reset() {
	clear(c.at)
	c.ops, c.versions, c.dropped = nil, c.versions[:0], 0
}

// add takes an operation that has a version, as that of any record has.
func (c *compaction) add(op *dbsync.Operation) {
	version, _ := search.Version(op)
	of := document{op.Index, op.ID, op.Routing}
	at, ok := c.at[of]
	switch {
	case !ok:
		if c.at == nil {
			c.at = make(map[document]int)
		}
		c.at[of] = len(c.ops)
		c.ops, c.versions = append(c.ops, *op), append(c.versions, version)
		return
	case version >= c.versions[at]:
		c.ops[at], c.versions[at] = *op, version
	}
	c.dropped++
}

// A truncation removes what an index has of some partitions.
type truncation struct {
	op         dbsync.Operation
	partitions []int32
}

// A round is what is written together: operations first, and then the truncations that came after them.
type round struct {
	ops         []dbsync.Operation
	truncations []*truncation
}

// A cut goes through the records of several partitions, round by round. A truncation ends the round of its
// partition: whatever came before it in the partition is written before it, and what comes after it later.
type cut struct {
	parts      []*part
	at         []int // of parts: the next record
	compaction compaction
	dropped    int
}

func newCut(parts []*part) *cut { return &cut{parts: parts, at: make([]int, len(parts))} }

// next returns the next round; false: there is none.
func (c *cut) next() (round, bool) {
	c.compaction.reset()
	var r round
	more := false
	for i, p := range c.parts {
		records := p.records[c.at[i]:]
		more = more || len(records) > 0
		for j := range records {
			c.at[i]++
			if records[j].kind == kindTruncate {
				r.truncate(&records[j])
				break
			}
			c.compaction.add(&records[j].op)
		}
	}
	r.ops = c.compaction.ops
	c.dropped += c.compaction.dropped
	return r, more
}

// truncate adds a truncation. Those of several partitions that are of one are done together.
func (r *round) truncate(rec *record) {
	for _, t := range r.truncations {
		if t.op.Index == rec.op.Index && t.op.ID == rec.op.ID && t.op.Version == rec.op.Version && t.op.Group == rec.op.Group && t.op.Base == rec.op.Base {
			t.partitions = append(t.partitions, rec.partition)
			return
		}
	}
	r.truncations = append(r.truncations, &truncation{op: rec.op, partitions: []int32{rec.partition}})
}
