package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"tidemark/mapping"
)

// A description is what openapi.json says of answers.
type description struct {
	schemas *jsonschema.Compiler
	paths   map[string]map[string]json.RawMessage // by path and method
	met     map[string]bool                       // "GET /status 200"
}

func readDescription(t *testing.T, text string) *description {
	t.Helper()
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	d := &description{schemas: jsonschema.NewCompiler(), met: make(map[string]bool)}
	d.schemas.AssertFormat()
	if err := d.schemas.AddResource("openapi.json", whole); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	d.paths = doc.Paths
	return d
}

// check holds an answer against what is said of it.
func (d *description) check(t *testing.T, method, path string, resp *http.Response, body []byte) {
	t.Helper()
	var operation struct {
		Responses map[string]struct {
			Content map[string]json.RawMessage `json:"content"`
		} `json:"responses"`
	}
	if err := json.Unmarshal(d.paths[path][strings.ToLower(method)], &operation); err != nil {
		t.Errorf("%s %s is not described: %v", method, path, err)
		return
	}
	status := fmt.Sprint(resp.StatusCode)
	of, described := operation.Responses[status]
	if !described {
		t.Errorf("%s %s: status %s is not described: %s", method, path, status, body)
		return
	}
	d.met[method+" "+path+" "+status] = true
	if len(of.Content) == 0 {
		if len(body) > 0 {
			t.Errorf("%s %s %s: no content is described, and it is %s", method, path, status, body)
		}
		return
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if _, described := of.Content[kind]; err != nil || !described {
		t.Errorf("%s %s %s: content of type %q is not described: %v", method, path, status, kind, err)
		return
	}
	if kind != "application/json" {
		return
	}
	place := strings.NewReplacer("~", "~0", "/", "~1")
	schema, err := d.schemas.Compile(fmt.Sprintf("openapi.json#/paths/%s/%s/responses/%s/content/%s/schema", place.Replace(path), strings.ToLower(method), status, place.Replace(kind)))
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%s %s %s: %v\n%s", method, path, status, err, body)
	}
}

// send sends a request; form is its body, where there is one.
func (o *office) send(t *testing.T, method, path string, form url.Values, header ...string) (*http.Response, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, o.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" { // is a part of the request line for net/http
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // no redirect is followed
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		line, err := bufio.NewReader(resp.Body).ReadBytes('\n')
		if err != nil {
			t.Error(err)
		}
		return resp, line
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

// signIn begins a session, and returns its cookie and what its forms say.
func (o *office) signIn(t *testing.T) (cookie, form string) {
	t.Helper()
	return o.signInAt(t, "products")
}

func (o *office) signInAt(t *testing.T, index string) (cookie, form string) {
	t.Helper()
	resp, body := o.send(t, http.MethodPost, "/login", url.Values{"token": {token}})
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) != 1 {
		t.Fatalf("%s %s", resp.Status, body)
	}
	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure {
		t.Errorf("the cookie is %s", c)
	}
	cookie = c.Name + "=" + c.Value
	_, page := o.send(t, http.MethodGet, "/indices/"+index+"/reindex", nil, "Cookie", cookie)
	_, form, _ = strings.Cut(string(page), `name="form" value="`)
	form, _, ok := strings.Cut(form, `"`)
	if !ok || form == "" {
		t.Fatalf("no form in %s", page)
	}
	return cookie, form
}

// TestDescribed has every answer that openapi.json describes be given, and be as it says.
func TestDescribed(t *testing.T) {
	o := newOffice(t, busy(time.Now()), mapping.NewSecret(token))
	o.server.o.Logger.Warn("something is wrong", "index", "products", "error", errors.New("it is"))
	_, text := o.send(t, http.MethodGet, "/openapi.json", nil)
	d := readDescription(t, string(text))
	cookie, form := o.signIn(t)
	send := func(method, path string, form url.Values, header ...string) {
		t.Helper()
		resp, body := o.send(t, method, path, form, header...)
		path, _, _ = strings.Cut(path, "?")
		if strings.HasPrefix(path, "/indices/") {
			path = "/indices/{index}/{action}"
		}
		d.check(t, method, path, resp, body)
	}
	const bearer = "Bearer " + token
	for _, path := range []string{"/", "/status", "/dead-letters", "/dead-letters?after=x", "/dead-letters?index=other", "/dead-letters.json?limit=1", "/dead-letters.json?index=orders&after=17", "/dead-letters.json?limit=0", "/dead-letters.json?index=other", "/events", "/healthz", "/readyz", "/metrics", "/openapi.json", "/login", "/indices/products/verify", "/indices/products/drop?row=x", "/indices/other/verify"} {
		send(http.MethodGet, path, nil)
	}
	send(http.MethodGet, "/indices/products/verify", nil, "Cookie", cookie)
	send(http.MethodPost, "/login", url.Values{"token": {token}})
	send(http.MethodPost, "/login", url.Values{"token": {"another"}})
	send(http.MethodPost, "/indices/products/reindex", nil, "Authorization", bearer)
	send(http.MethodPost, "/indices/products/reindex", url.Values{"form": {form}}, "Cookie", cookie)
	send(http.MethodPost, "/indices/products/drop?row=x", nil, "Authorization", bearer)
	send(http.MethodPost, "/indices/products/drop", nil)
	send(http.MethodPost, "/indices/products/drop", nil, "Cookie", cookie)
	send(http.MethodPost, "/indices/products/nothing", nil, "Authorization", bearer)
	o.operator.err = errors.New("not now")
	send(http.MethodPost, "/indices/products/cancel", nil, "Authorization", bearer)
	send(http.MethodPost, "/logout", url.Values{"form": {form}}, "Cookie", cookie)
	for range maxAttempts { // they are used up by now
		o.server.access.attempts.Allow()
	}
	send(http.MethodPost, "/login", url.Values{"token": {token}})
	send(http.MethodPost, "/indices/products/drop", nil, "Authorization", bearer)
	o.set(func(s *Status) { *s = Status{Failure: "lost", Behind: -1} })
	for _, path := range []string{"/status", "/healthz", "/readyz"} {
		send(http.MethodGet, path, nil)
	}
	o.set(func(s *Status) { *s = working(); s.Behind = -1 })
	send(http.MethodGet, "/readyz", nil)
	for query, err := range map[string]error{"": nil, "?lsn=x": nil, "?index=x": &WaitError{http.StatusNotFound, errors.New("there is no index x")},
		"?lsn=1/1": &WaitError{http.StatusConflict, errors.New("the log has not come to it")}, "?searchable=true": errors.New("not connected"), "?timeout=1ms": context.DeadlineExceeded} {
		o.source.await = func(ctx context.Context, _ Wait) (pglogrepl.LSN, error) {
			if errors.Is(err, context.DeadlineExceeded) {
				<-ctx.Done()
			}
			return 0x100, err
		}
		send(http.MethodGet, "/wait"+query, nil)
	}
	o.source.lost = errors.New("Postgres is away")
	for _, path := range []string{"/dead-letters", "/dead-letters.json"} {
		send(http.MethodGet, path, nil)
	}
	for range maxStreams {
		o.server.streams <- struct{}{}
	}
	send(http.MethodGet, "/events", nil)

	o = newOffice(t, working(), mapping.Secret{})
	send(http.MethodPost, "/login", url.Values{"token": {token}})
	send(http.MethodPost, "/indices/products/drop", nil, "Authorization", bearer)

	for path, operations := range d.paths { // by a name that is another's
		for method := range operations {
			if method != "parameters" && !slices.Contains(open, path) {
				send(strings.ToUpper(method), strings.NewReplacer("{index}", "products", "{action}", "drop").Replace(path), nil, "Host", "evil.example")
			}
		}
	}
	for path, operations := range d.paths {
		for method, text := range operations {
			var operation struct{ Responses map[string]any }
			if method == "parameters" {
				continue
			}
			if err := json.Unmarshal(text, &operation); err != nil {
				t.Fatal(err)
			}
			for status := range operation.Responses {
				if what := strings.ToUpper(method) + " " + path + " " + status; !d.met[what] {
					t.Errorf("%s is described, and was not answered", what)
				}
			}
		}
	}
}

// TestWhoMayAsk has requests of people and of sites that have no right to what they ask for.
func TestWhoMayAsk(t *testing.T) {
	o := newOffice(t, busy(time.Now()), mapping.NewSecret(token))
	cookie, form := o.signIn(t)
	other, otherForm := o.signIn(t)
	right := url.Values{"form": {form}}
	for _, tt := range []struct {
		name   string
		form   url.Values
		header []string
		status int
		asked  string
	}{
		{"a form of the page", right, []string{"Cookie", cookie, "Sec-Fetch-Site", "same-origin", "Origin", o.url}, http.StatusSeeOther, "reindex products"},
		{"a form of the page, of a browser that says little", right, []string{"Cookie", cookie}, http.StatusSeeOther, "reindex products"},
		{"the token", nil, []string{"Authorization", "bearer " + token}, http.StatusOK, "reindex products"},
		{"nobody", nil, nil, http.StatusUnauthorized, ""},
		{"another token", nil, []string{"Authorization", "Bearer " + token + "x"}, http.StatusUnauthorized, ""},
		{"another way", nil, []string{"Authorization", "Basic " + token}, http.StatusUnauthorized, ""},
		{"a cookie that was made up", right, []string{"Cookie", "tidemark_shop=x"}, http.StatusUnauthorized, ""},
		{"the cookie alone", nil, []string{"Cookie", cookie}, http.StatusForbidden, ""},
		{"a form of another session", url.Values{"form": {otherForm}}, []string{"Cookie", cookie}, http.StatusForbidden, ""},
		{"another site", right, []string{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}, http.StatusForbidden, ""},
		{"another site, of a browser that is old", right, []string{"Cookie", cookie, "Origin", "http://evil.example"}, http.StatusForbidden, ""},
	} {
		resp, body := o.send(t, http.MethodPost, "/indices/products/reindex", tt.form, tt.header...)
		if asked := o.take(); resp.StatusCode != tt.status || asked != tt.asked {
			t.Errorf("%s: %s %s, asked for is %q", tt.name, resp.Status, body, asked)
		}
		if bytes.Contains(body, []byte(token)) {
			t.Errorf("%s: the token is in %s", tt.name, body)
		}
	}
	// A session that is over.
	o.send(t, http.MethodPost, "/logout", url.Values{"form": {otherForm}}, "Cookie", other)
	if resp, _ := o.send(t, http.MethodPost, "/indices/products/reindex", url.Values{"form": {otherForm}}, "Cookie", other); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a session that was ended: %s", resp.Status)
	}
	o.server.access.mu.Lock()
	for _, s := range o.server.access.sessions {
		s.expiry = time.Now().Add(-time.Second)
	}
	o.server.access.mu.Unlock()
	if resp, _ := o.send(t, http.MethodPost, "/indices/products/reindex", right, "Cookie", cookie); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a session of before: %s", resp.Status)
	}
	// Where there is no token, not even an empty one is right.
	closed := newOffice(t, working(), mapping.Secret{})
	for _, given := range []string{"", " ", token} {
		if resp, _ := closed.send(t, http.MethodPost, "/indices/products/reindex", nil, "Authorization", "Bearer "+given); resp.StatusCode != http.StatusForbidden {
			t.Errorf("no token is set, and %q: %s", given, resp.Status)
		}
	}
	if asked := closed.take() + o.take(); asked != "" {
		t.Errorf("asked for is %q", asked)
	}
	for range 3 * maxSessions {
		o.server.access.begin(time.Now())
	}
	if n := len(o.server.access.sessions); n > maxSessions {
		t.Errorf("%d sessions are remembered", n)
	}
}

// TestValuesAreForWhoHasTheToken has a search server quote a value of a row.
func TestValuesAreForWhoHasTheToken(t *testing.T) {
	s := busy(time.Now())
	s.Letters[0].Reason = "failed to parse field [total] of type [double]. Preview of field's value: 'of a person'"
	s.Letters[1].Reason = "the document cannot be made: invalid operation: int(of a person) (character 12)"
	o := newOffice(t, s, mapping.NewSecret(token))
	cookie, _ := o.signIn(t)
	for _, path := range []string{"/", "/status"} {
		if _, body := o.send(t, http.MethodGet, path, nil); bytes.Contains(body, []byte("person")) || !bytes.Contains(body, []byte("failed to parse field [total] of type [double]")) || !bytes.Contains(body, []byte("the document cannot be made")) {
			t.Errorf("%s shows %s", path, body)
		}
	}
	if _, body := o.send(t, http.MethodGet, "/", nil, "Cookie", cookie); !bytes.Contains(body, []byte("of a person")) {
		t.Errorf("who has signed in is shown %s", body)
	}
}

// TestAskedFor has each thing be asked for, by its name and with its dead letters.
func TestAskedFor(t *testing.T) {
	o := newOffice(t, busy(time.Now()), mapping.NewSecret(token))
	for path, want := range map[string]string{
		"reindex": "reindex orders", "cancel": "cancel orders", "verify": "verify orders", "retry": "retry orders", "drop": "drop orders",
		"retry?row=17&list=index%3Dorders": "retry orders 17", "retry?row=17&list=after%3Dx": "", "retry?list=%25": "",
		"retry?row=17&row=18": "retry orders 17 18", "retry?row=17": "retry orders 17", "drop?row=17&row=18": "drop orders 17 18", "reindex?row=17": "",
	} {
		o.server.access.attempts.SetBurst(100)
		o.send(t, http.MethodPost, "/indices/orders/"+path, nil, "Authorization", "Bearer "+token)
		if asked := o.take(); asked != want {
			t.Errorf("%s: asked for is %q", path, asked)
		}
	}
}

// TestNothingIsMarkup has names and texts of others be text on the page, and nothing else.
func TestNothingIsMarkup(t *testing.T) {
	const evil = `"><script>alert(1)</script>&'`
	s := busy(time.Now())
	s.Slot, s.Product, s.Version = "shop", evil, evil
	s.Indices[0].Name, s.Indices[0].Physical, s.Indices[0].Building = evil, evil, evil
	s.Letters[0].Index, s.Letters[0].ID, s.Letters[0].Reason, s.Letters[0].Type = evil, evil, evil, evil
	s.Alarms[0].Key, s.Alarms[0].Text = evil, evil+"; hint: "+evil
	o := newOffice(t, s, mapping.NewSecret(token))
	o.server.o.Logger.Error(evil, evil, evil, "index", evil)
	cookie, _ := o.signInAt(t, "orders")
	resp, body := o.send(t, http.MethodGet, "/", nil, "Cookie", cookie)
	if bytes.Contains(body, []byte("<script>")) || bytes.Contains(body, []byte(evil)) || bytes.Count(body, []byte("&lt;script&gt;")) < 10 {
		t.Errorf("the page is %s", body)
	}
	policy := strings.Split(resp.Header.Get("Content-Security-Policy"), "; ")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		if !slices.Contains(policy, want) {
			t.Errorf("the policy is %q", policy)
		}
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}
