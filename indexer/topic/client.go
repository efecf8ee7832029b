package topic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
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

// reportsSuffix ends the name of the topic of reports.
const reportsSuffix = ".reports"

// reports is the name of the topic of reports.
func (o *Options) reports() string { return o.Topic + reportsSuffix }

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

// A ConnectError reports that Kafka cannot be asked.
type ConnectError struct {
	Kind    ConnectKind
	Brokers []string
	Err     error
}

func (e *ConnectError) Error() string { return fmt.Sprintf("Kafka at %s: %v", e.Brokers, e.Err) }
func (e *ConnectError) Unwrap() error { return e.Err }

// Permanent marks it for dbsync.IsPermanent, where repeating does not help.
func (e *ConnectError) Permanent() bool { return e.Kind != Away }

func connectError(o *Options, err error) *ConnectError {
	e := &ConnectError{Brokers: o.Brokers, Err: err}
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var dial *net.OpError
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism), errors.Is(err, kerr.IllegalSaslState):
		e.Kind = BadCredentials
	case errors.As(err, &certificate), errors.As(err, &record), errors.As(err, &alert):
		e.Kind = BadCertificate
	case errors.As(err, &dial), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), kgo.IsRetryableBrokerErr(err), kerr.IsRetriable(err):
		e.Kind = Away
	default:
		e.Kind = BadOptions
	}
	return e
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
