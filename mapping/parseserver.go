package mapping

import (
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"tidemark/mapping/catalog"
	"tidemark/mapping/limit"
)

const maxCAFile = 1 << 20

func (r *reader) postgres(n *yaml.Node, path string, p *Postgres) {
	given := r.object(n, path, map[string]keyReader{
		"url":             func(n *yaml.Node, path string) { r.postgresURL(n, path, &p.URL) },
		"host":            r.text(&p.Host),
		"port":            r.integer(&p.Port, 1, 65535),
		"database":        r.text(&p.Database),
		"user":            r.text(&p.User),
		"password":        r.secret(&p.Password),
		"sslmode":         r.checked(&p.SSLMode, checkSSLMode, "sslmode: verify-full"),
		"slot":            r.checked(&p.Slot, checkSlotName, "slot: "+DefaultSlot),
		"publication":     r.checked(&p.Publication, catalog.CheckIdent, "publication: "+DefaultPublication),
		"control_schema":  r.checked(&p.ControlSchema, checkSchema, "control_schema: "+DefaultControlSchema),
		"event_triggers":  r.boolean(&p.EventTriggers),
		"failover":        r.boolean(&p.Failover),
		"replication_url": func(n *yaml.Node, path string) { r.postgresURL(n, path, &p.ReplicationURL) },

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
	given := r.object(n, path, map[string]keyReader{
		"urls": func(n *yaml.Node, path string) {
			r.list(n, path, "a list of URLs", func(item *yaml.Node, path string) { r.searchURL(item, path, &s.URLs) })
		},
		"user":               r.text(&s.User),
		"password":           r.secret(&s.Password),
		"api_key":            r.secret(&s.APIKey),
		"aws":                nil,
		"ca_file":            func(n *yaml.Node, path string) { r.caFile(n, path, &s.CAFile) },
		"bulk":               func(n *yaml.Node, path string) { r.bulk(n, path, &s.Bulk) },
		"max_document_bytes": r.size(&s.MaxDocumentBytes, limit.MinDocumentBytes, limit.MaxDocumentBytes, "a row of twice the size is the largest that Postgres can send"),
	})
	if given["urls"] == nil && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(n, "urls: [https://localhost:9200]", "%s.urls is missing: the cluster to write to", path)
	}
	user, password, key := given["user"], given["password"], given["api_key"]
	switch {
	case key != nil && user != nil:
		r.problem(key, "keep one of them", "%s.api_key: user is given as well", path)
	case key != nil && password != nil:
		r.problem(key, "keep one of them", "%s.api_key: password is given as well", path)
	case user != nil && password == nil:
		r.problem(user, "password: ${file:/run/secrets/search}", "%s.user: password is missing", path)
	case password != nil && user == nil:
		r.problem(password, "user: elastic", "%s.password: user is missing", path)
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

func (r *reader) bulk(n *yaml.Node, path string, b *Bulk) {
	r.object(n, path, map[string]keyReader{
		"requests":  r.integer(&b.Requests, 1, limit.MaxRequests),
		"bytes":     r.size(&b.Bytes, limit.MinBytes, limit.MaxBytes, "search servers take requests of 100 MiB (http.max_content_length) at the most"),
		"documents": r.integer(&b.Documents, 1, limit.MaxDocuments),

		"poison_after": r.interval(&b.PoisonAfter, limit.MinPoisonAfter, limit.MaxPoisonAfter),
	})
}

func (r *reader) admin(n *yaml.Node, path string, a *Admin) {
	r.object(n, path, map[string]keyReader{
		"listen": r.checked(&a.Listen, func(text string) error {
			if _, port, err := net.SplitHostPort(text); err != nil || port != "0" && !validPort(port) {
				return errors.New("want HOST:PORT, or :PORT for all addresses")
			}
			return nil
		}, "listen: "+DefaultListen),
	})
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
