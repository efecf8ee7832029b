package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"tidemark/mapping"
)

const (
	// sessionLife is how long somebody who has given the token may ask for things by the page.
	sessionLife = 12 * time.Hour

	// maxSessions bounds how many are remembered; where there are more the one that ends first goes.
	maxSessions = 64

	// Attempts to sign in, or to ask by a token: so many at once, and then one a second.
	maxAttempts = 10
)

// An access knows who may ask for something: who has admin.token, as a header, or who has given it at
// the page and has a session since. Sessions are in memory: a process that starts knows none. It is
// safe for concurrent use.
type access struct {
	token    [sha256.Size]byte
	granted  bool // there is a token; without one nobody may
	attempts *rate.Limiter

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]*session // by the hash of what the cookie says
}

// A session is of somebody who has given the token.
type session struct {
	form   string // what a form of the page has to say, see access.fits
	expiry time.Time
	notice *notice // what came of the last thing asked for, until it was shown
}

// A notice says what came of something that was asked for.
type notice struct {
	Text   string
	Failed bool
}

func newAccess(token mapping.Secret) *access {
	return &access{token: sha256.Sum256([]byte(token.Reveal())), granted: !token.IsZero(),
		attempts: rate.NewLimiter(rate.Every(time.Second), maxAttempts), sessions: make(map[[sha256.Size]byte]*session)}
}

// admits reports whether token is the one of the mapping file, in a time that does not depend on where
// they differ.
func (a *access) admits(token string) bool {
	given := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(given[:], a.token[:]) == 1
}

// begin begins a session, and returns what the cookie of it says.
func (a *access) begin(now time.Time) (cookie string) {
	cookie = rand.Text()
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, s := range a.sessions {
		if now.After(s.expiry) {
			delete(a.sessions, key)
		}
	}
	for len(a.sessions) >= maxSessions {
		first := [sha256.Size]byte{}
		for key, s := range a.sessions {
			if was := a.sessions[first]; was == nil || s.expiry.Before(was.expiry) {
				first = key
			}
		}
		delete(a.sessions, first)
	}
	a.sessions[sha256.Sum256([]byte(cookie))] = &session{form: rand.Text(), expiry: now.Add(sessionLife)}
	return cookie
}

// of returns the session of a request, nil if it has none.
func (a *access) of(r *http.Request, cookie string) *session {
	c, err := r.Cookie(cookie)
	if err != nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sessions[sha256.Sum256([]byte(c.Value))]
	if s == nil || time.Now().After(s.expiry) {
		return nil
	}
	return s
}

// end ends the session of a request.
func (a *access) end(r *http.Request, cookie string) {
	if c, err := r.Cookie(cookie); err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.sessions, sha256.Sum256([]byte(c.Value)))
	}
}

// note has the session show a notice next.
func (a *access) note(s *session, n notice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.notice = &n
}

// takeNotice returns what the session has to show, and forgets it; nil: nothing.
func (a *access) takeNotice(s *session) *notice {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := s.notice
	s.notice = nil
	return n
}

// fits reports whether a form was made by the page for this session.
func (s *session) fits(form string) bool {
	return subtle.ConstantTimeCompare([]byte(form), []byte(s.form)) == 1
}

// bearer returns the token that a request has in its header.
func bearer(r *http.Request) (token string, given bool) {
	header := r.Header.Get("Authorization")
	if scheme, token, ok := strings.Cut(header, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token), true
	}
	return "", header != ""
}
