package topic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// SASL says who asks, and how that is proven.
type SASL struct {
	Mechanism string // plain, scram-sha-256, scram-sha-512, oauthbearer or aws-msk-iam

	User, Password string // of plain and scram

	// Token is where oauthbearer has its token from. It is asked for each connection, and when a broker
	// wants to be told again.
	Token TokenSource

	// Presign signs a URL for Amazon, for aws-msk-iam: it returns it with the signature in its query. It is
	// called as Token is. [search.AWSCredentials.Presign] does it.
	Presign func(ctx context.Context, service, url string) (string, error)
}

// A CredentialsError reports that there was nothing to prove with who asks. The broker was not asked.
type CredentialsError struct {
	Err error

	// Refused is set where who gives credentials out has refused to, as opposed to being away.
	Refused bool
}

func (e *CredentialsError) Error() string { return fmt.Sprintf("who asks cannot be proven: %v", e.Err) }
func (e *CredentialsError) Unwrap() error { return e.Err }

// mechanism is what franz-go takes.
func (s *SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case "plain":
		return plain.Auth{User: s.User, Pass: s.Password}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism(), nil
	case "scram-sha-512":
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism(), nil
	case "oauthbearer":
		if s.Token == nil {
			return nil, errors.New("mechanism oauthbearer has no token")
		}
		return oauth.Oauth(s.bearer), nil
	case "aws-msk-iam":
		if s.Presign == nil {
			return nil, errors.New("mechanism aws-msk-iam has nothing to sign with")
		}
		return mskIAM{s.Presign}, nil
	}
	return nil, fmt.Errorf("%q is no mechanism of SASL that is known here", s.Mechanism)
}

// bearer is what franz-go sends a token by.
func (s *SASL) bearer(ctx context.Context) (oauth.Auth, error) {
	token, err := s.Token.Token(ctx)
	if err != nil {
		if _, ok := errors.AsType[*CredentialsError](err); !ok {
			err = &CredentialsError{Err: err}
		}
		return oauth.Auth{}, err
	}
	return oauth.Auth{Token: token}, nil
}

// mskIAM is the mechanism of Amazon MSK: a URL that asks for a connection, signed as one of AWS, and sent
// as JSON. That of franz-go takes the region from the host's name, which a private name does not have.
type mskIAM struct {
	presign func(ctx context.Context, service, url string) (string, error)
}

const (
	mskService = "kafka-cluster"
	mskVersion = "2020_10_22" // of the form of the message
	mskExpires = "900"        // seconds that the signature is good for
)

// Name is what brokers know the mechanism by.
func (mskIAM) Name() string { return "AWS_MSK_IAM" }

// Authenticate returns the one message of the mechanism, for the broker at HOST:PORT.
func (m mskIAM) Authenticate(ctx context.Context, broker string) (sasl.Session, []byte, error) {
	host, _, err := net.SplitHostPort(broker)
	if err != nil {
		return nil, nil, fmt.Errorf("sign for broker %s: %w", broker, err)
	}
	asked := url.Values{"Action": {mskService + ":Connect"}, "X-Amz-Expires": {mskExpires}}
	signed, err := m.presign(ctx, mskService, (&url.URL{Scheme: "https", Host: host, Path: "/", RawQuery: asked.Encode()}).String())
	if err != nil {
		return nil, nil, &CredentialsError{Err: err}
	}
	u, err := url.Parse(signed)
	if err != nil {
		return nil, nil, fmt.Errorf("sign for broker %s: %w", broker, err)
	}
	message := map[string]string{"version": mskVersion, "host": host, "user-agent": "tidemark"}
	for name, values := range u.Query() {
		message[strings.ToLower(name)] = values[0]
	}
	text, err := json.Marshal(message)
	return mskSession{}, text, err
}

type mskSession struct{}

// Challenge takes the answer of a broker that has accepted the signature, which is never empty.
func (mskSession) Challenge(answer []byte) (done bool, more []byte, err error) {
	if len(answer) == 0 {
		return false, nil, errors.New("the broker's answer to the signature is empty")
	}
	return true, nil, nil
}
