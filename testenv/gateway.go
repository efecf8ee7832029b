package testenv

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// GatewayOptions say whom a [Gateway] lets through. What is not given is not asked for.
type GatewayOptions struct {
	ClientCertificate bool              // one of the gateway's authority: see Gateway.NewClient
	Token             string            // Authorization: Bearer
	Headers           map[string]string // with these values
	AWS               *AWSKeys          // a signature by these
}

// AWSKeys are what requests are to be signed with.
type AWSKeys struct {
	ID, Secret, Session string // Session is empty for keys of a user
	Region, Service     string
}

// A Gateway stands in front of a real search server, speaks TLS, and lets through who proves to be
// somebody, as the gateways of cloud providers do.
type Gateway struct {
	URL    string // https
	CAFile string // the authority of its certificate

	t        testing.TB
	o        GatewayOptions
	ca       *x509.Certificate
	key      *ecdsa.PrivateKey
	serial   atomic.Int64
	server   *httptest.Server
	mu       sync.Mutex
	refusals []string
	keys     []AWSKeys // see Renew
	subjects []string
	passed   int
}

// NewGateway starts one in front of a server, HTTP or HTTPS without a user, until the test ends.
func NewGateway(t testing.TB, target string, o GatewayOptions) *Gateway {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal("the target of a gateway is no URL")
	}
	g := &Gateway{t: t, o: o}
	if o.AWS != nil {
		g.keys = []AWSKeys{*o.AWS}
	}
	g.newAuthority()
	certFile, keyFile := g.issue("gateway", x509.ExtKeyUsageServerAuth)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Header.Del("Authorization")
		},
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	g.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, why := g.refuse(r); status != 0 {
			g.mu.Lock()
			g.refusals = append(g.refusals, why)
			g.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"message":%q}`, why) // as AWS answers
			return
		}
		g.mu.Lock()
		g.passed++
		if len(r.TLS.PeerCertificates) > 0 {
			if name := r.TLS.PeerCertificates[0].Subject.CommonName; !slices.Contains(g.subjects, name) {
				g.subjects = append(g.subjects, name)
			}
		}
		g.mu.Unlock()
		forward.ServeHTTP(w, r)
	}))
	g.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	g.server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if o.ClientCertificate {
		g.server.TLS.ClientCAs = x509.NewCertPool()
		g.server.TLS.ClientCAs.AddCert(g.ca)
		g.server.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	}
	g.server.StartTLS()
	g.URL = g.server.URL
	t.Cleanup(func() {
		g.server.CloseClientConnections()
		g.server.Close()
		transport.CloseIdleConnections()
	})
	return g
}

// Passed returns how many requests were let through, and Refusals why others were not.
func (g *Gateway) Passed() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.passed
}

func (g *Gateway) Refusals() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.refusals)
}

// Subjects returns the common names of clients that were let through, each once.
func (g *Gateway) Subjects() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.subjects)
}

// Renew has the gateway take only signatures by other keys from now on.
func (g *Gateway) Renew(keys AWSKeys) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys = []AWSKeys{keys}
}

// CutOff ends all connections of clients, who connect anew.
func (g *Gateway) CutOff() { g.server.CloseClientConnections() }

// NewClient issues a certificate, and returns the files of it and its key.
func (g *Gateway) NewClient(name string) (certFile, keyFile string) {
	g.t.Helper()
	return g.issue(name, x509.ExtKeyUsageClientAuth)
}

// refuse returns the status of the answer to who is not let through, and why; 0 if it is.
func (g *Gateway) refuse(r *http.Request) (int, string) {
	for name, want := range g.o.Headers {
		if r.Header.Get(name) != want {
			return http.StatusForbidden, "the header " + name + " is not as it should be"
		}
	}
	if g.o.Token != "" && r.Header.Get("Authorization") != "Bearer "+g.o.Token {
		return http.StatusUnauthorized, "no bearer token, or another one"
	}
	g.mu.Lock()
	keys := g.keys
	g.mu.Unlock()
	if len(keys) == 0 {
		return 0, ""
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return http.StatusBadRequest, "the body cannot be read"
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err := keys[0].verify(r, body, time.Now()); err != nil {
		return http.StatusForbidden, err.Error()
	}
	return 0, ""
}

// verify recomputes the signature of a request from what came, by AWS' description of Signature
// Version 4 and without its SDK.
func (k AWSKeys) verify(r *http.Request, body []byte, now time.Time) error {
	const algorithm = "AWS4-HMAC-SHA256"
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", date)
	if err != nil || now.Sub(at).Abs() > 5*time.Minute {
		return fmt.Errorf("signature expired or without a date: %q", date)
	}
	fields, ok := strings.CutPrefix(r.Header.Get("Authorization"), algorithm+" ")
	if !ok {
		return fmt.Errorf("missing authentication token")
	}
	given := make(map[string]string)
	for field := range strings.SplitSeq(fields, ", ") {
		name, value, _ := strings.Cut(field, "=")
		given[name] = value
	}
	scope := date[:8] + "/" + k.Region + "/" + k.Service + "/aws4_request"
	if given["Credential"] != k.ID+"/"+scope {
		return fmt.Errorf("the security token included in the request is invalid")
	}
	if r.Header.Get("X-Amz-Security-Token") != k.Session {
		return fmt.Errorf("the session token is not that of the key")
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(body))
	if r.Header.Get("X-Amz-Content-Sha256") != hash {
		return fmt.Errorf("the body has another hash than the header says")
	}
	signed := strings.Split(given["SignedHeaders"], ";")
	var headers strings.Builder
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			if k.Service == "aoss" {
				return fmt.Errorf("content-length is signed")
			}
			value = fmt.Sprint(r.ContentLength)
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	for _, must := range []string{"host", "x-amz-date", "x-amz-content-sha256"} {
		if !slices.Contains(signed, must) {
			return fmt.Errorf("%s is not signed", must)
		}
	}
	query := strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20") // sorted
	canonical := strings.Join([]string{r.Method, escapeAgain(r.URL.EscapedPath()), query, headers.String(), given["SignedHeaders"], hash}, "\n")
	toSign := strings.Join([]string{algorithm, date, scope, fmt.Sprintf("%x", sha256.Sum256([]byte(canonical)))}, "\n")
	key := []byte("AWS4" + k.Secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	if want := hex.EncodeToString(mac(key, toSign)); given["Signature"] != want {
		return fmt.Errorf("the request signature we calculated does not match the signature you provided")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// escapeAgain escapes each byte of a path but those of RFC 3986 that need not be, and the slash.
func escapeAgain(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func (g *Gateway) newAuthority() {
	g.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "testenv"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	g.serial.Store(1)
	var err error
	if g.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		g.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, g.key.Public(), g.key)
	if err == nil {
		g.ca, err = x509.ParseCertificate(der)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	g.CAFile = g.write("ca.pem", "CERTIFICATE", der)
}

func (g *Gateway) issue(name string, usage x509.ExtKeyUsage) (certFile, keyFile string) {
	g.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(g.serial.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		g.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, g.ca, key.Public(), g.key)
	if err != nil {
		g.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.write(name+".pem", "CERTIFICATE", der), g.write(name+"-key.pem", "PRIVATE KEY", private)
}

func (g *Gateway) write(name, kind string, der []byte) string {
	g.t.Helper()
	file := filepath.Join(g.t.TempDir(), name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return file
}

// A ForwardProxy is a proxy that clients ask for connections to others, as companies have one
// between their networks and the Internet.
type ForwardProxy struct {
	URL string // with user and password

	mu    sync.Mutex
	hosts []string
}

// NewForwardProxy starts one that lets through who shows a password, until the test ends.
func NewForwardProxy(t testing.TB) *ForwardProxy {
	t.Helper()
	const user, password = "tidemark", "pr0xy-s3cret"
	p := &ForwardProxy{}
	var tunnels sync.WaitGroup
	transport := &http.Transport{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
		if u, pw, _ := shown.BasicAuth(); u != user || pw != password {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		p.mu.Lock()
		if !slices.Contains(p.hosts, r.Host) {
			p.hosts = append(p.hosts, r.Host)
		}
		p.mu.Unlock()
		if r.Method != http.MethodConnect {
			forward := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: transport}
			forward.ServeHTTP(w, r)
			return
		}
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		here, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			_ = there.Close()
			return
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
		pass := func(to, from net.Conn) {
			_, _ = io.Copy(to, from)
			_ = to.Close()
			_ = from.Close()
		}
		tunnels.Go(func() { pass(there, here) })
		tunnels.Go(func() { pass(here, there) })
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
		tunnels.Wait()
	})
	p.URL = strings.Replace(server.URL, "http://", "http://"+user+":"+password+"@", 1)
	return p
}

// Hosts returns where clients were let to, each once.
func (p *ForwardProxy) Hosts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.hosts)
}
