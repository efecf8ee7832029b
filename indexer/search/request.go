package search

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/klauspost/compress/gzip"

	"tidemark/dbsync"
	"tidemark/mapping/jsontext"
)

// bulkFilter keeps of the answer what is judged. Each item has a status, so none is
// left out and positions stay those of the operations.
const bulkFilter = "?filter_path=errors,items.*.status,items.*.error"

// A bulkRequest is the storage of one request and its answer, used again and again. Its body is
// text with documents in between, which stay where they are: a batch is not to be held twice, and
// one huge document even less.
type bulkRequest struct {
	text      []byte     // what is sent, but for documents: action lines, or everything compressed
	documents []document // by at
	size      int        // bytes of text and documents
	gzip      *gzip.Writer
	plain     []byte // what has gathered for the gzip writer
	raw       int    // bytes before compression
	answer    bytes.Buffer
	items     []item
	readers   []*bodyReader // of text and documents, since the request was sent
}

// A document is sent in front of what text has from at on.
type document struct {
	at   int
	body []byte
}

// largeDocument is the size from which on a document is compressed by itself, and not copied before.
const largeDocument = 1 << 20

func newBulkRequest(level int) *bulkRequest {
	r := &bulkRequest{}
	if level != noCompression {
		// The level was checked by NewBulk.
		r.gzip, _ = gzip.NewWriterLevel(io.Discard, level)
	}
	return r
}

// Write appends what the gzip writer gives.
func (r *bulkRequest) Write(p []byte) (int, error) {
	r.text = append(r.text, p...)
	return len(p), nil
}

// gatherBytes is how much is put together before the gzip writer is called: it looks
// for repetitions in what it is given at once.
const gatherBytes = 32 << 10

// encode makes the body for a part. Where all of it goes to one index, that is to be named
// once in the path.
func (r *bulkRequest) encode(p part) error {
	r.reset()
	ops := p.ops
	if r.gzip == nil {
		// Room for all of it at once: what grows step by step leaves four times as much garbage.
		r.documents = slices.Grow(r.documents, len(ops))
		lines := 0
		for i := range ops {
			lines += actionOverhead + len(ops[i].ID) + len(ops[i].Routing)
		}
		r.text = slices.Grow(r.text, lines+lines/8)
		for i := range ops {
			r.text = appendAction(r.text, &ops[i], p.index == "")
			if ops[i].Kind == dbsync.Store {
				r.documents = append(r.documents, document{len(r.text), ops[i].Body})
				r.size += len(ops[i].Body)
				r.text = append(r.text, '\n')
			}
		}
		r.size += len(r.text)
		r.raw = r.size
		return nil
	}
	r.gzip.Reset(r)
	for i := range ops {
		r.plain = appendAction(r.plain, &ops[i], p.index == "")
		if ops[i].Kind == dbsync.Store {
			if body := ops[i].Body; len(body) > largeDocument {
				if err := r.compress(r.plain, body); err != nil {
					return err
				}
				r.plain = r.plain[:0]
			} else {
				r.plain = append(r.plain, body...)
			}
			r.plain = append(r.plain, '\n')
		}
		if len(r.plain) < gatherBytes && i < len(ops)-1 {
			continue
		}
		if err := r.compress(r.plain); err != nil {
			return err
		}
		r.plain = r.plain[:0]
	}
	return r.compressed()
}

// compressed ends the compressed body.
func (r *bulkRequest) compressed() error {
	if err := r.gzip.Close(); err != nil {
		return fmt.Errorf("compress a bulk request: %w", err)
	}
	r.size = len(r.text)
	return nil
}

// compress adds pieces to the compressed body.
func (r *bulkRequest) compress(pieces ...[]byte) error {
	for _, piece := range pieces {
		r.raw += len(piece)
		if _, err := r.gzip.Write(piece); err != nil {
			return fmt.Errorf("compress a bulk request: %w", err)
		}
	}
	return nil
}

// encodeProbe makes the body of a request that stores an empty document in the place of op's if
// that has a sequence number which none comes to.
func (r *bulkRequest) encodeProbe(op *dbsync.Operation) error {
	const never = math.MaxInt64 / 2
	line := append(jsontext.AppendString([]byte(`{"index":{"_id":`), op.ID), `,"routing":`...)
	line = jsontext.AppendString(line, cmp.Or(op.Routing, op.ID))
	return r.encodeLines(fmt.Appendf(line, ",\"if_seq_no\":%d,\"if_primary_term\":1}}\n{}\n", int64(never)))
}

// encodeLines makes the body of lines that are there already.
func (r *bulkRequest) encodeLines(lines []byte) error {
	r.reset()
	if r.gzip == nil {
		r.text = append(r.text, lines...)
		r.raw, r.size = len(lines), len(lines)
		return nil
	}
	r.gzip.Reset(r)
	if err := r.compress(lines); err != nil {
		return err
	}
	return r.compressed()
}

// reset empties the request, which then holds no document.
func (r *bulkRequest) reset() {
	clear(r.documents)
	r.documents, r.text, r.plain = r.documents[:0], r.text[:0], r.plain[:0]
	r.raw, r.size = 0, 0
}

// appendAction appends the line that says what is to be done with which document. The
// version type external_gte has the server refuse what is older than the document, or
// its deletion, that it knows, and accept the same version again.
func appendAction(dst []byte, op *dbsync.Operation, withIndex bool) []byte {
	if op.Kind == dbsync.Delete {
		dst = append(dst, `{"delete":{"_id":`...)
	} else {
		dst = append(dst, `{"index":{"_id":`...)
	}
	dst = jsontext.AppendString(dst, op.ID)
	if withIndex {
		dst = append(dst, `,"_index":`...)
		dst = jsontext.AppendString(dst, op.Index)
	}
	if op.Routing != "" {
		dst = append(dst, `,"routing":`...)
		dst = jsontext.AppendString(dst, op.Routing)
	}
	dst = append(dst, `,"version":`...)
	v, _ := Version(op) // Write has looked at it
	dst = strconv.AppendInt(dst, v, 10)
	return append(dst, ",\"version_type\":\"external_gte\"}}\n"...)
}

// Lines returns the lines of a bulk request that do an operation, a Store or a Delete, as they are sent but for the
// index, which a request may name once in its path. Its error is a [*VersionError].
func Lines(op *dbsync.Operation) ([]byte, error) {
	if _, err := Version(op); err != nil {
		return nil, err
	}
	lines := appendAction(nil, op, true)
	if op.Kind == dbsync.Store {
		lines = append(append(lines, op.Body...), '\n')
	}
	return lines, nil
}

// A bodyReader is one reading of a request's body. The HTTP transport may go on reading after the
// answer came; once the reader is closed, by whoever is first, it gets nothing more.
type bodyReader struct {
	mu        sync.Mutex
	text      []byte     // that is not read yet
	from      int        // where that is in the request's
	documents []document // that are not read yet
	read      int        // bytes of the first of them
	closed    bool
}

func (r *bulkRequest) newReader() *bodyReader {
	b := &bodyReader{text: r.text, documents: r.documents}
	r.readers = append(r.readers, b)
	return b
}

func (b *bodyReader) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errRequestOver
	}
	for n < len(p) {
		next := len(b.text)
		if len(b.documents) > 0 {
			next = b.documents[0].at - b.from
		}
		switch {
		case next > 0:
			k := copy(p[n:], b.text[:next])
			b.text, b.from, n = b.text[k:], b.from+k, n+k
		case len(b.documents) > 0:
			body := b.documents[0].body
			k := copy(p[n:], body[b.read:])
			b.read, n = b.read+k, n+k
			if b.read == len(body) {
				b.documents, b.read = b.documents[1:], 0
			}
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
	return n, nil
}

// errRequestOver is what is read of the body of a request that is over.
var errRequestOver = errors.New("the request is over")

func (b *bodyReader) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.text, b.documents = true, nil, nil
	return nil
}

// close ends all readings: what text and documents are in is written over after that.
func (r *bulkRequest) close() {
	for _, b := range r.readers {
		b.Close()
	}
	clear(r.readers)
	r.readers = r.readers[:0]
}

// send sends the encoded body and reads the answer for n operations into r.items. The
// error is a *ServerError for an answer other than 2xx, and a *LostError when there
// was none that can be used. After it nobody reads the documents any more.
func (r *bulkRequest) send(ctx context.Context, c *Client, path string, n int) error {
	attempt, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	defer dbsync.Await(ctx, c.timeout)()
	defer r.close()
	body := r.newReader()
	req, err := http.NewRequestWithContext(attempt, http.MethodPost, path, body)
	if err != nil {
		body.Close()
		return fmt.Errorf("make a bulk request: %w", err)
	}
	req.ContentLength = int64(r.size)
	// A connection that the server closed while it was idle is found out by the first
	// write; the transport then takes another one, from the start of the body.
	req.GetBody = func() (io.ReadCloser, error) { return r.newReader(), nil }
	req.Header.Set("Content-Type", "application/x-ndjson")
	if r.gzip != nil {
		req.Header.Set("Content-Encoding", "gzip")
	}
	res, err := c.Perform(req)
	if err != nil {
		return endOr(ctx, err)
	}
	defer res.Body.Close()
	r.answer.Reset()
	most := int64(maxAnswer) + int64(n)*(2*maxReason)
	if _, err := r.answer.ReadFrom(io.LimitReader(res.Body, most)); err != nil {
		return endOr(ctx, &LostError{err})
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return newServerError(res.StatusCode, res.Header, r.answer.Bytes())
	}
	if cap(r.items) < n {
		r.items = make([]item, n)
	}
	r.items = r.items[:n]
	if err := parseAnswer(r.answer.Bytes(), r.items); err != nil {
		return &LostError{err}
	}
	return nil
}
