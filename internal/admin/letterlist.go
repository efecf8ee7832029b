package admin

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
)

const (
	// letterPage is how many dead letters are listed where nobody says, and maxLetterPage how many
	// somebody may ask for.
	letterPage    = 50
	maxLetterPage = 1000

	// maxLists is how many lists are read from Postgres at a time, and listPatience how long that may
	// take: anybody may ask for them.
	maxLists     = 4
	listPatience = 10 * time.Second
)

// A LetterLister reads dead letters of running indices from where they are kept.
type LetterLister interface {
	// DeadLetters returns the letters that q asks for, in order of time.
	DeadLetters(ctx context.Context, q LetterQuery) ([]Letter, error)
}

// A LetterQuery asks for dead letters: the first Limit of those of an index whose rows are above After.
type LetterQuery struct {
	Index string // "": of every index
	After int64
	Limit int // at least 1
}

// parseLetterQuery reads a query from the parameters of a request.
func parseLetterQuery(form url.Values) (LetterQuery, error) {
	q := LetterQuery{Index: form.Get("index"), Limit: letterPage}
	if text := form.Get("after"); text != "" {
		after, err := strconv.ParseInt(text, 10, 64)
		if err != nil || after < 0 {
			return q, fmt.Errorf("after: %q is no number of a dead letter", text)
		}
		q.After = after
	}
	if text := form.Get("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 1 || limit > maxLetterPage {
			return q, fmt.Errorf("limit: want 1 to %d", maxLetterPage)
		}
		q.Limit = limit
	}
	return q, nil
}

// String returns the parameters of a request for q.
func (q LetterQuery) String() string {
	form := make(url.Values)
	if q.Index != "" {
		form.Set("index", q.Index)
	}
	if q.After != 0 {
		form.Set("after", strconv.FormatInt(q.After, 10))
	}
	if q.Limit != letterPage {
		form.Set("limit", strconv.Itoa(q.Limit))
	}
	return form.Encode()
}

// Link is String, for a template.
func (q LetterQuery) Link() template.URL { return template.URL(q.String()) }

// From returns the query that goes on behind a dead letter.
func (q LetterQuery) From(after int64) LetterQuery { q.After = after; return q }

// A letterList is what /dead-letters.json answers.
type letterList struct {
	DeadLetters []LetterPage `json:"dead_letters"`
	Next        *int64       `json:"next,omitempty"` // to be given as after for those that follow; absent: there are none
	query       LetterQuery
}

// Query is what the list was asked for by.
func (l *letterList) Query() LetterQuery { return l.query }

// IsRead reports whether there is a list: reading it has not failed.
func (l *letterList) IsRead() bool { return l.DeadLetters != nil }

// readLetters reads the list that a request asks for. status says what to answer where there is none.
func (s *Server) readLetters(r *http.Request, to audience) (list *letterList, status int, err error) {
	q, err := parseLetterQuery(r.URL.Query())
	if err != nil {
		return nil, http.StatusBadRequest, err
	}
	now := s.o.Source.Status()
	if q.Index != "" && !slices.ContainsFunc(now.Indices, func(ix Index) bool { return ix.Name == q.Index }) {
		return nil, http.StatusNotFound, fmt.Errorf("the running mapping has no index %s", q.Index)
	}
	select {
	case s.lists <- struct{}{}:
		defer func() { <-s.lists }()
	default:
		return nil, http.StatusServiceUnavailable, fmt.Errorf("%d lists of dead letters are read already; ask again", maxLists)
	}
	ctx, cancel := context.WithTimeout(r.Context(), listPatience)
	defer cancel()
	more := q
	more.Limit++ // whether there are more
	letters, err := s.o.Source.DeadLetters(ctx, more)
	if err != nil {
		return nil, http.StatusServiceUnavailable, fmt.Errorf("the dead letters cannot be read: %s", dbsync.WithoutValues(err))
	}
	list = &letterList{DeadLetters: []LetterPage{}, query: q}
	for i := range letters {
		if i == q.Limit {
			list.Next = &letters[i-1].Row
			break
		}
		l := letters[i].page()
		if to == toAnybody {
			l.Reason = search.ReasonWithoutValues(l.Reason)
		}
		list.DeadLetters = append(list.DeadLetters, l)
	}
	return list, 0, nil
}

// listLetters answers GET /dead-letters.json.
func (s *Server) listLetters(w http.ResponseWriter, r *http.Request) {
	list, status, err := s.readLetters(r, toAnybody)
	if err != nil {
		writeJSON(w, status, map[string]any{"error": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, list)
}

// showLetters answers GET /dead-letters: the page of them.
func (s *Server) showLetters(w http.ResponseWriter, r *http.Request) {
	v := s.view(r, "./")
	to := toAnybody
	if of := s.access.of(r, s.cookie()); of != nil {
		v.Notice, to = s.access.takeNotice(of), toHolder
	}
	list, status, err := s.readLetters(r, to)
	if err != nil {
		v.Notice = &notice{Text: err.Error(), Failed: true}
		v.List = &letterList{query: LetterQuery{Limit: letterPage}}
		s.render(w, status, "letters.html", v)
		return
	}
	v.List = list
	s.render(w, http.StatusOK, "letters.html", v)
}
