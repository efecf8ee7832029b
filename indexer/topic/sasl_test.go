package topic

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/aws"

	"tidemark/indexer/retry"
	"tidemark/indexer/search"
)

// broker starts a Kafka of one broker within this process.
func broker(t *testing.T, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// tryConnect connects and closes, for as long as ten seconds.
func tryConnect(t *testing.T, c *kfake.Cluster, o Options) error {
	t.Helper()
	return tryConnectTo(t, c.ListenAddrs(), o)
}

func tryConnectTo(t *testing.T, brokers []string, o Options) error {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	o.Brokers, o.Topic, o.Group, o.Logger, o.Alarm = brokers, "ops", "ops", log, retry.NewAlarm(log)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	client, err := Connect(ctx, o)
	if err == nil {
		client.Close()
	}
	return err
}

// wantConnectError holds an error of Connect against what it is to say.
func wantConnectError(t *testing.T, err error, kind ConnectKind, key string) {
	t.Helper()
	e, ok := errors.AsType[*ConnectError](err)
	if !ok || e.Kind != kind || e.Key != key || e.Hint == "" {
		t.Errorf("got %T %+v, want kind %d and key %s", err, e, kind, key)
	}
	if e != nil && (e.Permanent() == (kind == Away) || !strings.Contains(e.Error(), e.Hint)) {
		t.Errorf("permanent is %t of %v", e.Permanent(), e)
	}
	if err != nil && strings.Contains(err.Error(), "Top5ecret") {
		t.Errorf("the secret is shown: %v", err)
	}
}

// TestPasswords has a Kafka know a user by a password, in each of the ways.
func TestPasswords(t *testing.T) {
	for mechanism, name := range map[string]string{"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			c := broker(t, kfake.EnableSASL(), kfake.User(name, "me", "Top5ecret"))
			if err := tryConnect(t, c, Options{SASL: &SASL{Mechanism: mechanism, User: "me", Password: "Top5ecret"}}); err != nil {
				t.Error(err)
			}
			for _, o := range []Options{
				{SASL: &SASL{Mechanism: mechanism, User: "me", Password: "Top5ecret2"}},
				{SASL: &SASL{Mechanism: mechanism, User: "you", Password: "Top5ecret"}},
			} {
				// This Kafka closes the connection without a word, where others say why.
				if err := tryConnect(t, c, o); err == nil {
					t.Errorf("%s is let in with %s", o.SASL.User, o.SASL.Password)
				}
			}
			wantConnectError(t, tryConnect(t, c, Options{}), Away, "kafka.brokers")
		})
	}
}

// TestRefusals has a Kafka refuse who asks, in the words of one.
func TestRefusals(t *testing.T) {
	o := Options{SASL: &SASL{Mechanism: "scram-sha-256", User: "me", Password: "Top5ecret"}}
	for _, test := range []struct {
		request int16
		answer  error
		key     string
	}{
		{36, kerr.SaslAuthenticationFailed, "kafka.sasl"},
		{17, kerr.UnsupportedSaslMechanism, "kafka.sasl.mechanism"},
		{17, kerr.IllegalSaslState, "kafka.sasl"},
	} {
		c := broker(t, kfake.EnableSASL(), kfake.User("SCRAM-SHA-256", "me", "Top5ecret"))
		c.ControlKey(test.request, func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			code := test.answer.(*kerr.Error).Code
			switch resp := req.ResponseKind().(type) {
			case *kmsg.SASLAuthenticateResponse:
				resp.ErrorCode = code
				return resp, nil, true
			case *kmsg.SASLHandshakeResponse:
				resp.ErrorCode = code
				return resp, nil, true
			}
			return nil, nil, false
		})
		wantConnectError(t, tryConnect(t, c, o), BadCredentials, test.key)
	}
	if err := tryConnect(t, broker(t), Options{SASL: &SASL{Mechanism: "kerberos"}}); err == nil || !strings.Contains(err.Error(), "kerberos") {
		t.Errorf("a mechanism that nobody knows: %v", err)
	}
	for _, mechanism := range []string{"oauthbearer", "aws-msk-iam"} {
		wantConnectError(t, tryConnect(t, broker(t), Options{SASL: &SASL{Mechanism: mechanism}}), BadOptions, "kafka.brokers")
	}
}

// A saslBroker takes one mechanism, and who says what it wants to hear.
type saslBroker struct {
	*kfake.Cluster
	mu     sync.Mutex
	asked  []string // mechanisms
	heard  [][]byte
	accept func(message []byte) bool
	answer []byte // to one that is accepted
}

func newSASLBroker(t *testing.T, accept func(message []byte) bool, answer string) *saslBroker {
	b := &saslBroker{Cluster: broker(t), accept: accept, answer: []byte(answer)}
	b.ControlKey(17, func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.asked = append(b.asked, req.(*kmsg.SASLHandshakeRequest).Mechanism)
		return req.ResponseKind(), nil, true
	})
	b.ControlKey(36, func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		b.mu.Lock()
		defer b.mu.Unlock()
		message := req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes
		b.heard = append(b.heard, message)
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		if b.accept(message) {
			resp.SASLAuthBytes = b.answer
		} else {
			resp.ErrorCode, resp.ErrorMessage = kerr.SaslAuthenticationFailed.Code, new("invalid token")
		}
		return resp, nil, true
	})
	return b
}

// TestTokens has a Kafka take one token, and tokens come from everywhere that they may.
func TestTokens(t *testing.T) {
	b := newSASLBroker(t, func(message []byte) bool { return string(message) == "n,,\x01auth=Bearer good\x01\x01" }, "")
	with := func(s TokenSource) Options { return Options{SASL: &SASL{Mechanism: "oauthbearer", Token: s}} }

	if err := tryConnect(t, b.Cluster, with(StaticToken("good"))); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"OAUTHBEARER"}, b.asked); diff != "" {
		t.Error(diff)
	}
	wantConnectError(t, tryConnect(t, b.Cluster, with(StaticToken("Top5ecret"))), BadCredentials, "kafka.sasl")

	// A file is read anew each time.
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantConnectError(t, tryConnect(t, b.Cluster, with(TokenFile(file))), Away, "kafka.sasl")
	write("Top5ecret\n")
	o := with(TokenFile(file))
	wantConnectError(t, tryConnect(t, b.Cluster, o), BadCredentials, "kafka.sasl")
	write("good\r\n")
	if err := tryConnect(t, b.Cluster, o); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{"": "is empty", " \n": "is empty", "Top5ecret and more": "more in it than a token", strings.Repeat("x", maxTokenFile+1): "more than 65536 bytes"} {
		write(text)
		err := tryConnect(t, b.Cluster, o)
		wantConnectError(t, err, Away, "kafka.sasl")
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestMSK holds what is sent to Amazon MSK against what franz-go makes, whose host names the region.
func TestMSK(t *testing.T) {
	const id, secret, session = "AKIDEXAMPLE", "Top5ecret+/x", "session+/="
	dir := t.TempDir()
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": session, "AWS_CONFIG_FILE": filepath.Join(dir, "config"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "credentials"), "AWS_REGION": "us-east-1"} {
		t.Setenv(name, value)
	}
	credentials, err := search.NewAWSCredentials("eu-west-1", "")
	if err != nil {
		t.Fatal(err)
	}
	s := &SASL{Mechanism: "aws-msk-iam", Presign: credentials.Presign}
	ours, err := s.mechanism()
	if err != nil {
		t.Fatal(err)
	}
	theirs := aws.Auth{AccessKey: id, SecretKey: secret, SessionToken: session, UserAgent: "tidemark"}.AsManagedStreamingIAMMechanism()
	if ours.Name() != theirs.Name() {
		t.Errorf("it is called %s", ours.Name())
	}
	message := func(authenticate func() (text []byte, err error)) map[string]string {
		t.Helper()
		text, err := authenticate()
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]string
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	const host = "b-1.shop.abc.c2.kafka.eu-west-1.amazonaws.com:9098"
	for range 20 { // until both are of the same second
		want := message(func() ([]byte, error) { _, text, err := theirs.Authenticate(t.Context(), host); return text, err })
		got := message(func() ([]byte, error) { _, text, err := ours.Authenticate(t.Context(), host); return text, err })
		if got["x-amz-date"] != want["x-amz-date"] {
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if len(got) < 8 || got["x-amz-signature"] == "" {
			t.Errorf("it has %d names", len(got))
		}
		break
	}

	// A broker whose name says nothing of a region.
	b := newSASLBroker(t, func(text []byte) bool {
		var m map[string]string
		return json.Unmarshal(text, &m) == nil && strings.Contains(m["x-amz-credential"], "/eu-west-1/kafka-cluster/") && m["host"] == "127.0.0.1"
	}, `{"version":"2020_10_22","request-id":"1"}`)
	if err := tryConnect(t, b.Cluster, Options{SASL: s}); err != nil {
		t.Error(err)
	}

	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	if credentials, err = search.NewAWSCredentials("eu-west-1", ""); err != nil {
		t.Fatal(err)
	}
	err = tryConnect(t, b.Cluster, Options{SASL: &SASL{Mechanism: "aws-msk-iam", Presign: credentials.Presign}})
	wantConnectError(t, err, Away, "kafka.sasl")
	if _, ok := errors.AsType[*search.CredentialsError](err); !ok {
		t.Errorf("without credentials: %v", err)
	}
}

// An authority issues certificates for brokers on this machine, and for who connects to them.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	pair := a.sign(t, template)
	a.cert, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate for 127.0.0.1.
func (a *authority) issue(t *testing.T) tls.Certificate {
	t.Helper()
	return a.sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature})
}

// sign makes a certificate by its template, which signs itself if there is no authority yet.
func (a *authority) sign(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestTLS has brokers with TLS and without, who want a certificate and who do not.
func TestTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	open := broker(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ours.issue(t)}}))
	mutual := broker(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ours.issue(t)}, ClientCAs: ours.pool, ClientAuth: tls.RequireAndVerifyClientCert}))
	both := broker(t, kfake.EnableSASL(), kfake.User("PLAIN", "me", "Top5ecret"), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ours.issue(t)}}))
	// Until 1.2 what is wrong with our certificate is said within the handshake. Later it may be overtaken by the end of
	// the connection.
	until12 := func(c *tls.Config) *tls.Config { c.MaxVersion = tls.VersionTLS12; return c }
	trusting := func(certificates ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: ours.pool, Certificates: certificates}
	}
	for what, err := range map[string]error{
		"TLS":                        tryConnect(t, open, Options{TLS: trusting()}),
		"a certificate of ours":      tryConnect(t, mutual, Options{TLS: trusting(ours.issue(t))}),
		"TLS, and a user and a word": tryConnect(t, both, Options{TLS: trusting(), SASL: &SASL{Mechanism: "plain", User: "me", Password: "Top5ecret"}}),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, test := range []struct {
		what string
		err  error
		kind ConnectKind
		key  string
	}{
		{"another authority", tryConnect(t, open, Options{TLS: &tls.Config{RootCAs: others.pool}}), BadCertificate, "kafka.ca_file"},
		{"another name", tryConnect(t, open, Options{TLS: &tls.Config{RootCAs: ours.pool, ServerName: "kafka-1"}}), BadCertificate, "kafka.ca_file"},
		{"no certificate of ours", tryConnect(t, mutual, Options{TLS: until12(trusting())}), BadCertificate, "kafka.tls"},
		{"a certificate of somebody else", tryConnect(t, mutual, Options{TLS: until12(trusting(others.issue(t)))}), BadCertificate, "kafka.cert_file"},
		{"no TLS", tryConnect(t, open, Options{}), Away, "kafka.brokers"},
		{"TLS where there is none", tryConnectTo(t, listener(t, nil), Options{TLS: trusting()}), Away, "kafka.brokers"},
		// An alert of TLS 1.2: unexpected_message, as Kafka sends it.
		{"no TLS, and an alert", tryConnectTo(t, listener(t, []byte{21, 3, 3, 0, 2, 2, 10}), Options{}), BadCertificate, "kafka.tls"},
	} {
		t.Run(test.what, func(t *testing.T) {
			wantConnectError(t, test.err, test.kind, test.key)
		})
	}
}

// listener is one of Kafka that gets what it does not take: a handshake of TLS where it has none, whose first bytes
// are no length of a request; or a request where it has TLS. It answers, and closes the connection.
func listener(t *testing.T, answer []byte) (addresses []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(conn, make([]byte, 4))
			_, _ = conn.Write(answer)
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn) // a reset might overtake the answer
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); served.Wait() })
	return []string{l.Addr().String()}
}

// TestAway has nobody listen.
func TestAway(t *testing.T) {
	c := broker(t)
	addresses := c.ListenAddrs()
	c.Close()
	wantConnectError(t, tryConnectTo(t, addresses, Options{}), Away, "kafka.brokers")
}
