package indexer

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// connect connects to a server that is up, for the length of a test.
func connect(t testing.TB, url string) *Client {
	t.Helper()
	c, err := Connect(context.Background(), Options{URLs: []string{url}, Logger: testLogger(t), StartTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// testLogger logs to t where that helps, and not into benchmarks.
func testLogger(t testing.TB) *slog.Logger {
	if _, ok := t.(*testing.B); ok {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

const productMapping = `{
	"settings": {"number_of_shards": 1, "number_of_replicas": 0},
	"mappings": {"dynamic": false, "properties": {
		"id": {"type": "long"}, "sku": {"type": "keyword"}, "title": {"type": "text"}, "description": {"type": "text"},
		"price": {"type": "double"}, "stock": {"type": "integer"}, "tenant_id": {"type": "integer"},
		"created_at": {"type": "date"}, "active": {"type": "boolean"}
	}}
}`

// newIndex creates a physical index of its own for a test, gone at its end.
func newIndex(t testing.TB, s *testenv.SearchServer, body string) (physical, writeAlias string) {
	t.Helper()
	physical, writeAlias = PhysicalName(s.NewPrefix(t), time.Now())
	c := connect(t, s.URL)
	if err := c.CreateIndex(context.Background(), physical, writeAlias, []byte(body)); err != nil {
		t.Fatal(err)
	}
	return physical, writeAlias
}
