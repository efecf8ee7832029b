package topic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// A TokenSource gives out the token of oauthbearer. It is safe for concurrent use.
type TokenSource interface {
	Token(context.Context) (string, error)
}

// A StaticToken is always the same.
type StaticToken string

// Token returns the token.
func (t StaticToken) Token(context.Context) (string, error) { return string(t), nil }

// A TokenFile is the name of a file that has the token in it. Somebody else renews it.
type TokenFile string

// maxTokenFile bounds what is read of a token file, in bytes.
const maxTokenFile = 64 << 10

// Token reads the file, without white space around the token.
func (name TokenFile) Token(context.Context) (string, error) {
	f, err := os.Open(string(name))
	if err != nil {
		return "", fmt.Errorf("read token_file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	switch token := strings.TrimSpace(string(text)); {
	case err != nil:
		return "", fmt.Errorf("read token_file: %w", err)
	case len(text) > maxTokenFile:
		return "", fmt.Errorf("token_file %s has more than %d bytes", name, maxTokenFile)
	case token == "":
		return "", fmt.Errorf("token_file %s is empty", name)
	case strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return "", fmt.Errorf("token_file %s has more in it than a token", name)
	default:
		return token, nil
	}
}

// A TokenEndpoint gives tokens out by the client credentials of OAuth 2.
type TokenEndpoint struct {
	config clientcredentials.Config
	client *http.Client

	mu    sync.Mutex // is held while a token is asked for: who else wants one waits for it
	token *oauth2.Token
}

// tokenTimeout bounds how long the endpoint is waited for.
const tokenTimeout = 20 * time.Second

// NewTokenEndpoint returns the endpoint at url, where a client has a secret. Nothing is asked for yet.
func NewTokenEndpoint(url, clientID, clientSecret string, scopes []string) *TokenEndpoint {
	return &TokenEndpoint{
		config: clientcredentials.Config{TokenURL: url, ClientID: clientID, ClientSecret: clientSecret, Scopes: scopes},
		client: &http.Client{Timeout: tokenTimeout},
	}
}

// Token returns a token that is good for another ten seconds at least.
func (e *TokenEndpoint) Token(ctx context.Context) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.token.Valid() {
		token, err := e.config.Token(context.WithValue(ctx, oauth2.HTTPClient, e.client))
		if err != nil {
			return "", tokenError(err)
		}
		e.token = token
	}
	return e.token.AccessToken, nil
}

// tokenError tells an endpoint that refuses from one that is away.
func tokenError(err error) *CredentialsError {
	refusal, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return &CredentialsError{Err: fmt.Errorf("ask token_url for a token: %w", err)}
	}
	why := refusal.Response.Status
	if refusal.ErrorCode != "" {
		why += ", " + strings.TrimSpace(refusal.ErrorCode+" "+refusal.ErrorDescription)
	}
	return &CredentialsError{
		Err:     fmt.Errorf("token_url gives out no token: %s", why),
		Refused: refusal.Response.StatusCode/100 == 4 && refusal.Response.StatusCode != http.StatusTooManyRequests,
	}
}
