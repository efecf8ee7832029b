package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"tidemark/indexer/retry"
)

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

// ConnectKind says why [Connect] failed.
type ConnectKind int

const (
	Unreachable    ConnectKind = iota // no answer, or none but 5xx
	BadOptions                        // the options contradict themselves, or a file cannot be read
	BadCredentials                    // 401 or 403
	BadCertificate                    // TLS cannot be agreed on, or the certificate is not trusted
	UnknownProduct                    // what answers is neither OpenSearch nor Elasticsearch
)

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

// Permanent marks it for dbsync.IsPermanent.
func (e *ConnectError) Permanent() bool { return e.Configuration() }

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
	case errors.Is(err, errUnknownProduct), answered && server.Permanent():
		e.Kind, e.Hint = UnknownProduct, "set search.urls to the REST port of OpenSearch, or of Elasticsearch 7.17 or newer"
	case isSyntaxError(err):
		e.Kind, e.Hint = UnknownProduct, "set search.urls to the REST port of OpenSearch, or of Elasticsearch 7.17 or newer"
	default:
		e.Kind, e.Hint = Unreachable, "start the cluster, or correct search.urls (https:// where the cluster has TLS)"
	}
	return e
}

func isSyntaxError(err error) bool {
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return true
	}
	_, ok := errors.AsType[*json.UnmarshalTypeError](err)
	return ok
}
