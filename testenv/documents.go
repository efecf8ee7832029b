package testenv

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// A Document is one as an index holds it.
type Document struct {
	Index   string          `json:"_index"` // the physical one
	ID      string          `json:"_id"`
	Routing string          `json:"_routing"` // "" if it was stored without
	Version int64           `json:"_version"`
	Source  json.RawMessage `json:"_source"`
}

// pageSize is how many documents are read with one request.
const pageSize = 2000

// Documents refreshes an index and reads it whole, by _id. An _id that more than
// one shard or index holds fails the test.
func (s *SearchServer) Documents(t testing.TB, index string) map[string]Document {
	t.Helper()
	all, err := s.ReadDocuments(t.Context(), index)
	if err != nil {
		t.Fatalf("read index %s: %v", index, err)
	}
	byID := make(map[string]Document, len(all))
	for _, d := range all {
		if other, ok := byID[d.ID]; ok {
			t.Errorf("index %s holds _id %q twice: %s routing %q version %d, %s routing %q version %d",
				index, d.ID, other.Index, other.Routing, other.Version, d.Index, d.Routing, d.Version)
		}
		byID[d.ID] = d
	}
	return byID
}

// ReadDocuments refreshes an index or alias and reads it whole, as it is at one
// point in time, ordered by _id and routing.
func (s *SearchServer) ReadDocuments(ctx context.Context, index string) (all []Document, err error) {
	path := "/" + url.PathEscape(index)
	var shards shardsAnswer
	if err := s.call(ctx, http.MethodPost, path+"/_refresh", nil, &shards); err != nil {
		return nil, err
	}
	if err := shards.check(); err != nil {
		return nil, fmt.Errorf("refresh %s: %w", index, err)
	}
	// A scroll is the same on every engine.
	body := fmt.Appendf(nil, `{"size":%d,"sort":["_doc"],"version":true,"query":{"match_all":{}}}`, pageSize)
	path += "/_search?scroll=5m"
	var scroll string
	defer func() {
		if scroll != "" {
			end, _ := json.Marshal(map[string]any{"scroll_id": []string{scroll}})
			err = errors.Join(err, s.call(context.WithoutCancel(ctx), http.MethodDelete, "/_search/scroll", end, nil))
		}
	}()
	for {
		var page struct {
			shardsAnswer
			Scroll   string `json:"_scroll_id"`
			TimedOut bool   `json:"timed_out"`
			Hits     struct {
				Hits []Document `json:"hits"`
			} `json:"hits"`
		}
		if err := s.call(ctx, http.MethodPost, path, body, &page); err != nil {
			return nil, err
		}
		scroll = page.Scroll
		if err := page.check(); err != nil {
			return nil, fmt.Errorf("search %s: %w", index, err)
		}
		if page.TimedOut {
			return nil, fmt.Errorf("search %s: timed out", index)
		}
		if len(page.Hits.Hits) == 0 {
			break
		}
		all = append(all, page.Hits.Hits...)
		path = "/_search/scroll"
		body, _ = json.Marshal(map[string]string{"scroll_id": scroll, "scroll": "5m"})
	}
	slices.SortFunc(all, func(a, b Document) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Routing, b.Routing), cmp.Compare(a.Index, b.Index))
	})
	return all, nil
}

// A shardsAnswer says whether all shards took part.
type shardsAnswer struct {
	Shards struct {
		Failed   int             `json:"failed"`
		Failures json.RawMessage `json:"failures"`
	} `json:"_shards"`
}

func (a *shardsAnswer) check() error {
	if a.Shards.Failed > 0 {
		return fmt.Errorf("%d shards failed: %s", a.Shards.Failed, a.Shards.Failures)
	}
	return nil
}

// An Index is a physical index.
type Index struct {
	Name    string
	Aliases []string // ordered
}

// Indices lists the physical indices that a name, alias or pattern stands for,
// by name; none is no error.
func (s *SearchServer) Indices(ctx context.Context, pattern string) ([]Index, error) {
	var answer map[string]struct {
		Aliases map[string]json.RawMessage `json:"aliases"`
	}
	err := s.get(ctx, "/"+url.PathEscape(pattern)+"/_alias?expand_wildcards=all&ignore_unavailable=true", &answer)
	var status *statusError
	if errors.As(err, &status) && status.status == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Index
	for name, a := range answer {
		index := Index{Name: name}
		for alias := range a.Aliases {
			index.Aliases = append(index.Aliases, alias)
		}
		slices.Sort(index.Aliases)
		all = append(all, index)
	}
	slices.SortFunc(all, func(a, b Index) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// DeleteIndices deletes what Indices lists for the pattern.
func (s *SearchServer) DeleteIndices(ctx context.Context, pattern string) error {
	indices, err := s.Indices(ctx, pattern)
	if err != nil {
		return err
	}
	for _, index := range indices { // one by one: servers refuse patterns here
		err := s.call(ctx, http.MethodDelete, "/"+url.PathEscape(index.Name), nil, nil)
		var status *statusError
		if errors.As(err, &status) && status.status == http.StatusNotFound {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}
