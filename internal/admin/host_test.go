package admin

import (
	"net/http"
	"strings"
	"testing"

	"tidemark/mapping"
)

// TestHosts has the server be asked for by names that are its own, and by names that a site has made
// lead to it.
func TestHosts(t *testing.T) {
	h := newHosts("Node7.example.com:9630", []string{"tidemark.example.com"})
	for header, want := range map[string]bool{
		"127.0.0.1:9630": true, "[::1]:9630": true, "[fe80::1%eth0]:9630": true, "10.1.2.3": true, "::1": true,
		"localhost:9630": true, "LOCALHOST": true, "tidemark.localhost:9630": true, "localhost.:9630": true,
		"tidemark:9630": true, "tidemark.monitoring.svc:9630": true, "tidemark.monitoring.svc.cluster.local": true,
		"tidemark.example.com": true, "TideMark.Example.com:443": true, "node7.example.com:9630": true,
		"evil.example": false, "evil.example:9630": false, "tidemark.example.com.evil.example": false, "127.0.0.1.evil.example:9630": false,
		"localhost.evil.example": false, "eviltidemark.example.com": false, "x.tidemark.example.com": false, "svc.evil.example": false, "a.svc.evil.example": false, "a.localhost.evil.example": false, "a.svc.cluster.local.evil.example": false,
		"": false, ":9630": false, ".": false,
	} {
		if got := h.answersTo(header); got != want {
			t.Errorf("Host %q: %t, want %t", header, got, want)
		}
	}
	if all := newHosts(":9630", nil); all.answersTo("evil.example") || !all.answersTo("10.1.2.3:9630") {
		t.Error("a server of all addresses")
	}
}

// TestRebinding has every path of a real server be asked for by the name of a site, as a browser does
// that was told that the site is here: nothing is shown of what is in the database, and nothing done;
// what programs ask is answered whatever they call the server.
func TestRebinding(t *testing.T) {
	o := newOffice(t, working(), mapping.NewSecret(token), func(o *Options) { o.Hosts, o.Profiles = []string{"tidemark.example.com"}, true })
	ask := func(method, path, host string, header ...string) (int, string) {
		t.Helper()
		resp, body := o.send(t, method, path, nil, append(header, "Host", host)...)
		return resp.StatusCode, string(body)
	}
	for _, path := range []string{"/", "/status", "/events", "/login", "/openapi.json", "/dead-letters", "/dead-letters.json", "/indices/products/drop", "/debug/pprof/goroutine", "/nothing", "//metrics"} {
		status, body := ask(http.MethodGet, path, "evil.example:9630")
		if status != http.StatusMisdirectedRequest || strings.Contains(body, "products") || !strings.Contains(body, "admin.hosts") {
			t.Errorf("%s for a site: %d %s", path, status, body)
		}
	}
	if status, body := ask(http.MethodPost, "/indices/products/drop", "evil.example", "Authorization", "Bearer "+token); status != http.StatusMisdirectedRequest || o.take() != "" {
		t.Errorf("something was asked for: %d %s", status, body)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/wait"} {
		if status, body := ask(http.MethodGet, path, "tidemark.of-a-cloud.example"); status != http.StatusOK {
			t.Errorf("%s by a name that is not known: %d %s", path, status, body)
		}
	}
	for _, host := range []string{"tidemark.example.com", "10.1.2.3:9630", "localhost:1", "tidemark"} {
		if status, body := ask(http.MethodGet, "/status", host); status != http.StatusOK {
			t.Errorf("/status for %s: %d %s", host, status, body)
		}
	}
}
