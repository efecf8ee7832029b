package search

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// AWS says how requests are signed for Amazon: Signature Version 4, with the credentials that the
// AWS SDK finds (environment, shared files, web identity, container, instance).
type AWS struct {
	Region  string // eu-west-1
	Service string // es, or aoss for OpenSearch Serverless
	Role    string // the ARN of a role that is assumed with the credentials found; empty: none
}

const (
	// renewBefore is how long credentials that end are used no more before they do: they have to be good when
	// the end of a request arrives.
	renewBefore = time.Minute

	// credentialPatience bounds one look for credentials: each request waits for them. Where an instance
	// has no such service, the SDK has given up by then.
	credentialPatience = 20 * time.Second
)

// A CredentialsError reports that there was nothing to sign with. Nothing was sent.
type CredentialsError struct{ Err error }

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("nothing was sent, there are no AWS credentials to sign it: %v", e.Err)
}

func (e *CredentialsError) Unwrap() error { return e.Err }

// AWSCredentials are those that the AWS SDK finds, or of a role that is assumed with them. They are kept for as long
// as they are good, and safe for concurrent use.
type AWSCredentials struct {
	region   string
	provider aws.CredentialsProvider
	signer   *v4.Signer
	now      func() time.Time
}

// NewAWSCredentials reads the files that the AWS SDK takes its configuration from. Credentials are asked for when
// something is signed first. Without a role they are used as they are found.
func NewAWSCredentials(region, role string) (*AWSCredentials, error) {
	ctx, cancel := context.WithTimeout(context.Background(), credentialPatience)
	defer cancel()
	renewed := func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = renewBefore }
	found, err := config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithCredentialsCacheOptions(renewed))
	if err != nil {
		return nil, fmt.Errorf("read the configuration of the AWS SDK: %w", err)
	}
	c := &AWSCredentials{region: region, provider: found.Credentials, signer: v4.NewSigner(), now: time.Now}
	if role != "" {
		assumed := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(found), role, func(r *stscreds.AssumeRoleOptions) {
			r.RoleSessionName = "tidemark"
		})
		c.provider = aws.NewCredentialsCache(assumed, renewed)
	}
	return c, nil
}

// retrieve returns what to sign with. Where there is nothing its error is a [*CredentialsError].
func (c *AWSCredentials) retrieve(ctx context.Context) (aws.Credentials, error) {
	waited, cancel := context.WithTimeout(ctx, credentialPatience)
	defer cancel()
	credentials, err := c.provider.Retrieve(waited)
	if err != nil {
		if ctx.Err() != nil {
			return aws.Credentials{}, context.Cause(ctx)
		}
		return aws.Credentials{}, &CredentialsError{err}
	}
	return credentials, nil
}

// Presign returns a URL that a service is asked for by GET, with a signature in its query. The query says how
// long it is good for (X-Amz-Expires). Where there is nothing to sign with its error is a [*CredentialsError].
func (c *AWSCredentials) Presign(ctx context.Context, service, url string) (string, error) {
	credentials, err := c.retrieve(ctx)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("sign a URL: %w", err)
	}
	nothing := sha256.Sum256(nil)
	signed, _, err := c.signer.PresignHTTP(ctx, credentials, req, hex.EncodeToString(nothing[:]), service, c.region, c.now())
	if err != nil {
		return "", fmt.Errorf("sign a URL: %w", err)
	}
	return signed, nil
}

// An awsSigner signs each request, and hands it on.
type awsSigner struct {
	*AWSCredentials
	service string
	next    http.RoundTripper
}

func newAWSSigner(o AWS, next http.RoundTripper) (*awsSigner, error) {
	credentials, err := NewAWSCredentials(o.Region, o.Role)
	if err != nil {
		return nil, err
	}
	return &awsSigner{credentials, o.Service, next}, nil
}

func (s *awsSigner) RoundTrip(req *http.Request) (*http.Response, error) {
	signed, err := s.prepare(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	return s.next.RoundTrip(signed)
}

// prepare returns req with a signature. The transport may send the body twice, after a connection
// was found closed; the signature stays good for it.
func (s *awsSigner) prepare(req *http.Request) (*http.Request, error) {
	credentials, err := s.retrieve(req.Context())
	if err != nil {
		return nil, err
	}
	hash, err := hashBody(req)
	if err != nil {
		return nil, err
	}
	// A round tripper leaves the request that it was given as it is.
	signed := req.WithContext(req.Context())
	signed.Header = req.Header.Clone()
	signed.URL = new(*req.URL)
	// OpenSearch Serverless wants the hash as a header.
	signed.Header.Set("X-Amz-Content-Sha256", hash)
	if err := s.sign(signed, credentials, hash); err != nil {
		return nil, fmt.Errorf("sign a request: %w", err)
	}
	return signed, nil
}

// sign puts the signature into the headers. The length of the body is none of those that are signed,
// which OpenSearch Serverless takes for a mistake; the hash covers it.
func (s *awsSigner) sign(req *http.Request, credentials aws.Credentials, hash string) error {
	length := req.ContentLength
	req.ContentLength = 0
	defer func() { req.ContentLength = length }()
	return s.signer.SignHTTP(req.Context(), credentials, req, hash, s.service, s.region, s.now())
}

// hashBody returns the hash of what will be sent. It is read where it is, a second time: a batch is
// not to be held twice for it.
func hashBody(req *http.Request) (string, error) {
	h := sha256.New()
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return "", errors.New("the body of a request that is to be signed can be read only once")
		}
		body, err := req.GetBody()
		if err != nil {
			return "", err
		}
		defer body.Close()
		if _, err := io.Copy(h, body); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
