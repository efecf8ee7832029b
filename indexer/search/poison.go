package search

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"tidemark/dbsync"
)

// A document is poison when the server answers it with an error of its own, 5xx, or not at all,
// each time that it is sent alone, and takes everything else: a script of a pipeline that runs into
// a limit, a node that fails at it. Nobody would come to fix what looks like trouble of the server,
// and everything behind the document would wait; so after a time it is refused.

// health is what is known of indices whose documents are refused. It is safe for concurrent use.
type health struct {
	mu       sync.Mutex
	lastly   map[string]time.Time // when a document was stored last
	suspects map[string]int       // documents that alone are refused by 5xx
	alike    map[string]*alike    // what documents are refused for since one was stored
}

// alike is why an index has refused documents one after the other, with none stored in between.
type alike struct {
	kind, reason string
	documents    int
}

func newHealth() health {
	return health{lastly: make(map[string]time.Time), suspects: make(map[string]int), alike: make(map[string]*alike)}
}

// judged takes up what came of a request: in which indices documents were stored, and what was
// refused for good.
func (h *health) judged(stored []string, refused []Refused) {
	if len(stored) == 0 && len(refused) == 0 {
		return
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range refused {
		op, why := &refused[i].Operation, refused[i].Err
		if op.Kind != dbsync.Store {
			continue
		}
		if a := h.alike[op.Index]; a != nil && a.kind == why.Type && a.reason == why.Reason {
			a.documents++
		} else {
			h.alike[op.Index] = &alike{why.Type, why.Reason, 1}
		}
	}
	for _, index := range stored {
		h.lastly[index] = now
		delete(h.alike, index)
	}
}

// isAlike reports whether a document is one of many that an index has refused for the same reason,
// with none stored in between.
func (h *health) isAlike(r *Refused) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.alike[r.Operation.Index]
	return a != nil && a.documents >= alikeAfter && a.kind == r.Err.Type && a.reason == r.Err.Reason && r.Operation.Kind == dbsync.Store
}

// alikeAfter is how many documents in a row are refused for the same reason before the index is
// asked whether it takes any.
const alikeAfter = 20

// suspect notes that the only operation of a piece alone is refused, from now on.
func (h *health) suspect(p *piece) {
	if p.alone.IsZero() {
		p.alone = time.Now()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.suspects[p.ops[0].Index]++
	}
}

// forget ends what suspect began.
func (h *health) forget(p *piece) {
	if !p.alone.IsZero() {
		p.alone = time.Time{}
		h.mu.Lock()
		defer h.mu.Unlock()
		if index := p.ops[0].Index; h.suspects[index] > 1 {
			h.suspects[index]--
		} else {
			delete(h.suspects, index)
		}
	}
}

// isAlone reports whether it is only the document of a piece that its index does not take: others
// were stored since it is a suspect, or no other one is. Where all that come are refused alike, it
// is the index that is to blame, or the pipeline before it.
func (h *health) isAlone(p *piece) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	index := p.ops[0].Index
	return !p.alone.IsZero() && (h.suspects[index] == 1 || h.lastly[index].After(p.alone))
}

// suspectPoison looks at a request with one operation that got 5xx, or no answer. later is true
// when the server takes other documents of the index, so they should go first. After PoisonAfter
// the operation is refused, if it fails right after the server took a probe.
func (b *Bulk) suspectPoison(ctx context.Context, p *piece, out *outcome) (later bool) {
	if p.probed && b.health.isAlone(p) {
		*out = refuseOne(&p.ops[0], &ServerError{Status: out.status, Type: "poison",
			Reason: fmt.Sprintf("alone, it was tried for %s, while the server takes others: %s", time.Since(p.alone).Round(time.Second), cmp.Or(out.said, out.failure))})
		return false
	}
	p.probed = false
	if b.probeIndex(ctx, &p.ops[0]) != nil {
		b.health.forget(p)
		return false
	}
	b.health.suspect(p)
	if b.o.PoisonAfter > 0 && time.Since(p.alone) >= b.o.PoisonAfter && b.health.isAlone(p) {
		p.probed, out.wait = true, false
		return false
	}
	return true
}

// suspectIndices looks at documents that were refused for the same reason as many before them.
// Where an index refuses an empty document for that reason, too, it is no document's fault: a
// pipeline fails whatever comes. Then they are held back. When it does not any more they are sent
// once more, as somebody may have done something about it between the two.
func (b *Bulk) suspectIndices(ctx context.Context, p *piece, out *outcome) {
	before := p.held
	p.held = false
	type answer struct{ known, refuses bool }
	asked := make(map[string]answer) // by index, about an empty document
	kept := out.refused[:0]
	for _, r := range out.refused {
		if !b.health.isAlike(&r) {
			kept = append(kept, r)
			continue
		}
		index := r.Operation.Index
		a, is := asked[index]
		if !is {
			it, err := b.sendProbe(ctx, &r.Operation)
			a = answer{err == nil, err == nil && it.kind() == r.Err.Type && it.Error.text() == r.Err.Reason}
			asked[index] = a
		}
		switch {
		case !a.known:
			p.held = before
			out.left, out.wait = append(out.left, r.Operation), true
		case a.refuses:
			p.held = true
			out.left, out.wait = append(out.left, r.Operation), true
			out.hold("index "+index+" refuses every document",
				fmt.Sprintf("%d %s: %s; hint: an empty document is refused for the same reason: correct the ingest pipeline of the index (index.default_pipeline, index.final_pipeline), or take it off", r.Err.Status, r.Err.Type, r.Err.Reason))
		case before:
			out.left = append(out.left, r.Operation)
		default:
			kept = append(kept, r)
		}
	}
	out.refused = kept
}

// probeIndex sends an empty document with the id, and so to the shard and through the pipelines, of
// op, under a condition that is never met: the sequence number of the document that is there. It
// changes nothing, and returns nil if the server judges it, whatever it says.
func (b *Bulk) probeIndex(ctx context.Context, op *dbsync.Operation) error {
	it, err := b.sendProbe(ctx, op)
	if err != nil {
		return err
	}
	if it.Status == 0 || it.Status == http.StatusTooManyRequests || it.Status >= 500 {
		return fmt.Errorf("a probe of index %s was answered with %d: %s", op.Index, it.Status, it.Error.text())
	}
	return nil
}

// sendProbe sends the probe of probeIndex, and returns the answer to it.
func (b *Bulk) sendProbe(ctx context.Context, op *dbsync.Operation) (*item, error) {
	r := newBulkRequest(b.level)
	if err := r.encodeProbe(op); err != nil {
		return nil, err
	}
	if err := r.send(ctx, b.client, "/"+url.PathEscape(op.Index)+"/_bulk"+bulkFilter, 1); err != nil {
		return nil, err
	}
	return &r.items[0], nil
}
