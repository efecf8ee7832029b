package search

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/elastic/go-elasticsearch/v8/esapi"

	"tidemark/indexer/retry"
)

// maxAnswer bounds what is read of an answer other than to a bulk request.
const maxAnswer = 16 << 20

// Options says which cluster to connect to.
type Options struct {
	URLs     []string // http or https, one per node; asked in turn, dead ones are skipped
	User     string   // basic authentication; a user within the URLs does as well
	Password string
	APIKey   string // as the server gives it out in "encoded"; wins over User
	CAFile   string // PEM certificates to trust instead of the system's

	// SkipVerify accepts any certificate. For tests; TLS is verified by default.
	SkipVerify bool

	// RequestTimeout is how long one request may take before it counts as lost
	// (default 60 s). A hung server is noticed after that time.
	RequestTimeout time.Duration

	// StartTimeout is how long Connect tries again while the cluster does not answer
	// (default 30 s).
	StartTimeout time.Duration

	// OpaqueID is sent as X-Opaque-Id with each request and shows in the server's
	// task list and slow logs (default "tidemark").
	OpaqueID string

	Logger *slog.Logger // required
}

// A Product is what answers at the URLs, as GET / told at start.
type Product struct {
	Name        string // "OpenSearch" or "Elasticsearch"
	Version     string
	ClusterName string
	ClusterUUID string
}

func (p Product) String() string { return p.Name + " " + p.Version }

// A Client talks to one OpenSearch or Elasticsearch cluster. It is safe for
// concurrent use.
type Client struct {
	es        *elasticsearch.BaseClient
	transport productTransport
	logger    *slog.Logger
	timeout   time.Duration
	addresses []string // without user and password
	product   Product
	adopt     bool // see Adopt
}

// Connect connects to the cluster and reads its product and version once. While the
// cluster does not answer it tries again, for StartTimeout in all. Its errors are
// *[ConnectError], except when ctx ends.
func Connect(ctx context.Context, o Options) (*Client, error) {
	c, err := newClient(o)
	if err != nil {
		return nil, &ConnectError{Kind: BadOptions, Hint: "correct the search section of the configuration", Err: err}
	}
	startTimeout := o.StartTimeout
	if startTimeout == 0 {
		startTimeout = 30 * time.Second
	}
	deadline := time.Now().Add(startTimeout)
	wait := retry.NewBackoff(200*time.Millisecond, 5*time.Second)
	for attempt := 1; ; attempt++ {
		product, err := c.readProduct(ctx, min(c.timeout, 10*time.Second, startTimeout))
		if err == nil {
			c.product = product
			c.logger.Info("connected to the search server", "product", product.Name, "version", product.Version,
				"cluster", product.ClusterName, "urls", c.addresses)
			return c, nil
		}
		if ctx.Err() != nil {
			c.Close()
			return nil, fmt.Errorf("connect to search server %s: %w", c.where(), context.Cause(ctx))
		}
		failure := connectError(c.where(), err)
		pause := wait.NextBackOff()
		if failure.Configuration() || time.Now().Add(pause).After(deadline) {
			c.Close()
			return nil, failure
		}
		c.logger.Warn("search server does not answer yet", "urls", c.addresses, "attempt", attempt, "next_in", pause.Round(time.Millisecond), "error", failure.Err)
		if err := retry.Sleep(ctx, pause); err != nil {
			c.Close()
			return nil, fmt.Errorf("connect to search server %s: %w", c.where(), err)
		}
	}
}

func newClient(o Options) (*Client, error) {
	if o.Logger == nil {
		return nil, errors.New("no logger given")
	}
	addresses, user, password, err := splitURLs(o.URLs)
	if err != nil {
		return nil, err
	}
	if o.User == "" {
		o.User, o.Password = user, password
	} else if user != "" && (user != o.User || password != o.Password) {
		return nil, errors.New("the URLs name another user than user and password do")
	}
	if o.RequestTimeout < 0 || o.StartTimeout < 0 {
		return nil, errors.New("time limits must not be negative")
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 60 * time.Second
	}
	if o.OpaqueID == "" {
		o.OpaqueID = "tidemark"
	}
	transport, err := newTransport(o)
	if err != nil {
		return nil, err
	}
	options := []elasticsearch.Option{
		elasticsearch.WithAddresses(addresses...),
		elasticsearch.WithDisableMetaHeader(),
		elasticsearch.WithTransportOptions(
			elastictransport.WithTransport(transport),
			elastictransport.WithDisableRetry(), // what an answer means is judged here, and only here
			elastictransport.WithHeader(http.Header{"X-Opaque-Id": {o.OpaqueID}}),
		),
	}
	if o.APIKey != "" {
		options = append(options, elasticsearch.WithAPIKey(o.APIKey))
	} else if o.User != "" {
		options = append(options, elasticsearch.WithBasicAuth(o.User, o.Password))
	}
	es, err := elasticsearch.NewBase(options...)
	if err != nil {
		return nil, errors.New("the search client refuses its options")
	}
	return &Client{es: es, transport: transport, logger: o.Logger, timeout: o.RequestTimeout, addresses: addresses}, nil
}

// Product returns what answered at start.
func (c *Client) Product() Product { return c.product }

// Perform sends one request, so that a *Client can carry the requests of package
// esapi. The caller's context bounds it.
func (c *Client) Perform(req *http.Request) (*http.Response, error) { return c.es.Perform(req) }

// Close lets go of all connections. Requests under way are not waited for.
func (c *Client) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// The only failures are a second Close and a node's timer that does not end in time.
	if err := c.es.Close(ctx); err != nil && !errors.Is(err, elasticsearch.ErrAlreadyClosed) {
		c.logger.Warn("close the search client", "error", err)
	}
	c.transport.CloseIdleConnections()
}

// Ping asks whether the cluster answers.
func (c *Client) Ping(ctx context.Context) error {
	return c.call(ctx, "ask for the root page", esapi.InfoRequest{FilterPath: []string{"version.number"}}, nil)
}

func (c *Client) where() string { return strings.Join(c.addresses, ", ") }

func (c *Client) readProduct(ctx context.Context, timeout time.Duration) (Product, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var root struct {
		ClusterName string `json:"cluster_name"`
		ClusterUUID string `json:"cluster_uuid"`
		Tagline     string `json:"tagline"`
		Version     struct {
			Number       string `json:"number"`
			Distribution string `json:"distribution"`
		} `json:"version"`
	}
	if err := c.call(ctx, "read product and version", esapi.InfoRequest{}, &root); err != nil {
		return Product{}, err
	}
	p := Product{Version: root.Version.Number, ClusterName: root.ClusterName, ClusterUUID: root.ClusterUUID}
	major, _, _ := strings.Cut(p.Version, ".")
	number, err := strconv.Atoi(major)
	switch {
	case err != nil:
		return Product{}, errUnknownProduct
	case root.Version.Distribution == "opensearch":
		p.Name = "OpenSearch"
	case root.Tagline == "You Know, for Search" && root.Version.Distribution == "":
		p.Name = "Elasticsearch"
		if number < 7 {
			return Product{}, fmt.Errorf("%w: %s, want 7.17 or newer", errUnknownProduct, p)
		}
	default:
		return Product{}, errUnknownProduct
	}
	return p, nil
}

// call sends one request and decodes a 2xx answer into out, unless out is nil. Every
// other answer is a *[ServerError]. what says in a few words what was being done.
func (c *Client) call(ctx context.Context, what string, request esapi.Request, out any) error {
	return c.callUpTo(ctx, maxAnswer, what, request, out)
}

// errLargeAnswer reports an answer that is larger than was expected.
var errLargeAnswer = errors.New("the answer is too large")

// callUpTo is call with a bound of its own on the answer, in bytes.
func (c *Client) callUpTo(ctx context.Context, limit int64, what string, request esapi.Request, out any) error {
	attempt, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, err := request.Do(attempt, c)
	if err != nil {
		return fmt.Errorf("%s: %w", what, lost(ctx, err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return fmt.Errorf("%s: read the answer: %w", what, lost(ctx, err))
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("%s: %w", what, newServerError(res.StatusCode, res.Header, body))
	}
	if int64(len(body)) > limit {
		return fmt.Errorf("%s: %w, more than %d bytes", what, errLargeAnswer, limit)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s: the answer is not the JSON that was expected: %w", what, err)
	}
	return nil
}

// A ServerError is an answer of the cluster, or of a proxy before it, that is not 2xx.
type ServerError struct {
	Status     int
	Type       string // as in "index_not_found_exception"; empty when the answer is not the search server's
	Reason     string // in the server's words, or the beginning of what came instead
	RetryAfter time.Duration
}

func (e *ServerError) Error() string {
	if e.Type == "" {
		return fmt.Sprintf("the server answered %d: %s", e.Status, e.Reason)
	}
	return fmt.Sprintf("the server answered %d %s: %s", e.Status, e.Type, e.Reason)
}

// Temporary reports whether the same request may succeed later without anyone's help.
func (e *ServerError) Temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout || e.Status >= 500
}

func newServerError(status int, header http.Header, body []byte) *ServerError {
	e := &ServerError{Status: status, RetryAfter: retryAfter(header.Get("Retry-After"))}
	var answer struct {
		Error json.RawMessage `json:"error"`
	}
	var failure itemError
	if json.Unmarshal(body, &answer) == nil && len(answer.Error) > 0 {
		if json.Unmarshal(answer.Error, &failure) != nil || failure.Type == "" {
			// A few answers hold a plain string: {"error":"no handler found for …","status":405}.
			var text string
			_ = json.Unmarshal(answer.Error, &text)
			failure = itemError{Reason: text}
		}
	}
	e.Type, e.Reason = failure.Type, failure.text()
	if e.Reason == "" {
		e.Reason = shorten(strings.Join(strings.Fields(string(bytes.ToValidUTF8(body[:min(len(body), 512)], nil))), " "), 200)
	}
	if e.Reason == "" {
		e.Reason = http.StatusText(status)
	}
	return e
}

// maxRetryAfter bounds how long a server may ask us to stay away.
const maxRetryAfter = 5 * time.Minute

func retryAfter(value string) time.Duration {
	if value == "" {
		return 0
	}
	var d time.Duration
	if seconds, err := strconv.Atoi(value); err == nil {
		d = time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), maxRetryAfter)
}

// A LostError says that no answer came, or only a part of one: the request may have
// had its effect or not.
type LostError struct{ Err error }

func (e *LostError) Error() string { return "no answer: " + e.Err.Error() }
func (e *LostError) Unwrap() error { return e.Err }

// lost turns the transport's err into the cause of ctx where that is why the request
// ended, and into a LostError elsewhere.
func lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &LostError{err}
}

// Temporary reports whether what err tells of may be over by itself: a broken
// connection, a time-out, an overloaded or starting server.
func Temporary(err error) bool {
	if server, ok := errors.AsType[*ServerError](err); ok {
		return server.Temporary()
	}
	if failure, ok := errors.AsType[*LostError](err); ok {
		return !isTLSError(failure)
	}
	return false
}

// Retry calls f until it returns nil or an error that is not [Temporary], with pauses
// from 100 ms growing to 30 s. From the third failure on the alarm shows key and the
// latest error. When ctx ends it returns an error that wraps context.Cause(ctx).
func Retry(ctx context.Context, alarm *retry.Alarm, key string, f func(context.Context) error) error {
	var hold *retry.Hold
	wait := retry.NewBackoff(retry.MinBackoff, retry.MaxBackoff)
	for failures := 1; ; failures++ {
		err := f(ctx)
		if err == nil || ctx.Err() == nil && !Temporary(err) {
			if hold != nil {
				hold.Release()
			}
			return err
		}
		if hold != nil {
			hold.Again(err.Error())
		} else if failures >= retry.Patience {
			hold = alarm.Raise(key, err.Error())
			defer hold.Release()
		}
		pause := wait.NextBackOff()
		if server, ok := errors.AsType[*ServerError](err); ok {
			pause = max(pause, server.RetryAfter)
		}
		if ended := retry.Sleep(ctx, pause); ended != nil {
			return fmt.Errorf("%s: %w", key, ended)
		}
	}
}

// ConnectKind says why [Connect] failed.
type ConnectKind int

const (
	Unreachable    ConnectKind = iota // no answer, or none but 5xx
	BadOptions                        // the options contradict themselves, or a file cannot be read
	BadCredentials                    // 401 or 403
	BadCertificate                    // TLS cannot be agreed on, or the certificate is not trusted
	UnknownProduct                    // what answers is neither OpenSearch nor Elasticsearch
)

var errUnknownProduct = errors.New("what answers is neither OpenSearch nor a supported Elasticsearch")

// A ConnectError says why the cluster cannot be used, and the hint.
type ConnectError struct {
	URLs string // without user and password
	Kind ConnectKind
	Hint string
	Err  error
}

func (e *ConnectError) Error() string {
	if e.URLs == "" {
		return fmt.Sprintf("search server: %v; hint: %s", e.Err, e.Hint)
	}
	return fmt.Sprintf("search server %s: %v; hint: %s", e.URLs, e.Err, e.Hint)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// Configuration reports whether someone has to change the configuration, as opposed to
// a server that may just not be up.
func (e *ConnectError) Configuration() bool { return e.Kind != Unreachable }

func connectError(urls string, err error) *ConnectError {
	e := &ConnectError{URLs: urls, Err: err}
	server, answered := errors.AsType[*ServerError](err)
	switch {
	case answered && server.Status == http.StatusUnauthorized:
		e.Kind, e.Hint = BadCredentials, "correct search.user and search.password, or search.api_key"
	case answered && server.Status == http.StatusForbidden:
		e.Kind, e.Hint = BadCredentials, "grant the user the cluster privilege monitor, and write and manage on the indices"
	case isTLSError(err):
		e.Kind, e.Hint = BadCertificate, "set search.ca_file to the certificate authority of the cluster, use a host name that is in its certificate, and http:// or https:// as the cluster listens"
	case errors.Is(err, errUnknownProduct), answered && !server.Temporary():
		e.Kind, e.Hint = UnknownProduct, "set search.urls to the REST port of OpenSearch, or of Elasticsearch 7.17 or newer"
	case isSyntaxError(err):
		e.Kind, e.Hint = UnknownProduct, "set search.urls to the REST port of OpenSearch, or of Elasticsearch 7.17 or newer"
	default:
		e.Kind, e.Hint = Unreachable, "start the cluster, or correct search.urls (https:// where the cluster has TLS)"
	}
	return e
}

// isTLSError reports whether the two sides could not agree on an encrypted
// connection, which waiting does not cure.
func isTLSError(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	// net/http and a TLS server that was spoken to in plain text give only strings:
	// the second is the alert record that such a server answers with.
	text := err.Error()
	return strings.Contains(text, "server gave HTTP response to HTTPS client") ||
		strings.Contains(text, `malformed HTTP response "\x15\x03`)
}

func isSyntaxError(err error) bool {
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return true
	}
	_, ok := errors.AsType[*json.UnmarshalTypeError](err)
	return ok
}

// shorten cuts s to at most n bytes, at a rune's boundary.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
