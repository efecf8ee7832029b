package mapping

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"tidemark/mapping/catalog"
	"tidemark/mapping/limit"
)

const maxCAFile = 1 << 20

func (r *reader) postgres(n *yaml.Node, path string, p *Postgres) {
	given := r.object(n, path, map[string]keyReader{
		"url":             r.described(func(n *yaml.Node, path string) { r.postgresURL(n, path, &p.URL) }, func(s *schema) { s.Type = "string" }),
		"host":            r.text(&p.Host),
		"port":            r.integer(&p.Port, 1, 65535),
		"database":        r.text(&p.Database),
		"user":            r.text(&p.User),
		"password":        r.secret(&p.Password),
		"sslmode":         r.described(r.checked(&p.SSLMode, checkSSLMode, "sslmode: verify-full"), func(s *schema) { s.words(sslModes) }),
		"slot":            r.checked(&p.Slot, checkSlotName, "slot: "+DefaultSlot),
		"publication":     r.checked(&p.Publication, catalog.CheckIdent, "publication: "+DefaultPublication),
		"control_schema":  r.checked(&p.ControlSchema, checkSchema, "control_schema: "+DefaultControlSchema),
		"event_triggers":  r.boolean(&p.EventTriggers),
		"failover":        r.boolean(&p.Failover),
		"replication_url": r.described(func(n *yaml.Node, path string) { r.postgresURL(n, path, &p.ReplicationURL) }, func(s *schema) { s.Type = "string" }),

		"publish_columns": choice(r, &p.PublishColumns, PublishColumnsAuto, PublishColumnsAll, PublishColumnsUsed),
	})
	for _, key := range []string{"host", "port", "database", "user", "password", "sslmode"} {
		if given["url"] != nil && given[key] != nil {
			r.problem(given[key], "put it into url, or leave url out", "%s: url is given as well", join(path, key))
		}
	}
}

// postgresURL reads what pgx connects by. No problem here repeats any of it: in
// a malformed URL, the password may be anywhere.
func (r *reader) postgresURL(n *yaml.Node, path string, into *Secret) {
	var s Secret
	if r.secret(&s)(n, path); s.IsZero() {
		return
	}
	const form = "postgres://USER:PASSWORD@HOST:PORT/DATABASE"
	text := s.Reveal()
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		if strings.Contains(text, "://") || !strings.Contains(text, "=") {
			r.problem(n, form+"\nor host=HOST dbname=DATABASE user=USER", "%s: want the URL of a Postgres database", path)
			return
		}
		*into = s // keywords and values, which pgx reads
		return
	}
	u, err := url.Parse(text)
	if err != nil {
		r.problem(n, form+"\nin user and password, write @ : / ? # % as %40 %3A %2F %3F %23 %25", "%s: this is not a URL (its text is not shown, a password may be in it)", path)
		return
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		r.problem(n, form+"?sslmode=verify-full", "%s: what follows the ? cannot be read", path)
		return
	}
	if mode := query.Get("sslmode"); mode != "" && checkSSLMode(mode) != nil {
		r.problem(n, "", "%s: in sslmode: %v", path, checkSSLMode(mode))
		return
	}
	*into = s
}

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

func checkSSLMode(mode string) error {
	if !slices.Contains(sslModes, mode) {
		return errors.New("want " + strings.Join(sslModes, ", "))
	}
	return nil
}

func (r *reader) search(n *yaml.Node, path string, s *Search) {
	r.cluster(n, path, s, r.maxDocumentBytes(s))
}

// maxDocumentBytes reads search.max_document_bytes, which is one for all clusters.
func (r *reader) maxDocumentBytes(s *Search) keyReader {
	return r.size(&s.MaxDocumentBytes, limit.MinDocumentBytes, limit.MaxDocumentBytes, "a row of twice the size is the largest that Postgres can send")
}

// cluster reads which cluster is written to. maxDocumentBytes reads this key, nil if there is none.
func (r *reader) cluster(n *yaml.Node, path string, s *Search, maxDocumentBytes keyReader) {
	var cloud []string
	given := r.object(n, path, map[string]keyReader{
		"urls": func(n *yaml.Node, path string) {
			r.list(n, path, "a list of URLs", func(item *yaml.Node, path string) { r.searchURL(item, path, &s.URLs) })
		},
		"cloud_id":           func(n *yaml.Node, path string) { r.cloudID(n, path, &cloud) },
		"user":               r.text(&s.User),
		"password":           r.secret(&s.Password),
		"api_key":            r.headerValue(&s.APIKey),
		"token":              r.headerValue(&s.Token),
		"aws":                func(n *yaml.Node, path string) { s.AWS = r.aws(n, path) },
		"ca_file":            func(n *yaml.Node, path string) { r.caFile(n, path, &s.CAFile) },
		"cert_file":          func(n *yaml.Node, path string) { r.pemFile(n, path, &s.CertFile) },
		"key_file":           func(n *yaml.Node, path string) { r.pemFile(n, path, &s.KeyFile) },
		"proxy_url":          r.described(func(n *yaml.Node, path string) { r.proxyURL(n, path, &s.ProxyURL) }, func(s *schema) { s.Type = "string" }),
		"headers":            func(n *yaml.Node, path string) { r.headers(n, path, &s.Headers) },
		"bulk":               func(n *yaml.Node, path string) { r.bulk(n, path, &s.Bulk) },
		"max_document_bytes": maxDocumentBytes,
	})
	r.requireOne("urls", "cloud_id")
	switch {
	case given["urls"] != nil && given["cloud_id"] != nil:
		r.problem(given["cloud_id"], "keep one of them", "%s.cloud_id: urls are given as well", path)
	case given["cloud_id"] != nil:
		s.URLs = cloud
	case given["urls"] == nil && (n.Kind == yaml.MappingNode || isNull(n)):
		r.problem(n, "urls: [https://localhost:9200]", "%s.urls is missing: the cluster to write to", path)
	}
	r.authentication(path, given)
	r.keyPair(path, given, s.CertFile, s.KeyFile)
}

// keyPair reports a certificate without its key, a key without a certificate, and a pair that is none.
func (r *reader) keyPair(path string, given map[string]*yaml.Node, certFile, keyFile string) {
	cert, key := given["cert_file"], given["key_file"]
	switch {
	case cert != nil && key == nil:
		r.problem(cert, "key_file: client-key.pem", "%s.cert_file: key_file is missing", path)
	case key != nil && cert == nil:
		r.problem(key, "cert_file: client.pem", "%s.key_file: cert_file is missing", path)
	case certFile != "" && keyFile != "":
		if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			r.problem(cert, "both are PEM, the key without a password", "%s.cert_file: a certificate and its key cannot be read from cert_file and key_file: %v", path, withoutPath(err))
		}
	}
}

// authentication reports ways to say who asks that exclude each other, and halves of one.
func (r *reader) authentication(path string, given map[string]*yaml.Node) {
	for i, way := range []string{"api_key", "token", "aws"} {
		if given[way] == nil {
			continue
		}
		for _, other := range append([]string{"user", "password"}, []string{"api_key", "token"}[:i]...) {
			if given[other] != nil {
				r.problem(given[way], "keep one of them", "%s.%s: %s is given as well", path, way, other)
				return
			}
		}
	}
	user, password := given["user"], given["password"]
	switch {
	case user != nil && password == nil:
		r.problem(user, "password: ${file:/run/secrets/search}", "%s.user: password is missing", path)
	case password != nil && user == nil:
		r.problem(password, "user: elastic", "%s.password: user is missing", path)
	}
}

var (
	awsRegion = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	awsRole   = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$`)
)

func (r *reader) aws(n *yaml.Node, path string) *AWS {
	a := &AWS{Service: AWSServiceES}
	given := r.object(n, path, map[string]keyReader{
		"region":  r.awsRegion(&a.Region),
		"service": choice(r, &a.Service, AWSServiceES, AWSServiceAOSS),
		"role":    r.awsRole(&a.Role),
	})
	r.require("region")
	if given["region"] == nil && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(n, "region: eu-west-1", "%s.region is missing: requests are signed for it", path)
	}
	return a
}

// awsRegion reads the code of a region.
func (r *reader) awsRegion(into *string) keyReader {
	return r.checked(into, func(text string) error {
		if !awsRegion.MatchString(text) {
			return errors.New("want the code of a region")
		}
		return nil
	}, "region: eu-west-1")
}

// awsRole reads the ARN of a role.
func (r *reader) awsRole(into *string) keyReader {
	return r.checked(into, func(text string) error {
		if !awsRole.MatchString(text) {
			return errors.New("want the ARN of a role")
		}
		return nil
	}, "role: arn:aws:iam::123456789012:role/NAME")
}

// cloudID reads the id of a deployment of Elastic Cloud: its name, a colon, and in base64 the domain
// with its port, and the part of the host's name before it.
func (r *reader) cloudID(n *yaml.Node, path string, into *[]string) {
	var text string
	if r.text(&text)(n, path); text == "" {
		return
	}
	_, coded, named := strings.Cut(text, ":")
	if !named {
		coded = text
	}
	decoded, err := base64.StdEncoding.DecodeString(coded)
	parts := strings.Split(string(decoded), "$")
	if err != nil || len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		r.problem(n, "copy the Cloud ID of the deployment from the console of Elastic Cloud", "%s: this is not the id of a deployment of Elastic Cloud", path)
		return
	}
	domain, port, _ := strings.Cut(parts[0], ":")
	host, own, _ := strings.Cut(parts[1], ":")
	if own != "" {
		port = own
	}
	u := &url.URL{Scheme: "https", Host: host + "." + domain}
	if port != "" {
		u.Host += ":" + port
	}
	if again, err := url.Parse(u.String()); err != nil || again.Host != u.Host || port != "" && !validPort(port) {
		r.problem(n, "copy the Cloud ID of the deployment from the console of Elastic Cloud", "%s: what it stands for is no host", path)
		return
	}
	*into = []string{u.String()}
}

// proxyURL reads the address of a proxy. No problem repeats any of it, for its password.
func (r *reader) proxyURL(n *yaml.Node, path string, into *Secret) {
	if r.schema != nil {
		r.schema.text("")
		return
	}
	var s Secret
	if r.secret(&s)(n, path); s.IsZero() {
		return
	}
	u, err := url.Parse(s.Reveal())
	if err != nil || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) || u.Hostname() == "" || u.Port() != "" && !validPort(u.Port()) {
		r.problem(n, "http://USER:PASSWORD@HOST:3128\nin user and password, write @ : / ? # % as %40 %3A %2F %3F %23 %25", "%s: want the URL of a proxy with http, https or socks5, and a host (its text is not shown, a password may be in it)", path)
		return
	}
	*into = s
}

// ownHeaders are set by what sends the requests, or say who asks.
var ownHeaders = []string{"Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Proxy-Authorization", "Transfer-Encoding", "X-Opaque-Id"}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// headers reads what is sent with each request. Values are secrets, since many are.
func (r *reader) headers(n *yaml.Node, path string, into *[]Header) {
	r.entries(n, path, func(key, value *yaml.Node) {
		if r.schema != nil {
			r.headerValue(new(Secret))(value, path)
			return
		}
		name := http.CanonicalHeaderKey(key.Value)
		below := join(path, key.Value)
		switch {
		case r.schema != nil:
			r.headerValue(new(Secret))(value, below)
		case !headerName.MatchString(key.Value):
			r.problem(key, "headers: {X-Tenant: shop}", "%s: %q is not the name of a header", path, key.Value)
		case name == "Authorization":
			r.problem(key, "use user and password, api_key, token or aws", "%s: who asks is not said by a header", below)
		case slices.Contains(ownHeaders, name) || strings.HasPrefix(name, "X-Amz-"):
			r.problem(key, "leave it out", "%s: this header is set by Tidemark", below)
		case slices.ContainsFunc(*into, func(h Header) bool { return h.Name == name }):
			r.problem(key, "keep one of them", "%s: the header is given twice", below)
		default:
			h := Header{Name: name}
			if r.headerValue(&h.Value)(value, below); !h.Value.IsZero() {
				*into = append(*into, h)
			}
		}
	})
}

// headerValue reads a secret that is sent in a header.
func (r *reader) headerValue(into *Secret) keyReader {
	return func(n *yaml.Node, path string) {
		var s Secret
		if r.secret(&s)(n, path); s.IsZero() {
			return
		}
		if strings.ContainsFunc(s.Reveal(), func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			r.problem(n, "it is one line; of a file, the newline at its end is left out", "%s: it holds a character that no header may have", path)
			return
		}
		*into = s
	}
}

// searchURL reads one address of the cluster. It is not repeated in problems,
// since people put passwords into URLs.
func (r *reader) searchURL(n *yaml.Node, path string, into *[]string) {
	var text string
	if r.text(&text)(n, path); text == "" {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		r.problem(n, "https://HOST:9200", "%s: want a URL with http or https and a host", path)
	case u.User != nil:
		r.problem(n, "put them into user and password", "%s: a URL of the cluster holds no user and password", path)
	case u.Port() != "" && !validPort(u.Port()):
		r.problem(n, "https://HOST:9200", "%s: a port is a number from 1 to 65535", path)
	case u.RawQuery != "" || u.Fragment != "":
		r.problem(n, "https://HOST:9200", "%s: a URL of the cluster ends with its path", path)
	default:
		*into = append(*into, strings.TrimRight(u.String(), "/"))
	}
}

func validPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

func (r *reader) caFile(n *yaml.Node, path string, into *string) {
	var name string
	if r.text(&name)(n, path); name == "" {
		return
	}
	file := r.expander.resolve(name)
	text, err := readBounded(file, maxCAFile)
	switch {
	case err != nil:
		r.problem(n, "a relative path begins at the folder of this file", "%s: %s: %v", path, r.show(n), err)
	case !x509.NewCertPool().AppendCertsFromPEM(text):
		r.problem(n, "want -----BEGIN CERTIFICATE-----", "%s: %s holds no certificate", path, r.show(n))
	default:
		*into = file
	}
}

// pemFile reads the name of a file that is there.
func (r *reader) pemFile(n *yaml.Node, path string, into *string) {
	var name string
	if r.text(&name)(n, path); name == "" {
		return
	}
	file := r.expander.resolve(name)
	if _, err := readBounded(file, maxCAFile); err != nil {
		r.problem(n, "a relative path begins at the folder of this file", "%s: %s: %v", path, r.show(n), err)
		return
	}
	*into = file
}

func (r *reader) bulk(n *yaml.Node, path string, b *Bulk) {
	r.object(n, path, map[string]keyReader{
		"requests":  r.integer(&b.Requests, 1, limit.MaxRequests),
		"bytes":     r.size(&b.Bytes, limit.MinBytes, limit.MaxBytes, "search servers take requests of 100 MiB (http.max_content_length) at the most"),
		"documents": r.integer(&b.Documents, 1, limit.MaxDocuments),

		"poison_after": r.interval(&b.PoisonAfter, limit.MinPoisonAfter, limit.MaxPoisonAfter),
	})
}

func (r *reader) admin(n *yaml.Node, path string, a *Admin) {
	given := r.object(n, path, map[string]keyReader{
		"token": r.described(r.secret(&a.Token), func(s *schema) {
			least := int(math.Pow10(MinTokenLength - 1))
			*s = schema{}
			s.anyOf(&schema{Type: "string", MinLength: MinTokenLength}, &schema{Type: "number", Minimum: &least})
		}),
		"listen": r.checked(&a.Listen, func(text string) error {
			if _, port, err := net.SplitHostPort(text); err != nil || port != "0" && !validPort(port) {
				return errors.New("want HOST:PORT, or :PORT for all addresses")
			}
			return nil
		}, "listen: "+DefaultListen),
		"hosts": func(n *yaml.Node, path string) {
			r.list(n, path, "a list of names", func(item *yaml.Node, path string) {
				var name string
				if r.checked(&name, checkHost, "hosts: [tidemark.example.com]")(item, path); name != "" {
					a.Hosts = append(a.Hosts, strings.ToLower(name))
				}
			})
		},
	})
	// An empty one, or one that could not be filled in, is reported already.
	if length := utf8.RuneCountInString(a.Token.Reveal()); length > 0 && length < MinTokenLength {
		token := given["token"]
		r.problem(token, "token: ${file:/run/secrets/tidemark-token}, made by: openssl rand -hex 32", "%s.token: want %d characters or more, so that nobody guesses it", path, MinTokenLength)
	}
}

// hostName is a name as a Host header has it, without the port.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)

func checkHost(name string) error {
	if !hostName.MatchString(name) {
		return errors.New("want the name of a host, without http:// and port")
	}
	return nil
}

func (r *reader) indexer(n *yaml.Node, path string, i *Indexer) {
	r.object(n, path, map[string]keyReader{
		"fan_out": r.integer(&i.FanOut, 1, limit.MaxFanOut),
	})
}

func (r *reader) verify(n *yaml.Node, path string, v *Verify) {
	r.object(n, path, map[string]keyReader{
		"every":                r.interval(&v.Every, time.Second, 8760*time.Hour),
		"rows_per_second":      r.integer(&v.RowsPerSecond, 1, 1_000_000),
		"on_difference":        choice(r, &v.OnDifference, OnDifferenceRepair, OnDifferenceReport),
		"ready_while_unproven": r.boolean(&v.ReadyWhileUnproven),
	})
}
