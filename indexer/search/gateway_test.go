package search_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// mustFail connects by options that cannot do, and returns the error.
func mustFail(t *testing.T, o search.Options, kind search.ConnectKind, text string) {
	t.Helper()
	o.Logger, o.StartTimeout = searchtest.Logger(t), time.Second
	_, err := search.Connect(searchtest.Within(t, time.Minute), o)
	failure, ok := errors.AsType[*search.ConnectError](err)
	if !ok || failure.Kind != kind || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("Connect: %v (%+v); want kind %d, the text %q, and no secret", err, failure, kind, text)
	}
}

// Requests of every kind come through a gateway that wants a bearer token and a header.
func TestToken(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		g := testenv.NewGateway(t, s.URL, testenv.GatewayOptions{Token: "t0ken-s3cret", Headers: map[string]string{"X-Tenant": "shop-s3cret"}})
		o := search.Options{URLs: []string{g.URL}, CAFile: g.CAFile, Headers: map[string]string{"x-tenant": "shop-s3cret"}}
		mustFail(t, o, search.BadCredentials, "no bearer token")
		o.Token = "another s3cret"
		mustFail(t, o, search.BadCredentials, "search.token")
		o.Token, o.Headers = "t0ken-s3cret", nil
		mustFail(t, o, search.BadCredentials, "X-Tenant")
		o.Headers = map[string]string{"x-tenant": "shop-s3cret"}
		everything(t, s, searchtest.ConnectWith(t, o))
	})
}

// A gateway that wants a certificate of ours gets it, and the next one when the files have changed.
func TestClientCertificate(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		g := testenv.NewGateway(t, s.URL, testenv.GatewayOptions{ClientCertificate: true})
		o := search.Options{URLs: []string{g.URL}, CAFile: g.CAFile}
		mustFail(t, o, search.BadCertificate, "search.cert_file")
		folder := t.TempDir()
		o.CertFile, o.KeyFile = filepath.Join(folder, "client.pem"), filepath.Join(folder, "client-key.pem")
		mustFail(t, o, search.BadOptions, "no such file")
		replace := func(file, by string) {
			t.Helper()
			text, err := os.ReadFile(by)
			if err == nil {
				err = os.WriteFile(file+".new", text, 0o600)
			}
			if err == nil {
				err = os.Rename(file+".new", file)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		first, firstKey := g.NewClient("first")
		second, secondKey := g.NewClient("second")
		replace(o.CertFile, first)
		replace(o.KeyFile, secondKey)
		mustFail(t, o, search.BadOptions, "private key does not match")
		replace(o.KeyFile, firstKey)
		lines := searchtest.NewLogLines(t)
		c := searchtest.ConnectLogging(t, o, lines)
		everything(t, s, c)
		for _, step := range []struct{ file, by, says, subjects string }{
			{o.CertFile, second, "cannot be used, the one before is", "first"}, // the key is not there yet
			{o.KeyFile, secondKey, "the client certificate has changed cert_file", "first second"},
		} {
			replace(step.file, step.by)
			g.CutOff()
			for c.Ping(ctx) != nil && ctx.Err() == nil { // a connection that was cut may be found out by a request
			}
			lines.Await(t, ctx, step.says)
			if got := strings.Join(g.Subjects(), " "); got != step.subjects {
				t.Errorf("let through were %q, want %q", got, step.subjects)
			}
		}
	})
}

// The way to the cluster leads through a proxy that wants a password.
func TestProxy(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		p := testenv.NewForwardProxy(t)
		g := testenv.NewGateway(t, s.URL, testenv.GatewayOptions{Token: "t0ken"})
		for _, o := range []search.Options{
			{URLs: []string{g.URL}, CAFile: g.CAFile, Token: "t0ken"},
			{URLs: []string{s.URL}},
		} {
			o.ProxyURL = strings.Replace(p.URL, "pr0xy", "another", 1)
			mustFail(t, o, search.BadProxy, "search.proxy_url")
			o.ProxyURL = p.URL
			everything(t, s, searchtest.ConnectWith(t, o))
			if host := strings.SplitN(o.URLs[0], "//", 2)[1]; !slices.Contains(p.Hosts(), host) {
				t.Errorf("the proxy has led to %q, not to %s", p.Hosts(), host)
			}
			o.ProxyURL = "http://127.0.0.1:1"
			mustFail(t, o, search.Unreachable, "start the proxy")
		}
	})
}

// Who asks is said in one way.
func TestOneAuthentication(t *testing.T) {
	o := search.Options{URLs: []string{"http://127.0.0.1:1"}, Token: "s3cret", APIKey: "s3cret"}
	mustFail(t, o, search.BadOptions, "api_key and token are given")
	o = search.Options{URLs: []string{"http://u:s3cret@127.0.0.1:1"}, AWS: &search.AWS{Region: "eu-west-1", Service: "es"}}
	mustFail(t, o, search.BadOptions, "aws and user are given")
	o = search.Options{URLs: []string{"http://127.0.0.1:1"}, CertFile: "a.pem"}
	mustFail(t, o, search.BadOptions, "belong together")
	o = search.Options{URLs: []string{"http://127.0.0.1:1"}, ProxyURL: "ht tp://u:s3cret@p"}
	mustFail(t, o, search.BadOptions, "proxy")
}
