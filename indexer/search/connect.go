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
	if err := refusalOf(o.AWS); err != nil {
		c.Close()
		return nil, connectError(c.where(), err)
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
			err = c.checkNodes(ctx, o, min(c.timeout, 5*time.Second, startTimeout))
		}
		if err == nil {
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

// checkNodes returns an error if the addresses lead to several clusters, each of which would get
// a part of the documents. A node that does not answer is not known to belong to another one.
func (c *Client) checkNodes(ctx context.Context, o Options, timeout time.Duration) error {
	if len(o.URLs) < 2 {
		return nil
	}
	for i, address := range o.URLs {
		one := o
		one.URLs = []string{address}
		node, err := newClient(one)
		if err != nil {
			return fmt.Errorf("url %d of %d: %w", i+1, len(o.URLs), err)
		}
		product, err := node.readProduct(ctx, timeout)
		node.Close()
		switch {
		case err != nil:
			c.logger.Warn("a node of the search server does not answer", "url", c.addresses[i], "error", err)
		case product.ClusterID != c.product.ClusterID:
			return &severalClustersError{c.addresses[i], product, c.product}
		}
	}
	return nil
}

// A severalClustersError reports URLs that are not those of one cluster.
type severalClustersError struct {
	address     string
	there, here Product
}

func (e *severalClustersError) Error() string {
	return fmt.Sprintf("%s is of the cluster %s (%s), and other URLs are of %s (%s)", e.address, e.there.ClusterName, e.there.ClusterID, e.here.ClusterName, e.here.ClusterID)
}

// ConnectKind says why [Connect] failed.
type ConnectKind int

const (
	Unreachable    ConnectKind = iota // no answer, or none but 5xx, or nothing to sign requests with
	BadOptions                        // the options contradict themselves, or a file cannot be read
	BadCredentials                    // 401 or 403
	BadCertificate                    // TLS cannot be agreed on, or a certificate is not trusted: the server's here, or ours there
	BadProxy                          // the proxy on the way to the cluster wants another user or password
	UnknownProduct                    // what answers is neither OpenSearch nor Elasticsearch, or a release that cannot be used
)

// A ConnectError says why the cluster cannot be used, and the hint.
type ConnectError struct {
	URLs string // without user and password
	Kind ConnectKind
	Hint string
	Err  error

	AboutClient bool // of BadCertificate: it is ours that the other side does not take, or misses
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

// proxyKeys say which proxy is used.
const proxyKeys = "search.proxy_url, or HTTPS_PROXY and HTTP_PROXY where it is not given; NO_PROXY names the hosts that are reached without"

func connectError(urls string, err error) *ConnectError {
	e := &ConnectError{URLs: urls, Err: err}
	server, answered := errors.AsType[*ServerError](err)
	unsupported, known := errors.AsType[*UnsupportedError](err)
	_, unsigned := errors.AsType[*CredentialsError](err)
	switch {
	case known:
		e.Kind, e.Hint = UnknownProduct, unsupported.Hint
	case isSeveralClusters(err):
		e.Kind, e.Hint = BadOptions, "name the nodes of one cluster in search.urls"
	case unsigned:
		// The service that gives them out may be away, as a cluster may.
		e.Kind, e.Hint = Unreachable, "give AWS credentials by the environment, the shared files, or the role of the instance or container, and where search.aws.role is set let them assume it"
	case answered && server.Status == http.StatusProxyAuthRequired, isProxyRefusal(err):
		e.Kind, e.Hint = BadProxy, "correct user and password in "+proxyKeys
	case isCertificateRefused(err):
		e.AboutClient = true
		e.Kind, e.Hint = BadCertificate, "set search.cert_file and search.key_file to a certificate that the cluster trusts, and that is still valid"
	case answered && server.Status == http.StatusUnauthorized:
		e.Kind, e.Hint = BadCredentials, "correct search.user and search.password, or search.api_key, search.token or the credentials of AWS"
	case answered && server.Status == http.StatusForbidden:
		e.Kind, e.Hint = BadCredentials, "grant the user the cluster privilege monitor, and write and manage on the indices; on AWS, es:ESHttp* to the role in the access policy of the domain"
	case isTLSError(err):
		e.Kind, e.Hint = BadCertificate, "set search.ca_file to the certificate authority of the cluster, use a host name that is in its certificate, and http:// or https:// as the cluster listens"
	case isProxyAway(err):
		e.Kind, e.Hint = Unreachable, "start the proxy, or correct "+proxyKeys
	case errors.Is(err, errUnknownProduct), answered && server.Permanent():
		e.Kind, e.Hint = UnknownProduct, "set search.urls to the REST port of OpenSearch, or of Elasticsearch 7.17 or newer"
	case isSyntaxError(err):
		e.Kind, e.Hint = UnknownProduct, "set search.urls to the REST port of OpenSearch, or of Elasticsearch 7.17 or newer"
	default:
		e.Kind, e.Hint = Unreachable, "start the cluster, or correct search.urls (https:// where the cluster has TLS)"
	}
	return e
}

func isSeveralClusters(err error) bool {
	_, ok := errors.AsType[*severalClustersError](err)
	return ok
}

func isSyntaxError(err error) bool {
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return true
	}
	_, ok := errors.AsType[*json.UnmarshalTypeError](err)
	return ok
}
