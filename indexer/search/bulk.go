package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/klauspost/compress/gzip"
	"github.com/sourcegraph/conc/pool"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/mapping/limit"
)

const (
	// A connection that the server closes again and again while it answers everything
	// else says "too large" from this size on: a server that limits the decompressed
	// size may close the connection without the 413.
	suspectBytes = 1 << 20
)

// A Compression says how bodies of bulk requests are compressed. Gzip makes documents
// of a few hundred bytes four times smaller for 0.15 s of processor time per 100,000
// documents, and the server's own share. Higher levels take longer and gain nothing.
type Compression int

const (
	CompressAuto  Compression = iota // gzip, except where all URLs are on this machine
	CompressGzip                     // always gzip, at its fastest
	CompressNever                    // as they are
)

const (
	noCompression   = gzip.NoCompression
	fastCompression = gzip.BestSpeed
)

// BulkOptions says how operations are written. A zero number means the default; a
// number out of bounds is refused by [NewBulk], see package limit.
type BulkOptions struct {
	// What the server is given at the most. It is given less where it answers that it is too much, and
	// where it is not faster with more; [Bulk.Pace] says how much at the moment.
	Requests  int // concurrent requests (default 16, at most 64)
	Bytes     int // of one request before compression (default 8 MiB, 64 KiB to 90 MiB); a larger document goes alone
	Documents int // of one request (default 5000, at most 100,000)

	// Beside, if given, is a Bulk of the same cluster whose requests these are counted among: both
	// together are held to its bounds, and what the server answers to one concerns both.
	Beside *Bulk

	Compression Compression

	// MinBackoff and MaxBackoff bound the pause before an operation is sent again:
	// it doubles from the first (default 100 ms) to the second (default 30 s), each
	// pause up to half longer or shorter by chance. A Retry-After of the server
	// lengthens it, to 5 min at most. The number of attempts has no bound.
	MinBackoff, MaxBackoff time.Duration

	// PoisonAfter is how long a document is tried that the server answers with 5xx, or not at all,
	// each time that it is sent alone, while the server takes others. After it the document is
	// refused. 0: it is tried without end.
	PoisonAfter time.Duration

	// OnRefused takes the operations that the server refuses for good. They count as
	// done when it returns nil; its error ends Write. It is called once at a time, and
	// must not keep the operations' bodies after its return. Required.
	OnRefused func(ctx context.Context, refused []Refused) error

	// Newer, if given, is told the highest version that operations of a request have found in place
	// of their own, of each index, and of which document. Its error ends Write: the version may be one
	// that nobody can have written.
	Newer func(ctx context.Context, op *dbsync.Operation, version int64) error

	// Unanswered, if given, is told of the operations of a request of which it is not known what
	// became: no answer came, or one that is not the search server's. It may be called concurrently.
	Unanswered func(ops []dbsync.Operation)

	// Missing, if given, is asked about an index that is not there, before operations on it are sent again:
	// they are passed over where it returns true, and count as done. Its error ends Write. It may be called
	// concurrently, and again and again. Where it is not given they are held back, with the alarm raised,
	// until there is an index.
	Missing func(ctx context.Context, index string) (drop bool, err error)

	// Observe, if given, is called after each request, concurrently, with the context that it was sent
	// with.
	Observe func(context.Context, Request)

	Alarm  *retry.Alarm // shows why writing is held back; default: one of its own
	Logger *slog.Logger // required
}

// Refused is an operation that the search server refuses for good, and why.
type Refused struct {
	Operation dbsync.Operation
	Err       *DocError
}

// A Bulk writes operations to the cluster by bulk requests. It is safe for concurrent
// use, as long as no two calls hold operations of the same document.
type Bulk struct {
	client *Client
	o      BulkOptions
	level  int
	gate   *gate
	pool   sync.Pool // of *bulkRequest
	places sync.Pool // of *[]place, see survey
	stats  Stats
	health health

	refusing sync.Mutex // held while OnRefused runs
}

// NewBulk returns a Bulk that writes through c.
func NewBulk(c *Client, o BulkOptions) (*Bulk, error) {
	fill := func(v *int, name string, def, low, high int) error {
		if *v == 0 {
			*v = def
		}
		if *v < low || *v > high {
			return fmt.Errorf("bulk %s is %d: want %d to %d", name, *v, low, high)
		}
		return nil
	}
	if err := errors.Join(
		fill(&o.Requests, "requests", limit.DefaultRequests, 1, limit.MaxRequests),
		fill(&o.Bytes, "bytes", limit.DefaultBytes, limit.MinBytes, limit.MaxBytes),
		fill(&o.Documents, "documents", limit.DefaultDocuments, 1, limit.MaxDocuments),
	); err != nil {
		return nil, err
	}
	if o.MinBackoff == 0 {
		o.MinBackoff = retry.MinBackoff
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = max(retry.MaxBackoff, o.MinBackoff)
	}
	switch {
	case o.PoisonAfter < 0:
		return nil, fmt.Errorf("bulk poison after %s: want a time, or 0 for never", o.PoisonAfter)
	case o.MinBackoff < 0 || o.MaxBackoff < o.MinBackoff:
		return nil, fmt.Errorf("bulk backoff from %s to %s: want two growing times", o.MinBackoff, o.MaxBackoff)
	case o.OnRefused == nil:
		return nil, errors.New("bulk: OnRefused is missing, and a refused document must not be lost")
	case o.Logger == nil:
		return nil, errors.New("bulk: no logger given")
	}
	if o.Alarm == nil {
		o.Alarm = retry.NewAlarm(o.Logger)
	}
	b := &Bulk{client: c, o: o, level: fastCompression, gate: newGate(o.Requests, o.Bytes), health: newHealth()}
	if o.Beside != nil {
		b.gate = o.Beside.gate
	}
	switch o.Compression {
	case CompressAuto:
		if loopback(c.addresses) {
			b.level = noCompression
		}
	case CompressGzip:
	case CompressNever:
		b.level = noCompression
	default:
		return nil, fmt.Errorf("bulk compression %d is none of the known ones", o.Compression)
	}
	b.pool.New = func() any { return newBulkRequest(b.level) }
	b.places.New = func() any { return new([]place) }
	return b, nil
}

// Alarm returns the alarm that shows why writing is held back.
func (b *Bulk) Alarm() *retry.Alarm { return b.o.Alarm }

// Stats returns the counters, which go on counting.
func (b *Bulk) Stats() *Stats { return &b.stats }

// Pace returns how much the server is given at the moment.
func (b *Bulk) Pace() Pace { return b.gate.now() }

// Write writes ops, at most one per document, and returns nil when each of them is
// stored, has found a newer version, or was taken by OnRefused. Whatever may be over
// some time is waited for, without end and with the alarm raised. It returns an error
// when OnRefused does, and one that wraps context.Cause(ctx) when ctx ends; some of
// ops may have been written then, and writing all of them again is harmless.
func (b *Bulk) Write(ctx context.Context, ops []dbsync.Operation) error {
	if len(ops) == 0 {
		return nil
	}
	w, err := b.begin(ops)
	if err != nil {
		return err
	}
	defer b.end(w)
	if len(w.refused) > 0 {
		if err := b.refuse(ctx, w.refused); err != nil {
			return err
		}
	}
	if len(w.parts) == 1 {
		return b.writePart(ctx, w.parts[0], &w.rough)
	}
	p := pool.New().WithMaxGoroutines(b.o.Requests).WithContext(ctx).WithCancelOnError().WithFirstError()
	for _, part := range w.parts {
		p.Go(func(ctx context.Context) error { return b.writePart(ctx, part, &w.rough) })
	}
	return p.Wait()
}

// A writing is one call of Write.
type writing struct {
	batch   batch
	parts   []part    // of one request each
	refused []Refused // what no request may have
	bytes   int       // of all parts
	began   time.Time
	rough   atomic.Bool // something was sent twice, or refused: how long it took says nothing
}

// begin begins to write ops.
func (b *Bulk) begin(ops []dbsync.Operation) (*writing, error) {
	places := b.places.Get().(*[]place)
	defer b.places.Put(places)
	s := survey{places: (*places)[:0]}
	if err := s.look(ops); err != nil {
		return nil, err
	}
	*places = s.places
	w := &writing{batch: b.gate.begin(s.worth()), refused: s.refused, bytes: s.bytes}
	w.parts = s.split(w.batch.requests, min(w.batch.bytes, b.o.Bytes), b.o.Documents)
	w.rough.Store(len(w.refused) > 0)
	w.began = time.Now()
	return w, nil
}

// end ends it, however it went.
func (b *Bulk) end(w *writing) {
	b.gate.end(w.batch, w.bytes, time.Since(w.began), !w.rough.Load())
}

// An outcome is what one request came to.
type outcome struct {
	left       []dbsync.Operation // to be sent again
	refused    []Refused
	newer      map[string]newerVersion // the highest of each index
	reasons    map[string]string       // why some are held back, for the alarm
	missing    map[string]string       // indices that are not there, each with its key in reasons
	halve      bool                    // left is to be sent in halves
	overloaded bool                    // what came may be due to how much is asked for, or to one of the documents
	suspect    bool                    // what came may be due to one of the documents, and not to how many there are
	status     int                     // of what is suspect; 0: no answer came
	wait       bool                    // left is to be sent after a pause
	less       bool                    // without one, as less is asked for from here on: it waits at the gate
	retryAfter time.Duration
	answer     answer
	cause      Cause        // why what is left is to be sent again; of several the last one
	failure    string       // what to tell when it goes on like this; empty when the request went through
	said       string       // failure with all that the server said, which may quote a document; empty: failure has it
	broken     error        // the connection broke
	malformed  *ServerError // the server cannot read the only operation of the request
}

// A newerVersion is the version that an operation has found in place of its own.
type newerVersion struct {
	op      *dbsync.Operation
	version int64
}

// hold notes why some operations are held back.
func (o *outcome) hold(key, text string) {
	if o.reasons == nil {
		o.reasons = make(map[string]string)
	}
	o.reasons[key] = text
}

// miss notes that an index is not there, and by which key of reasons its operations are held back.
func (o *outcome) miss(index, key string) {
	if o.missing == nil {
		o.missing = make(map[string]string)
	}
	o.missing[index] = key
}

// A piece is a part that is under way, or what is left of it.
type piece struct {
	part
	tries  int       // attempts in a row that got nothing of it done
	broken int       // connections in a row that broke in the middle of the request
	probed bool      // the last thing that the server answered was a probe
	held   bool      // its index has refused an empty document, too, the last time
	alone  time.Time // since when the server takes everything but its only operation; zero: that is not known
}

// left returns the piece of what is left after an attempt.
func (p *piece) left(ops []dbsync.Operation) piece {
	if len(ops) < len(p.ops) {
		return piece{part: partOf(ops), held: p.held}
	}
	again := *p
	again.tries++
	return again
}

// writePart writes what fits one request. It sends again what is left: in halves where the request
// as a whole is the trouble, or has been refused as often as that raises the alarm. One document
// that alone is refused lets the others go first. It sets rough where not all was stored at once.
func (b *Bulk) writePart(ctx context.Context, p part, rough *atomic.Bool) error {
	w := &waiting{alarm: b.o.Alarm, pause: retry.NewBackoff(b.o.MinBackoff, b.o.MaxBackoff)}
	defer w.release()
	pieces := []piece{{part: p}} // the last one is sent next; grows by one with each halving
	defer func() {
		for i := range pieces {
			b.health.forget(&pieces[i])
		}
	}()
	for len(pieces) > 0 {
		last := len(pieces) - 1
		at := &pieces[last]
		out, err := b.attempt(ctx, at.part)
		if err == nil && out.broken != nil {
			b.suspectSize(ctx, at, &out)
		} else {
			at.broken = 0
		}
		later := false
		switch {
		case err != nil:
		case out.malformed != nil:
			b.suspectDocument(ctx, at, &out)
		case out.suspect && len(at.ops) == 1:
			later = b.suspectPoison(ctx, at, &out)
		default:
			at.probed = false
		}
		if err == nil {
			err = b.passOver(ctx, &out)
		}
		if err == nil {
			b.suspectIndices(ctx, at, &out)
		}
		if err == nil && b.o.Newer != nil {
			for _, n := range out.newer {
				err = cmp.Or(err, b.o.Newer(ctx, n.op, n.version))
			}
		}
		if err == nil && len(out.refused) > 0 {
			err = b.refuse(ctx, out.refused)
		}
		if err != nil {
			rough.Store(true)
			return err
		}
		if len(out.left) > 0 || len(out.refused) > 0 {
			rough.Store(true)
		}
		w.show(out, len(at.ops))
		if len(out.left) < len(at.ops) {
			b.health.forget(at)
		}
		if len(out.left) == 0 {
			pieces = pieces[:last]
			continue
		}
		b.stats.Retried[out.cause].Add(int64(len(out.left)))
		if out.failure != "" {
			b.o.Logger.Debug("bulk operations are sent again", "operations", len(out.left), "reason", out.failure)
		}
		next := at.left(out.left)
		if n := len(next.ops); n > 1 && (out.halve || out.overloaded && next.tries >= retry.Patience) {
			pieces = append(pieces[:last], piece{part: partOf(next.ops[n/2:])}, piece{part: partOf(next.ops[:n/2])})
			if out.overloaded {
				w.pause.Reset() // less is asked for
			}
		} else {
			pieces[last] = next
		}
		if later {
			pieces = slices.Insert(pieces[:last], 0, next)
		}
		if out.wait && !out.less {
			if err := w.wait(ctx, out.retryAfter); err != nil {
				return notDone(err, pieces...)
			}
		}
	}
	return nil
}

func notDone(cause error, pieces ...piece) error {
	n := 0
	for _, piece := range pieces {
		n += len(piece.ops)
	}
	return fmt.Errorf("bulk write stopped with %d operations not known to be stored: %w", n, cause)
}

// refuse hands operations to OnRefused, one call at a time.
func (b *Bulk) refuse(ctx context.Context, refused []Refused) error {
	b.refusing.Lock()
	defer b.refusing.Unlock()
	if err := b.o.OnRefused(ctx, refused); err != nil {
		return fmt.Errorf("%d documents were refused, the first: %w: %w", len(refused), refused[0].Err, err)
	}
	b.stats.Refused.Add(int64(len(refused)))
	// The server's reason may quote the document, so it goes to the dead letters only.
	first := refused[0].Err
	b.o.Logger.Warn("documents refused for good", "documents", len(refused), "index", first.Index, "status", first.Status, "type", first.Type)
	return nil
}

// attempt sends one request when the gate lets it, and judges what comes back. Its error means that
// ctx ended.
func (b *Bulk) attempt(ctx context.Context, p part) (outcome, error) {
	v, err := b.gate.enter(ctx, p.bytes)
	if err != nil {
		return outcome{}, notDone(err, piece{part: p})
	}
	out, err := b.exchange(ctx, p)
	var after time.Duration
	if out.answer.rejected {
		b.stats.Rejected.Add(1)
		after = out.retryAfter
	}
	out.less = b.gate.leave(v, out.answer, after) && after == 0
	return out, err
}

// exchange sends one request and judges what comes back. Its error means that ctx ended.
func (b *Bulk) exchange(ctx context.Context, p part) (outcome, error) {
	r := b.pool.Get().(*bulkRequest)
	if err := r.encode(p); err != nil {
		return outcome{}, err
	}
	path := "/_bulk" + bulkFilter
	if p.index != "" {
		path = "/" + url.PathEscape(p.index) + path
	}
	begin := time.Now()
	err := r.send(ctx, b.client, path, len(p.ops))
	took := time.Since(begin)
	b.count(ctx, r, Request{Began: begin, Duration: took, Operations: len(p.ops), Bytes: r.size}, err)
	if b.o.Unanswered != nil && isUnanswered(ctx, err) {
		b.o.Unanswered(p.ops)
	}
	if err != nil && ctx.Err() != nil {
		return outcome{}, notDone(context.Cause(ctx), piece{part: p})
	}
	var out outcome
	switch server, answered := errors.AsType[*ServerError](err); {
	case err == nil:
		out = b.judgeItems(p.ops, r.items)
		out.answer.slow = took > b.client.timeout/slowPart
	case answered:
		out = b.judgeRequest(p.ops, server)
	default:
		away := isDial(err)
		out = outcome{left: p.ops, wait: true, failure: fmt.Sprintf("search server %s: %v", b.client.where(), err), broken: err, overloaded: !away, suspect: !away, cause: CauseNoAnswer}
		if _, fenced := errors.AsType[*FencedError](err); fenced {
			out.broken, out.overloaded, out.suspect = nil, false, false
		} else if took >= b.client.timeout {
			// Perhaps it is more than the server can do in that time.
			out.halve, out.broken, out.answer.late, out.cause = true, nil, true, CauseTimeout
		}
	}
	out.answer.operations, out.answer.bytes, out.answer.stored = len(p.ops), p.bytes, err == nil && len(out.left) == 0
	r.reset()
	b.pool.Put(r)
	return out, nil
}

// slowPart is which part of the request's time limit an answer may take before requests are made
// smaller: the next one may take longer, and one that is not answered in time is lost time.
const slowPart = 4

// isUnanswered reports whether a request that was sent may have had its effect, or may still have it.
func isUnanswered(ctx context.Context, err error) bool {
	if server, ok := errors.AsType[*ServerError](err); ok {
		return server.Type == "" && server.Status >= 500 // of a proxy, which may have passed the request on
	}
	if _, lost := errors.AsType[*LostError](err); !lost {
		return err != nil && ctx.Err() != nil // given up
	}
	if _, fenced := errors.AsType[*FencedError](err); fenced {
		return false // a server that has got a part of a body does nothing
	}
	dial, ok := errors.AsType[*net.OpError](err)
	return !ok || dial.Op != "dial"
}

// count counts a request that has ended.
func (b *Bulk) count(ctx context.Context, r *bulkRequest, of Request, err error) {
	of.Status = http.StatusOK
	if err != nil {
		of.Status = 0
		if server, ok := errors.AsType[*ServerError](err); ok {
			of.Status = server.Status
		}
		b.stats.Failed.Add(1)
	}
	b.stats.Requests.Add(1)
	b.stats.Bytes.Add(int64(r.size))
	b.stats.RawBytes.Add(int64(r.raw))
	if b.o.Observe != nil {
		b.o.Observe(ctx, of)
	}
}

// judgeItems sorts the operations of an answered request by what became of each.
func (b *Bulk) judgeItems(ops []dbsync.Operation, items []item) outcome {
	var out outcome
	var indexed, deleted, newer int64
	var stored []string // indices, with those that are the same beside each other once
	for i := range ops {
		op, it := &ops[i], &items[i]
		switch judgeItem(op, it) {
		case accepted:
			if op.Kind == dbsync.Delete {
				deleted++
			} else {
				indexed++
				if n := len(stored); n == 0 || stored[n-1] != op.Index {
					stored = append(stored, op.Index)
				}
			}
		case superseded:
			newer++
			if version, ok := currentVersion(it); ok && version > out.newer[op.Index].version {
				if out.newer == nil {
					out.newer = make(map[string]newerVersion)
				}
				out.newer[op.Index] = newerVersion{op, version}
			}
		case refusedForGood:
			out.refused = append(out.refused, Refused{*op, &DocError{Index: op.Index, ID: op.ID, Status: it.Status, Type: it.kind(), Reason: it.Error.text()}})
		case held:
			out.left, out.wait, out.cause = append(out.left, *op), true, CauseHeld
			key, text := explain(op.Index, it.Status, it.kind(), it.Error)
			out.hold(key, text)
			if isMissing(it.kind()) {
				out.miss(op.Index, key)
			}
		default: // busy, lostAnswer
			out.left, out.wait, out.overloaded, out.cause = append(out.left, *op), true, true, busyCause(it.Status)
			out.suspect, out.status = out.suspect || it.Status != http.StatusTooManyRequests, it.Status
			out.answer.rejected = out.answer.rejected || it.Status == http.StatusTooManyRequests
			if out.failure == "" {
				failure := fmt.Sprintf("search server %s: item of index %s answered with %d %s: ", b.client.where(), op.Index, it.Status, it.kind())
				out.failure, out.said = failure+withheld(it.Error.text()), failure+it.Error.text()
			}
		}
	}
	b.health.judged(stored, out.refused)
	b.stats.Stored.Add(indexed)
	b.stats.Deleted.Add(deleted)
	b.stats.Superseded.Add(newer)
	return out
}

// judgeRequest says what to do after an answer other than 2xx to the request as a whole.
func (b *Bulk) judgeRequest(ops []dbsync.Operation, answer *ServerError) outcome {
	out := outcome{left: ops, retryAfter: answer.After}
	switch kind := judgeAnswer(answer); {
	case (kind == tooLarge || kind == malformed) && len(ops) > 1:
		out.halve, out.answer.tooLarge, out.cause = true, kind == tooLarge, CauseDivided
	case kind == tooLarge:
		return refuseOne(&ops[0], answer)
	case kind == busy:
		out.wait, out.overloaded, out.suspect = true, true, answer.Status != http.StatusTooManyRequests
		out.status, out.answer.rejected, out.cause = answer.Status, answer.Status == http.StatusTooManyRequests, busyCause(answer.Status)
		out.failure = fmt.Sprintf("search server %s: %v", b.client.where(), answer)
		if answer.Type != "" { // the search server itself, which has the documents
			out.said = out.failure
			out.failure = fmt.Sprintf("search server %s: the server answered %d %s: %s", b.client.where(), answer.Status, answer.Type, withheld(answer.Reason))
		}
	default:
		out.wait, out.cause = true, CauseHeld
		key, text := explain(ops[0].Index, answer.Status, answer.Type, &itemError{Reason: answer.Reason})
		out.hold(key, text)
		if isMissing(answer.Type) && partOf(ops).index != "" {
			out.miss(ops[0].Index, key)
		}
		if kind == malformed {
			out.malformed = answer
		}
	}
	return out
}

// busyCause is the cause of what a server sends back that is busy.
func busyCause(status int) Cause {
	if status == http.StatusTooManyRequests {
		return CauseRejected
	}
	return CauseServer
}

// suspectDocument looks at a request with one operation that the server could not
// read. Either this document is to blame, or the server cannot read any request of
// ours, and then no document may be given up. Refused is one that is sent right after
// a request without it went through.
func (b *Bulk) suspectDocument(ctx context.Context, p *piece, out *outcome) {
	if p.probed {
		*out = refuseOne(&p.ops[0], out.malformed)
		p.probed = false
		return
	}
	if p.probed = b.probe(ctx) == nil; p.probed {
		*out = outcome{left: p.ops, cause: CauseDivided}
	}
}

func refuseOne(op *dbsync.Operation, answer *ServerError) outcome {
	return outcome{refused: []Refused{{*op, &DocError{Index: op.Index, ID: op.ID, Status: answer.Status, Type: answer.Type, Reason: answer.Reason}}}}
}

// probe sends a request of the usual form with one operation that changes nothing: a
// delete in an index whose name cannot exist. It returns nil if the server answers it
// item by item.
func (b *Bulk) probe(ctx context.Context) error {
	r := newBulkRequest(b.level)
	if err := r.encode(partOf([]dbsync.Operation{{Kind: dbsync.Delete, Index: "TIDEMARK-PROBE", ID: "1", Version: 1}})); err != nil {
		return err
	}
	return r.send(ctx, b.client, "/TIDEMARK-PROBE/_bulk"+bulkFilter, 1)
}

// suspectSize looks at a connection that broke in the middle of a large request, for
// the third time in a row while the server answers a ping: then it is the size that
// the server does not take. Elasticsearch 8 and 9 close the connection, without a
// 413, when a compressed body comes to more than http.max_content_length.
func (b *Bulk) suspectSize(ctx context.Context, p *piece, out *outcome) {
	if isDial(out.broken) {
		p.broken = 0 // the server is away, which is another matter
		return
	}
	p.broken++
	if p.broken < retry.Patience || p.bytes < suspectBytes || b.client.Ping(ctx) != nil {
		return
	}
	p.broken = 0
	if len(p.ops) > 1 {
		out.halve = true
		b.gate.tooLarge(p.bytes)
		return
	}
	*out = refuseOne(&p.ops[0], &ServerError{
		Status: http.StatusRequestEntityTooLarge,
		Type:   "connection_closed",
		Reason: fmt.Sprintf("the server closes the connection each time this document of %d bytes is sent, and answers everything else; is it over http.max_content_length?", p.bytes),
	})
}

// isDial reports whether no connection came about.
func isDial(err error) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial"
}

// waiting is why, and for how long, one part of a batch is held back.
type waiting struct {
	alarm    *retry.Alarm
	pause    *backoff.ExponentialBackOff
	failures int // requests in a row that got nothing done
	holds    map[string]*retry.Hold
}

// show brings the alarm in line with what the last request of n operations came to.
func (w *waiting) show(out outcome, n int) {
	switch {
	case len(out.left) < n:
		w.failures = 0
		w.pause.Reset()
	case out.wait:
		w.failures++
	case len(w.holds) > 0 && out.suspect:
		return // it is sent once more at once, before it is given up
	}
	reasons := out.reasons
	if out.failure != "" && w.failures >= retry.Patience {
		reasons = map[string]string{"search server does not take bulk requests": out.failure}
		maps.Copy(reasons, out.reasons)
	}
	for key, hold := range w.holds {
		if _, still := reasons[key]; !still {
			hold.Release()
			delete(w.holds, key)
		}
	}
	for key, text := range reasons {
		if w.holds == nil {
			w.holds = make(map[string]*retry.Hold)
		}
		w.holds[key] = w.alarm.Keep(w.holds[key], key, text)
	}
}

func (w *waiting) wait(ctx context.Context, atLeast time.Duration) error {
	return retry.Sleep(ctx, max(w.pause.NextBackOff(), atLeast))
}

func (w *waiting) release() {
	for _, hold := range w.holds {
		hold.Release()
	}
}
