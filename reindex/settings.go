package reindex

import (
	"encoding/json"
	"fmt"
	"maps"
)

// During its backfill nobody searches an index: it need not be refreshed, and its replicas get
// a copy when it is complete.
var backfillSettings = map[string]any{"index.refresh_interval": "-1", "index.number_of_replicas": 0}

// backfillBody returns the body for the creation of an index that is to be backfilled.
func backfillBody(body []byte) ([]byte, error) {
	parts, settings, err := splitBody(body)
	if err != nil {
		return nil, err
	}
	maps.Copy(settings, backfillSettings)
	if parts["settings"], err = json.Marshal(settings); err != nil {
		return nil, err
	}
	return json.Marshal(parts)
}

// completeSettings returns what backfillBody changed as the mapping has it; nil stands for the
// server's default.
func completeSettings(body []byte) (map[string]any, error) {
	_, settings, err := splitBody(body)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(backfillSettings))
	for key := range backfillSettings {
		out[key] = settings[key]
	}
	return out, nil
}

func splitBody(body []byte) (parts map[string]json.RawMessage, settings map[string]any, err error) {
	if err := json.Unmarshal(body, &parts); err != nil {
		return nil, nil, fmt.Errorf("body of an index: %w", err)
	}
	if err := json.Unmarshal(parts["settings"], &settings); err != nil {
		return nil, nil, fmt.Errorf("settings of an index: %w", err)
	}
	return parts, settings, nil
}
