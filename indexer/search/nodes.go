package search

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
)

const (
	// A node that did not answer is left out for minLeftOut, then twice as long each time.
	minLeftOut = time.Second
	maxLeftOut = 30 * time.Second

	// probeTimeout is how long a node that was left out has to answer.
	probeTimeout = 10 * time.Second
)

// nodes are the addresses of a cluster. Each request goes to one of them, in turn, and to that one
// alone: whether it may be repeated is known to who sends it, and then the next node has it.
//
// A node that does not answer, or whose proxy says that nobody is behind it, is left out for a while.
// Then it is asked for its root page, beside the requests, since none is to wait for a node that hangs; when it answers,
// whatever it may be, it takes part again. If all of them are left out, requests go to the one whose time is up first.
//
// It is the connection pool of the search client, which asks it for a node, and the round tripper that
// sees what came of the request.
type nodes struct {
	next   http.RoundTripper
	logger *slog.Logger

	ctx    context.Context // of probes
	end    context.CancelFunc
	probes sync.WaitGroup // close waits for them

	mu   sync.Mutex
	all  []*node
	turn int // of all, who is next
}

// A node is guarded by the mutex of nodes.
type node struct {
	connection *elastictransport.Connection
	failures   int       // one after another; 0: it takes part
	until      time.Time // when it is asked again, if it has failed
	probed     bool      // it is being asked
}

func newNodes(next http.RoundTripper, logger *slog.Logger) *nodes {
	n := &nodes{next: next, logger: logger}
	n.ctx, n.end = context.WithCancel(context.Background())
	return n
}

// pool takes the addresses as the search client has them. It is for
// [elastictransport.WithConnectionPoolFunc].
func (n *nodes) pool(connections []*elastictransport.Connection, _ elastictransport.Selector) elastictransport.ConnectionPool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range connections {
		n.all = append(n.all, &node{connection: c})
	}
	return n
}

// close ends the probes.
func (n *nodes) close() {
	n.mu.Lock()
	n.end() // no probe begins after this
	n.mu.Unlock()
	n.probes.Wait()
}

// Next returns the node for a request. There is always one.
func (n *nodes) Next() (*elastictransport.Connection, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.all) == 0 {
		return nil, errors.New("no node")
	}
	for _, node := range n.all {
		if node.failures > 0 && !node.probed && !time.Now().Before(node.until) && n.ctx.Err() == nil {
			node.probed = true
			n.probes.Go(func() { n.probe(node) })
		}
	}
	for i := range n.all {
		turn := (n.turn + i) % len(n.all)
		if n.all[turn].failures == 0 {
			n.turn = turn + 1
			return n.all[turn].connection, nil
		}
	}
	return slices.MinFunc(n.all, func(a, b *node) int { return a.until.Compare(b.until) }).connection, nil
}

// RoundTrip sends a request, and notes what came of it.
func (n *nodes) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := n.next.RoundTrip(req)
	n.mu.Lock()
	defer n.mu.Unlock()
	if node := n.at(req.URL); node != nil && len(n.all) > 1 {
		switch failure := nodeFailure(req.Context(), res, err); {
		case err == nil && failure == nil:
			n.back(node)
		case failure != nil && node.failures == 0: // the first of the requests that are under way
			n.logger.Warn("a node of the search server does not answer, requests go to the others", "url", node.connection.URL.String(), "error", failure)
			node.leaveOut()
		}
	}
	return res, err
}

// probe asks a node that was left out. It need not be let in for that.
func (n *nodes) probe(node *node) {
	ctx, cancel := context.WithTimeout(n.ctx, probeTimeout)
	defer cancel()
	var res *http.Response
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(node.connection.URL.String(), "/")+"/", nil)
	if err == nil {
		res, err = n.next.RoundTrip(req)
	}
	if err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer)) // so that the connection can be used again
		res.Body.Close()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	node.probed = false
	if failure := nodeFailure(ctx, res, err); err == nil && failure == nil {
		n.back(node)
	} else if n.ctx.Err() == nil {
		node.leaveOut()
		n.logger.Debug("a node of the search server still does not answer", "url", node.connection.URL.String(), "asked", node.failures, "error", failure)
	}
}

// back has a node take part again.
func (n *nodes) back(node *node) {
	if node.failures > 0 {
		n.logger.Info("a node of the search server answers again", "url", node.connection.URL.String())
	}
	node.failures = 0
}

func (n *node) leaveOut() {
	n.until = time.Now().Add(min(minLeftOut<<min(n.failures, 16), maxLeftOut))
	n.failures++
}

// nodeFailure returns why a request says that its node cannot be used, nil if it does not say so.
func nodeFailure(ctx context.Context, res *http.Response, err error) error {
	if err == nil {
		switch res.StatusCode {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return errors.New(res.Status)
		}
		return nil
	}
	_, fenced := errors.AsType[*FencedError](err)
	_, unsigned := errors.AsType[*CredentialsError](err)
	if fenced || unsigned || errors.Is(err, errRequestOver) || errors.Is(ctx.Err(), context.Canceled) {
		return nil // nothing was sent, or nobody waits for the answer: the node has no part in that
	}
	return err
}

// at returns the node that a request went to, nil if there is none.
func (n *nodes) at(u *url.URL) (found *node) {
	for _, node := range n.all {
		address := node.connection.URL
		if address.Scheme == u.Scheme && address.Host == u.Host && strings.HasPrefix(u.Path, address.Path) &&
			(found == nil || len(address.Path) > len(found.connection.URL.Path)) {
			found = node
		}
	}
	return found
}

// URLs, OnSuccess, OnFailure and ConcurrentSafe complete the interface of a connection pool. What
// came of a request is seen in RoundTrip, with its status.
func (n *nodes) URLs() (urls []*url.URL) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range n.all {
		urls = append(urls, node.connection.URL)
	}
	return urls
}

func (n *nodes) OnSuccess(*elastictransport.Connection) error { return nil }
func (n *nodes) OnFailure(*elastictransport.Connection) error { return nil }
func (n *nodes) ConcurrentSafe()                              {}
