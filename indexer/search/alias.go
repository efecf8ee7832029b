package search

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/elastic/go-elasticsearch/v8/esapi"

	"tidemark/dbsync"
)

// An Alias is how an alias stands for an index.
type Alias struct {
	Filter        json.RawMessage `json:"filter,omitempty"` // that searchers see the index through
	IndexRouting  string          `json:"index_routing,omitempty"`
	SearchRouting string          `json:"search_routing,omitempty"`
	IsWriteIndex  *bool           `json:"is_write_index,omitempty"`
	IsHidden      *bool           `json:"is_hidden,omitempty"`
}

// String says what is special about it, "" if nothing is.
func (a Alias) String() string {
	var parts []string
	if len(a.Filter) > 0 {
		parts = append(parts, "filter "+string(a.Filter))
	}
	for _, routing := range []struct{ key, value string }{{"index_routing", a.IndexRouting}, {"search_routing", a.SearchRouting}} {
		if routing.value != "" {
			parts = append(parts, routing.key+" "+routing.value)
		}
	}
	if a.IsWriteIndex != nil && *a.IsWriteIndex {
		parts = append(parts, "is_write_index")
	}
	if a.IsHidden != nil && *a.IsHidden {
		parts = append(parts, "is_hidden")
	}
	return strings.Join(parts, ", ")
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
	return slices.Sorted(maps.Keys(answer)), nil
}

// Adopts reports whether names that indices or aliases of somebody else have may be taken over,
// see [Options].
func (c *Client) Adopts() bool { return c.adopt }

// Others are the aliases of a physical index that somebody has added to it, by name: all but the
// one that searchers use and the one that it is written by.
func (s *Standing) Others(physical string) map[string]Alias {
	others := make(map[string]Alias)
	if i := s.Get(physical); i != nil {
		maps.Copy(others, i.Aliases)
	}
	delete(others, s.Alias)
	delete(others, WriteAlias(s.Alias, physical))
	return others
}

// An AliasError reports an alias of a physical index that cannot stay as it is.
type AliasError struct {
	Physical, Alias string
	Why, Fix        string
}

func (e *AliasError) Error() string { return e.Text() + "; hint: " + e.Hint() }

// Text says what was found.
func (e *AliasError) Text() string {
	return fmt.Sprintf("the alias %s of %s %s", e.Alias, e.Physical, e.Why)
}

// Hint says what to do.
func (e *AliasError) Hint() string { return e.Fix }

// Permanent marks it for dbsync.IsPermanent.
func (e *AliasError) Permanent() bool { return true }

// CheckAliases returns an *[AliasError] when the owner's index has aliases by which somebody else
// writes, or that change what is written: neither can be kept over a rebuild.
func (s *Standing) CheckAliases(owner Owner) error {
	for _, i := range s.Physical() {
		if !i.IsOf(owner) {
			continue
		}
		write := WriteAlias(s.Alias, i.Name)
		if a, ok := i.Aliases[write]; ok && (len(a.Filter) > 0 || a.IndexRouting != "" || a.SearchRouting != "") {
			return &AliasError{Physical: i.Name, Alias: write, Why: "has " + a.String() + ", so that documents are written where nobody looks for them",
				Fix: fmt.Sprintf("delete the index %s, then it is made anew; nobody but Tidemark uses this alias", i.Name)}
		}
		others := s.Others(i.Name)
		for _, name := range slices.Sorted(maps.Keys(others)) {
			if a := others[name]; a.IsWriteIndex != nil && *a.IsWriteIndex {
				return &AliasError{Physical: i.Name, Alias: name, Why: "has is_write_index: somebody else writes by it what is in no table",
					Fix: "have whoever writes by it write to another index, and add the alias without is_write_index"}
			}
		}
	}
	return nil
}

// An aliasAction is one of a request that changes aliases.
type aliasAction struct {
	Index string `json:"index"`
	Name  string `json:"alias,omitempty"`
	Alias
}

// MoveAlias makes alias stand for the owner's index to, and for no other, in one step that no
// search sees the middle of. Its filter and routing stay as they are, and aliases that somebody has
// added to the index before come along. Where the alias stands for an index of somebody else it is
// an *[OwnerError], where an index has its name a *[NameTakenError], unless they may be taken over, see
// [Options]. It returns the indices that alias stood for before. When it stands for to alone
// already, nothing is sent and nothing returned. The move counts when the cluster shows it.
func (c *Client) MoveAlias(ctx context.Context, alias, to string, owner Owner) (old []string, err error) {
	what := "move alias " + alias + " to " + to
	standing, err := c.Standing(ctx, alias)
	if err != nil {
		return nil, err
	}
	if err := standing.CheckName(c.adopt); err != nil {
		return nil, err
	}
	if err := standing.foreign(standing.Behind(), owner, none, true); err != nil && !c.adopt {
		return nil, err
	}
	target := standing.Get(to)
	if target == nil {
		return nil, fmt.Errorf("%s: %w", what, ErrNoIndex)
	}
	if !target.IsOf(owner) {
		return nil, fmt.Errorf("%s: %w", what, &OwnerError{Indices: []string{to}, Owner: target.Owner()})
	}
	actions, old := standing.move(target, owner)
	if len(actions) == 0 {
		return nil, nil
	}
	if err := c.updateAliases(ctx, what, actions); err != nil {
		return nil, err
	}
	return old, c.readBack(ctx, what, alias, to, owner)
}

// move returns what has the alias stand for an index alone, and what it stood for before.
func (s *Standing) move(to *IndexInfo, owner Owner) (actions []map[string]aliasAction, old []string) {
	if s.Get(s.Alias) != nil {
		actions = append(actions, map[string]aliasAction{"remove_index": {Index: s.Alias}})
	}
	behind, kept := s.Behind(), Alias{}
	for _, i := range behind {
		if i == to {
			continue
		}
		if old = append(old, i.Name); i.IsOf(owner) {
			kept = i.Aliases[s.Alias]
			others := s.Others(i.Name)
			for _, name := range slices.Sorted(maps.Keys(others)) {
				actions = append(actions, map[string]aliasAction{"add": {to.Name, name, others[name]}}, map[string]aliasAction{"remove": {Index: i.Name, Name: name}})
			}
		}
		actions = append(actions, map[string]aliasAction{"remove": {Index: i.Name, Name: s.Alias}})
	}
	if !to.HasAlias(s.Alias) {
		actions = append(actions, map[string]aliasAction{"add": {to.Name, s.Alias, kept}})
	}
	return actions, old
}

// readBack makes sure that alias stands for the index to alone. Where somebody else has moved it at
// the same time, it is left to them.
func (c *Client) readBack(ctx context.Context, what, alias, to string, owner Owner) error {
	standing, err := c.Standing(ctx, alias)
	if err != nil {
		return fmt.Errorf("%s: look whether it was moved: %w", what, err)
	}
	behind := standing.Behind()
	if len(behind) == 1 && behind[0].Name == to {
		return nil
	}
	var names []string
	for _, i := range behind {
		names = append(names, i.Name)
	}
	err = fmt.Errorf("%s: it was acknowledged, and the alias stands for [%s]", what, strings.Join(names, " "))
	if foreign := standing.foreign(behind, owner, none, true); foreign != nil && slices.Contains(names, to) {
		if e := c.updateAliases(ctx, "leave alias "+alias+" to somebody else", []map[string]aliasAction{{"remove": {Index: to, Name: alias}}}); e != nil {
			return e
		}
		err = foreign
	}
	return err
}

func (c *Client) updateAliases(ctx context.Context, what string, actions []map[string]aliasAction) error {
	body, err := json.Marshal(map[string]any{"actions": actions})
	if err != nil {
		return &dbsync.PermanentError{Err: fmt.Errorf("%s: %w", what, err)}
	}
	return c.change(ctx, what, esapi.IndicesUpdateAliasesRequest{Body: bytes.NewReader(body)})
}
