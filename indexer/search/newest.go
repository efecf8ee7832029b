package search

import (
	"bytes"
	"context"
	"fmt"
	"net/url"

	"github.com/elastic/go-elasticsearch/v8/esapi"
)

const (
	// newestOfShard is how many documents of each shard are looked at by Newest.
	newestOfShard = 20
	// newestShards bounds the shards that are looked at.
	newestShards = 64
)

// Newest returns the document with the highest version of those that were written last to each shard
// of an index; Found is false where there is none. Deletions leave no document.
func (c *Client) Newest(ctx context.Context, index string) (Stored, error) {
	if err := c.Refresh(ctx, index); err != nil {
		return Stored{}, err
	}
	newest, shards, err := c.newestOf(ctx, index, "")
	for shard := range min(shards, newestShards) {
		if err != nil || shards == 1 {
			break
		}
		var other Stored
		if other, _, err = c.newestOf(ctx, index, fmt.Sprintf("_shards:%d", shard)); other.Version > newest.Version {
			newest = other
		}
	}
	return newest, err
}

// newestOf is Newest for the shards that a preference leaves, all if it is empty. It returns how many
// there are.
func (c *Client) newestOf(ctx context.Context, index, preference string) (newest Stored, shards int, err error) {
	what := "look for the documents of " + index + " that were written last"
	var answer struct {
		TimedOut bool `json:"timed_out"`
		Shards   struct {
			Total  int `json:"total"`
			Failed int `json:"failed"`
		} `json:"_shards"`
		Hits struct {
			Hits []Stored `json:"hits"`
		} `json:"hits"`
	}
	body := fmt.Appendf(nil, `{"size":%d,"sort":[{"_seq_no":"desc"}],"version":true,"_source":false,"track_total_hits":false}`, newestOfShard)
	request := esapi.SearchRequest{Index: []string{url.PathEscape(index)}, Body: bytes.NewReader(body), Preference: preference}
	if err := c.call(ctx, what, request, &answer); err != nil {
		return Stored{}, 0, err
	}
	if answer.TimedOut || answer.Shards.Failed > 0 {
		return Stored{}, 0, fmt.Errorf("%s: %d shards did not answer", what, answer.Shards.Failed)
	}
	for _, d := range answer.Hits.Hits {
		if d.Found = true; d.Version >= newest.Version {
			newest = d
		}
	}
	return newest, answer.Shards.Total, nil
}
