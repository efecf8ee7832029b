package indexer

import (
	"fmt"
	"maps"
	"slices"

	"tidemark/dbsync"
)

// sorted is a batch by what is to be done with its operations, in the order in which it has
// to be done.
type sorted struct {
	truncations []*dbsync.Operation // of these the batch stores again what came after them
	rereads     []*rereads
	ready       []dbsync.Operation // to be written as they are

	// visible are the transactions that what is read must show. With AwaitVisible that is
	// everything in the batch: a document with related rows is made of what several
	// transactions did, and whatever is read for the sake of one must not be older than
	// another one's. Otherwise it is what the documents themselves wait for; two transactions
	// that change one row are visible in their order.
	visible []uint32
}

// rereads are the documents of one source that have to be read again.
type rereads struct {
	root    *root
	direct  []dbsync.Operation  // Reread: their rows changed, or were incomplete
	lookups []*dbsync.Operation // Related
	latest  *dbsync.Operation   // of lookups; nil if there are none
}

// sortBatch looks through a batch once; a plain one it does not look at. The batch stays as it
// is, because it may come again.
func sortBatch(batch *dbsync.Batch) (*sorted, error) {
	ops := batch.Operations()
	if batch.Plain() {
		return &sorted{ready: ops}, nil
	}
	s := &sorted{ready: make([]dbsync.Operation, 0, len(ops))}
	all, own := make(map[uint32]bool), make(map[uint32]bool)
	awaits := false
	for i := range ops {
		op := &ops[i]
		all[op.Xid] = true
		awaits = awaits || op.AwaitVisible
		switch op.Kind {
		case dbsync.Truncate:
			s.truncations = append(s.truncations, op)
		case dbsync.Reread:
			r, ok := op.Origin.(*root)
			if !ok {
				return nil, foreign(op)
			}
			own[op.Xid] = true
			w := s.of(r)
			w.direct = append(w.direct, *op)
		case dbsync.Related:
			l, ok := op.Origin.(*link)
			if !ok {
				return nil, foreign(op)
			}
			w := s.of(l.root)
			w.lookups = append(w.lookups, op)
			if w.latest == nil || w.latest.OlderThan(op) {
				w.latest = op
			}
		default:
			s.ready = append(s.ready, *op)
		}
	}
	if !awaits {
		all = own
	}
	delete(all, 0) // rows of windows
	s.visible = slices.Collect(maps.Keys(all))
	return s, nil
}

// of returns the rereads of a source. A mapping has few of them.
func (s *sorted) of(r *root) *rereads {
	for _, w := range s.rereads {
		if w.root == r {
			return w
		}
	}
	s.rereads = append(s.rereads, &rereads{root: r})
	return s.rereads[len(s.rereads)-1]
}

// foreign reports an operation that was not marked by a Handler.
func foreign(op *dbsync.Operation) error {
	return &dbsync.PermanentError{Err: fmt.Errorf("%s %s/%s: its origin %v is no part of the mapping", op.Kind, op.Index, op.ID, op.Origin)}
}
