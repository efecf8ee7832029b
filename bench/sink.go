package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A sink takes bulk requests as an OpenSearch would, answers that all is stored, and
// stores nothing. Of the rest it knows what the tool asks for on its way.
type sink struct {
	url    string
	stored atomic.Int64 // operations
	held   atomic.Int64 // documents that were stored since the last index was made
	calls  atomic.Int64 // bulk requests
	marked atomic.Int64 // documents that have the mark
	server http.Server
	served chan error

	readers sync.Pool // of *bufio.Reader
	pace    *pace     // nil: requests are answered at once

	mu      sync.Mutex
	indices map[string]*sinkIndex
	stocks  map[string]int64 // of documents, by id; nil: they are not wanted
	mark    []byte           // nil: not looked for
}

// A sinkIndex is what a sink keeps of an index.
type sinkIndex struct {
	aliases map[string]bool
	meta    json.RawMessage // mappings._meta
}

func startSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{url: "http://" + l.Addr().String(), served: make(chan error, 1), indices: make(map[string]*sinkIndex)}
	s.readers.New = func() any { return bufio.NewReaderSize(nil, 256<<10) }
	s.server.Handler = s
	go func() { s.served <- s.server.Serve(l) }()
	return s, nil
}

func (s *sink) close() error {
	err := s.server.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/_bulk") {
		s.bulk(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.Trim(r.URL.Path, "/")
	name, rest, _ := strings.Cut(name, "/")
	switch {
	case name == "":
		io.WriteString(w, `{"cluster_name":"sink","cluster_uuid":"sink","version":{"number":"3.0.0","distribution":"opensearch"},"tagline":"The OpenSearch Project: https://opensearch.org/"}`)
	case r.Method == http.MethodPut && rest == "":
		var body struct {
			Aliases  map[string]any
			Mappings struct {
				Meta json.RawMessage `json:"_meta"`
			}
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		made := &sinkIndex{aliases: make(map[string]bool), meta: body.Mappings.Meta}
		s.indices[name] = made
		s.held.Store(0)
		for alias := range body.Aliases {
			made.aliases[alias] = true
		}
		io.WriteString(w, `{"acknowledged":true}`)
	case r.Method == http.MethodDelete:
		delete(s.indices, name)
		io.WriteString(w, `{"acknowledged":true}`)
	case r.Method == http.MethodPost && name == "_aliases":
		s.moveAliases(r.Body)
		io.WriteString(w, `{"acknowledged":true}`)
	case r.Method == http.MethodPut && rest == "_mapping":
		var body struct {
			Meta json.RawMessage `json:"_meta"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		if i := s.indices[name]; i != nil && body.Meta != nil {
			i.meta = body.Meta
		}
		io.WriteString(w, `{"acknowledged":true}`)
	case strings.HasPrefix(rest, "_doc/"):
		fmt.Fprintf(w, `{"_source":{"stock":%d}}`, s.stocks[strings.TrimPrefix(rest, "_doc/")])
	case rest == "_count":
		fmt.Fprintf(w, `{"count":%d,"_shards":{"failed":0}}`, s.held.Load())
	case r.Method == http.MethodGet && name == "_alias":
		s.answer(w, false, func(_ string, i *sinkIndex) bool { return i.aliases[rest] })
	case r.Method == http.MethodGet && (rest == "" || rest == "_alias"):
		s.answer(w, strings.Contains(name, "*"), func(index string, _ *sinkIndex) bool {
			return slices.ContainsFunc(strings.Split(name, ","), func(name string) bool {
				prefix, wild := strings.CutSuffix(name, "*")
				return index == name || wild && strings.HasPrefix(index, prefix)
			})
		})
	case r.Method == http.MethodGet: // of templates, recoveries, settings: nothing is out of the ordinary
		io.WriteString(w, `{}`)
	default: // _settings, _refresh, _flush
		io.WriteString(w, `{"acknowledged":true,"_shards":{"failed":0}}`)
	}
}

func (s *sink) moveAliases(body io.Reader) {
	var request struct {
		Actions []map[string]struct{ Index, Alias string }
	}
	_ = json.NewDecoder(body).Decode(&request)
	for _, action := range request.Actions {
		for what, a := range action {
			if i := s.indices[a.Index]; i != nil {
				i.aliases[a.Alias] = what == "add"
			}
		}
	}
}

// answer returns about the indices that which picks. There need not be any for a wildcard.
func (s *sink) answer(w http.ResponseWriter, wild bool, which func(string, *sinkIndex) bool) {
	found := make(map[string]any)
	for index, i := range s.indices {
		if !which(index, i) {
			continue
		}
		behind := make(map[string]any)
		for alias, is := range i.aliases {
			if is {
				behind[alias] = struct{}{}
			}
		}
		found[index] = map[string]any{"aliases": behind, "settings": map[string]any{"index": map[string]any{"uuid": index}}, "mappings": map[string]any{"_meta": i.meta}}
	}
	if len(found) == 0 && !wild {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"error":{"type":"index_not_found_exception","reason":"no such index"},"status":404}`)
		return
	}
	_ = json.NewEncoder(w).Encode(found)
}

// keep has the sink keep of each document the value of its field stock from now on.
func (s *sink) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stocks = make(map[string]int64)
}

// count has the sink keep the same, and count the documents that hold mark.
func (s *sink) count(mark string) {
	s.keep()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark = []byte(mark)
	s.marked.Store(0)
}

// pass has the sink pass over all of a document again.
func (s *sink) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stocks, s.mark = nil, nil
}

var (
	stockField = []byte(`"stock":`)
	idField    = []byte(`"_id":"`)
)

// A sight is what is kept of the documents of one request until it is answered.
type sight struct {
	mark   []byte
	id     string
	stocks map[string]int64
	marked int64
}

// sight returns nil where nothing of documents is wanted.
func (s *sink) sight() *sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stocks == nil {
		return nil
	}
	return &sight{mark: s.mark, stocks: make(map[string]int64)}
}

// action takes the line of an action.
func (s *sight) action(line []byte) {
	if _, rest, ok := bytes.Cut(line, idField); ok {
		id, _, _ := bytes.Cut(rest, []byte(`"`))
		s.id = string(id)
	}
}

// document takes the first piece of a document, which is all of it in the workloads that look.
func (s *sight) document(piece []byte) {
	if _, rest, ok := bytes.Cut(piece, stockField); ok {
		var stock int64
		for _, c := range rest {
			if c < '0' || c > '9' {
				break
			}
			stock = 10*stock + int64(c-'0')
		}
		s.stocks[s.id] = stock
	}
	if s.mark != nil && bytes.Contains(piece, s.mark) {
		s.marked++
	}
}

// readable makes what was seen readable, since the request is answered now.
func (s *sink) readable(seen *sight) {
	s.marked.Add(seen.marked)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stocks != nil {
		maps.Copy(s.stocks, seen.stocks)
	}
}

var deleteAction = []byte(`{"delete":{"_id":`)

// bulk answers each action line.
func (s *sink) bulk(w http.ResponseWriter, r *http.Request) {
	answer := []byte(`{"errors":false,"items":[`)
	lines := s.readers.Get().(*bufio.Reader)
	defer s.readers.Put(lines)
	lines.Reset(r.Body)
	seen := s.sight()
	release := s.pace.enter(r.Context())
	defer release()
	document, begins := false, true // what the next line is; whether it is at its beginning
	n, stored := int64(0), int64(0)
	for {
		piece, err := lines.ReadSlice('\n')
		switch {
		case !begins || len(piece) == 0:
		case document:
			document = false
			if seen != nil {
				seen.document(piece)
			}
		case bytes.HasPrefix(piece, deleteAction):
			answer = append(answer, `{"delete":{"status":200}},`...)
			n++
		default:
			answer = append(answer, `{"index":{"status":201}},`...)
			document = true
			n, stored = n+1, stored+1
			if seen != nil {
				seen.action(piece)
			}
		}
		begins = err == nil
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			break
		}
	}
	s.pace.answer(r.Context())
	s.stored.Add(n)
	s.held.Add(stored)
	s.calls.Add(1)
	if seen != nil {
		s.readable(seen)
	}
	answer = append(bytes.TrimSuffix(answer, []byte(",")), "]}"...)
	_, _ = w.Write(answer)
}

// hasAlias reports whether an alias is that of an index.
func (s *sink) hasAlias(alias string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.indices {
		if i.aliases[alias] {
			return true
		}
	}
	return false
}
