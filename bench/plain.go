package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// requestBytes bounds a request of the plain load.
const requestBytes = 8 << 20

// operations are what changes ought to do to an index.
type operations struct {
	file    *bulkFile // for a plain load, or nil
	version int       // of the transaction under way; the rows were stored with 1
	changed map[string]bool
}

// next begins another transaction.
func (o *operations) next() { o.version++ }

func (o *operations) store(doc document) error {
	o.changed[doc.id] = true
	if o.file == nil {
		return nil
	}
	return o.file.store(o.version, doc)
}

func (o *operations) delete(id string) error {
	o.changed[id] = true
	if o.file == nil {
		return nil
	}
	return o.file.delete(o.version, id)
}

// bulkFile holds ready-made bulk requests. It is a file so that this process stays
// small beside the tool; it is read from the system's cache.
type bulkFile struct {
	file       *os.File
	w          *bufio.Writer
	batch      int // operations of one request
	parts      []part
	operations int
	bytes      int64 // of documents
	line       []byte
}

type part struct {
	offset, length int64
	operations     int
}

func newBulkFile(folder, name string, batch int) (*bulkFile, error) {
	f, err := os.Create(folder + "/" + name)
	if err != nil {
		return nil, err
	}
	return &bulkFile{file: f, w: bufio.NewWriterSize(f, 1<<20), batch: batch}, nil
}

func (b *bulkFile) store(version int, doc document) error {
	b.line = append(b.line[:0], `{"index":{"_id":"`...)
	b.line = append(b.line, doc.id...) // a number: nothing to escape
	b.line = append(b.line, `","version":`...)
	b.line = strconv.AppendInt(b.line, int64(version), 10)
	b.line = append(b.line, ",\"version_type\":\"external_gte\"}}\n"...)
	b.line = append(b.line, doc.body...)
	b.line = append(b.line, '\n')
	b.bytes += int64(len(doc.body))
	return b.add()
}

func (b *bulkFile) delete(version int, id string) error {
	b.line = fmt.Appendf(b.line[:0], `{"delete":{"_id":"%s","version":%d,"version_type":"external_gte"}}`+"\n", id, version)
	return b.add()
}

// add writes the line.
func (b *bulkFile) add() error {
	if n := len(b.parts); n == 0 || b.parts[n-1].operations >= b.batch || b.parts[n-1].length+int64(len(b.line)) > requestBytes {
		var offset int64
		if n > 0 {
			offset = b.parts[n-1].offset + b.parts[n-1].length
		}
		b.parts = append(b.parts, part{offset: offset})
	}
	p := &b.parts[len(b.parts)-1]
	p.length += int64(len(b.line))
	p.operations++
	b.operations++
	_, err := b.w.Write(b.line)
	return err
}

func (b *bulkFile) close() error { return b.file.Close() }

// A load is what a plain load came to.
type load struct {
	written  time.Duration // until the last answer
	whole    time.Duration // with the refresh
	conflict int64         // operations that found a newer version, since requests overtake each other
}

// load writes all of b to an index by concurrent requests, and refreshes it.
func (s *search) load(ctx context.Context, index string, b *bulkFile, requests int) (load, error) {
	if err := b.w.Flush(); err != nil {
		return load{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var conflicts atomic.Int64
	var senders sync.WaitGroup
	begin := time.Now()
	for range requests {
		senders.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(b.parts) || ctx.Err() != nil {
					return
				}
				n, err := s.send(ctx, index, b.file, b.parts[i])
				if err != nil {
					cancel(err)
					return
				}
				conflicts.Add(int64(n))
			}
		})
	}
	senders.Wait()
	l := load{written: time.Since(begin), conflict: conflicts.Load()}
	if ctx.Err() != nil {
		return l, fmt.Errorf("plain load of %s: %w", index, context.Cause(ctx))
	}
	err := s.refresh(ctx, index)
	l.whole = time.Since(begin)
	return l, err
}

func (s *search) send(ctx context.Context, index string, from io.ReaderAt, p part) (conflicts int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/"+index+"/_bulk?filter_path=errors,items.*.error.type", io.NewSectionReader(from, p.offset, p.length))
	if err != nil {
		return 0, err
	}
	r.ContentLength = p.length
	r.Header.Set("Content-Type", "application/x-ndjson")
	res, err := s.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var answer struct {
		Errors bool
		Items  []map[string]struct{ Error struct{ Type string } }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0, err
	}
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("bulk request: status %d", res.StatusCode)
	}
	if !answer.Errors {
		return 0, nil
	}
	for _, item := range answer.Items {
		for _, result := range item {
			if result.Error.Type != "version_conflict_engine_exception" {
				return 0, errors.New("bulk request: " + result.Error.Type)
			}
			conflicts++
		}
	}
	return conflicts, nil
}
