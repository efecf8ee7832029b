package search_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
)

// A large answer is asked for in halves. When one of them fails there is no half result, which
// the caller, who asks again, would have twice.
func TestGetReturnsAllOrNothing(t *testing.T) {
	fail := true
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, elasticsearchPage)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		switch text := string(body); {
		case strings.Contains(text, `"1"`) && strings.Contains(text, `"2"`):
			fmt.Fprintf(w, `{"docs":[{"_id":"1","found":true,"_source":{"a":"%s"}},{"_id":"2"}]}`, strings.Repeat("x", search.MaxAnswer))
		case strings.Contains(text, `"2"`) && fail:
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.Contains(text, `"2"`):
			io.WriteString(w, `{"docs":[{"_id":"2","found":false}]}`)
		default:
			io.WriteString(w, `{"docs":[{"_id":"1","found":true,"_source":{}}]}`)
		}
	}))
	t.Cleanup(s.Close)
	c := searchtest.Connect(t, s.URL)
	ctx := searchtest.Within(t, time.Minute)
	asked := []search.Listed{{ID: "1"}, {ID: "2"}}
	if got, err := c.Get(ctx, "p", asked); err == nil || got != nil {
		t.Errorf("%d documents, and %v", len(got), err)
	}
	fail = false
	got, err := c.Get(ctx, "p", asked)
	if err != nil || len(got) != 2 || got[0].ID != "1" || !got[0].Found || got[1].ID != "2" || got[1].Found {
		t.Errorf("%+v, %v", got, err)
	}
}
