package mapping

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"gopkg.in/yaml.v3"
)

// Defaults of the keys of kafka.
const (
	DefaultTopic      = "tidemark"
	DefaultPartitions = 12
	DefaultRetention  = 168 * time.Hour
	DefaultMaxLag     = 1_000_000
)

// kafka reads which topic operations go through. Without the key there is none.
func (r *reader) kafka(n *yaml.Node, path string) *Kafka {
	k := &Kafka{Topic: DefaultTopic, Partitions: DefaultPartitions, Retention: DefaultRetention, Compression: CompressionSnappy, MaxLag: DefaultMaxLag}
	var off *yaml.Node // tls: false
	given := r.object(n, path, map[string]keyReader{
		"brokers": func(n *yaml.Node, path string) {
			r.list(n, path, "a list of HOST:PORT", func(item *yaml.Node, path string) {
				var broker string
				if r.checked(&broker, checkBroker, "brokers: [kafka-1:9092, kafka-2:9092]")(item, path); broker != "" {
					k.Brokers = append(k.Brokers, broker)
				}
			})
		},
		"topic": r.checked(&k.Topic, checkTopic, "topic: "+DefaultTopic),
		"group": r.checked(&k.Group, checkConsumerGroup, "group: "+DefaultTopic),
		"groups": func(n *yaml.Node, path string) {
			r.entries(n, path, func(key, value *yaml.Node) {
				k.Groups = append(k.Groups, r.kafkaGroup(key, value, join(path, key.Value)))
			})
		},
		"partitions":  r.integer(&k.Partitions, 1, 10_000),
		"replication": r.integer(&k.Replication, 0, 100),
		"retention":   r.duration(&k.Retention, time.Hour, 8760*time.Hour),
		"compression": choice(r, &k.Compression, CompressionNone, CompressionSnappy, CompressionLZ4, CompressionZstd, CompressionGzip),
		"max_lag":     r.integer(&k.MaxLag, 1, 1_000_000_000),
		"tls": func(n *yaml.Node, path string) {
			if r.boolean(&k.TLS)(n, path); r.literals[n] && !k.TLS {
				off = n
			}
		},
		"ca_file":   func(n *yaml.Node, path string) { r.caFile(n, path, &k.CAFile) },
		"cert_file": func(n *yaml.Node, path string) { r.pemFile(n, path, &k.CertFile) },
		"key_file":  func(n *yaml.Node, path string) { r.pemFile(n, path, &k.KeyFile) },
		"sasl":      func(n *yaml.Node, path string) { k.SASL = r.sasl(n, path) },
	})
	r.require("brokers")
	if given["brokers"] == nil && (n.Kind == yaml.MappingNode || isNull(n)) {
		r.problem(n, "brokers: [localhost:9092]", "%s.brokers is missing: the Kafka to connect to", path)
	}
	if k.Group == "" {
		k.Group = k.Topic
	}
	r.keyPair(path, given, k.CertFile, k.KeyFile)
	if because := needsTLS(given, k.SASL); because != "" {
		if off != nil {
			r.problem(off, "tls: true, or leave it out", "%s.tls: %s", path, because)
		}
		k.TLS = true
	}
	return k
}

// needsTLS returns which other key has connections encrypted, "" if none does.
func needsTLS(given map[string]*yaml.Node, s *SASL) string {
	for _, key := range []string{"ca_file", "cert_file", "key_file"} {
		if given[key] != nil {
			return key + " is given as well"
		}
	}
	if s != nil && s.Mechanism == SASLAWSMSKIAM {
		return "mechanism " + string(SASLAWSMSKIAM) + " is given as well, which is for encrypted connections alone"
	}
	return ""
}

// saslKeys are, for each key of sasl beside mechanism, the mechanisms that it belongs to.
var saslKeys = map[string][]SASLMechanism{
	"user":          {SASLPlain, SASLScramSHA256, SASLScramSHA512},
	"password":      {SASLPlain, SASLScramSHA256, SASLScramSHA512},
	"token":         {SASLOAuthBearer},
	"token_file":    {SASLOAuthBearer},
	"token_url":     {SASLOAuthBearer},
	"client_id":     {SASLOAuthBearer},
	"client_secret": {SASLOAuthBearer},
	"scopes":        {SASLOAuthBearer},
	"region":        {SASLAWSMSKIAM},
	"role":          {SASLAWSMSKIAM},
}

func (r *reader) sasl(n *yaml.Node, path string) *SASL {
	s := new(SASL)
	given := r.object(n, path, map[string]keyReader{
		"mechanism":     choice(r, &s.Mechanism, SASLPlain, SASLScramSHA256, SASLScramSHA512, SASLOAuthBearer, SASLAWSMSKIAM),
		"user":          r.checked(&s.User, checkNoControl, "user: tidemark"),
		"password":      r.oneLine(&s.Password),
		"token":         r.oneLine(&s.Token),
		"token_file":    func(n *yaml.Node, path string) { r.pemFile(n, path, &s.TokenFile) },
		"token_url":     r.described(func(n *yaml.Node, path string) { r.tokenURL(n, path, &s.TokenURL) }, func(s *schema) { s.text("") }),
		"client_id":     r.text(&s.ClientID),
		"client_secret": r.secret(&s.ClientSecret),
		"scopes": func(n *yaml.Node, path string) {
			r.list(n, path, "a list of scopes", func(item *yaml.Node, path string) {
				var scope string
				if r.checked(&scope, checkScope, "scopes: [kafka]")(item, path); scope != "" {
					s.Scopes = append(s.Scopes, scope)
				}
			})
		},
		"region": r.awsRegion(&s.Region),
		"role":   r.awsRole(&s.Role),
	})
	r.require("mechanism")
	switch {
	case given["mechanism"] == nil && (n.Kind == yaml.MappingNode || isNull(n)):
		r.problem(n, "mechanism: "+string(SASLScramSHA512), "%s.mechanism is missing: how it is proven who asks", path)
	case s.Mechanism != "":
		r.saslKeys(n, path, given, s.Mechanism)
	}
	return s
}

// saslKeys reports keys that do not belong to the mechanism, and those that it lacks.
func (r *reader) saslKeys(n *yaml.Node, path string, given map[string]*yaml.Node, mechanism SASLMechanism) {
	for i := 0; i+1 < len(n.Content); i += 2 { // in the order of the file
		name := n.Content[i].Value
		if of := saslKeys[name]; len(of) > 0 && !slices.Contains(of, mechanism) {
			r.problem(n.Content[i], "leave it out, or name another mechanism", "%s.%s: it belongs to mechanism %s, and not to %s", path, name, orList(of), mechanism)
		}
	}
	lacks := func(at *yaml.Node, key, hint, what string) {
		if given[key] == nil {
			r.problem(at, hint, "%s.%s is missing: %s", path, key, what)
		}
	}
	asked := given["mechanism"]
	switch mechanism {
	case SASLAWSMSKIAM:
		lacks(asked, "region", "region: eu-west-1", "what proves who asks is signed for it")
	case SASLOAuthBearer:
		r.tokenKeys(path, given, lacks)
	default:
		lacks(asked, "user", "user: tidemark", "mechanism "+string(mechanism)+" needs it")
		lacks(asked, "password", "password: ${file:/run/secrets/kafka}", "mechanism "+string(mechanism)+" needs it")
	}
}

// tokenKeys reports where a token is not said to come from one place.
func (r *reader) tokenKeys(path string, given map[string]*yaml.Node, lacks func(at *yaml.Node, key, hint, what string)) {
	var source string
	for _, key := range []string{"token", "token_file", "token_url"} {
		switch {
		case given[key] == nil:
		case source != "":
			r.problem(given[key], "keep one of them", "%s.%s: %s is given as well", path, key, source)
			return
		default:
			source = key
		}
	}
	if source == "" {
		for _, key := range []string{"client_id", "client_secret", "scopes"} {
			if given[key] != nil {
				source = key
			}
		}
		if source == "" {
			lacks(given["mechanism"], "token_file", "token_file: /run/secrets/kafka-token\nor token, or token_url with client_id and client_secret", "mechanism oauthbearer needs a token")
			return
		}
		lacks(given[source], "token_url", "token_url: https://login.example.com/oauth2/token", source+" is what it is asked for a token with")
		return
	}
	if given["token_url"] != nil {
		lacks(given["token_url"], "client_id", "client_id: tidemark", "who asks token_url for a token")
		lacks(given["token_url"], "client_secret", "client_secret: ${file:/run/secrets/kafka}", "by which token_url knows who asks")
		return
	}
	for _, key := range []string{"client_id", "client_secret", "scopes"} {
		if given[key] != nil {
			r.problem(given[key], "leave it out, or give token_url in the place of "+source, "%s.%s: it belongs to token_url, and not to %s", path, key, source)
		}
	}
}

// orList returns words as a text has them: a, b or c.
func orList[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	if len(texts) < 2 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:len(texts)-1], ", ") + " or " + texts[len(texts)-1]
}

// oneLine reads a secret without control characters, which neither tokens nor SASL's passwords have.
func (r *reader) oneLine(into *Secret) keyReader {
	return func(n *yaml.Node, path string) {
		var s Secret
		if r.secret(&s)(n, path); s.IsZero() {
			return
		}
		if checkNoControl(s.Reveal()) != nil {
			r.problem(n, "it is one line; of a file, the newline at its end is left out", "%s: it holds a control character", path)
			return
		}
		*into = s
	}
}

// tokenURL reads where tokens come from. It is not repeated in problems, since people put passwords into URLs.
func (r *reader) tokenURL(n *yaml.Node, path string, into *string) {
	var text string
	if r.text(&text)(n, path); text == "" {
		return
	}
	const example = "https://login.example.com/oauth2/token"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() != "" && !validPort(u.Port()):
		r.problem(n, example, "%s: want a URL with http or https and a host", path)
	case u.User != nil:
		r.problem(n, "put them into client_id and client_secret", "%s: it holds no user and password", path)
	default:
		*into = text
	}
}

// checkBroker wants what a connection can be made to.
func checkBroker(text string) error {
	host, port, err := net.SplitHostPort(text)
	switch {
	case strings.Contains(text, "://"):
		return errors.New("want HOST:PORT, without a protocol")
	case strings.Contains(text, ","):
		return errors.New("want HOST:PORT, each broker as an item of the list")
	case err != nil || !validPort(port) || net.ParseIP(host) == nil && !hostName.MatchString(host):
		return errors.New("want HOST:PORT")
	}
	return nil
}

func checkKafkaName(name string, most int) error {
	switch {
	case !kafkaName.MatchString(name):
		return errors.New("want letters, digits, dots, _ and - only")
	case len(name) > most:
		return fmt.Errorf("want %d characters at the most", most)
	}
	return nil
}

func checkNoControl(text string) error {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return errors.New("it holds a control character")
	}
	return nil
}

// checkScope is by RFC 6749: what stands between the spaces of a list of scopes.
func checkScope(text string) error {
	if strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) {
		return errors.New("want a scope without spaces")
	}
	return nil
}
