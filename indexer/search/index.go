package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
	Name       string
	Aliases    map[string]Alias
	Meta       json.RawMessage // mappings._meta, nil if there is none
	Stamp      *Stamp          // within Meta; nil if there is none
	DataStream string          // whose backing index it is, "" if of none

	// Incarnation differs after the index was deleted and made again, or restored from a snapshot,
	// under its name: its UUID, and that of its history, which a restore into the closed index renews.
	Incarnation string
}

// HasAlias reports whether the index is behind alias.
func (i *IndexInfo) HasAlias(alias string) bool { _, ok := i.Aliases[alias]; return ok }

// IsOf reports whether the index has the stamp of an owner.
func (i *IndexInfo) IsOf(owner Owner) bool { return i.Stamp != nil && i.Stamp.Is(owner) }

// CreateIndex creates the index physical with its write alias in one request. body
// holds settings and mappings as JSON, and may hold more aliases. An index that is
// there with the same write alias, and with a stamp of the same owner or none as body has it, is
// taken as it is, so that a request whose answer was lost can be repeated.
func (c *Client) CreateIndex(ctx context.Context, physical, writeAlias string, body []byte) error {
	what := "create index " + physical
	full, err := withAlias(body, writeAlias)
	if err != nil {
		return &dbsync.PermanentError{Err: fmt.Errorf("%s: %w", what, err)}
	}
	err = c.change(ctx, what, esapi.IndicesCreateRequest{Index: url.PathEscape(physical), Body: bytes.NewReader(full)})
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
	var given struct {
		Mappings struct {
			Meta json.RawMessage `json:"_meta"`
		} `json:"mappings"`
	}
	if err := json.Unmarshal(full, &given); err != nil {
		return &dbsync.PermanentError{Err: fmt.Errorf("%s: %w", what, err)}
	}
	if stamp := stampOf(given.Mappings.Meta); stamp != nil && !info.IsOf(stamp.Owner) {
		// Two that began within the same second.
		return &OwnerError{Indices: []string{physical}, Owner: info.Owner()}
	}
	return nil
}

// Owner returns the owner in the stamp of an index, nil if it has none.
func (i *IndexInfo) Owner() *Owner {
	if i.Stamp == nil {
		return nil
	}
	return &i.Stamp.Owner
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
	found, err := c.getIndices(ctx, what, esapi.IndicesGetRequest{Index: []string{url.PathEscape(physical)}})
	if err != nil && !notFound(err) {
		return nil, err
	}
	for _, info := range found {
		if info.Name == physical {
			return info, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", what, ErrNoIndex)
}

// GetIndices returns what the cluster knows of those of the physical indices that are there, by
// name.
func (c *Client) GetIndices(ctx context.Context, physical ...string) (map[string]*IndexInfo, error) {
	const most = 2000 // bytes of names in one request: servers bound the first line of one
	yes := true
	all := make(map[string]*IndexInfo)
	for len(physical) > 0 {
		names, length := []string(nil), 0
		for len(physical) > 0 && (length == 0 || length+len(physical[0]) < most) {
			names, length, physical = append(names, url.PathEscape(physical[0])), length+len(physical[0]), physical[1:]
		}
		found, err := c.getIndices(ctx, "look at the physical indices", esapi.IndicesGetRequest{Index: names, IgnoreUnavailable: &yes})
		if err != nil && !notFound(err) {
			return nil, err
		}
		for _, info := range found {
			all[info.Name] = info
		}
	}
	return all, nil
}

// Standing returns all that the cluster has under the name of an index.
func (c *Client) Standing(ctx context.Context, alias string) (*Standing, error) {
	yes := true
	found, err := c.getIndices(ctx, "look what has the name "+alias, esapi.IndicesGetRequest{
		Index:             []string{url.PathEscape(alias), url.PathEscape(alias) + "-*"},
		IgnoreUnavailable: &yes, AllowNoIndices: &yes, ExpandWildcards: "open,closed,hidden",
	})
	if err != nil && !notFound(err) {
		return nil, err
	}
	s := &Standing{Alias: alias}
	for _, info := range found {
		if info.Name == alias || info.HasAlias(alias) || info.DataStream == alias || isPhysical(alias, info.Name) {
			s.Indices = append(s.Indices, info)
		}
	}
	return s, nil
}

// getIndices returns the indices that a request is about, in order of name.
func (c *Client) getIndices(ctx context.Context, what string, request esapi.IndicesGetRequest) (found []*IndexInfo, err error) {
	var answer map[string]struct {
		Aliases  map[string]Alias `json:"aliases"`
		Mappings struct {
			Meta json.RawMessage `json:"_meta"`
		} `json:"mappings"`
		Settings struct {
			Index struct {
				UUID    string `json:"uuid"`
				History struct {
					UUID string `json:"uuid"`
				} `json:"history"`
			} `json:"index"`
		} `json:"settings"`
		DataStream string `json:"data_stream"`
	}
	request.FilterPath = []string{"*.aliases", "*.mappings._meta", "*.settings.index.uuid", "*.settings.index.history.uuid", "*.data_stream"} // each index has a UUID, so all are in the answer
	if err := c.call(ctx, what, request, &answer); err != nil {
		return nil, err
	}
	for name, i := range answer {
		info := &IndexInfo{Name: name, Aliases: i.Aliases, Meta: i.Mappings.Meta, Stamp: stampOf(i.Mappings.Meta), DataStream: i.DataStream,
			Incarnation: i.Settings.Index.UUID}
		if history := i.Settings.Index.History.UUID; history != "" {
			info.Incarnation += "/" + history
		}
		found = append(found, info)
	}
	sortByName(found)
	return found, nil
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

// DropIndex deletes one index of the owner's with its aliases. One that is not there is fine, and
// one of somebody else is an *[OwnerError].
func (c *Client) DropIndex(ctx context.Context, physical string, owner Owner) error {
	if physical == "" || physical == "_all" || strings.ContainsAny(physical, "*,?") {
		return &dbsync.PermanentError{Err: fmt.Errorf("delete index %q: want the name of one index", physical)}
	}
	info, err := c.GetIndex(ctx, physical)
	if errors.Is(err, ErrNoIndex) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsOf(owner) {
		return fmt.Errorf("delete index %s: %w", physical, &OwnerError{Indices: []string{physical}, Owner: info.Owner()})
	}
	err = c.change(ctx, "delete index "+physical, esapi.IndicesDeleteRequest{Index: []string{url.PathEscape(physical)}})
	if notFound(err) {
		return nil
	}
	return err
}

// Refresh makes everything that was written to the index or alias visible to searches.
func (c *Client) Refresh(ctx context.Context, name string) error {
	return c.changeBy(ctx, "refresh "+name, esapi.IndicesRefreshRequest{Index: []string{url.PathEscape(name)}}, func(text []byte) bool {
		var answer struct {
			Shards *struct{} `json:"_shards"`
		}
		return json.Unmarshal(text, &answer) == nil && answer.Shards != nil
	})
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
	return c.change(ctx, what, esapi.IndicesPutSettingsRequest{Index: []string{url.PathEscape(physical)}, Body: bytes.NewReader(body)})
}

// PutMapping adds fields to the mapping of an index, or replaces its _meta. body is
// the JSON object that "mappings" holds at creation.
func (c *Client) PutMapping(ctx context.Context, physical string, body []byte) error {
	return c.change(ctx, "change the mapping of "+physical,
		esapi.IndicesPutMappingRequest{Index: []string{url.PathEscape(physical)}, Body: bytes.NewReader(body)})
}

// PutStamp puts a stamp into an index, in the place of one that is there. Other keys of its
// _meta stay.
func (c *Client) PutStamp(ctx context.Context, physical string, stamp Stamp) error {
	info, err := c.GetIndex(ctx, physical)
	if err != nil {
		return err
	}
	meta := map[string]json.RawMessage{}
	if len(info.Meta) > 0 {
		if err := json.Unmarshal(info.Meta, &meta); err != nil {
			return &dbsync.PermanentError{Err: fmt.Errorf("stamp index %s: its _meta is not a JSON object: %w", physical, err)}
		}
	}
	stamp.Version = stampVersion
	if meta[StampKey], err = json.Marshal(stamp); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"_meta": meta})
	if err != nil {
		return err
	}
	return c.PutMapping(ctx, physical, body)
}
