package search

import (
	"context"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidemark/testenv"
)

func TestConnect(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		c := connect(t, s.URL)
		p := c.Product()
		want := "Elasticsearch"
		if s.Engine == testenv.OpenSearch3 {
			want = "OpenSearch"
		}
		if p.Name != want || p.Version == "" || p.ClusterName == "" {
			t.Errorf("product %+v", p)
		}
		if err := c.Ping(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
	})
}

// rootPage answers GET / with a page.
func rootPage(status int, page string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(page))
	})
}

const elasticsearchPage = `{"cluster_name":"c","cluster_uuid":"u","version":{"number":"8.15.5"},"tagline":"You Know, for Search"}`

func TestConnectFails(t *testing.T) {
	serve := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	secure := httptest.NewTLSServer(rootPage(200, elasticsearchPage))
	secure.Config.ErrorLog = slog.NewLogLogger(testLogger(t).Handler(), slog.LevelDebug)
	t.Cleanup(secure.Close)
	garbage := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(garbage, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	plain := serve(rootPage(200, elasticsearchPage))
	for _, test := range []struct {
		name string
		o    Options
		want ConnectKind
		text string
	}{
		{"nobody listens", Options{URLs: []string{"http://" + closed.Addr().String()}}, Unreachable, "connection refused"},
		{"503", Options{URLs: []string{serve(rootPage(503, "starting"))}}, Unreachable, "503"},
		{"401", Options{URLs: []string{serve(rootPage(401, `{"error":{"type":"security_exception","reason":"missing credentials"}}`))}}, BadCredentials, "missing credentials"},
		{"403", Options{URLs: []string{serve(rootPage(403, ``))}}, BadCredentials, "403"},
		{"a web page", Options{URLs: []string{serve(rootPage(200, `<html>`))}}, UnknownProduct, "JSON"},
		{"404", Options{URLs: []string{serve(rootPage(404, `not found`))}}, UnknownProduct, "404"},
		{"something else", Options{URLs: []string{serve(rootPage(200, `{"version":{"number":"1.2.3"}}`))}}, UnknownProduct, "neither OpenSearch"},
		{"Elasticsearch 6", Options{URLs: []string{serve(rootPage(200, `{"version":{"number":"6.8.0"},"tagline":"You Know, for Search"}`))}}, UnknownProduct, "Elasticsearch 6.8.0"},
		{"unknown authority", Options{URLs: []string{secure.URL}}, BadCertificate, "certificate"},
		{"https where there is http", Options{URLs: []string{strings.Replace(plain, "http:", "https:", 1)}}, BadCertificate, "TLS handshake"},
		{"no URL", Options{}, BadOptions, "no URL"},
		{"not a URL", Options{URLs: []string{"http://u:s3cret@ho st:9200"}}, BadOptions, "cannot be parsed"},
		{"no scheme", Options{URLs: []string{"localhost:9200"}}, BadOptions, "want http://"},
		{"a token in the query", Options{URLs: []string{"http://localhost:9200?token=s3cret"}}, BadOptions, "want http://"},
		{"two users", Options{URLs: []string{"http://a:s3cret@h", "http://b:s3cret@h"}}, BadOptions, "another user"},
		{"user twice", Options{URLs: []string{"http://a:s3cret@h"}, User: "b", Password: "s3cret"}, BadOptions, "another user"},
		{"no ca_file", Options{URLs: []string{secure.URL}, CAFile: "/does/not/exist.pem"}, BadOptions, "no such file"},
		{"bad ca_file", Options{URLs: []string{secure.URL}, CAFile: garbage}, BadOptions, "no PEM certificate"},
		{"password", Options{URLs: []string{"http://elastic:s3cret@" + closed.Addr().String()}}, Unreachable, "connection refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.o.Logger = testLogger(t)
			test.o.StartTimeout = 700 * time.Millisecond
			_, err := Connect(within(t, time.Minute), test.o)
			failure, ok := errors.AsType[*ConnectError](err)
			if !ok || failure.Kind != test.want || failure.Configuration() != (test.want != Unreachable) || failure.Hint == "" {
				t.Fatalf("Connect: %v (%+v)", err, failure)
			}
			if !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("Connect: %v; want it to say %q, and no secret", err, test.text)
			}
		})
	}
}

func TestConnectTrustsTheCAFile(t *testing.T) {
	s := httptest.NewTLSServer(rootPage(200, elasticsearchPage))
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c := connectWith(t, Options{URLs: []string{s.URL + "/"}, CAFile: ca})
	if c.Product().String() != "Elasticsearch 8.15.5" {
		t.Errorf("product %v", c.Product())
	}
}

// A server that comes up while Connect waits is found.
func TestConnectWaits(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 3 {
			w.WriteHeader(503)
			return
		}
		user, password, _ := r.BasicAuth()
		if user != "elastic" || password != "s3cret" || r.Header.Get("X-Opaque-Id") != "tidemark" {
			t.Errorf("asked by %q with X-Opaque-Id %q", user, r.Header.Get("X-Opaque-Id"))
		}
		rootPage(200, elasticsearchPage).ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	connect(t, strings.Replace(s.URL, "http://", "http://elastic:s3cret@", 1))

	ctx, cancel := context.WithCancelCause(context.Background())
	stopped := errors.New("told to stop")
	cancel(stopped)
	if _, err := Connect(ctx, Options{URLs: []string{s.URL}, Logger: testLogger(t)}); !errors.Is(err, stopped) {
		t.Errorf("Connect: %v", err)
	}
}

// One node of two is dead: requests go to the other.
func TestDeadNodeIsSkipped(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	s := httptest.NewServer(rootPage(200, elasticsearchPage))
	t.Cleanup(s.Close)
	c := connectWith(t, Options{URLs: []string{"http://" + closed.Addr().String(), s.URL}})
	for range 5 {
		if err := c.Ping(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
	}
}
