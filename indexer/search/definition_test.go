package search_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

func TestCheckDefinition(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"right", searchtest.ProductMapping, ""},
		{"no such type", `{"settings": {}, "mappings": {"properties": {"a": {"type": "txt"}}}}`, "txt"},
		{"no such analyzer", `{"settings": {}, "mappings": {"properties": {"a": {"type": "text", "analyzer": "nope"}}}}`, "analyzer [nope]"},
		{"analyzer of the settings", `{"settings": {"index.analysis.analyzer.ours.type": "standard"}, "mappings": {"properties": {"a": {"type": "text", "analyzer": "ours"}}}}`, ""},
		{"no such parameter", `{"settings": {}, "mappings": {"properties": {"a": {"type": "long", "fuzzy": true}}}}`, "fuzzy"},
		{"no such setting", `{"settings": {"index.number_of_shrds": 2}, "mappings": {}}`, "unknown setting [index.number_of_shrds]"},
		{"setting out of bounds", `{"settings": {"index.number_of_shards": 0}, "mappings": {}}`, "number_of_shards"},
	}
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		c := searchtest.Connect(t, s.URL)
		for _, tt := range tests {
			err := c.CheckDefinition(t.Context(), "t-20260131t120000z", []byte(tt.body))
			if refused, is := errors.AsType[*search.DefinitionError](err); tt.want == "" && err != nil || tt.want != "" && (!is || !strings.Contains(refused.Reason, tt.want) || strings.Contains(refused.Reason, "simulate")) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
			} else {
				t.Log(tt.name, "-", err)
			}
		}
		// Here the analyzer comes from the cluster.
		name := s.NewPrefix(t) + "a"
		template := `{"index_patterns": ["` + name + `*"], "template": {"settings": {"index": {"analysis": {"analyzer": {"theirs": {"type": "standard"}}}}}}}`
		if status, answer, err := s.Do(t.Context(), "PUT", "/_index_template/"+name, []byte(template)); err != nil || status != 200 {
			t.Fatalf("%d %s %v", status, answer, err)
		}
		t.Cleanup(func() { s.Do(context.WithoutCancel(t.Context()), "DELETE", "/_index_template/"+name, nil) })
		body := []byte(`{"settings": {}, "mappings": {"properties": {"a": {"type": "text", "analyzer": "theirs"}}}}`)
		if err := c.CheckDefinition(t.Context(), name, body); err != nil {
			t.Errorf("analyzer of a template: %v", err)
		}
		if status, answer, err := s.Do(t.Context(), "GET", "/_index_template", nil); err != nil || status == 200 && strings.Contains(string(answer), "tidemark-definition") {
			t.Errorf("a template was made: %s %v", answer, err)
		}
	})
}
