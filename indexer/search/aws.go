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

// A CredentialsError reports that there was nothing to sign a request with. It was not sent.
type CredentialsError struct{ Err error }

func (e *CredentialsError) Error() string {
	return fmt.Sprintf("the request was not sent, there are no AWS credentials to sign it: %v", e.Err)
}

func (e *CredentialsError) Unwrap() error { return e.Err }

// An awsSigner signs each request, and hands it on.
type awsSigner struct {
	region, service string
	credentials     aws.CredentialsProvider // keeps them for as long as they are good; safe for concurrent use
	signer          *v4.Signer
	now             func() time.Time
	next            http.RoundTripper
}

// newAWSSigner reads the files that the AWS SDK takes its configuration from. Credentials are asked
// for with the first request.
func newAWSSigner(o AWS, next http.RoundTripper) (*awsSigner, error) {
	ctx, cancel := context.WithTimeout(context.Background(), credentialPatience)
	defer cancel()
	renewed := func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = renewBefore }
	found, err := config.LoadDefaultConfig(ctx, config.WithRegion(o.Region), config.WithCredentialsCacheOptions(renewed))
	if err != nil {
		return nil, fmt.Errorf("read the configuration of the AWS SDK: %w", err)
	}
	credentials := found.Credentials
	if o.Role != "" {
		assumed := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(found), o.Role, func(r *stscreds.AssumeRoleOptions) {
			r.RoleSessionName = "tidemark"
		})
		credentials = aws.NewCredentialsCache(assumed, renewed)
	}
	return &awsSigner{region: o.Region, service: o.Service, credentials: credentials, signer: v4.NewSigner(), now: time.Now, next: next}, nil
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
	ctx, cancel := context.WithTimeout(req.Context(), credentialPatience)
	defer cancel()
	credentials, err := s.credentials.Retrieve(ctx)
	if err != nil {
		if req.Context().Err() != nil {
			return nil, context.Cause(req.Context())
		}
		return nil, &CredentialsError{err}
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
