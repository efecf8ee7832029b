package topic

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A tokenServer gives out tokens to me with Top5ecret: t1, t2 and so on.
type tokenServer struct {
	*httptest.Server
	given  atomic.Int32
	good   atomic.Int32 // seconds that tokens are good for
	status atomic.Int32 // of the answer; 0: tokens are given out
	scopes atomic.Value
}

func newTokenServer(t *testing.T) *tokenServer {
	t.Helper()
	s := new(tokenServer)
	s.good.Store(3600)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		id, secret, _ := r.BasicAuth()
		if id == "" {
			id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
		}
		s.scopes.Store(r.FormValue("scope"))
		status, answer := int(s.status.Load()), map[string]any{}
		switch {
		case status != 0:
		case r.FormValue("grant_type") != "client_credentials" || id != "me" || secret != "Top5ecret":
			status, answer = 401, map[string]any{"error": "invalid_client", "error_description": "nobody knows it"}
		default:
			status, answer = 200, map[string]any{"access_token": "t" + string(rune('0'+s.given.Add(1))), "token_type": "bearer", "expires_in": s.good.Load()}
		}
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	return s
}

// TestTokenEndpoint has a token asked for once, used until shortly before it ends, and then another one.
func TestTokenEndpoint(t *testing.T) {
	s := newTokenServer(t)
	e := NewTokenEndpoint(s.URL+"/token", "me", "Top5ecret", []string{"a", "b"})
	want := func(token string) {
		t.Helper()
		if got, err := e.Token(t.Context()); err != nil || got != token {
			t.Errorf("got %s, %v; want %s", got, err, token)
		}
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { want("t1") })
	}
	all.Wait()
	if got := s.scopes.Load(); got != "a b" {
		t.Errorf("scopes %q were asked for", got)
	}
	s.good.Store(9)
	e.token.Expiry = time.Now().Add(9 * time.Second) // is taken for over: it has to last until it arrives
	want("t2")
	want("t3")

	s.status.Store(503)
	refused := func(refused bool, text string) {
		t.Helper()
		_, err := e.Token(t.Context())
		credentials, ok := errors.AsType[*CredentialsError](err)
		if !ok || credentials.Refused != refused || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "Top5ecret") {
			t.Errorf("got %v", err)
		}
	}
	refused(false, "503")
	s.status.Store(429)
	refused(false, "429")
	s.status.Store(0)
	want("t4")
	e.token = nil
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Token(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	e = NewTokenEndpoint(s.URL+"/token", "you", "Top5ecret", nil)
	refused(true, "invalid_client nobody knows it")
	s.Close()
	refused(false, "ask token_url for a token")
}

// TestTokenOfAnEndpoint has a Kafka take what an endpoint gives out.
func TestTokenOfAnEndpoint(t *testing.T) {
	s := newTokenServer(t)
	b := newSASLBroker(t, func(message []byte) bool { return string(message) == "n,,\x01auth=Bearer t1\x01\x01" }, "")
	with := func(id string) Options {
		return Options{SASL: &SASL{Mechanism: "oauthbearer", Token: NewTokenEndpoint(s.URL, id, "Top5ecret", nil)}}
	}
	wantConnectError(t, tryConnect(t, b.Cluster, with("you")), BadCredentials, "kafka.sasl")
	if err := tryConnect(t, b.Cluster, with("me")); err != nil {
		t.Error(err)
	}
	s.status.Store(500)
	wantConnectError(t, tryConnect(t, b.Cluster, with("me")), Away, "kafka.sasl")
}
