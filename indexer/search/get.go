package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/elastic/go-elasticsearch/v8/esapi"

	"tidemark/dbsync"
)

// maxDocument bounds what is read of the answer that has one document: servers take no
// larger requests than 100 MB, unless they are told to.
const maxDocument = 256 << 20

// Stored is a document as an index has it now, whether searches see it yet or not.
type Stored struct {
	ID          string          `json:"_id"`
	Routing     string          `json:"_routing"`
	Found       bool            `json:"found"`
	Version     int64           `json:"_version"`
	SeqNo       int64           `json:"_seq_no"`
	PrimaryTerm int64           `json:"_primary_term"`
	Source      json.RawMessage `json:"_source"` // as it was sent
}

// Get returns the documents of some ids and routings, in the order in which they are asked
// for; with an error, none of them. With a routing other than its own a document may be
// found, or not.
func (c *Client) Get(ctx context.Context, index string, documents []Listed) ([]Stored, error) {
	type reference struct {
		ID      string `json:"_id"`
		Routing string `json:"routing,omitempty"`
	}
	references := make([]reference, len(documents))
	for i, d := range documents {
		references[i] = reference(d)
	}
	body, err := json.Marshal(map[string]any{"docs": references})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Docs []struct {
			Stored
			Error *itemError `json:"error"`
		} `json:"docs"`
	}
	what := fmt.Sprintf("read %d documents of %s", len(documents), index)
	limit := int64(maxAnswer)
	if len(documents) == 1 {
		limit = maxDocument
	}
	// Without a filter of the answer: it would have the server write the documents anew.
	err = c.callUpTo(ctx, limit, what, esapi.MgetRequest{Index: url.PathEscape(index), Body: bytes.NewReader(body)}, &answer)
	if errors.Is(err, errLargeAnswer) && len(documents) > 1 {
		half := len(documents) / 2
		first, err := c.Get(ctx, index, documents[:half])
		if err != nil {
			return nil, err
		}
		second, err := c.Get(ctx, index, documents[half:])
		if err != nil {
			return nil, err
		}
		return append(first, second...), nil
	}
	if err != nil {
		return nil, err
	}
	if len(answer.Docs) != len(documents) {
		return nil, &dbsync.PermanentError{Err: fmt.Errorf("%s: the answer has %d", what, len(answer.Docs))}
	}
	found := make([]Stored, len(documents))
	for i := range answer.Docs {
		d := &answer.Docs[i]
		switch {
		case d.Error != nil && d.Error.Type == "index_not_found_exception":
			return nil, fmt.Errorf("%s: %w", what, ErrNoIndex)
		case d.Error != nil:
			// A shard that is not there now, most often.
			return nil, fmt.Errorf("%s: %w", what, &ServerError{Status: http.StatusServiceUnavailable, Type: d.Error.Type, Reason: d.Error.text()})
		case d.ID != documents[i].ID:
			return nil, &dbsync.PermanentError{Err: fmt.Errorf("%s: the answer has %q where %q was asked for", what, d.ID, documents[i].ID)}
		}
		found[i] = d.Stored
	}
	return found, nil
}
