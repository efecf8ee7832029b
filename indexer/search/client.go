package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/elastic/go-elasticsearch/v8/esapi"

	"tidemark/dbsync"
)

// maxAnswer bounds what is read of an answer other than to a bulk request.
const maxAnswer = 16 << 20

// Options says which cluster to connect to.
type Options struct {
	// URLs are those of the nodes of one cluster, http or https. They are asked in turn; one that does
	// not answer is left out, for 1 s at first and 30 s at the most.
	URLs []string

	// One of these says who asks; none: nobody does.
	User, Password string // basic authentication; a user within the URLs does as well
	APIKey         string // as the server gives it out in "encoded"
	Token          string // sent as Authorization: Bearer
	AWS            *AWS   // requests are signed

	CAFile   string // PEM certificates to trust instead of the system's
	CertFile string // PEM certificate to show, with KeyFile; both are read again when they have changed
	KeyFile  string

	ProxyURL string            // http, https or socks5, with its user and password; default: what HTTPS_PROXY and NO_PROXY say
	Headers  map[string]string // sent with each request

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

	// Adopt lets MoveAlias replace what it otherwise refuses to touch: the alias is taken from
	// indices of somebody else, and an index that has the name of the alias is deleted in the step that
	// makes the alias.
	Adopt bool

	Logger *slog.Logger // required
}

// A Client talks to one OpenSearch or Elasticsearch cluster. It is safe for
// concurrent use.
type Client struct {
	es        *elasticsearch.BaseClient
	transport *http.Transport
	nodes     *nodes
	logger    *slog.Logger
	timeout   time.Duration
	addresses []string // without user and password
	product   Product
	adopt     bool                        // see Options
	fence     func(context.Context) error // see Fenced; nil: none
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
	if err := o.checkAuthentication(); err != nil {
		return nil, err
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
	var sent http.RoundTripper = transport
	if o.AWS != nil {
		if sent, err = newAWSSigner(*o.AWS, transport); err != nil {
			return nil, err
		}
	}
	nodes := newNodes(sent, o.Logger)
	options := []elasticsearch.Option{
		elasticsearch.WithAddresses(addresses...),
		elasticsearch.WithDisableMetaHeader(),
		elasticsearch.WithTransportOptions(
			elastictransport.WithTransport(productTransport{nodes}),
			elastictransport.WithConnectionPoolFunc(nodes.pool),
			elastictransport.WithDisableRetry(), // what an answer means is judged here, and only here
			elastictransport.WithHeader(o.header()),
		),
	}
	switch {
	case o.Token != "":
		options = append(options, elasticsearch.WithServiceToken(o.Token))
	case o.APIKey != "":
		options = append(options, elasticsearch.WithAPIKey(o.APIKey))
	case o.User != "":
		options = append(options, elasticsearch.WithBasicAuth(o.User, o.Password))
	}
	es, err := elasticsearch.NewBase(options...)
	if err != nil {
		return nil, errors.New("the search client refuses its options")
	}
	return &Client{es: es, transport: transport, nodes: nodes, logger: o.Logger, timeout: o.RequestTimeout, addresses: addresses, adopt: o.Adopt}, nil
}

// checkAuthentication returns an error unless at most one of the ways to say who asks is given.
func (o *Options) checkAuthentication() error {
	var given []string
	for name, is := range map[string]bool{"user": o.User != "", "api_key": o.APIKey != "", "token": o.Token != "", "aws": o.AWS != nil} {
		if is {
			given = append(given, name)
		}
	}
	if len(given) > 1 {
		slices.Sort(given)
		return fmt.Errorf("%s are given, of which one is used", strings.Join(given, " and "))
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return errors.New("cert_file and key_file belong together")
	}
	return nil
}

// header returns what is sent with each request.
func (o *Options) header() http.Header {
	h := http.Header{"X-Opaque-Id": {o.OpaqueID}}
	for name, value := range o.Headers {
		h.Set(name, value)
	}
	return h
}

// Product returns what answered at start.
func (c *Client) Product() Product { return c.product }

// Perform sends one request, so that a *Client can carry the requests of package
// esapi. The caller's context bounds it. Its errors are *[LostError].
func (c *Client) Perform(req *http.Request) (*http.Response, error) {
	if err := c.pass(req); err != nil {
		return nil, &LostError{err}
	}
	res, err := c.es.Perform(req)
	if err != nil {
		return nil, &LostError{err}
	}
	return res, nil
}

// Close lets go of all connections. Requests under way are not waited for.
func (c *Client) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// The only failures are a second Close and a node's timer that does not end in time.
	if err := c.es.Close(ctx); err != nil && !errors.Is(err, elasticsearch.ErrAlreadyClosed) {
		c.logger.Warn("close the search client", "error", err)
	}
	c.nodes.close()
	c.transport.CloseIdleConnections()
}

// Ping asks whether the cluster answers.
func (c *Client) Ping(ctx context.Context) error {
	var answer struct {
		Version struct {
			Number string `json:"number"`
		} `json:"version"`
	}
	const what = "ask for the root page"
	err := c.call(ctx, what, esapi.InfoRequest{FilterPath: []string{"version.number"}}, &answer)
	if err == nil && answer.Version.Number == "" {
		err = errors.New(what + ": the answer is not the search server's")
	}
	return err
}

func (c *Client) where() string { return strings.Join(c.addresses, ", ") }

// call sends one request and decodes a 2xx answer into out, unless out is nil. Every
// other answer is a *[ServerError]. what says in a few words what was being done.
//
// JSON of another shape than was expected, and an answer that is too large, are permanent:
// such a server will answer so again. Text that is no JSON at all is not: a proxy shows its
// page for as long as the cluster is away.
func (c *Client) call(ctx context.Context, what string, request esapi.Request, out any) error {
	return c.callUpTo(ctx, maxAnswer, what, request, out)
}

// change is call for what changes something. It counts only when the search server has said that
// the whole cluster knows of it: a page of a proxy, or an answer that it will be so some time, is an
// error that is worth repeating.
func (c *Client) change(ctx context.Context, what string, request esapi.Request) error {
	return c.changeBy(ctx, what, request, func(text []byte) bool {
		var answer struct {
			Acknowledged bool `json:"acknowledged"`
		}
		return json.Unmarshal(text, &answer) == nil && answer.Acknowledged
	})
}

// changeBy is change where the answer says otherwise that it was done.
func (c *Client) changeBy(ctx context.Context, what string, request esapi.Request, done func(answer []byte) bool) error {
	var text json.RawMessage
	if err := c.call(ctx, what, request, &text); err != nil {
		return err
	}
	if !done(text) {
		return fmt.Errorf("%s: the answer does not say that it was done: %s", what, shorten(strings.Join(strings.Fields(string(bytes.ToValidUTF8(text, nil))), " "), 200))
	}
	return nil
}

// callUpTo is call with a bound of its own on the answer, in bytes.
func (c *Client) callUpTo(ctx context.Context, limit int64, what string, request esapi.Request, out any) error {
	attempt, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	defer dbsync.Await(ctx, c.timeout)()
	res, err := request.Do(attempt, c)
	if err != nil {
		if _, lost := errors.AsType[*LostError](err); !lost {
			err = &dbsync.PermanentError{Err: err} // the request could not be made
		}
		return fmt.Errorf("%s: %w", what, endOr(ctx, err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return fmt.Errorf("%s: read the answer: %w", what, endOr(ctx, &LostError{err}))
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("%s: %w", what, newServerError(res.StatusCode, res.Header, body))
	}
	if int64(len(body)) > limit {
		return &dbsync.PermanentError{Err: fmt.Errorf("%s: %w, more than %d bytes", what, errLargeAnswer, limit)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		err = fmt.Errorf("%s: the answer is not the JSON that was expected: %w", what, err)
		if _, syntax := errors.AsType[*json.SyntaxError](err); !syntax {
			err = &dbsync.PermanentError{Err: err}
		}
		return err
	}
	return nil
}
