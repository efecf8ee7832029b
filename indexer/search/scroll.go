package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/elastic/go-elasticsearch/v8/esapi"
)

const (
	// TruncatePage is how many documents are listed and removed at a time.
	TruncatePage = 5000
	// scrollKeep is how long the server keeps the list between two pages. A page is
	// removed meanwhile, which takes longer only when writing is held back; then the list
	// begins anew.
	scrollKeep = 5 * time.Minute
)

// Listed is a document in a list.
type Listed struct {
	ID      string `json:"_id"`
	Routing string `json:"_routing"`
}

// Scroll lists the documents of an index as they were when it was called, page by page.
func (c *Client) Scroll(ctx context.Context, index string, f func(page []Listed) error) error {
	what := "list the documents of " + index
	var answer struct {
		ScrollID string `json:"_scroll_id"`
		TimedOut bool   `json:"timed_out"`
		Shards   struct {
			Failed int `json:"failed"`
		} `json:"_shards"`
		Hits struct {
			Hits []Listed `json:"hits"`
		} `json:"hits"`
	}
	size := TruncatePage
	err := c.call(ctx, what, esapi.SearchRequest{Index: []string{url.PathEscape(index)}, Scroll: scrollKeep, Size: &size,
		Body: bytes.NewReader([]byte(`{"sort":["_doc"],"_source":false}`))}, &answer)
	for ; err == nil; err = c.scroll(ctx, what, answer.ScrollID, &answer) {
		if answer.TimedOut || answer.Shards.Failed > 0 {
			err = fmt.Errorf("%s: %d shards did not answer", what, answer.Shards.Failed)
			break
		}
		if len(answer.Hits.Hits) == 0 {
			break
		}
		if err = f(answer.Hits.Hits); err != nil {
			break
		}
		answer.Hits.Hits = nil
	}
	if answer.ScrollID != "" {
		// A list that cannot be ended ends by itself after scrollKeep.
		end := context.WithoutCancel(ctx)
		if e := c.call(end, what, esapi.ClearScrollRequest{ScrollID: []string{answer.ScrollID}}, nil); e != nil {
			c.logger.Debug("the list of documents was not ended", "index", index, "error", e)
		}
	}
	return err
}

// scroll asks for the next page. A list that the server does not have any more is asked for
// anew by whoever repeats, so that is not permanent.
func (c *Client) scroll(ctx context.Context, what, id string, answer any) error {
	err := c.call(ctx, what, scrollRequest(id), answer)
	if server, ok := errors.AsType[*ServerError](err); ok && server.Status == http.StatusNotFound {
		return fmt.Errorf("%s: the server has given up the list, which it keeps for %s between two pages: %s", what, scrollKeep, server.Reason)
	}
	return err
}

func scrollRequest(id string) esapi.ScrollRequest {
	body, _ := json.Marshal(map[string]string{"scroll": fmt.Sprintf("%ds", int(scrollKeep.Seconds())), "scroll_id": id}) // strings only
	return esapi.ScrollRequest{Body: bytes.NewReader(body)}
}
