package search

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
)

// Everything is tried again unless it is marked.
func TestIsPermanent(t *testing.T) {
	untrusted := x509.UnknownAuthorityError{}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("anything"), false},
		{context.Canceled, false},
		{&ServerError{Status: 302}, true},
		{&ServerError{Status: 400}, true},
		{&ServerError{Status: 401}, true},
		{&ServerError{Status: 403}, true},
		{&ServerError{Status: 404}, true},
		{&ServerError{Status: 408}, false},
		{&ServerError{Status: 413}, true},
		{&ServerError{Status: 429}, false},
		{&ServerError{Status: 500}, false},
		{&ServerError{Status: 503}, false},
		{&LostError{context.DeadlineExceeded}, false},
		{&LostError{errors.New("connection reset")}, false},
		{&LostError{errors.New("http: server gave HTTP response to HTTPS client")}, true},
		{&LostError{fmt.Errorf("dial: %w", untrusted)}, true},
		{&NameTakenError{Name: "p"}, true},
		{&DefinitionError{Reason: "no such type"}, true},
		{&ConnectError{Kind: Unreachable, Err: &ServerError{Status: 503}}, false},
		{&ConnectError{Kind: BadOptions, Err: errors.New("no URL given")}, true},
		{&ConnectError{Kind: BadCredentials, Err: &ServerError{Status: 401}}, true},
		{&ConnectError{Kind: BadCertificate, Err: &LostError{untrusted}}, true},
		{&ConnectError{Kind: UnknownProduct, Err: errUnknownProduct}, true},
		{fmt.Errorf("get index p: %w", ErrNoIndex), true},
		{&DocError{Status: 400}, false}, // it is nobody's to repeat: dead letters have it
		// Who writes waits for what somebody has to see to.
		{Held("p", &ServerError{Status: 403}), false},
		{Held("p", &ServerError{Status: 503}), false},
		{Held("p", fmt.Errorf("refresh: %w", &LostError{untrusted})), false},
		{Held("p", nil), false},
	} {
		if got := dbsync.IsPermanent(fmt.Errorf("asked for something: %w", test.err)); got != test.want {
			t.Errorf("IsPermanent(%v) is %t", test.err, got)
		}
	}
	if err := Held("p", nil); err != nil {
		t.Errorf("Held of nothing: %v", err)
	}
	closed := &ServerError{Status: 400, Type: "index_closed_exception", Reason: "closed"}
	if err := Held("p", fmt.Errorf("refresh p: %w", closed)); !strings.Contains(err.Error(), "hint: POST /p/_open") {
		t.Errorf("Held: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "100000": retry.MaxAfter, "99999999999999999999": 0, "soon": 0,
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): 0,
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat):  retry.MaxAfter,
	} {
		if got := retryAfter(value); got != want {
			t.Errorf("Retry-After: %s gives %s, want %s", value, got, want)
		}
	}
}
