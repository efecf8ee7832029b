package testenv

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A SearchProxy stands in front of a real search server and fails on demand. It
// also is a [TCPProxy]: CutOff, Freeze and so on work on its connections.
type SearchProxy struct {
	*TCPProxy
	URL string

	server  *SearchServer
	http    *http.Server
	client  *http.Client
	serving sync.WaitGroup
	later   context.Context    // of requests that are passed on when their clients have gone
	end     context.CancelFunc // of later

	mu     sync.Mutex
	faults []*Fault
	closed bool
}

// NewProxy puts a proxy in front of the server, until the test ends.
func (s *SearchServer) NewProxy(t testing.TB) *SearchProxy {
	t.Helper()
	p, err := s.LaunchProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// LaunchProxy puts a proxy in front of the server; the caller closes it.
func (s *SearchServer) LaunchProxy() (*SearchProxy, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	l, err := listen()
	if err != nil {
		return nil, err
	}
	p := &SearchProxy{
		server: s,
		// As is: what the client did not ask for is not decompressed on the way.
		client: &http.Client{
			Transport:     &http.Transport{DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	p.http = &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0)}
	if p.TCPProxy, err = newTCPProxy(l.Addr().String()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p.URL = p.TCPProxy.URL((&url.URL{Scheme: "http", User: u.User}).String())
	p.later, p.end = context.WithCancel(context.Background())
	p.serving.Go(func() { _ = p.http.Serve(l) })
	return p, nil
}

// Close ends the proxy, its faults, and the requests that it still has.
func (p *SearchProxy) Close() {
	p.mu.Lock()
	p.closed = true
	for _, f := range p.faults {
		f.end()
	}
	p.mu.Unlock()
	p.end()
	p.TCPProxy.close()
	_ = p.http.Close()
	p.serving.Wait()
	p.client.CloseIdleConnections()
}

// A Request is what a client asked for.
type Request struct {
	Method, Path string // without the query
	Query        url.Values
	Header       http.Header
	Body         []byte // decompressed
	Items        []Item // of a bulk request
}

// IsBulk reports whether r is a bulk request.
func (r *Request) IsBulk() bool { return path.Base(r.Path) == "_bulk" }

// An Item is one operation of a bulk request.
type Item struct {
	Action    string // index, create, update, delete
	Index, ID string
	Routing   string
	Version   int64
	Body      []byte // nil for a delete
	lines     []byte // as they came
}

// Bulk matches bulk requests.
func Bulk(r *Request) bool { return r.IsBulk() }

// A Fault is what a proxy does to the requests that Match; it is made by one of
// the functions below and takes effect by [SearchProxy.Inject]. Its methods may
// be called at any time.
type Fault struct {
	match  func(*Request) bool
	times  int
	effect func(*exchange) // nil: none, the next fault is asked

	mu      sync.Mutex
	hits    int
	ended   bool
	changed chan struct{}  // closed and replaced with each hit
	release chan struct{}  // closed when it ends
	passing sync.WaitGroup // requests whose clients do not wait any more
}

func newFault(match func(*Request) bool, times int, effect func(*exchange)) *Fault {
	if match == nil {
		match = func(*Request) bool { return true }
	}
	return &Fault{match: match, times: times, effect: effect, changed: make(chan struct{}), release: make(chan struct{})}
}

// In what follows match chooses requests (nil: all) and times is how many of
// them are hit; 0: all until Lift.

// Watch does nothing but be counted.
func Watch(match func(*Request) bool) *Fault {
	return newFault(match, 0, nil)
}

// Answer answers with a status in the place of the server, which sees nothing of
// the request.
func Answer(status, times int, match func(*Request) bool) *Fault {
	return newFault(match, times, func(x *exchange) { x.refuse(status) })
}

// Page answers with status 200 and a text in the place of the server, as a proxy does that has
// another page for everybody; the server sees nothing of the request.
func Page(text string, times int, match func(*Request) bool) *Fault {
	return newFault(match, times, func(x *exchange) {
		header := http.Header{"Content-Type": {"application/json"}}
		if !x.proxy.server.Engine.IsOpenSearch() {
			header.Set("X-Elastic-Product", "Elasticsearch")
		}
		x.answer(&response{status: http.StatusOK, header: header, body: []byte(text)})
	})
}

// AnswerItems answers the chosen items of bulk requests with a status in the
// place of the server, which gets only the rest. Requests without a chosen item
// are not hit.
func AnswerItems(status, times int, choose func(Item) bool) *Fault {
	match := func(r *Request) bool {
		return slices.ContainsFunc(r.Items, choose)
	}
	return newFault(match, times, func(x *exchange) { x.refuseItems(status, choose) })
}

// Drop breaks the connection before the server has seen the request: it has no
// effect.
func Drop(times int, match func(*Request) bool) *Fault {
	return newFault(match, times, (*exchange).drop)
}

// LoseAnswer breaks the connection after the server has answered: the request
// has its effect, and the client does not know.
func LoseAnswer(times int, match func(*Request) bool) *Fault {
	return newFault(match, times, func(x *exchange) {
		_, _ = x.forward(x.request.Body) // also an error is not told
		x.drop()
	})
}

// Hold holds requests back until Lift, then passes them on.
func Hold(times int, match func(*Request) bool) *Fault {
	f := newFault(match, times, nil)
	f.effect = func(x *exchange) {
		if f.wait(x.ctx) {
			x.pass()
		}
	}
	return f
}

// HoldAnswer passes requests on and holds the answers back until Lift.
func HoldAnswer(times int, match func(*Request) bool) *Fault {
	f := newFault(match, times, nil)
	f.effect = func(x *exchange) {
		resp, err := x.forward(x.request.Body)
		switch {
		case err != nil:
			x.drop()
		case f.wait(x.ctx):
			x.answer(resp)
		}
	}
	return f
}

// Delay passes requests on after a time.
func Delay(by time.Duration, times int, match func(*Request) bool) *Fault {
	return newFault(match, times, func(x *exchange) {
		timer := time.NewTimer(by)
		defer timer.Stop()
		select {
		case <-timer.C:
			x.pass()
		case <-x.ctx.Done():
		}
	})
}

// Late answers 504 at once, as a gateway does that has waited for long enough, or breaks
// the connection where that is not answered, and passes the request on after a time: the
// client has sent it again by then, and perhaps what is newer. Lift has what is held passed
// on at once; [Fault.Passed] waits for it.
func Late(by time.Duration, answered bool, times int, match func(*Request) bool) *Fault {
	f := newFault(match, times, nil)
	f.effect = func(x *exchange) {
		f.passLater(x, by)
		if answered {
			x.refuse(http.StatusGatewayTimeout)
		} else {
			x.drop()
		}
	}
	return f
}

// Twice passes requests on, and a copy of each after a time, as a network may that has lost
// sight of the first. Lift and [Fault.Passed] do what they do for Late.
func Twice(by time.Duration, times int, match func(*Request) bool) *Fault {
	f := newFault(match, times, nil)
	f.effect = func(x *exchange) {
		f.passLater(x, by)
		x.pass()
	}
	return f
}

// passLater passes a request on after a time, or when f is lifted.
func (f *Fault) passLater(x *exchange, by time.Duration) {
	late := *x
	late.ctx = x.proxy.later
	f.passing.Add(1)
	passes := x.proxy.start(func() {
		defer f.passing.Done()
		timer := time.NewTimer(by)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-f.release:
		case <-late.ctx.Done():
			return
		}
		_, _ = late.forward(late.request.Body) // nobody asks for the answer any more
	})
	if !passes {
		f.passing.Done()
	}
}

// start runs f, which Close waits for; not at all once the proxy is closed.
func (p *SearchProxy) start(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.serving.Go(f)
	return true
}

// Passed waits until every request that a fault of [Late] or [Twice] held was passed on and answered.
// It is lifted before.
func (f *Fault) Passed() { f.passing.Wait() }

// Inject has the proxy do f to the requests that no fault injected before it
// hits. It returns f.
func (p *SearchProxy) Inject(f *Fault) *Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, f)
	return f
}

// Lift ends the fault; requests that it holds go on.
func (f *Fault) Lift() { f.end() }

func (f *Fault) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.ended = true
		close(f.release)
	}
}

// wait holds a request until Lift; false: the client has gone.
func (f *Fault) wait(ctx context.Context) bool {
	select {
	case <-f.release:
		return true
	case <-ctx.Done():
		return false
	}
}

// Hits counts the requests that were hit so far.
func (f *Fault) Hits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

// Await waits until n requests have been hit: they have come, and no more than
// that is said of their effect.
func (f *Fault) Await(ctx context.Context, n int) error {
	for {
		f.mu.Lock()
		hits, changed := f.hits, f.changed
		f.mu.Unlock()
		if hits >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d requests came: %w", hits, n, context.Cause(ctx))
		}
	}
}

// take counts a request and reports whether it is f's.
func (f *Fault) take(r *Request) bool {
	if !f.match(r) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || f.times > 0 && f.hits >= f.times {
		return false
	}
	f.hits++
	close(f.changed)
	f.changed = make(chan struct{})
	return true
}

// An exchange is a request on its way.
type exchange struct {
	ctx     context.Context
	proxy   *SearchProxy
	request *Request
	in      *http.Request
	out     http.ResponseWriter
}

// ServeHTTP implements [http.Handler].
func (p *SearchProxy) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	x := &exchange{ctx: in.Context(), proxy: p, in: in, out: out}
	request, err := readRequest(in)
	if err != nil {
		x.drop()
		return
	}
	x.request = request
	p.mu.Lock()
	faults := slices.Clone(p.faults)
	p.mu.Unlock()
	for _, f := range faults {
		if f.take(request) && f.effect != nil {
			f.effect(x)
			return
		}
	}
	x.pass()
}

func readRequest(in *http.Request) (*Request, error) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	if in.Header.Get("Content-Encoding") == "gzip" {
		unzip, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(unzip); err != nil {
			return nil, err
		}
	}
	r := &Request{Method: in.Method, Path: in.URL.Path, Query: in.URL.Query(), Header: in.Header, Body: body}
	if r.IsBulk() {
		r.Items, err = readItems(path.Base(path.Dir(r.Path)), body)
	}
	return r, err
}

// readItems reads the body of a bulk request to /INDEX/_bulk, or /_bulk.
func readItems(index string, body []byte) ([]Item, error) {
	if index == "/" || index == "." {
		index = ""
	}
	var items []Item
	for len(body) > 0 {
		head, rest, _ := bytes.Cut(body, []byte("\n"))
		if len(bytes.TrimSpace(head)) == 0 {
			body = rest
			continue
		}
		var action map[string]struct {
			Index   string      `json:"_index"`
			ID      string      `json:"_id"`
			Routing string      `json:"routing"`
			Version json.Number `json:"version"`
		}
		if err := json.Unmarshal(head, &action); err != nil {
			return nil, fmt.Errorf("bulk action %q: %w", head, err)
		}
		var item Item
		for name, a := range action {
			item = Item{Action: name, Index: cmp.Or(a.Index, index), ID: a.ID, Routing: a.Routing}
			item.Version, _ = strconv.ParseInt(a.Version.String(), 10, 64)
		}
		if item.Action != "delete" {
			item.Body, rest, _ = bytes.Cut(rest, []byte("\n"))
		}
		item.lines = body[:len(body)-len(rest)]
		items = append(items, item)
		body = rest
	}
	return items, nil
}

// A response is the server's answer, read whole.
type response struct {
	status int
	header http.Header
	body   []byte
}

// forward asks the server with body in place of the request's.
func (x *exchange) forward(body []byte) (*response, error) {
	out, err := http.NewRequestWithContext(x.ctx, x.in.Method, x.proxy.server.URL+x.in.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range x.in.Header {
		if name != "Content-Encoding" && name != "Content-Length" {
			out.Header[name] = values
		}
	}
	resp, err := x.proxy.client.Do(out)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := &response{status: resp.StatusCode, header: resp.Header}
	r.body, err = io.ReadAll(resp.Body)
	return r, err
}

func (x *exchange) answer(r *response) {
	for name, values := range r.header {
		if name != "Content-Length" && name != "Connection" {
			x.out.Header()[name] = values
		}
	}
	x.out.Header().Set("Content-Length", strconv.Itoa(len(r.body)))
	x.out.WriteHeader(r.status)
	_, _ = x.out.Write(r.body) // the client may have gone
}

func (x *exchange) pass() {
	r, err := x.forward(x.request.Body)
	if err != nil {
		x.drop() // the server is down or broke off: so does the proxy
		return
	}
	x.answer(r)
}

// drop breaks the connection.
func (x *exchange) drop() {
	conn, _, err := http.NewResponseController(x.out).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the server's own way to break off
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// kinds are the error types that servers give with a status.
var kinds = map[int]string{
	http.StatusTooManyRequests:       "es_rejected_execution_exception",
	http.StatusServiceUnavailable:    "cluster_block_exception",
	http.StatusRequestEntityTooLarge: "circuit_breaking_exception",
	http.StatusBadRequest:            "mapper_parsing_exception",
	http.StatusConflict:              "version_conflict_engine_exception",
	http.StatusForbidden:             "cluster_block_exception",
	http.StatusNotFound:              "index_not_found_exception",
}

func failure(status int) map[string]any {
	kind := kinds[status]
	if kind == "" {
		kind = "exception"
	}
	return map[string]any{"type": kind, "reason": "injected by a test"}
}

func (x *exchange) refuse(status int) {
	body, err := json.Marshal(map[string]any{"error": failure(status), "status": status})
	if err != nil {
		x.drop()
		return
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if !x.proxy.server.Engine.IsOpenSearch() {
		header.Set("X-Elastic-Product", "Elasticsearch")
	}
	x.answer(&response{status: status, header: header, body: body})
}

// refuseItems forwards the items that are not chosen, and puts the refusals in
// their places in the answer.
func (x *exchange) refuseItems(status int, choose func(Item) bool) {
	var kept []byte
	for _, item := range x.request.Items {
		if !choose(item) {
			kept = append(kept, item.lines...)
		}
	}
	var answer struct {
		Took   int               `json:"took"`
		Errors bool              `json:"errors"`
		Items  []json.RawMessage `json:"items"`
	}
	r := &response{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}}
	if len(kept) > 0 {
		x.in.Header.Del("Accept-Encoding") // we read the answer
		var err error
		if r, err = x.forward(kept); err == nil && r.status == http.StatusOK {
			err = json.Unmarshal(r.body, &answer)
		}
		if err != nil {
			x.drop()
			return
		}
		if r.status != http.StatusOK { // of the whole request
			x.answer(r)
			return
		}
	} else if !x.proxy.server.Engine.IsOpenSearch() {
		r.header.Set("X-Elastic-Product", "Elasticsearch")
	}
	real, err := answer.Items, error(nil)
	answer.Items, answer.Errors = nil, true
	for _, item := range x.request.Items {
		var one json.RawMessage
		if choose(item) {
			var refusal []byte
			refusal, err = json.Marshal(map[string]any{item.Action: map[string]any{
				"_index": item.Index, "_id": item.ID, "status": status, "error": failure(status),
			}})
			one = refusal
		} else if len(real) > 0 {
			one, real = real[0], real[1:]
		} else {
			err = errors.New("the server answered fewer items than it got")
		}
		if err != nil {
			x.drop()
			return
		}
		answer.Items = append(answer.Items, one)
	}
	if r.body, err = json.Marshal(answer); err != nil {
		x.drop()
		return
	}
	x.answer(r)
}
