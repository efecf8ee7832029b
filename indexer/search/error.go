package search

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
)

// A ServerError is an answer of the cluster, or of a proxy before it, that is not 2xx.
type ServerError struct {
	Status int
	Type   string        // as in "index_not_found_exception"; empty when the answer is not the search server's
	Reason string        // in the server's words, or the beginning of what came instead
	After  time.Duration // how long the server asks us to stay away, retry.MaxAfter at most
}

func (e *ServerError) Error() string {
	if e.Type == "" {
		return fmt.Sprintf("the server answered %d: %s", e.Status, e.Reason)
	}
	return fmt.Sprintf("the server answered %d %s: %s", e.Status, e.Type, e.Reason)
}

// Permanent marks it for dbsync.IsPermanent: unless the server is overloaded, slow or broken,
// the same request gets the same answer until somebody does something about it.
func (e *ServerError) Permanent() bool {
	return e.Status != http.StatusTooManyRequests && e.Status != http.StatusRequestTimeout && e.Status < 500
}

// RetryAfter returns how long the server asks us to stay away, for [retry.Do].
func (e *ServerError) RetryAfter() time.Duration { return e.After }

func newServerError(status int, header http.Header, body []byte) *ServerError {
	e := &ServerError{Status: status, After: retryAfter(header.Get("Retry-After"))}
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

// retryAfter reads a header Retry-After, which holds seconds or a time.
func retryAfter(value string) time.Duration {
	if value == "" {
		return 0
	}
	var d time.Duration
	if seconds, err := strconv.Atoi(value); err == nil {
		d = time.Duration(min(max(seconds, 0), int(retry.MaxAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), retry.MaxAfter)
}

// A LostError reports that no answer came, or none that can be used: the request may have
// had its effect or not. It stands for nothing else, see [Client.Perform].
type LostError struct{ Err error }

func (e *LostError) Error() string { return "no answer: " + e.Err.Error() }
func (e *LostError) Unwrap() error { return e.Err }

// Permanent marks it for dbsync.IsPermanent: a certificate that is not trusted now will not be
// trusted a second later, and every other connection may be made anew.
func (e *LostError) Permanent() bool { return isTLSError(e.Err) }

// endOr returns the cause of ctx's end where that is why a request ended, and err elsewhere.
func endOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// errLargeAnswer reports an answer that is larger than was expected.
var errLargeAnswer = errors.New("the answer is too large")

// Held takes the mark of permanence off err, which came of a request about an index that is
// written to. A [Bulk] waits, with the alarm raised, until somebody has seen to an index that
// is gone or closed, to the disks or to the rights; who writes by other requests does so, too.
func Held(index string, err error) error {
	if !dbsync.IsPermanent(err) {
		return err
	}
	text := err.Error()
	if server, ok := errors.AsType[*ServerError](err); ok {
		_, text = explain(index, server.Status, server.Type, &itemError{Reason: server.Reason})
	}
	return errors.New(text) // wraps nothing, so that no mark is found
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

// isCertificateRefused reports whether the other side wants a certificate from us, or another
// one. A running process waits for it to be replaced.
func isCertificateRefused(err error) bool {
	const alert = "remote error: tls: "
	_, what, ok := strings.Cut(err.Error(), alert)
	return ok && strings.Contains(what, "certificate") // required, bad, expired, revoked, unknown, unsupported, unknown authority
}

// isProxyAway reports whether the proxy on the way to the cluster could not be reached.
func isProxyAway(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "proxyconnect" || op.Op == "socks connect")
}

// isProxyRefusal reports whether a proxy wants to know who asks before it opens a connection. The
// transport has only a text for it.
func isProxyRefusal(err error) bool {
	return strings.HasSuffix(err.Error(), http.StatusText(http.StatusProxyAuthRequired))
}

// notFound reports whether the search server, and not a proxy that knows no such page,
// says that there is no such index or alias.
func notFound(err error) bool {
	server, ok := errors.AsType[*ServerError](err)
	if !ok || server.Status != http.StatusNotFound {
		return false
	}
	switch server.Type {
	case "index_not_found_exception", "aliases_not_found_exception":
		return true
	case "": // {"error":"alias [x] missing","status":404}
		return strings.HasPrefix(server.Reason, "alias [")
	}
	return false
}

// shorten cuts s to at most n bytes, at a rune's boundary.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
