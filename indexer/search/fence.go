package search

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// A FencedError reports that a request was not sent, or not sent to its end, because it was not
// known any more that this process may write.
type FencedError struct{ Err error }

func (e *FencedError) Error() string { return fmt.Sprintf("the request was not sent: %v", e.Err) }

func (e *FencedError) Unwrap() error { return e.Err }

// Fenced returns a client of the same cluster which asks fence before each request that changes
// something, and again and again while the body of a long one is being sent: a process may be
// stopped anywhere, for as long as another one needs to take its place. A request that fence has
// an error for is lost, with a [FencedError]; a server that has got a part of a body does nothing.
// fence is called concurrently, and often; it is to answer from memory, mostly.
//
// The clients share their connections; the one that Connect has returned is to be closed.
func (c *Client) Fenced(fence func(context.Context) error) *Client {
	fenced := *c
	fenced.fence = fence
	return &fenced
}

// pass returns nil if a request may be sent, and has its body ask again.
func (c *Client) pass(req *http.Request) error {
	if c.fence == nil || !changes(req) {
		return nil
	}
	if err := c.fence(req.Context()); err != nil {
		return &FencedError{err}
	}
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &fencedBody{req.Body, req.Context(), c.fence}
		if again := req.GetBody; again != nil {
			req.GetBody = func() (io.ReadCloser, error) {
				body, err := again()
				if err != nil {
					return nil, err
				}
				return &fencedBody{body, req.Context(), c.fence}, nil
			}
		}
	}
	return nil
}

// changes reports whether a request may change something in the cluster: all may but those that
// are known not to.
func changes(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return false
	case http.MethodPost:
		for _, reads := range []string{"/_search", "/_mget", "/_count", "/_refresh"} {
			if strings.HasSuffix(req.URL.Path, reads) {
				return false
			}
		}
	}
	return !strings.HasSuffix(req.URL.Path, "/_search/scroll")
}

// A fencedBody is the body of a request that changes something. The transport reads it piece by
// piece as it sends it.
type fencedBody struct {
	io.ReadCloser
	ctx   context.Context // of the request
	fence func(context.Context) error
}

func (b *fencedBody) Read(p []byte) (int, error) {
	if err := b.fence(b.ctx); err != nil {
		return 0, &FencedError{err}
	}
	return b.ReadCloser.Read(p)
}
