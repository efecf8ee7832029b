package indexer

import "tidemark/dbsync"

// A document is what is under an id on one shard. Under another routing the same id is
// another document, unless the two routings lead to the same shard: then it is the same one.

// separateMoved takes out of a batch what removes a document that the batch stores under
// another routing. It has to be done before: on the same shard it would remove what was
// stored, as both have the version of the same commit. ops stays as it is, because the
// batch may come again.
func separateMoved(ops []dbsync.Operation) (moved, rest []dbsync.Operation) {
	type document struct{ index, id string }
	removed := make(map[document]bool) // whether it is stored, too
	routed := false
	for i := range ops {
		routed = routed || ops[i].Routing != ""
	}
	if !routed {
		return nil, ops
	}
	for i := range ops {
		if op := &ops[i]; op.Delete {
			removed[document{op.Index, op.ID}] = false
		}
	}
	n := 0
	for i := range ops {
		op := &ops[i]
		if d := (document{op.Index, op.ID}); !op.Delete && !op.Truncate {
			if stored, ok := removed[d]; ok && !stored {
				removed[d] = true
				n++
			}
		}
	}
	if n == 0 {
		return nil, ops
	}
	rest = make([]dbsync.Operation, 0, len(ops)-n)
	for _, op := range ops {
		if op.Delete && removed[document{op.Index, op.ID}] {
			moved = append(moved, op)
		} else {
			rest = append(rest, op)
		}
	}
	return moved, rest
}
