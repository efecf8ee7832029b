package prepare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/indexer/topic"
	"tidemark/mapping"
)

// Kafka is what Prepare found of the topics that operations go through.
type Kafka struct {
	Client *topic.Client
	Alarm  *retry.Alarm // is raised while Client gets no answer

	// State is what the topics are. It is zero while one of them is not there: run makes it.
	State   topic.State
	Remarks []topic.Remark // what works, and may hurt
}

// KafkaPlan says what the topics of a mapping file with kafka are made like.
func KafkaPlan(c *mapping.Config) topic.Plan {
	k := c.Kafka
	return topic.Plan{Partitions: k.Partitions, Replication: k.Replication, Retention: k.Retention, MaxRecordBytes: topic.RecordBytes(c.Search.MaxDocumentBytes)}
}

// KafkaOptions says how to connect to the Kafka of a mapping file with kafka. alarm is raised while it does not answer.
// The error is [mapping.Problems].
func KafkaOptions(c *mapping.Config, alarm *retry.Alarm, log *slog.Logger) (topic.Options, error) {
	k := c.Kafka
	o := topic.Options{Brokers: k.Brokers, Topic: k.Topic, Group: k.Group, Compression: string(k.Compression), Alarm: alarm, Logger: log}
	if k.TLS {
		files := search.TLSFiles{CA: k.CAFile, Cert: k.CertFile, Key: k.KeyFile}
		config, err := files.Config(log)
		if err != nil {
			return o, mapping.Problems{c.Problem("kafka.tls", "correct ca_file, cert_file and key_file", "%v", err)}
		}
		o.TLS = config
	}
	if k.SASL != nil {
		o.SASL = &topic.SASL{Mechanism: string(k.SASL.Mechanism), User: k.SASL.User, Password: k.SASL.Password.Reveal(), Token: tokens(k.SASL)}
		if k.SASL.Mechanism == mapping.SASLAWSMSKIAM {
			credentials, err := search.NewAWSCredentials(k.SASL.Region, k.SASL.Role)
			if err != nil {
				return o, mapping.Problems{c.Problem("kafka.sasl", "correct the shared files of AWS", "%v", err)}
			}
			o.SASL.Presign = credentials.Presign
		}
	}
	return o, nil
}

// tokens returns where the tokens of oauthbearer come from; nil for another mechanism.
func tokens(s *mapping.SASL) topic.TokenSource {
	switch {
	case s.TokenURL != "":
		return topic.NewTokenEndpoint(s.TokenURL, s.ClientID, s.ClientSecret.Reveal(), s.Scopes)
	case s.TokenFile != "":
		return topic.TokenFile(s.TokenFile)
	case !s.Token.IsZero():
		return topic.StaticToken(s.Token.Reveal())
	}
	return nil
}

// ConnectKafka connects to the Kafka of a mapping file with kafka. For as long as patience lasts it tries again while no broker
// answers. alarm is raised while the client that it returns gets no answer. The error is mapping.Problems where somebody
// has to fix something, a [*topic.ConnectError] otherwise, or the end of ctx.
func ConnectKafka(ctx context.Context, c *mapping.Config, alarm *retry.Alarm, log *slog.Logger, patience time.Duration) (*topic.Client, error) {
	o, err := KafkaOptions(c, alarm, log)
	if err != nil {
		return nil, err
	}
	pause := retry.NewBackoff(minPause, maxPause)
	for start, attempt := time.Now(), 1; ; attempt++ {
		client, err := connectOnce(ctx, o, patience-time.Since(start))
		if err == nil {
			log.Info("connected to Kafka", "brokers", o.Brokers, "topic", o.Topic, "group", o.Group)
			return client, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("connect to Kafka: %w", context.Cause(ctx))
		}
		failure, ok := errors.AsType[*topic.ConnectError](err)
		if ok && failure.Configuration() {
			return nil, mapping.Problems{c.Problem(failure.Key, failure.Hint, "Kafka at %s: %v", strings.Join(o.Brokers, ", "), failure.Err)}
		}
		next := pause.NextBackOff()
		if !ok || time.Since(start)+next > patience {
			return nil, err
		}
		log.Warn("Kafka does not answer yet", "brokers", o.Brokers, "attempt", attempt, "next_in", next.Round(time.Millisecond), "error", failure.Err)
		if err := retry.Sleep(ctx, next); err != nil {
			return nil, fmt.Errorf("connect to Kafka: %w", err)
		}
	}
}

// connectOnce waits for brokers that take a connection and say nothing for as long as patience.
func connectOnce(ctx context.Context, o topic.Options, patience time.Duration) (*topic.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return topic.Connect(ctx, o)
}

// kafka connects to the Kafka of c, if there is one, and looks at the topics. Nothing is made.
func (p *Prepared) kafka(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration) error {
	if c.Kafka == nil {
		return nil
	}
	start, alarm := time.Now(), retry.NewAlarm(log)
	client, err := ConnectKafka(ctx, c, alarm, log, patience)
	if err != nil {
		return err
	}
	p.Kafka = &Kafka{Client: client, Alarm: alarm, Remarks: unencrypted(c.Kafka)}
	var remarks []topic.Remark
	err = again(ctx, max(patience-time.Since(start), minPause), func() (err error) {
		p.Kafka.State, remarks, err = client.Look(ctx, KafkaPlan(c))
		return err
	})
	if unfit, ok := errors.AsType[*topic.TopicError](err); ok {
		return mapping.Problems{topicProblem(c, unfit)}
	}
	if err != nil {
		return fmt.Errorf("look at the topics of Kafka: %w", err)
	}
	p.Kafka.Remarks = append(p.Kafka.Remarks, remarks...)
	return nil
}

// Ensure makes the topics that are missing, notes what they are, and logs what is remarkable about Kafka. Its error is
// mapping.Problems where somebody has to fix something.
func (k *Kafka) Ensure(ctx context.Context, c *mapping.Config, log *slog.Logger) error {
	state, remarks, err := k.Client.Ensure(ctx, KafkaPlan(c))
	if unfit, ok := errors.AsType[*topic.TopicError](err); ok {
		return mapping.Problems{topicProblem(c, unfit)}
	}
	if err != nil {
		return fmt.Errorf("make the topics of Kafka: %w", err)
	}
	k.State, k.Remarks = state, append(unencrypted(c.Kafka), remarks...)
	for _, r := range k.Remarks {
		log.Warn("Kafka is not set up as it should be", "key", r.Key, "remark", r.Text, "hint", r.Hint)
	}
	return nil
}

// topicProblem points at the key that does not fit the topics.
func topicProblem(c *mapping.Config, unfit *topic.TopicError) mapping.Problem {
	if unfit.Err != nil {
		return c.Problem(unfit.Key, unfit.Hint, "%s: %v", unfit.Text, unfit.Err)
	}
	return c.Problem(unfit.Key, unfit.Hint, "%s", unfit.Text)
}

// unencrypted remarks on what proves who asks, where it goes to another machine so that others can read it.
func unencrypted(k *mapping.Kafka) []topic.Remark {
	if k.TLS || k.SASL == nil {
		return nil
	}
	key, what := "kafka.sasl.password", "the password"
	switch k.SASL.Mechanism {
	case mapping.SASLPlain:
	case mapping.SASLOAuthBearer:
		key, what = "kafka.sasl", "the token"
	default:
		return nil
	}
	for _, broker := range k.Brokers {
		host, _, err := net.SplitHostPort(broker)
		if ip := net.ParseIP(host); err == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return []topic.Remark{{Key: key, Text: what + " is sent to " + broker + " as it is, and whoever is on the way can read it",
				Hint: "kafka.tls: true, and the listener in kafka.brokers that has it"}}
		}
	}
	return nil
}
