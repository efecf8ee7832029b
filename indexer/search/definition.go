package search

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/elastic/go-elasticsearch/v8/esapi"

	"tidemark/dbsync"
)

// A DefinitionError reports that the cluster does not take the settings or mappings of an
// index.
type DefinitionError struct {
	Reason string // in the server's words
}

func (e *DefinitionError) Error() string { return "the cluster refuses the index: " + e.Reason }

// Permanent marks it for dbsync.IsPermanent.
func (e *DefinitionError) Permanent() bool { return true }

// CheckDefinition asks the cluster whether it would create the index physical with body,
// the settings and mappings as JSON, and creates nothing. A *[DefinitionError] says that it
// would not. A cluster that does not let this user ask counts as one that would, and so
// does one with templates of its own that give such an index analyzers.
//
// It simulates an index template, which has the server parse both as for a new index
// (https://www.elastic.co/guide/en/elasticsearch/reference/8.19/indices-simulate-template.html).
func (c *Client) CheckDefinition(ctx context.Context, physical string, body []byte) error {
	template, err := json.Marshal(map[string]any{
		// Nothing else matches it, and no template of the same rank is in its way.
		"index_patterns": []string{"tidemark-definition-" + strings.ToLower(rand.Text())},
		"priority":       1 << 30,
		"template":       json.RawMessage(body),
	})
	if err != nil {
		return &dbsync.PermanentError{Err: fmt.Errorf("check the definition of an index: %w", err)}
	}
	err = c.call(ctx, "check the definition of an index", esapi.IndicesSimulateTemplateRequest{Body: bytes.NewReader(template)}, nil)
	server, answered := errors.AsType[*ServerError](err)
	switch {
	case !answered:
		return err
	case server.Status == http.StatusBadRequest && server.Type != "":
		if analyzers, err := c.templateAnalyzers(ctx, physical); err != nil || analyzers {
			return err
		}
		return &DefinitionError{Reason: withoutTemplate(server.Reason)}
	case !server.Permanent():
		return err
	}
	return nil
}

// templateAnalyzers reports whether a template of the cluster gives the index physical
// analyzers, which its mappings may name.
func (c *Client) templateAnalyzers(ctx context.Context, physical string) (bool, error) {
	var answer struct {
		Template struct {
			Settings struct {
				Index struct {
					Analysis json.RawMessage `json:"analysis"`
				} `json:"index"`
			} `json:"settings"`
		} `json:"template"`
	}
	err := c.call(ctx, "look for templates of "+physical, esapi.IndicesSimulateIndexTemplateRequest{Name: url.PathEscape(physical)}, &answer)
	if server, ok := errors.AsType[*ServerError](err); ok && server.Permanent() {
		return false, nil
	}
	return len(answer.Template.Settings.Index.Analysis) > 0, err
}

// withoutTemplate takes off the reasons that speak of the simulation.
func withoutTemplate(reason string) string {
	parts := strings.Split(reason, ": ")
	for len(parts) > 1 && (strings.Contains(parts[0], "simulate_template") || strings.Contains(parts[0], "[_doc]")) {
		parts = parts[1:]
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.Join(parts, ": "), "1: "), ";]")
}
