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
)

const physicalLayout = "20060102T150405Z"

// PhysicalName names the physical index that is built for alias at a time, to the
// second, and the alias that all writes to it go through:
//
//	products-20260131t120000z    the index
//	products-20260131T120000Z    its write alias
//
// An index name must be lower case and an alias name need not be. So when index and
// alias are gone, a late write cannot make the server create an index of that name with
// guessed mappings, not even a delete with an external version, which would
// otherwise: the server refuses the name.
func PhysicalName(alias string, at time.Time) (physical, writeAlias string) {
	writeAlias = alias + "-" + at.UTC().Format(physicalLayout)
	return alias + "-" + strings.ToLower(at.UTC().Format(physicalLayout)), writeAlias
}

// WriteAlias returns the write alias of a physical index that PhysicalName named.
func WriteAlias(alias, physical string) string {
	return alias + strings.ToUpper(strings.TrimPrefix(physical, alias))
}

// PhysicalOf returns the physical index that a write alias stands for; ok is false where it
// is none of an index of the name alias.
func PhysicalOf(alias, writeAlias string) (physical string, ok bool) {
	stamp, ok := strings.CutPrefix(writeAlias, alias)
	physical = alias + strings.ToLower(stamp)
	return physical, ok && isPhysical(alias, physical) && WriteAlias(alias, physical) == writeAlias
}

// PhysicalTime returns the time in the name of a physical index; ok is false for a name
// that PhysicalName does not give for alias.
func PhysicalTime(alias, name string) (at time.Time, ok bool) {
	stamp, ok := strings.CutPrefix(name, alias+"-")
	if !ok || stamp != strings.ToLower(stamp) {
		return time.Time{}, false
	}
	at, err := time.Parse(physicalLayout, strings.ToUpper(stamp))
	return at, err == nil
}

func isPhysical(alias, name string) bool {
	_, ok := PhysicalTime(alias, name)
	return ok
}

// ErrNoIndex reports that there is no index of the name.
var ErrNoIndex = errors.New("no such index")

// An IndexInfo is what the cluster knows of a physical index.
type IndexInfo struct {
	Name    string
	UUID    string // a deleted index made again has another one
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
		return fmt.Errorf("%s: %w", what, err)
	}
	err = c.call(ctx, what, esapi.IndicesCreateRequest{Index: url.PathEscape(physical), Body: bytes.NewReader(full)}, nil)
	if server, ok := errors.AsType[*ServerError](err); !ok || server.Type != "resource_already_exists_exception" {
		return err
	}
	info, err := c.GetIndex(ctx, physical)
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
		Settings struct {
			Index struct {
				UUID string `json:"uuid"`
			} `json:"index"`
		} `json:"settings"`
	}
	err := c.call(ctx, what, esapi.IndicesGetRequest{
		Index:      []string{url.PathEscape(physical)},
		FilterPath: []string{"*.aliases", "*.mappings._meta", "*.settings.index.uuid"},
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
	info := &IndexInfo{Name: physical, UUID: found.Settings.Index.UUID, Meta: found.Mappings.Meta}
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

// AliasTargets returns the indices that alias stands for, in order of name; none when
// there is no such alias.
func (c *Client) AliasTargets(ctx context.Context, alias string) ([]string, error) {
	var answer map[string]json.RawMessage
	err := c.call(ctx, "get alias "+alias, esapi.IndicesGetAliasRequest{Name: []string{url.PathEscape(alias)}}, &answer)
	if notFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range answer {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// A NameTakenError reports that the name searchers are to use belongs to an index
// that is not ours, so that it cannot become an alias.
type NameTakenError struct{ Name string }

func (e *NameTakenError) Error() string {
	return fmt.Sprintf("%s is an index, not an alias; hint: give the mapping another name, or copy that index to a new name and delete it, or let run --adopt fill another one and delete it then", e.Name)
}

// Permanent marks it for dbsync.IsPermanent.
func (e *NameTakenError) Permanent() bool { return true }

// Adopt has MoveAlias replace what it otherwise refuses to touch: an index that has the name
// of the alias is deleted in the step that makes the alias. It is called before anything else.
func (c *Client) Adopt() { c.adopt = true }

// Adopts reports whether Adopt was called.
func (c *Client) Adopts() bool { return c.adopt }

// CheckAliasName returns a *[NameTakenError] when an index has the name alias, unless it is
// to be replaced.
func (c *Client) CheckAliasName(ctx context.Context, alias string) error {
	taken, err := c.isTaken(ctx, alias)
	if err == nil && taken && !c.adopt {
		err = &NameTakenError{Name: alias}
	}
	return err
}

// isTaken reports whether an index has the name alias.
func (c *Client) isTaken(ctx context.Context, alias string) (bool, error) {
	_, err := c.GetIndex(ctx, alias)
	if errors.Is(err, ErrNoIndex) {
		return false, nil
	}
	return err == nil, err
}

// MoveAlias makes alias stand for the index to, and for no other, in one step that no
// search sees the middle of, see also [Client.Adopt]. It returns the indices that alias stood for before. When
// it stands for to alone already, nothing is sent and nothing returned.
func (c *Client) MoveAlias(ctx context.Context, alias, to string) (old []string, err error) {
	if err := c.CheckAliasName(ctx, alias); err != nil {
		return nil, err
	}
	type target struct {
		Index string `json:"index"`
		Alias string `json:"alias,omitempty"`
	}
	actions := []map[string]target{}
	var targets []string
	if taken, err := c.isTaken(ctx, alias); err != nil {
		return nil, err
	} else if taken {
		actions = append(actions, map[string]target{"remove_index": {Index: alias}})
	} else if targets, err = c.AliasTargets(ctx, alias); err != nil {
		return nil, err
	}
	if !slices.Contains(targets, to) {
		actions = append(actions, map[string]target{"add": {to, alias}})
	}
	for _, index := range targets {
		if index != to {
			actions = append(actions, map[string]target{"remove": {index, alias}})
			old = append(old, index)
		}
	}
	if len(actions) == 0 {
		return nil, nil
	}
	body, err := json.Marshal(map[string]any{"actions": actions})
	if err != nil {
		return nil, err
	}
	err = c.call(ctx, "move alias "+alias+" to "+to, esapi.IndicesUpdateAliasesRequest{Body: bytes.NewReader(body)}, nil)
	if err != nil {
		return nil, err
	}
	return old, nil
}

// DropIndex deletes one index with its aliases. One that is not there is fine.
func (c *Client) DropIndex(ctx context.Context, physical string) error {
	if physical == "" || physical == "_all" || strings.ContainsAny(physical, "*,?") {
		return fmt.Errorf("delete index %q: want the name of one index", physical)
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
		return fmt.Errorf("%s: %w", what, err)
	}
	return c.call(ctx, what, esapi.IndicesPutSettingsRequest{Index: []string{url.PathEscape(physical)}, Body: bytes.NewReader(body)}, nil)
}

// PutMapping adds fields to the mapping of an index, or replaces its _meta. body is
// the JSON object that "mappings" holds at creation.
func (c *Client) PutMapping(ctx context.Context, physical string, body []byte) error {
	return c.call(ctx, "change the mapping of "+physical,
		esapi.IndicesPutMappingRequest{Index: []string{url.PathEscape(physical)}, Body: bytes.NewReader(body)}, nil)
}

// Meta returns mappings._meta of an index, nil if it has none.
func (c *Client) Meta(ctx context.Context, physical string) (json.RawMessage, error) {
	info, err := c.GetIndex(ctx, physical)
	if err != nil {
		return nil, err
	}
	return info.Meta, nil
}

// notFound reports whether the search server, and not a proxy that knows no such page,
// says that there is no such index or alias.
func notFound(err error) bool {
	server, ok := errors.AsType[*ServerError](err)
	if !ok || server.Status != http.StatusNotFound {
		return false
	}
	switch server.Type {
	case "index_not_found_exception", "aliases_not_found_exception":
		return true
	case "": // {"error":"alias [x] missing","status":404}
		return strings.HasPrefix(server.Reason, "alias [")
	}
	return false
}
