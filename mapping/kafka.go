package mapping

import (
	"errors"
	"regexp"
	"time"
)

// Kafka says which topic operations go through on their way to the cluster. The instance that follows the slot
// produces them, workers (tidemark apply) write them.
type Kafka struct {
	Brokers []string // HOST:PORT of one Kafka cluster, at least one
	Topic   string   // of operations, default tidemark; workers report in Topic + [ReportsSuffix]
	Group   string   // consumer group of the workers; default Topic

	// Groups are further clusters that have the documents, each written to by workers of its own, in the order
	// of the file; none: nil. See [Config.OfGroup].
	Groups []KafkaGroup

	Partitions  int           // of a topic that is made, 1 to 10,000; default 12
	Replication int           // of topics that are made, 1 to 100; 0, the default: as the broker makes topics
	Retention   time.Duration // of topics that are made, 1 h to 8760 h; default 168 h
	Compression Compression   // of what is produced; default snappy

	// MaxLag is how many records may be produced and not yet applied so that backfills produce more,
	// 1 to 1,000,000,000; default 1,000,000.
	MaxLag int

	// TLS has connections encrypted, and the broker's certificate verified. It is true with any of the
	// files, and for AWS, too.
	TLS      bool
	CAFile   string // PEM certificates to trust instead of the system's; a relative path was taken from the folder of the file
	CertFile string // PEM certificate to show to the brokers, with KeyFile, likewise
	KeyFile  string

	SASL *SASL // who asks; nil: nobody is named
}

// Compression is how batches of records are made smaller.
type Compression string

const (
	CompressionNone   Compression = "none"
	CompressionSnappy Compression = "snappy" // default
	CompressionLZ4    Compression = "lz4"
	CompressionZstd   Compression = "zstd"
	CompressionGzip   Compression = "gzip"
)

// SASL says who asks, and how that is proven. Which fields are set follows from Mechanism.
type SASL struct {
	Mechanism SASLMechanism

	// For plain and scram.
	User     string
	Password Secret

	// For oauthbearer one of these: Token, TokenFile, or TokenURL with ClientID, ClientSecret and perhaps Scopes.
	Token        Secret
	TokenFile    string // that has the token in it, read at each authentication; a relative path was taken from the folder of the file
	TokenURL     string // http or https, of the endpoint that gives tokens out (client credentials of OAuth 2)
	ClientID     string
	ClientSecret Secret
	Scopes       []string

	// For aws-msk-iam. The credentials are those that the AWS SDK finds.
	Region string // such as eu-west-1
	Role   string // ARN of a role to assume with the credentials that were found; empty: none
}

// SASLMechanism is how who asks is proven.
type SASLMechanism string

const (
	SASLPlain       SASLMechanism = "plain"
	SASLScramSHA256 SASLMechanism = "scram-sha-256"
	SASLScramSHA512 SASLMechanism = "scram-sha-512"
	SASLOAuthBearer SASLMechanism = "oauthbearer"
	SASLAWSMSKIAM   SASLMechanism = "aws-msk-iam"
)

// ReportsSuffix ends the name of the topic of reports, behind that of the topic of operations.
const ReportsSuffix = ".reports"

// maxKafkaName is how long the name of a topic of Kafka may be.
const maxKafkaName = 249

var kafkaName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func checkConsumerGroup(name string) error { return checkKafkaName(name, maxKafkaName) }

// checkTopic is by the rules of Kafka, for the topic of reports as well.
func checkTopic(name string) error {
	if name == "." || name == ".." {
		return errors.New("Kafka has no topic of this name")
	}
	return checkKafkaName(name, maxKafkaName-len(ReportsSuffix))
}
