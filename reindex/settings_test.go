package reindex

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	"tidemark/reindex/verify"
)

// The settings that are others during the backfill of an index.
func TestSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t, settings: {number_of_replicas: 2, refresh_interval: 7s}}`+"\n"+`PREFIXu: {table: u}`,
		tableT, `CREATE TABLE u (id int PRIMARY KEY)`)
	settings := func(index string) string {
		_, answer, err := r.search.Do(context.WithoutCancel(t.Context()), http.MethodGet, "/"+index+"/_settings?flat_settings=true", nil)
		if err != nil {
			t.Error(err)
		}
		var indices map[string]struct{ Settings map[string]string }
		if err := json.Unmarshal(answer, &indices); err != nil {
			t.Errorf("%s: %v", answer, err)
		}
		for _, i := range indices {
			return "replicas " + i.Settings["index.number_of_replicas"] + ", refresh " + i.Settings["index.refresh_interval"]
		}
		return "none"
	}
	var during []string
	p := r.start(t, options{begin: func(index string, _ verify.Rows) {
		st, err := r.schema().States().Read(context.WithoutCancel(t.Context()), index)
		if err != nil {
			t.Error(err)
			return
		}
		during = append(during, settings(st.Building.Physical))
	}})
	p.complete(t)
	for _, s := range during {
		if s != "replicas 0, refresh -1" {
			t.Errorf("settings during the backfill: %s", s)
		}
	}
	if got, want := settings(r.prefix+"t"), "replicas 2, refresh 7s"; got != want {
		t.Errorf("settings: %s, want %s", got, want)
	}
	if got, want := settings(r.prefix+"u"), "replicas 1, refresh "; got != want {
		t.Errorf("settings: %s, want %s", got, want)
	}
}

// What the backfill changes of a body is put back as the mapping has it, and nothing else changes.
func TestBackfillBody(t *testing.T) {
	for _, test := range []struct{ body, during, after string }{
		{`{"settings":{"index.number_of_shards":3},"mappings":{"dynamic":false}}`,
			`{"mappings":{"dynamic":false},"settings":{"index.number_of_replicas":0,"index.number_of_shards":3,"index.refresh_interval":"-1"}}`,
			`{"index.number_of_replicas":null,"index.refresh_interval":null}`},
		{`{"settings":{"index.number_of_replicas":2,"index.refresh_interval":"7s"}}`,
			`{"settings":{"index.number_of_replicas":0,"index.refresh_interval":"-1"}}`,
			`{"index.number_of_replicas":2,"index.refresh_interval":"7s"}`},
	} {
		during, err := backfillBody([]byte(test.body))
		if err != nil || string(during) != test.during {
			t.Errorf("%s: during the backfill %s, %v", test.body, during, err)
		}
		settings, err := completeSettings([]byte(test.body))
		if err != nil {
			t.Fatal(err)
		}
		if after, err := json.Marshal(settings); err != nil || string(after) != test.after {
			t.Errorf("%s: after it %s, %v", test.body, after, err)
		}
	}
	for _, body := range []string{`[]`, `{"settings":[]}`, `{}`} {
		if _, err := backfillBody([]byte(body)); err == nil {
			t.Errorf("%s: no error", body)
		}
	}
}
