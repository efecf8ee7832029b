package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// actionPatience is how long something that is asked for may take to be taken up.
	actionPatience = 20 * time.Second

	maxForm = 64 << 10 // bytes
	maxRows = 1000     // dead letters that one request names
)

// An Operator does what somebody asks for who has the token. Each call says in a sentence what was
// done, or is going to be; an error is one to be shown. rows are the numbers of dead letters, nil for
// all of the index.
type Operator interface {
	Reindex(ctx context.Context, index string) (string, error)
	Cancel(ctx context.Context, index string) (string, error)
	Verify(ctx context.Context, index string) (string, error)
	RetryLetters(ctx context.Context, index string, rows []int64) (string, error)
	DropLetters(ctx context.Context, index string, rows []int64) (string, error)
}

// An action is something that can be asked for.
type action struct {
	Name     string // in the path
	Title    string // "Rebuild"; the index follows
	Button   string // that does it
	Harmful  bool   // what it takes away does not come back
	OfLetter bool   // it is about dead letters
	Text     string // what it does
	do       func(ctx context.Context, o Operator, index string, rows []int64) (string, error)
}

var actions = []*action{
	{Name: "reindex", Title: "Rebuild", Button: "Rebuild it",
		Text: "A new physical index is filled from the tables beside the one in use, which goes on and gets every change. Searchers get the new one in one step, when it is complete. Until then the cluster holds both, and the database is read once from the beginning to the end.",
		do: func(ctx context.Context, o Operator, index string, _ []int64) (string, error) {
			return o.Reindex(ctx, index)
		}},
	{Name: "cancel", Title: "Give up the rebuild of", Button: "Give it up", Harmful: true,
		Text: "What was filled so far is dropped, and so is a rebuild that was asked for and has not begun. The index in use stays as it is.",
		do: func(ctx context.Context, o Operator, index string, _ []int64) (string, error) {
			return o.Cancel(ctx, index)
		}},
	{Name: "verify", Title: "Compare", Button: "Compare it",
		Text: "Every row is compared with its document, and every document with its row, at the pace of verify.rows_per_second, while writes go on. What differs is repaired, unless verify.on_difference is report.",
		do: func(ctx context.Context, o Operator, index string, _ []int64) (string, error) {
			return o.Verify(ctx, index)
		}},
	{Name: "retry", Title: "Retry dead letters of", Button: "Retry", OfLetter: true,
		Text: "The rows of these dead letters are read again, and their documents stored as the rows are now. A dead letter goes when that is done; what is refused again has a new one.",
		do: func(ctx context.Context, o Operator, index string, rows []int64) (string, error) {
			return o.RetryLetters(ctx, index, rows)
		}},
	{Name: "drop", Title: "Drop dead letters of", Button: "Drop", Harmful: true, OfLetter: true,
		Text: "These dead letters are deleted. Their documents stay as they are in the index, older than their rows or missing, until a row changes or the index is rebuilt.",
		do: func(ctx context.Context, o Operator, index string, rows []int64) (string, error) {
			return o.DropLetters(ctx, index, rows)
		}},
}

// asked is what a request asks for.
type asked struct {
	*action
	Index string
	Rows  []int64 // of dead letters; nil: all of the index

	// List is the list of dead letters that it is asked for at, as its parameters; nil: at the page.
	List *string
}

// back is where who asks for it goes on, from the path of an action.
func (q *asked) back() string {
	switch {
	case q.List == nil:
		return "../../"
	case *q.List == "":
		return "../../dead-letters"
	}
	return "../../dead-letters?" + *q.List
}

// Back is likewise, from a page with that root.
func (q asked) Back(root string) string { return root + strings.TrimPrefix(q.back(), "../../") }

// readAsked reads what a request asks for. status says what to answer where it cannot be read.
func (s *Server) readAsked(w http.ResponseWriter, r *http.Request) (q asked, status int, err error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return q, http.StatusBadRequest, fmt.Errorf("read the form: %w", err)
	}
	name, index := r.PathValue("action"), r.PathValue("index")
	i := slices.IndexFunc(actions, func(a *action) bool { return a.Name == name })
	if i < 0 {
		return q, http.StatusNotFound, fmt.Errorf("nothing is at %s", r.URL.Path)
	}
	now := s.o.Source.Status()
	if !slices.ContainsFunc(now.Indices, func(ix Index) bool { return ix.Name == index }) {
		return q, http.StatusNotFound, fmt.Errorf("the running mapping has no index %s", index)
	}
	q = asked{action: actions[i], Index: index}
	rows := r.Form["row"]
	if len(rows) > 0 && !q.OfLetter || len(rows) > maxRows {
		return q, http.StatusBadRequest, fmt.Errorf("row: want none, or for dead letters up to %d", maxRows)
	}
	for _, text := range rows {
		row, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return q, http.StatusBadRequest, fmt.Errorf("row: %q is no number of a dead letter", text)
		}
		q.Rows = append(q.Rows, row)
	}
	if r.Form.Has("list") { // as we wrote it, not as somebody else did
		of, err := url.ParseQuery(r.Form.Get("list"))
		var list LetterQuery
		if err == nil {
			list, err = parseLetterQuery(of)
		}
		if err != nil {
			return q, http.StatusBadRequest, fmt.Errorf("list: %w", err)
		}
		text := list.String()
		q.List = &text
	}
	return q, 0, nil
}

// ask answers GET /indices/{index}/{action}: the page that asks once more.
func (s *Server) ask(w http.ResponseWriter, r *http.Request) {
	q, status, err := s.readAsked(w, r)
	if err != nil {
		writeJSON(w, status, map[string]any{"error": err.Error()})
		return
	}
	of := s.access.of(r, s.cookie())
	if of == nil {
		seeOther(w, "../../login")
		return
	}
	if r.Form.Has("chosen") && len(q.Rows) == 0 { // no box is ticked: that is not all of them
		s.access.note(of, notice{Text: "no dead letter was chosen", Failed: true})
		seeOther(w, q.back())
		return
	}
	v := s.view(r, "../../")
	v.Asked = &q
	s.render(w, http.StatusOK, "ask.html", v)
}

// act answers POST /indices/{index}/{action}: it is done.
func (s *Server) act(w http.ResponseWriter, r *http.Request) {
	q, status, err := s.readAsked(w, r)
	if err != nil {
		writeJSON(w, status, map[string]any{"error": err.Error()})
		return
	}
	var of *session
	if token, given := bearer(r); given {
		status, err = s.admit(token)
	} else if of = s.access.of(r, s.cookie()); of == nil {
		status, err = http.StatusUnauthorized, errNoToken
	} else if !of.fits(r.PostForm.Get("form")) {
		status, err = http.StatusForbidden, errForm
	}
	if err != nil {
		writeJSON(w, status, map[string]any{"error": err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), actionPatience)
	defer cancel()
	done, err := q.do(ctx, s.o.Operator, q.Index, q.Rows)
	switch {
	case of != nil && err != nil:
		s.access.note(of, notice{Text: err.Error(), Failed: true})
	case of != nil:
		s.access.note(of, notice{Text: done})
	case err != nil:
		writeJSON(w, http.StatusConflict, map[string]any{"error": err.Error()})
		return
	default:
		writeJSON(w, http.StatusOK, map[string]any{"done": done})
		return
	}
	seeOther(w, q.back())
}

var (
	errNoToken  = fmt.Errorf("this takes admin.token of the mapping file: sign in at the page, or send it as Authorization: Bearer")
	errWrong    = fmt.Errorf("this is not admin.token of the mapping file")
	errNoGrant  = fmt.Errorf("nobody may ask for anything here; hint: set admin.token in the mapping file")
	errForm     = fmt.Errorf("this form is of another session; hint: go back to the page, and ask again")
	errAttempts = fmt.Errorf("too many attempts, wait some seconds")
)

// admit says what to answer to somebody with this token; nil: he may.
func (s *Server) admit(token string) (status int, err error) {
	switch {
	case !s.access.granted:
		return http.StatusForbidden, errNoGrant
	case !s.access.attempts.Allow():
		return http.StatusTooManyRequests, errAttempts
	case !s.access.admits(token):
		return http.StatusUnauthorized, errWrong
	}
	return 0, nil
}

// askToken answers GET /login: the form for the token.
func (s *Server) askToken(w http.ResponseWriter, r *http.Request) {
	s.render(w, http.StatusOK, "login.html", s.view(r, "./"))
}

// signIn answers POST /login.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	token := r.PostFormValue("token")
	if status, err := s.admit(strings.TrimSpace(token)); err != nil {
		s.o.Logger.Warn("somebody was not let in at the status page", "from", r.RemoteAddr, "reason", err)
		v := s.view(r, "./")
		v.Notice = &notice{Text: err.Error(), Failed: true}
		s.render(w, status, "login.html", v)
		return
	}
	http.SetCookie(w, s.newCookie(r, s.access.begin(time.Now()), sessionLife))
	seeOther(w, "./")
}

// signOut answers POST /logout.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if of := s.access.of(r, s.cookie()); of != nil && of.fits(r.PostFormValue("form")) {
		s.access.end(r, s.cookie())
		http.SetCookie(w, s.newCookie(r, "", -1))
	}
	seeOther(w, "./")
}

// cookie names the cookie of sessions: another instance of this host has another one.
func (s *Server) cookie() string {
	now := s.o.Source.Status()
	return "tidemark_" + now.Slot
}

func (s *Server) newCookie(r *http.Request, value string, life time.Duration) *http.Cookie {
	age := int(life / time.Second)
	if life < 0 {
		age = -1
	}
	return &http.Cookie{Name: s.cookie(), Value: value, MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"}
}

// seeOther sends a browser on to where, from where it is: a proxy may have put a path before ours.
func seeOther(w http.ResponseWriter, where string) {
	w.Header().Set("Location", where)
	w.WriteHeader(http.StatusSeeOther)
}
