package topic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidemark/indexer/retry"
)

// Options says which Kafka, which topics, and who asks.
type Options struct {
	Brokers     []string // host:port; those that are asked first
	Topic       string   // of operations; reports go to Topic + ".reports"
	Group       string   // the consumer group of the workers
	TLS         *tls.Config
	SASL        *SASL  // nil: nobody in particular
	Compression string // of what is produced: none, snappy, lz4, zstd or gzip; "": snappy

	// Of workers: how often a member of the group is heard of, after which silence its partitions are
	// others', and for how long a member may take to give partitions up. 0: 500 ms, 6 s and 30 s.
	HeartbeatInterval, SessionTimeout, RebalanceTimeout time.Duration

	Alarm  *retry.Alarm // is raised while Kafka does not answer; required
	Logger *slog.Logger // required
}

// ReportsOf returns the name of the topic of reports that belongs to a topic of operations.
func ReportsOf(topic string) string { return topic + ".reports" }

func (o *Options) reports() string { return ReportsOf(o.Topic) }

// A Client asks Kafka about topics and the group, and takes reports along. It is safe for concurrent
// use.
type Client struct {
	o     Options
	kafka *kgo.Client
	admin *kadm.Client
	last  *lastFailure

	applied *applied
}

// connectTimeout bounds how long a broker is waited for that does not take a connection.
const connectTimeout = 10 * time.Second

// Connect connects to Kafka and asks for its brokers once, for as long as ctx lasts. Its errors are
// [*ConnectError].
func Connect(ctx context.Context, o Options) (*Client, error) {
	c, err := open(o)
	if err != nil {
		return nil, err
	}
	if err := c.kafka.Ping(ctx); err != nil {
		defer c.Close()
		if last := c.last.get(); last != nil && ctx.Err() != nil {
			err = last // says more than that the time was up
		}
		return nil, connectError(&o, err)
	}
	return c, nil
}

// open makes a client, which connects when it is used. more are options of what it is used for.
func open(o Options, more ...kgo.Opt) (*Client, error) {
	last := new(lastFailure)
	options, err := o.kafka()
	if err != nil {
		return nil, connectError(&o, err)
	}
	options = append(append(options, kgo.WithHooks(last)), more...)
	kafka, err := kgo.NewClient(options...)
	if err != nil {
		return nil, connectError(&o, err)
	}
	c := &Client{o: o, kafka: kafka, admin: kadm.NewClient(kafka), last: last}
	c.applied = newApplied(c)
	return c, nil
}

// why returns err with the last failure of a connection, if there is one that err does not tell of.
func (c *Client) why(err error) error {
	if last := c.last.get(); err != nil && last != nil && !errors.Is(err, last) {
		return fmt.Errorf("%w (the last connection: %w)", err, last)
	}
	return err
}

// Close ends the connections, and whoever waits for an answer.
func (c *Client) Close() {
	c.applied.close()
	c.kafka.Close()
}

// kafka are the options of every connection.
func (o *Options) kafka() ([]kgo.Opt, error) {
	codec, err := compressionOf(o.Compression)
	if err != nil {
		return nil, err
	}
	options := []kgo.Opt{
		kgo.ClientID("tidemark"), kgo.SoftwareNameAndVersion("tidemark", "1"),
		kgo.SeedBrokers(o.Brokers...),
		kgo.DialTimeout(connectTimeout),
		kgo.MetadataMinAge(250 * time.Millisecond), // how soon another leader is asked for
		kgo.ProducerBatchCompression(codec),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), // what is produced comes whole, and is waited for
		kgo.ProducerBatchMaxBytes(MaxRecordBytes),
		kgo.DisableClientMetrics(), // which would be sent to the brokers
	}
	if o.TLS != nil {
		options = append(options, kgo.DialTLSConfig(o.TLS))
	}
	if o.SASL != nil {
		mechanism, err := o.SASL.mechanism()
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.SASL(mechanism))
	}
	return options, nil
}

func compressionOf(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "", "snappy":
		return kgo.SnappyCompression(), nil
	case "none":
		return kgo.NoCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	}
	return kgo.NoCompression(), fmt.Errorf("compression %q is none of none, snappy, lz4, zstd, gzip", name)
}

// A ConnectKind is what keeps a client from connecting.
type ConnectKind int

const (
	Away           ConnectKind = iota // no broker answers
	BadOptions                        // the options do not fit each other
	BadCredentials                    // Kafka does not know who asks
	BadCertificate                    // TLS does not come about
)

// A ConnectError reports that Kafka cannot be asked, and the hint.
type ConnectError struct {
	Kind    ConnectKind
	Brokers []string
	Key     string // of the YAML that is to blame: kafka.brokers
	Hint    string
	Err     error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("Kafka at %s: %v; hint: %s", strings.Join(e.Brokers, ", "), e.Err, e.Hint)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// Configuration reports whether somebody has to change the configuration, as opposed to brokers that may
// just not be up.
func (e *ConnectError) Configuration() bool { return e.Kind != Away }

// Permanent marks it for dbsync.IsPermanent, where repeating does not help.
func (e *ConnectError) Permanent() bool { return e.Configuration() }

func connectError(o *Options, err error) *ConnectError {
	e := &ConnectError{Brokers: o.Brokers, Key: "kafka.brokers", Err: err}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, plaintext := errors.AsType[tls.RecordHeaderError](err)
	_, closed := errors.AsType[*kgo.ErrFirstReadEOF](err)
	_, dial := errors.AsType[*net.OpError](err)
	credentials, unproven := errors.AsType[*CredentialsError](err)
	switch {
	case unproven:
		e.Kind, e.Key, e.Hint = Away, "kafka.sasl", "see that there is a token where kafka.sasl says" // who gives them out may be away, as a broker may
		if o.SASL.Mechanism == "aws-msk-iam" {
			e.Hint = "give AWS credentials by the environment, the shared files, or the role of the instance or container, and where kafka.sasl.role is set let them assume it"
		}
		if credentials.Refused {
			e.Kind, e.Hint = BadCredentials, "correct kafka.sasl.client_id and kafka.sasl.client_secret, and the scopes"
		}
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		e.Kind, e.Key, e.Hint = BadCredentials, "kafka.sasl", "correct what kafka.sasl says of who asks"
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		e.Kind, e.Key, e.Hint = BadCredentials, "kafka.sasl.mechanism", "name a mechanism that this listener of the brokers takes"
	case errors.Is(err, kerr.IllegalSaslState):
		e.Kind, e.Key, e.Hint = BadCredentials, "kafka.sasl", "leave it out, or name the listener in kafka.brokers that asks who it is"
	case strings.Contains(tlsAlert(err), "certificate"): // required, bad, expired, revoked, unknown authority
		e.Kind, e.Key, e.Hint = BadCertificate, "kafka.cert_file", "set kafka.cert_file and kafka.key_file to a certificate that the brokers trust, and that is still valid"
	case tlsAlert(err) != "":
		e.Kind, e.Key, e.Hint = BadCertificate, "kafka.tls", "set kafka.cert_file and kafka.key_file where the brokers want a certificate, and let them speak TLS 1.2 or 1.3"
	case untrusted:
		e.Kind, e.Key, e.Hint = BadCertificate, "kafka.ca_file", "set kafka.ca_file to the certificate authority of the brokers, and use host names that are in their certificates"
	case o.TLS == nil && strings.Contains(err.Error(), "tls alert"): // franz-go has only a text for it
		e.Kind, e.Key, e.Hint = BadCertificate, "kafka.tls", "this listener has TLS: set kafka.tls: true, and kafka.ca_file where the system does not know its authority"
	case plaintext:
		e.Kind, e.Key, e.Hint = BadCertificate, "kafka.tls", "name the listener in kafka.brokers that has TLS, or leave out tls, ca_file and cert_file"
	case closed:
		e.Kind, e.Hint = Away, "start the brokers; where they are up, set kafka.tls and kafka.sasl as this listener wants them"
	case dial, errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), kgo.IsRetryableBrokerErr(err), kerr.IsRetriable(err):
		e.Kind, e.Hint = Away, "start the brokers, or correct kafka.brokers"
		if o.TLS != nil {
			e.Hint += ", which have to be listeners with TLS" // one without may wait for more of what it takes for a request
		}
	default:
		e.Kind, e.Hint = BadOptions, "set kafka.brokers to a listener of Kafka, and kafka.tls and kafka.sasl as it wants them"
	}
	return e
}

// tlsAlert returns why brokers have ended a handshake, "" if they have not. The package tls has only a text for it.
func tlsAlert(err error) string {
	_, alert, _ := strings.Cut(err.Error(), "remote error: tls: ")
	return alert
}

// A lastFailure is the last error of a connection to a broker, which franz-go keeps to itself while it
// tries again.
type lastFailure struct{ err atomic.Pointer[error] }

// OnBrokerConnect is a hook of franz-go.
func (l *lastFailure) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		l.err.Store(&err)
	} else {
		l.err.Store(nil)
	}
}

func (l *lastFailure) get() error {
	if err := l.err.Load(); err != nil {
		return *err
	}
	return nil
}

var _ kgo.HookBrokerConnect = (*lastFailure)(nil)
