package search

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"

	"tidemark/dbsync"
	"tidemark/mapping/jsontext"
)

// bulkFilter keeps of the answer what is judged. Each item has a status, so none is
// left out and positions stay those of the operations.
const bulkFilter = "?filter_path=errors,items.*.status,items.*.error"

// A bulkRequest is the storage of one request and its answer, used again and again.
type bulkRequest struct {
	body    bytes.Buffer // as sent
	gzip    *gzip.Writer // nil: sent as it is
	line    []byte       // one action line, or what has gathered for the gzip writer
	raw     int          // bytes before compression
	answer  bytes.Buffer
	items   []item
	readers atomic.Int32 // of body, not yet closed by the HTTP transport
}

func newBulkRequest(level int) *bulkRequest {
	r := &bulkRequest{}
	if level != noCompression {
		// The level was checked by NewBulk.
		r.gzip, _ = gzip.NewWriterLevel(io.Discard, level)
	}
	return r
}

// gatherBytes is how much is put together before the gzip writer is called: it looks
// for repetitions in what it is given at once.
const gatherBytes = 32 << 10

// encode makes the body for a part. Where all of it goes to one index, that is to be named
// once in the path.
func (r *bulkRequest) encode(p part) error {
	r.body.Reset()
	r.raw = 0
	ops := p.ops
	if r.gzip == nil {
		r.body.Grow(p.bytes)
		for i := range ops {
			r.line = appendAction(r.line[:0], &ops[i], p.index == "")
			r.body.Write(r.line) // a bytes.Buffer gives no error
			if ops[i].Kind == dbsync.Store {
				r.body.Write(ops[i].Body)
				r.body.WriteByte('\n')
			}
		}
		r.raw = r.body.Len()
		return nil
	}
	r.gzip.Reset(&r.body)
	r.line = r.line[:0]
	for i := range ops {
		r.line = appendAction(r.line, &ops[i], p.index == "")
		if ops[i].Kind == dbsync.Store {
			r.line = append(r.line, ops[i].Body...)
			r.line = append(r.line, '\n')
		}
		if len(r.line) < gatherBytes && i < len(ops)-1 {
			continue
		}
		r.raw += len(r.line)
		if _, err := r.gzip.Write(r.line); err != nil {
			return fmt.Errorf("compress a bulk request: %w", err)
		}
		if cap(r.line) > 1<<20 {
			r.line = nil // one huge document must not stay for ever
		} else {
			r.line = r.line[:0]
		}
	}
	if err := r.gzip.Close(); err != nil {
		return fmt.Errorf("compress a bulk request: %w", err)
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
	r.body.Reset()
	r.raw = len(lines)
	if r.gzip == nil {
		r.body.Write(lines)
		return nil
	}
	r.gzip.Reset(&r.body)
	if _, err := r.gzip.Write(lines); err != nil {
		return fmt.Errorf("compress a bulk request: %w", err)
	}
	if err := r.gzip.Close(); err != nil {
		return fmt.Errorf("compress a bulk request: %w", err)
	}
	return nil
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
	v, _ := version(op) // Write has looked at it
	dst = strconv.AppendInt(dst, v, 10)
	return append(dst, ",\"version_type\":\"external_gte\"}}\n"...)
}

// A bodyReader is one reading of a request's body. The HTTP transport may still read
// it after the answer came, until it calls Close.
type bodyReader struct {
	bytes.Reader
	readers *atomic.Int32
	closed  atomic.Bool
}

func (r *bulkRequest) newReader() *bodyReader {
	b := &bodyReader{readers: &r.readers}
	b.Reset(r.body.Bytes())
	r.readers.Add(1)
	return b
}

func (b *bodyReader) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		b.readers.Add(-1)
	}
	return nil
}

// send sends the encoded body and reads the answer for n operations into r.items. The
// error is a *ServerError for an answer other than 2xx, and a *LostError when there
// was none that can be used.
func (r *bulkRequest) send(ctx context.Context, c *Client, path string, n int) error {
	attempt, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	body := r.newReader()
	req, err := http.NewRequestWithContext(attempt, http.MethodPost, path, body)
	if err != nil {
		body.Close()
		return fmt.Errorf("make a bulk request: %w", err)
	}
	req.ContentLength = int64(r.body.Len())
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
	limit := int64(maxAnswer) + int64(n)*(2*maxReason)
	if _, err := r.answer.ReadFrom(io.LimitReader(res.Body, limit)); err != nil {
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

// idle reports whether nobody reads the body any more, so that it may be used again.
func (r *bulkRequest) idle() bool { return r.readers.Load() == 0 }
