package topic

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A mark is how far a partition is applied: everything before the offset is written. It is what is
// committed.
type mark struct {
	offset int64
	leader int32 // the epoch of the partition's leader at the record before; -1: not known
	epoch  int64 // the highest of the epoch records before; 0: there is none
}

// metadata returns what is committed beside the offset of a mark. id is that of the topic.
func (m mark) metadata(id string) string { return fmt.Sprintf("epoch=%d topic=%s", m.epoch, id) }

// remembered reads what metadata has written. Offsets that others have set have none of it, which is
// the epoch 0 and no topic.
func remembered(metadata string) (epoch int64, id string) {
	for word := range strings.FieldsSeq(metadata) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "epoch":
			epoch, _ = strconv.ParseInt(value, 10, 64)
		case "topic":
			id = value
		}
	}
	return epoch, id
}

// A claim is a partition that the group has given to this worker, until it is taken away.
type claim struct {
	partition int32
	mark                   // touched by who reads and writes; before, by who fetches the committed offsets
	end       atomic.Int64 // of the log, as the last fetch said; -1: not known
	applied   atomic.Int64 // offset of the mark, for who asks from outside
	revoked   bool         // guarded by claims.mu
	lost      bool         // revoked without being asked: nothing can be committed; guarded by claims.mu
}

// claims are those of a session. The group takes them away while they are being worked on.
type claims struct {
	mu   sync.Mutex
	of   map[int32]*claim // by partition
	busy *attempt         // what is being written; nil: nothing
}

// add adds partitions that the group has given.
func (c *claims) add(partitions []int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range partitions {
		claim := &claim{partition: p, mark: mark{leader: -1}}
		claim.end.Store(-1)
		c.of[p] = claim
	}
}

// get returns the claim of a partition, nil if there is none.
func (c *claims) get(partition int32) *claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[partition]
}

// list returns all claims, in the order of their partitions.
func (c *claims) list() []*claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*claim, 0, len(c.of))
	for _, claim := range c.of {
		all = append(all, claim)
	}
	slices.SortFunc(all, func(a, b *claim) int { return int(a.partition) - int(b.partition) })
	return all
}

// begin begins to write what there is of partitions that are still ours, and returns the parts of those.
func (c *claims) begin(a *attempt, parts []*part) []*part {
	c.mu.Lock()
	defer c.mu.Unlock()
	ours := make([]*part, 0, len(parts))
	for _, p := range parts {
		if !p.claim.revoked {
			ours = append(ours, p)
		}
	}
	a.parts = ours
	c.busy = a
	return ours
}

// end ends it.
func (c *claims) end(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = nil
	close(a.done)
}

// isLost reports whether nothing can be committed of a claim.
func (c *claims) isLost(claim *claim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return claim.lost
}

// giveUp gives partitions up. When it returns nothing is being written of them any more. Where they are
// not lost, what was written whole is committed.
func (c *claims) giveUp(partitions []int32, lost bool) {
	c.mu.Lock()
	touched := false
	for _, p := range partitions {
		claim := c.of[p]
		if claim == nil {
			continue
		}
		delete(c.of, p)
		claim.revoked, claim.lost = true, lost
		touched = touched || c.busy.has(claim)
	}
	busy := c.busy
	c.mu.Unlock()
	if touched {
		busy.stop(lost)
		<-busy.done
	}
}
