package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"tidemark/indexer/search"
	"tidemark/mapping"
)

// What is accepted when the YAML is read is not refused when a bulk request is to be made of
// it, which is after the slot was.
func TestBulkBoundsAreThoseOfTheYAML(t *testing.T) {
	for _, test := range []struct {
		bulk string
		ok   bool
	}{
		{"{requests: 1, bytes: 64KiB, documents: 1}", true},
		{"{requests: 64, bytes: 90MiB, documents: 100000}", true},
		{"{bytes: 94371841}", false},
		{"{bytes: 65535}", false},
		{"{requests: 65}", false},
		{"{documents: 100001}", false},
	} {
		config, err := mapping.Parse("t.yaml", fmt.Appendf(nil, "postgres: {url: postgres://h/d}\nsearch: {urls: [https://h], bulk: %s}\nindices: {a: {table: a}}\n", test.bulk), os.LookupEnv)
		if (err == nil) != test.ok {
			t.Errorf("%s: read with %v", test.bulk, err)
		}
		if err != nil {
			if !errors.As(err, new(mapping.Problems)) {
				t.Errorf("%s: %v", test.bulk, err)
			}
			continue
		}
		b := config.Search.Bulk
		_, err = search.NewBulk(&search.Client{}, search.BulkOptions{Requests: b.Requests, Bytes: b.Bytes, Documents: b.Documents,
			OnRefused: func(context.Context, []search.Refused) error { return nil }, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Errorf("%s: read, and then %v", test.bulk, err)
		}
	}
}
