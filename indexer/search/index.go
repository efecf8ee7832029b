package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/elastic/go-elasticsearch/v8/esapi"

	"tidemark/dbsync"
)

// ErrNoIndex reports that there is no index of the name. It is permanent: who asks for an
// index knows that it was made.
var ErrNoIndex error = &dbsync.PermanentError{Err: errors.New("no such index")}

// An IndexInfo is what the cluster knows of a physical index.
type IndexInfo struct {
	Name    string
	Aliases []string
	Meta    json.RawMessage // mappings._meta, nil if there is none
}

// HasAlias reports whether the index is behind alias.
func (i *IndexInfo) HasAlias(alias string) bool { return slices.Contains(i.Aliases, alias) }

// CreateIndex creates the index physical with its write alias in one request. body
// holds settings and mappings as JSON, and may hold more aliases. An index that is
// there with the same write alias is taken as it is, so that a request whose answer
// was lost can be repeated.
func (c *Client) CreateIndex(ctx context.Context, physical, writeAlias string, body []byte) error {
	what := "create index " + physical
	full, err := withAlias(body, writeAlias)
	if err != nil {
		return &dbsync.PermanentError{Err: fmt.Errorf("%s: %w", what, err)}
	}
	err = c.call(ctx, what, esapi.IndicesCreateRequest{Index: url.PathEscape(physical), Body: bytes.NewReader(full)}, nil)
	if server, ok := errors.AsType[*ServerError](err); !ok || server.Type != "resource_already_exists_exception" {
		return err
	}
	info, err := c.GetIndex(ctx, physical)
	if errors.Is(err, ErrNoIndex) {
		return fmt.Errorf("%s: an index of this name was there, and is gone again", what)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !info.HasAlias(writeAlias) {
		return fmt.Errorf("%s: an index of this name is there without the alias %s; hint: delete or rename it", what, writeAlias)
	}
	return nil
}

// withAlias adds the write alias to the body of an index creation. is_write_index
// keeps writes on this index even when somebody puts a second one behind the alias.
func withAlias(body []byte, writeAlias string) ([]byte, error) {
	parts := map[string]json.RawMessage{}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &parts); err != nil {
			return nil, fmt.Errorf("settings and mappings are not a JSON object: %w", err)
		}
	}
	aliases := map[string]json.RawMessage{}
	if given, ok := parts["aliases"]; ok {
		if err := json.Unmarshal(given, &aliases); err != nil {
			return nil, fmt.Errorf("aliases are not a JSON object: %w", err)
		}
	}
	aliases[writeAlias] = json.RawMessage(`{"is_write_index":true}`)
	merged, err := json.Marshal(aliases)
	if err != nil {
		return nil, err
	}
	parts["aliases"] = merged
	return json.Marshal(parts)
}

// GetIndex returns what the cluster knows of the index physical, or [ErrNoIndex]. A
// closed index is there, too. An alias of that name is not an index.
func (c *Client) GetIndex(ctx context.Context, physical string) (*IndexInfo, error) {
	what := "get index " + physical
	var answer map[string]struct {
		Aliases  map[string]json.RawMessage `json:"aliases"`
		Mappings struct {
			Meta json.RawMessage `json:"_meta"`
		} `json:"mappings"`
	}
	err := c.call(ctx, what, esapi.IndicesGetRequest{
		Index:      []string{url.PathEscape(physical)},
		FilterPath: []string{"*.aliases", "*.mappings._meta", "*.settings.index.uuid"}, // the last, so that each index is in the answer
	}, &answer)
	if notFound(err) {
		return nil, fmt.Errorf("%s: %w", what, ErrNoIndex)
	}
	if err != nil {
		return nil, err
	}
	found, ok := answer[physical]
	if !ok {
		return nil, fmt.Errorf("%s: %w", what, ErrNoIndex)
	}
	info := &IndexInfo{Name: physical, Meta: found.Mappings.Meta}
	for alias := range found.Aliases {
		info.Aliases = append(info.Aliases, alias)
	}
	slices.Sort(info.Aliases)
	return info, nil
}

// IndexExists reports whether the index physical is there with its write alias.
func (c *Client) IndexExists(ctx context.Context, physical, writeAlias string) (bool, error) {
	info, err := c.GetIndex(ctx, physical)
	if errors.Is(err, ErrNoIndex) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return info.HasAlias(writeAlias), nil
}

// PhysicalIndices returns the physical indices that were ever built for alias and are
// still there, the oldest first, whether alias stands for them or not.
func (c *Client) PhysicalIndices(ctx context.Context, alias string) ([]string, error) {
	var answer map[string]json.RawMessage
	yes := true
	err := c.call(ctx, "list the indices of "+alias, esapi.IndicesGetRequest{
		Index:           []string{url.PathEscape(alias) + "-*"},
		AllowNoIndices:  &yes,
		ExpandWildcards: "open,closed",
		FilterPath:      []string{"*.settings.index.uuid"},
	}, &answer)
	if err != nil && !notFound(err) {
		return nil, err
	}
	var names []string
	for name := range answer {
		if isPhysical(alias, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// DropIndex deletes one index with its aliases. One that is not there is fine.
func (c *Client) DropIndex(ctx context.Context, physical string) error {
	if physical == "" || physical == "_all" || strings.ContainsAny(physical, "*,?") {
		return &dbsync.PermanentError{Err: fmt.Errorf("delete index %q: want the name of one index", physical)}
	}
	err := c.call(ctx, "delete index "+physical, esapi.IndicesDeleteRequest{Index: []string{url.PathEscape(physical)}}, nil)
	if notFound(err) {
		return nil
	}
	return err
}

// Refresh makes everything that was written to the index or alias visible to searches.
func (c *Client) Refresh(ctx context.Context, name string) error {
	return c.call(ctx, "refresh "+name, esapi.IndicesRefreshRequest{Index: []string{url.PathEscape(name)}}, nil)
}

// Count returns how many documents a search of the index or alias would see.
func (c *Client) Count(ctx context.Context, name string) (int64, error) {
	var answer struct {
		Count  int64 `json:"count"`
		Shards struct {
			Failed int `json:"failed"`
		} `json:"_shards"`
	}
	what := "count the documents of " + name
	if err := c.call(ctx, what, esapi.CountRequest{Index: []string{url.PathEscape(name)}}, &answer); err != nil {
		return 0, err
	}
	if answer.Shards.Failed > 0 {
		return 0, fmt.Errorf("%s: %d shards did not answer", what, answer.Shards.Failed)
	}
	return answer.Count, nil
}

// AwaitAllocated waits until the primary shards of an index have started, and its replicas
// as far as the cluster has nodes for them; false when they have not within limit.
func (c *Client) AwaitAllocated(ctx context.Context, physical string, limit time.Duration) (bool, error) {
	var answer struct {
		TimedOut     bool   `json:"timed_out"`
		Status       string `json:"status"`
		Initializing int    `json:"initializing_shards"`
	}
	none := true
	err := c.call(ctx, "wait for the shards of "+physical, esapi.ClusterHealthRequest{Index: []string{url.PathEscape(physical)},
		WaitForStatus: "yellow", WaitForNoInitializingShards: &none, Timeout: limit}, &answer)
	if server, ok := errors.AsType[*ServerError](err); ok && server.Status == http.StatusRequestTimeout {
		return false, nil
	}
	return err == nil && !answer.TimedOut, err
}

// PutSettings changes dynamic settings of an index, for example
// {"index.refresh_interval": "-1"}. A nil value sets the server's default.
func (c *Client) PutSettings(ctx context.Context, physical string, settings map[string]any) error {
	what := "change the settings of " + physical
	body, err := json.Marshal(settings)
	if err != nil {
		return &dbsync.PermanentError{Err: fmt.Errorf("%s: %w", what, err)}
	}
	return c.call(ctx, what, esapi.IndicesPutSettingsRequest{Index: []string{url.PathEscape(physical)}, Body: bytes.NewReader(body)}, nil)
}

// PutMapping adds fields to the mapping of an index, or replaces its _meta. body is
// the JSON object that "mappings" holds at creation.
func (c *Client) PutMapping(ctx context.Context, physical string, body []byte) error {
	return c.call(ctx, "change the mapping of "+physical,
		esapi.IndicesPutMappingRequest{Index: []string{url.PathEscape(physical)}, Body: bytes.NewReader(body)}, nil)
}
