package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// hosts are the names that this server is asked for by. Another one is that of a site whose name was
// made to lead here, so that its scripts, in a browser on this host or in this network, read what is
// shown: DNS rebinding. A site needs a name for that which its owner can register; an address or a
// name without a dot is none.
type hosts []string

// newHosts returns what a server answers to that listens at listen: names are those of admin.hosts.
func newHosts(listen string, names []string) hosts {
	h := slices.Clone(hosts(names))
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "" {
		h = append(h, strings.ToLower(host))
	}
	return h
}

// local are the ends of names that nobody can register: of this host, and of services in Kubernetes.
var local = []string{".localhost", ".svc", ".svc.cluster.local"}

// answersTo reports whether a Host header names this server.
func (h hosts) answersTo(header string) bool {
	name := header
	if host, _, err := net.SplitHostPort(header); err == nil {
		name = host
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name != "" && !strings.Contains(name, ".") || slices.Contains(h, name) ||
		slices.ContainsFunc(local, func(end string) bool { return strings.HasSuffix(name, end) })
}

// open are the paths that are answered whatever name they are asked for by: probes, scrapes and waits
// of programs, by any name of a service, which show nothing of a document.
var open = []string{"/healthz", "/readyz", "/metrics", "/wait"}

// guard has next answer only to requests for this server.
func (h hosts) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(open, r.URL.Path) && !h.answersTo(r.Host) {
			writeJSON(w, http.StatusMisdirectedRequest, map[string]any{"error": fmt.Sprintf("this server is not known as %q; hint: have the browser ask for its address, or add the name to admin.hosts in the mapping file", r.Host)})
			return
		}
		next.ServeHTTP(w, r)
	})
}
