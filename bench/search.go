package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// search is a search server, spoken to as plainly as can be.
type search struct {
	url         string
	client      *http.Client
	countsTasks bool // and not bulk requests, see written
}

func newSearch(url string) *search {
	return &search{url: url, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
}

func (s *search) close() error {
	s.client.CloseIdleConnections()
	return nil
}

// call sends a request; the answer must be 2xx and is decoded into out, unless nil.
func (s *search) call(ctx context.Context, method, path string, body []byte, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: status %d: %.1000s", method, path, res.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// version is the server's product and version, which is asked for before anything else.
func (s *search) version(ctx context.Context) (string, error) {
	var root struct {
		Version struct{ Number, Distribution string }
	}
	if err := s.call(ctx, http.MethodGet, "/", nil, &root); err != nil {
		return "", err
	}
	name := "Elasticsearch"
	if s.countsTasks = root.Version.Distribution == "opensearch"; s.countsTasks {
		name = "OpenSearch"
	}
	return name + " " + root.Version.Number, nil
}

// drop deletes the indices whose names begin with prefix.
func (s *search) drop(ctx context.Context, prefix string) error {
	var found map[string]json.RawMessage
	if err := s.call(ctx, http.MethodGet, "/"+prefix+"*/_alias", nil, &found); err != nil {
		return err
	}
	for name := range found {
		if strings.HasPrefix(name, prefix) {
			if err := s.call(ctx, http.MethodDelete, "/"+url.PathEscape(name), nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// refresh makes everything that was written visible to searches.
func (s *search) refresh(ctx context.Context, index string) error {
	return s.call(ctx, http.MethodPost, "/"+index+"/_refresh", nil, nil)
}

// settleLimit bounds the wait for merges.
const settleLimit = time.Minute

// awaitIdle waits until the server has ended what it still does for earlier steps: merges go
// on after the last answer.
func (s *search) awaitIdle(ctx context.Context) error {
	if err := s.call(ctx, http.MethodPost, "/_flush?wait_if_ongoing=true", nil, nil); err != nil {
		return err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < settleLimit; {
		var stats struct {
			All struct {
				Total struct{ Merges struct{ Current int } }
			} `json:"_all"`
		}
		if err := s.call(ctx, http.MethodGet, "/_stats/merge?filter_path=_all.total.merges.current", nil, &stats); err != nil {
			return err
		}
		if stats.All.Total.Merges.Current == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil // the figures will show it
}

// compare compares the documents of an index with what they ought to be, by id; of tells what one is.
// Of want it leaves what is missing.
func compare[T comparable](ctx context.Context, s *search, index string, want map[string]T, of func(source []byte) (T, error)) error {
	err := s.each(ctx, index, func(id string, source []byte) error {
		got, err := of(source)
		if err != nil {
			return err
		}
		if wanted, ok := want[id]; !ok || got != wanted {
			return fmt.Errorf("document %s is not what it ought to be: %s", id, source)
		}
		delete(want, id)
		return nil
	})
	if err == nil && len(want) > 0 {
		err = fmt.Errorf("%d documents are missing", len(want))
	}
	return err
}

// each calls f with every document of an index, in no order.
func (s *search) each(ctx context.Context, index string, f func(id string, source []byte) error) (err error) {
	if err := s.refresh(ctx, index); err != nil {
		return err
	}
	path, body := "/"+index+"/_search?scroll=5m", []byte(`{"size":5000,"sort":["_doc"],"query":{"match_all":{}}}`)
	for {
		var page struct {
			Scroll   string `json:"_scroll_id"`
			TimedOut bool   `json:"timed_out"`
			Shards   struct{ Failed int }
			Hits     struct {
				Hits []struct {
					ID     string          `json:"_id"`
					Source json.RawMessage `json:"_source"`
				}
			}
		}
		if err := s.call(ctx, http.MethodPost, path, body, &page); err != nil {
			return err
		}
		if page.TimedOut || page.Shards.Failed > 0 {
			return fmt.Errorf("read %s: timed out %t, %d shards failed", index, page.TimedOut, page.Shards.Failed)
		}
		if len(page.Hits.Hits) == 0 {
			end, _ := json.Marshal(map[string]any{"scroll_id": []string{page.Scroll}})
			return s.call(ctx, http.MethodDelete, "/_search/scroll", end, nil)
		}
		for _, d := range page.Hits.Hits {
			if err := f(d.ID, d.Source); err != nil {
				return err
			}
		}
		path = "/_search/scroll"
		body, _ = json.Marshal(map[string]string{"scroll_id": page.Scroll, "scroll": "5m"})
	}
}
