package prepare

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidemark/indexer/retry"
	"tidemark/indexer/topic"
	"tidemark/mapping"
)

// kafkaConfig is a mapping file with kafka, whose keys begin in line 4.
func kafkaConfig(t testing.TB, keys string) *mapping.Config {
	t.Helper()
	text := "search: {urls: [http://h]}\nindices: {a: {table: a}}\nkafka:\n" + keys
	c, err := mapping.Parse(filepath.Join(t.TempDir(), "t.yaml"), []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func kafkaBroker(t testing.TB, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestKafkaOptions(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("t2"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	for _, test := range []struct {
		sasl string
		want topic.SASL // but for functions
		ask  string     // the token
	}{
		{"mechanism: plain, user: me, password: p", topic.SASL{Mechanism: "plain", User: "me", Password: "p"}, ""},
		{"mechanism: scram-sha-256, user: me, password: p", topic.SASL{Mechanism: "scram-sha-256", User: "me", Password: "p"}, ""},
		{"mechanism: scram-sha-512, user: me, password: p", topic.SASL{Mechanism: "scram-sha-512", User: "me", Password: "p"}, ""},
		{"mechanism: oauthbearer, token: t1", topic.SASL{Mechanism: "oauthbearer"}, "t1"},
		{"mechanism: oauthbearer, token_file: " + token, topic.SASL{Mechanism: "oauthbearer"}, "t2"},
		{"mechanism: aws-msk-iam, region: eu-west-1", topic.SASL{Mechanism: "aws-msk-iam"}, ""},
	} {
		c := kafkaConfig(t, "  brokers: [k:1, l:2]\n  topic: ops\n  group: eu\n  compression: zstd\n  sasl: {"+test.sasl+"}\n")
		o, err := KafkaOptions(c, retry.NewAlarm(logger(t)), logger(t))
		if err != nil {
			t.Errorf("%s: %v", test.sasl, err)
			continue
		}
		if !reflect.DeepEqual(o.Brokers, []string{"k:1", "l:2"}) || o.Topic != "ops" || o.Group != "eu" || o.Compression != "zstd" || o.Alarm == nil || o.Logger == nil {
			t.Errorf("%s: %+v", test.sasl, o)
		}
		if o.SASL.Mechanism != test.want.Mechanism || o.SASL.User != test.want.User || o.SASL.Password != test.want.Password {
			t.Errorf("%s: %+v", test.sasl, o.SASL)
		}
		isAWS := test.want.Mechanism == "aws-msk-iam"
		if (o.SASL.Presign != nil) != isAWS || (o.TLS != nil) != isAWS || (o.SASL.Token != nil) != (test.ask != "") {
			t.Errorf("%s: %+v", test.sasl, o)
		}
		if test.ask != "" {
			if got, err := o.SASL.Token.Token(t.Context()); err != nil || got != test.ask {
				t.Errorf("%s: token %s, %v", test.sasl, got, err)
			}
		}
	}
	c := kafkaConfig(t, "  brokers: [k:1]\n  sasl: {mechanism: oauthbearer, token_url: 'http://h/t', client_id: me, client_secret: s, scopes: [x]}\n")
	if o, err := KafkaOptions(c, nil, logger(t)); err != nil {
		t.Error(err)
	} else if _, ok := o.SASL.Token.(*topic.TokenEndpoint); !ok {
		t.Errorf("tokens of an endpoint come from %T", o.SASL.Token)
	}

	// Files that went after they were read.
	c = kafkaConfig(t, "  brokers: [k:1]\n  tls: true\n")
	c.Kafka.CAFile = token
	if _, err := KafkaOptions(c, nil, logger(t)); !isProblem(err, 5, "no PEM certificate") {
		t.Errorf("a file without certificates: %v", err)
	}
}

// TestKafkaByFiles connects to a Kafka that wants a certificate, by the files that keys name.
func TestKafkaByFiles(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// One certificate is everybody's, and signs itself.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{"cert.pem": certificate, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	b := kafkaBroker(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: tls.VersionTLS12}))
	keys := fmt.Sprintf("  brokers: [%q]\n  ca_file: %s/cert.pem\n", b.ListenAddrs()[0], dir)
	client, err := ConnectKafka(t.Context(), kafkaConfig(t, keys+fmt.Sprintf("  cert_file: %[1]s/cert.pem\n  key_file: %[1]s/key.pem\n", dir)), retry.NewAlarm(logger(t)), logger(t), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	if _, err := ConnectKafka(t.Context(), kafkaConfig(t, keys), retry.NewAlarm(logger(t)), logger(t), 10*time.Second); !isProblem(err, 3, "handshake failure") {
		t.Errorf("without a certificate: %v", err)
	}
}

// isProblem reports whether an error is one problem of the line that says text, and has a hint.
func isProblem(err error, line int, text string) bool {
	problems, ok := errors.AsType[mapping.Problems](err)
	return ok && len(problems) == 1 && problems[0].Line == line && strings.Contains(problems[0].Text, text) && problems[0].Hint != ""
}

// TestKafkaIsLookedAt has topics that are not there, made, there, and others than they are to be.
func TestKafkaIsLookedAt(t *testing.T) {
	b := kafkaBroker(t)
	keys := fmt.Sprintf("  brokers: [%q]\n  partitions: 3\n", b.ListenAddrs()[0])
	prepared := func(c *mapping.Config) *Prepared {
		t.Helper()
		p := new(Prepared)
		t.Cleanup(p.Close)
		if err := p.kafka(t.Context(), c, logger(t), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		return p
	}
	c := kafkaConfig(t, keys)
	for range 2 { // nothing is made by looking
		if p := prepared(c); p.Kafka.State != (topic.State{}) || p.Kafka.Client == nil || p.Kafka.Alarm == nil {
			t.Errorf("before: %+v", p.Kafka)
		}
	}
	p := prepared(c)
	if err := p.Kafka.Ensure(t.Context(), c, logger(t)); err != nil {
		t.Fatal(err)
	}
	made := p.Kafka.State
	if made.Partitions != 3 || made.ID == "" {
		t.Errorf("made: %+v", made)
	}
	if p := prepared(c); p.Kafka.State != made {
		t.Errorf("after: %+v, want %+v", p.Kafka.State, made)
	}
	if p := new(Prepared); p.kafka(t.Context(), &mapping.Config{}, logger(t), time.Second) != nil || p.Kafka != nil {
		t.Error("there is a Kafka without kafka")
	}

	// A topic that operations cannot go through.
	b.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, asked := range req.(*kmsg.CreateTopicsRequest).Topics {
			answer := kmsg.NewCreateTopicsResponseTopic()
			answer.Topic, answer.ErrorCode = asked.Topic, kerr.InvalidReplicationFactor.Code
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil, true
	})
	other := kafkaConfig(t, keys+"  topic: other\n  replication: 3\n")
	q := new(Prepared)
	t.Cleanup(q.Close)
	if err := q.kafka(t.Context(), other, logger(t), 10*time.Second); !isProblem(err, 7, "3 replicas") {
		t.Errorf("more replicas than brokers: %v", err)
	}
	k := &Kafka{Client: q.Kafka.Client}
	if err := k.Ensure(t.Context(), other, logger(t)); !isProblem(err, 7, "3 replicas") {
		t.Errorf("more replicas than brokers: %v", err)
	}
}

// TestKafkaThatDoesNotFit has a Kafka that does not know who asks, and one that is away.
func TestKafkaThatDoesNotFit(t *testing.T) {
	b := kafkaBroker(t, kfake.EnableSASL(), kfake.User("PLAIN", "me", "Top5ecret"))
	b.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		if !strings.HasSuffix(string(req.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes), "\x00Top5ecret") {
			resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
			resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
			return resp, nil, true
		}
		return nil, nil, false
	})
	connect := func(c *mapping.Config, log *slog.Logger, patience time.Duration) error {
		client, err := ConnectKafka(t.Context(), c, retry.NewAlarm(log), log, patience)
		if err == nil {
			client.Close()
		}
		return err
	}
	const sasl = "  brokers: [%q]\n  sasl:\n    mechanism: plain\n    user: me\n    password: %s\n"
	if err := connect(kafkaConfig(t, fmt.Sprintf(sasl, b.ListenAddrs()[0], "Top5ecret")), logger(t), 10*time.Second); err != nil {
		t.Error(err)
	}
	if err := connect(kafkaConfig(t, fmt.Sprintf(sasl, b.ListenAddrs()[0], "Top5ecret2")), logger(t), 10*time.Second); !isProblem(err, 5, "SASL_AUTHENTICATION_FAILED") || strings.Contains(err.Error(), "Top5ecret") {
		t.Errorf("another password: %v", err)
	}

	var lines strings.Builder
	log := slog.New(slog.NewTextHandler(&lines, nil))
	start := time.Now()
	err := connect(kafkaConfig(t, fmt.Sprintf("  brokers: [%q]\n", closedPort(t))), log, time.Second)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if e, ok := errors.AsType[*topic.ConnectError](err); !ok || e.Configuration() || errors.As(err, new(mapping.Problems)) {
		t.Errorf("nobody listens: %v", err)
	}
	if !strings.Contains(lines.String(), "Kafka does not answer yet") {
		t.Errorf("the log is %s", lines.String())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ConnectKafka(ended, kafkaConfig(t, fmt.Sprintf("  brokers: [%q]\n", closedPort(t))), retry.NewAlarm(log), log, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// TestUnencrypted has what proves who asks go to other machines so that others can read it.
func TestUnencrypted(t *testing.T) {
	for keys, want := range map[string]string{
		"  brokers: [kafka:1]\n": "",
		"  brokers: ['localhost:1', '127.0.0.2:1', '[::1]:1']\n  sasl: {mechanism: plain, user: me, password: p}\n": "",
		"  brokers: ['localhost:1', 'kafka:1']\n  sasl: {mechanism: plain, user: me, password: p}\n":                "kafka.sasl.password: the password is sent to kafka:1",
		"  brokers: ['10.0.0.1:1']\n  sasl: {mechanism: oauthbearer, token: t}\n":                                   "kafka.sasl: the token is sent to 10.0.0.1:1",
		"  brokers: [kafka:1]\n  tls: true\n  sasl: {mechanism: plain, user: me, password: p}\n":                    "",
		"  brokers: [kafka:1]\n  sasl: {mechanism: scram-sha-256, user: me, password: p}\n":                         "",
		"  brokers: [kafka:1]\n  sasl: {mechanism: aws-msk-iam, region: eu-west-1}\n":                               "",
	} {
		got := ""
		for _, r := range unencrypted(kafkaConfig(t, keys).Kafka) {
			got += r.Key + ": " + r.Text
			if r.Hint == "" {
				t.Errorf("%s: no hint", keys)
			}
		}
		if want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", keys, got, want)
		}
	}
}
