package search

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/elastic/go-elasticsearch/v8/esapi"
)

// A RecoveryType says what a copy of a shard was made from.
type RecoveryType string

const (
	RecoveredEmpty    RecoveryType = "EMPTY_STORE"    // nothing: the index was made
	RecoveredExisting RecoveryType = "EXISTING_STORE" // what was on the disk: its node was started again
	RecoveredPeer     RecoveryType = "PEER"           // another copy: it was moved to another node
	RecoveredSnapshot RecoveryType = "SNAPSHOT"       // a snapshot of the cluster
)

// A Recovery is how, and when, the primary copy of a shard began to be where it is.
type Recovery struct {
	Type RecoveryType
	At   time.Time // by the clock of its node, in ms
}

// Recoveries returns how the primary copies of an index's shards came to be, by the numbers of the
// shards. One that is not there now, or that was another copy's replica before, is left out. A search
// server forgets which versions its deleted documents had when a copy is recovered, and what
// was not yet written to the disk.
//
// (https://www.elastic.co/guide/en/elasticsearch/reference/8.19/indices-recovery.html)
func (c *Client) Recoveries(ctx context.Context, index string) (map[int]Recovery, error) {
	var answer map[string]struct {
		Shards []struct {
			ID      int          `json:"id"`
			Type    RecoveryType `json:"type"`
			Primary bool         `json:"primary"`
			Start   int64        `json:"start_time_in_millis"`
		} `json:"shards"`
	}
	what := "ask how the shards of " + index + " were recovered"
	err := c.call(ctx, what, esapi.IndicesRecoveryRequest{Index: []string{url.PathEscape(index)},
		FilterPath: []string{"*.shards.id", "*.shards.type", "*.shards.primary", "*.shards.start_time_in_millis"}}, &answer)
	if err != nil {
		return nil, err
	}
	recoveries := make(map[int]Recovery)
	for _, s := range answer[index].Shards {
		if s.Primary {
			recoveries[s.ID] = Recovery{s.Type, time.UnixMilli(s.Start)}
		}
	}
	return recoveries, nil
}

// A Durability says when a search server has what it has answered on its disk.
type Durability string

const (
	DurableRequest Durability = "request" // before it answers
	DurableAsync   Durability = "async"   // some seconds later: a crash takes it
)

// durabilityAnswer is what is read of an index's settings.
type durabilityAnswer struct {
	Index struct {
		Translog struct {
			Durability string `json:"durability"`
		} `json:"translog"`
	} `json:"index"`
}

func (a *durabilityAnswer) get() Durability {
	return Durability(strings.ToLower(a.Index.Translog.Durability))
}

// Durability returns the one of an index, as it was set or as the cluster has it for all.
func (c *Client) Durability(ctx context.Context, index string) (Durability, error) {
	var answer map[string]struct {
		Settings, Defaults durabilityAnswer
	}
	yes := true
	err := c.call(ctx, "ask for the durability of "+index, esapi.IndicesGetSettingsRequest{Index: []string{url.PathEscape(index)}, IncludeDefaults: &yes,
		FilterPath: []string{"*.settings.index.translog.durability", "*.defaults.index.translog.durability"}}, &answer)
	if err != nil {
		return "", err
	}
	found := answer[index]
	for _, a := range []durabilityAnswer{found.Settings, found.Defaults} {
		if d := a.get(); d != "" {
			return d, nil
		}
	}
	return DurableRequest, nil
}

// DurabilityOfNew returns the durability that an index of this name would get that is made with body,
// the settings and mappings as JSON: by them, or else by a template of the cluster.
func (c *Client) DurabilityOfNew(ctx context.Context, physical string, body []byte) (Durability, error) {
	var given struct {
		Settings map[string]any `json:"settings"`
	}
	if err := json.Unmarshal(body, &given); err != nil {
		return "", fmt.Errorf("settings of %s: %w", physical, err)
	}
	if d := durabilityIn(given.Settings, ""); d != "" {
		return d, nil
	}
	var answer struct {
		Template struct {
			Settings durabilityAnswer `json:"settings"`
		} `json:"template"`
	}
	err := c.call(ctx, "look for templates of "+physical, esapi.IndicesSimulateIndexTemplateRequest{Name: url.PathEscape(physical)}, &answer)
	if err != nil {
		return "", err
	}
	if d := answer.Template.Settings.get(); d != "" {
		return d, nil
	}
	return DurableRequest, nil
}

// durabilityIn looks for the durability in settings, whose keys may be paths, below a path.
func durabilityIn(settings map[string]any, at string) Durability {
	for key, value := range settings {
		path := at + key
		switch value := value.(type) {
		case map[string]any:
			if d := durabilityIn(value, path+"."); d != "" {
				return d
			}
		case string:
			if strings.TrimPrefix(path, "index.") == "translog.durability" {
				return Durability(strings.ToLower(value))
			}
		}
	}
	return ""
}
