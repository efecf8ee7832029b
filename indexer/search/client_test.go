package search_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
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

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

func TestConnect(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		c := searchtest.Connect(t, s.URL)
		p := c.Product()
		want := "Elasticsearch"
		if s.Engine.IsOpenSearch() {
			want = "OpenSearch"
		}
		if p.Name != want || p.Version == "" || p.ClusterName == "" || p.ClusterID == "" || len(p.Limitations()) > 0 {
			t.Errorf("product %+v", p)
		}
		if err := c.Ping(searchtest.Within(t, 10*time.Second)); err != nil {
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
	secure.Config.ErrorLog = slog.NewLogLogger(searchtest.Logger(t).Handler(), slog.LevelDebug)
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
		o    search.Options
		want search.ConnectKind
		text string
	}{
		{"nobody listens", search.Options{URLs: []string{"http://" + closed.Addr().String()}}, search.Unreachable, "connection refused"},
		{"503", search.Options{URLs: []string{serve(rootPage(503, "starting"))}}, search.Unreachable, "503"},
		{"401", search.Options{URLs: []string{serve(rootPage(401, `{"error":{"type":"security_exception","reason":"missing credentials"}}`))}}, search.BadCredentials, "missing credentials"},
		{"403", search.Options{URLs: []string{serve(rootPage(403, ``))}}, search.BadCredentials, "403"},
		{"a web page", search.Options{URLs: []string{serve(rootPage(200, `<html>`))}}, search.UnknownProduct, "JSON"},
		{"404", search.Options{URLs: []string{serve(rootPage(404, `not found`))}}, search.UnknownProduct, "404"},
		{"something else", search.Options{URLs: []string{serve(rootPage(200, `{"version":{"number":"1.2.3"}}`))}}, search.UnknownProduct, "neither OpenSearch"},
		{"Elasticsearch 6", search.Options{URLs: []string{serve(rootPage(200, `{"version":{"number":"6.8.0"},"tagline":"You Know, for Search"}`))}}, search.UnknownProduct, "Elasticsearch 6.8.0"},
		{"unknown authority", search.Options{URLs: []string{secure.URL}}, search.BadCertificate, "certificate"},
		{"https where there is http", search.Options{URLs: []string{strings.Replace(plain, "http:", "https:", 1)}}, search.BadCertificate, "TLS handshake"},
		{"no URL", search.Options{}, search.BadOptions, "no URL"},
		{"not a URL", search.Options{URLs: []string{"http://u:s3cret@ho st:9200"}}, search.BadOptions, "cannot be parsed"},
		{"no scheme", search.Options{URLs: []string{"localhost:9200"}}, search.BadOptions, "want http://"},
		{"a token in the query", search.Options{URLs: []string{"http://localhost:9200?token=s3cret"}}, search.BadOptions, "want http://"},
		{"two users", search.Options{URLs: []string{"http://a:s3cret@h", "http://b:s3cret@h"}}, search.BadOptions, "another user"},
		{"user twice", search.Options{URLs: []string{"http://a:s3cret@h"}, User: "b", Password: "s3cret"}, search.BadOptions, "another user"},
		{"no ca_file", search.Options{URLs: []string{secure.URL}, CAFile: "/does/not/exist.pem"}, search.BadOptions, "no such file"},
		{"bad ca_file", search.Options{URLs: []string{secure.URL}, CAFile: garbage}, search.BadOptions, "no PEM certificate"},
		{"password", search.Options{URLs: []string{"http://elastic:s3cret@" + closed.Addr().String()}}, search.Unreachable, "connection refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.o.Logger = searchtest.Logger(t)
			test.o.StartTimeout = 700 * time.Millisecond
			_, err := search.Connect(searchtest.Within(t, time.Minute), test.o)
			failure, ok := errors.AsType[*search.ConnectError](err)
			if !ok || failure.Kind != test.want || failure.Configuration() != (test.want != search.Unreachable) || failure.Hint == "" {
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
	c := searchtest.ConnectWith(t, search.Options{URLs: []string{s.URL + "/"}, CAFile: ca})
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
	searchtest.Connect(t, strings.Replace(s.URL, "http://", "http://elastic:s3cret@", 1))

	ctx, cancel := context.WithCancelCause(context.Background())
	stopped := errors.New("told to stop")
	cancel(stopped)
	if _, err := search.Connect(ctx, search.Options{URLs: []string{s.URL}, Logger: searchtest.Logger(t)}); !errors.Is(err, stopped) {
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
	c := searchtest.ConnectWith(t, search.Options{URLs: []string{"http://" + closed.Addr().String(), s.URL}})
	for range 5 {
		if err := c.Ping(searchtest.Within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
	}
}

// TestUnusableAnswers says of answers with 2xx whether another attempt is worth it.
func TestUnusableAnswers(t *testing.T) {
	var answer string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, answer) }))
	t.Cleanup(s.Close)
	answer = elasticsearchPage
	c := searchtest.Connect(t, s.URL)
	for _, test := range []struct {
		name, answer string
		permanent    bool
	}{
		{"a page of a proxy", "<html>We are back soon</html>", false},
		{"half an answer", `{"count": 1, "_shards": {`, false},
		{"another shape", `{"count": "many"}`, true},
		{"a shard does not answer", `{"count": 1, "_shards": {"failed": 1}}`, false},
	} {
		answer = test.answer
		if _, err := c.Count(searchtest.Within(t, time.Minute), "p"); err == nil || dbsync.IsPermanent(err) != test.permanent {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	answer = `{"docs": [{"_id": "2", "found": false}]}`
	if _, err := c.Get(searchtest.Within(t, time.Minute), "p", []search.Listed{{ID: "1"}}); !dbsync.IsPermanent(err) {
		t.Errorf("another document than was asked for: %v", err)
	}
	answer = `{"docs": []}`
	if _, err := c.Get(searchtest.Within(t, time.Minute), "p", []search.Listed{{ID: "1"}}); !dbsync.IsPermanent(err) {
		t.Errorf("no document: %v", err)
	}
	answer = `{"count": 1, "more": "` + strings.Repeat("x", search.MaxAnswer) + `"}`
	if _, err := c.Count(searchtest.Within(t, time.Minute), "p"); !dbsync.IsPermanent(err) || !strings.Contains(err.Error(), "too large") {
		t.Errorf("a large answer: %v", err)
	}
}
