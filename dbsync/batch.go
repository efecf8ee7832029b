package dbsync

import (
	"encoding/binary"
	"slices"
	"strings"
)

// A Batch is what one read of the slot comes to: the last operation of each document, by
// Index, ID and Routing, in the order in which the documents came first.
type Batch struct {
	ops []Operation

	// Positions in ops. An ID comes under one routing, nearly always; under which one is
	// looked up in ops. Positions of the same ID under others are in routed, numbered from 1.
	at     map[document]int
	routed map[routedDocument]int

	related map[relatedRow]struct{} // that ops has
	special bool                    // see Plain; what was said of an operation since replaced may hold no more
	report  BatchReport
	bodies  arena
	scratch []byte
}

type document struct{ index, id string }

type routedDocument struct {
	document
	n int
}

// A relatedRow is what one Related operation looks for. Each transaction has operations of
// its own: what is read must show all of them, also one that touched another row with the
// same values.
type relatedRow struct {
	index  string
	origin Origin
	xid    uint32
	key    string // see appendKey
}

// NewBatch returns a batch of ops. Of those on one document it has the last.
func NewBatch(ops ...Operation) *Batch {
	b := &Batch{at: make(map[document]int), routed: make(map[routedDocument]int), related: make(map[relatedRow]struct{})}
	for i := range ops {
		op := ops[i]
		b.put(&op)
	}
	return b
}

// Operations returns what is in the batch. It is not to be changed.
func (b *Batch) Operations() []Operation { return b.ops }

// Plain reports whether all operations can be written as they are, and in any order: each of
// them is ready, none awaits that others see the batch, and no ID comes under two routings.
// It is known without looking at them.
func (b *Batch) Plain() bool { return !b.special && len(b.routed) == 0 }

// Rerouted reports whether op, which is in the batch, deletes a document that the batch stores
// under another routing. If both routings lead to the same shard it is the same document
// there, and with the same version, too; the deletion must be written before.
func (b *Batch) Rerouted(op *Operation) bool {
	if op.Kind != Delete || len(b.routed) == 0 {
		return false
	}
	doc := document{op.Index, op.ID}
	i, ok := b.at[doc]
	for n := 1; ok; n++ {
		if b.ops[i].Kind != Delete {
			return true
		}
		i, ok = b.routed[routedDocument{doc, n}]
	}
	return false
}

// put adds op, or replaces the operation that the batch holds for the same document. The
// body of op is a copy in the batch's storage from then on, unless it was given.
func (b *Batch) put(op *Operation) {
	switch op.Kind {
	case Truncate:
		// Who removes what is there may find none of these: another process has sent them, and they
		// come late. So each is deleted by itself, too.
		dropped := b.drop(op.Index, op.ID)
		b.add(op)
		for _, d := range dropped {
			gone := *op
			gone.Kind, gone.ID, gone.Routing = Delete, d.id, d.routing
			b.put(&gone)
		}
		return
	case Related:
		if !b.relate(op) {
			return
		}
	default:
		if !op.Given {
			op.Body = b.bodies.copy(op.Body)
		}
		if i := b.place(op, len(b.ops)); i < len(b.ops) {
			b.note(op)
			b.ops[i] = *op
			return
		}
	}
	b.add(op)
}

func (b *Batch) add(op *Operation) {
	b.note(op)
	if len(b.ops) == cap(b.ops) {
		b.ops = slices.Grow(b.ops, max(len(b.ops), 64)) // not by a quarter, which leaves four times as much garbage
	}
	b.ops = append(b.ops, *op)
}

func (b *Batch) note(op *Operation) {
	if !op.Kind.Ready() || op.AwaitVisible {
		b.special = true
	}
}

// place returns the position of the operation on the same document. Where there is none,
// next is noted as it, and returned.
func (b *Batch) place(op *Operation, next int) int {
	doc := document{op.Index, op.ID}
	i, ok := b.at[doc]
	if !ok {
		b.at[doc] = next
		return next
	}
	for n := 1; b.ops[i].Routing != op.Routing; n++ {
		other := routedDocument{doc, n}
		if i, ok = b.routed[other]; !ok {
			b.routed[other] = next
			return next
		}
	}
	return i
}

// relate notes a Related operation, and reports whether it is new.
func (b *Batch) relate(op *Operation) (added bool) {
	b.scratch = appendKey(b.scratch[:0], op.Key)
	if _, ok := b.related[relatedRow{op.Index, op.Origin, op.Xid, string(b.scratch)}]; ok {
		return false
	}
	b.related[relatedRow{op.Index, op.Origin, op.Xid, string(b.scratch)}] = struct{}{}
	return true
}

// appendKey appends values so that no two lists of them look the same.
func appendKey(dst []byte, key [][]byte) []byte {
	for _, v := range key {
		if v == nil {
			dst = append(dst, 0)
			continue
		}
		dst = append(binary.AppendUvarint(dst, uint64(len(v))+1), v...)
	}
	return dst
}

// located is where a document is, within an index.
type located struct{ id, routing string }

// drop removes the operations on documents of an index whose IDs begin with prefix, and returns
// which documents those are. Related ones stay: which documents they are on is not known yet.
func (b *Batch) drop(index, prefix string) (dropped []located) {
	kept := b.ops[:0]
	clear(b.at)
	clear(b.routed)
	for i := range b.ops {
		op := &b.ops[i]
		if op.Kind != Related && op.Index == index && strings.HasPrefix(op.ID, prefix) {
			if op.Kind != Truncate {
				dropped = append(dropped, located{op.ID, op.Routing})
			}
			continue
		}
		if op.Kind != Related && op.Kind != Truncate {
			b.place(op, len(kept))
		}
		kept = append(kept, *op)
	}
	clear(b.ops[len(kept):])
	b.ops = kept
	return dropped
}

// reset empties the batch and keeps its storage for the next one.
func (b *Batch) reset() {
	clear(b.ops)
	b.ops = b.ops[:0]
	clear(b.at)
	clear(b.routed)
	clear(b.related)
	b.special = false
	b.report.reset()
	b.bodies.reset()
}

// arena holds the bodies of one batch in blocks that the next batch uses again.
type arena struct {
	blocks [][]byte // of arenaBlock bytes each
	used   int      // blocks that hold something
	rest   []byte   // of the last of them
}

const (
	arenaBlock = 256 << 10
	arenaKept  = 32 // blocks that an arena keeps when it is emptied: 8 MiB
)

// copy returns a copy of data that is valid until reset. A large one is kept apart, and
// freed after the batch.
func (a *arena) copy(data []byte) []byte {
	n := len(data)
	switch {
	case data == nil:
		return nil
	case n > arenaBlock/4:
		return append([]byte(nil), data...)
	case n > len(a.rest):
		if a.used == len(a.blocks) {
			a.blocks = append(a.blocks, make([]byte, arenaBlock))
		}
		a.rest = a.blocks[a.used]
		a.used++
	}
	dst := a.rest[:n:n]
	a.rest = a.rest[n:]
	copy(dst, data)
	return dst
}

func (a *arena) reset() {
	if len(a.blocks) > arenaKept {
		clear(a.blocks[arenaKept:])
		a.blocks = a.blocks[:arenaKept]
	}
	a.used, a.rest = 0, nil
}
