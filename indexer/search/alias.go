package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/elastic/go-elasticsearch/v8/esapi"
)

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

// Adopts reports whether indices and aliases that somebody else made may be replaced, see
// [Options].
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
// search sees the middle of. An index that has the name alias is a *[NameTakenError], or is
// deleted in that step, see [Options]. It returns the indices that alias stood for before.
// When it stands for to alone already, nothing is sent and nothing returned.
func (c *Client) MoveAlias(ctx context.Context, alias, to string) (old []string, err error) {
	type target struct {
		Index string `json:"index"`
		Alias string `json:"alias,omitempty"`
	}
	actions := []map[string]target{}
	var targets []string
	switch taken, err := c.isTaken(ctx, alias); {
	case err != nil:
		return nil, err
	case taken && !c.adopt:
		return nil, &NameTakenError{Name: alias}
	case taken:
		actions = append(actions, map[string]target{"remove_index": {Index: alias}})
	default:
		if targets, err = c.AliasTargets(ctx, alias); err != nil {
			return nil, err
		}
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
