package dbsync_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/dbsync"
)

const products = `CREATE TABLE products (id int PRIMARY KEY, title text, picture text);
	ALTER TABLE products ALTER picture SET STORAGE EXTERNAL;
	INSERT INTO products VALUES (1, 'Lamp', repeat('x', 10000)), (2, 'Chair', NULL)`

// runLibrary follows the table products by a handler.
func runLibrary(t *testing.T, setup func(s *dbsync.Syncer)) (s *dbsync.Syncer, exec func(statements ...string)) {
	t.Helper()
	db := newDatabase(t, products)
	s, err := dbsync.NewSyncer(dbsync.WithPGConnStr(db.URL), dbsync.WithReplicationSlot(db.Unique("slot")), dbsync.ForTables("public.products"))
	if err != nil {
		t.Fatal(err)
	}
	setup(s)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		s.Close()
	})
	await(t, "it runs", s.IsRunning)
	return s, func(statements ...string) { t.Helper(); db.Exec(t, statements...) }
}

// A collection answers as Typesense's reference says for /collections/C/documents.
type collection struct {
	mu   sync.Mutex
	docs map[string]map[string]any
}

func (c *collection) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.Header.Get("X-TYPESENSE-API-KEY") != "secret":
		http.Error(w, `{"message": "Forbidden"}`, http.StatusUnauthorized)
	case r.Method == http.MethodPost && r.URL.Path == "/collections/products/documents/import" && r.URL.Query().Get("action") == "emplace":
		lines := bufio.NewScanner(r.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var doc map[string]any
			if err := json.Unmarshal(lines.Bytes(), &doc); err != nil {
				fmt.Fprintf(w, `{"success":false,"error":%q}`+"\n", err)
				continue
			}
			id := doc["id"].(string)
			if c.docs[id] == nil {
				c.docs[id] = make(map[string]any)
			}
			maps.Copy(c.docs[id], doc)
			fmt.Fprintln(w, `{"success":true}`)
		}
	case r.Method == http.MethodDelete && r.URL.Path == "/collections/products/documents":
		ids, _ := strings.CutPrefix(r.URL.Query().Get("filter_by"), "id:[")
		for id := range strings.SplitSeq(strings.TrimSuffix(ids, "]"), ",") {
			delete(c.docs, strings.Trim(id, "`"))
		}
		fmt.Fprintln(w, `{"num_deleted":1}`)
	default:
		http.NotFound(w, r)
	}
}

// titles returns the title of each document, and how long its picture is.
func (c *collection) titles() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	titles := make(map[string]string)
	for id, doc := range c.docs {
		picture, _ := doc["picture"].(string)
		titles[id] = fmt.Sprintf("%v %d", doc["title"], len(picture))
	}
	return titles
}

// The handler of the example for Typesense keeps a collection equal to a table: rows that were there,
// changes, keys that change, and values that the log leaves out.
func TestTypesense(t *testing.T) {
	t.Parallel()
	c := &collection{docs: make(map[string]map[string]any)}
	server := httptest.NewServer(c)
	defer server.Close()
	s, exec := runLibrary(t, func(s *dbsync.Syncer) {
		h := &typesense{syncer: s, url: server.URL, key: "secret"}
		s.MessageHandler, s.Batcher = h, h
	})
	if !s.Refresh("SELECT * FROM products") {
		t.Fatal(s.Err())
	}
	wants := func(want map[string]string) {
		t.Helper()
		await(t, fmt.Sprint("the documents are ", want), func() bool { return cmp.Equal(c.titles(), want) })
	}
	wants(map[string]string{"1": "Lamp 10000", "2": "Chair 0"})
	exec(`UPDATE products SET title = 'Desk lamp' WHERE id = 1`, `UPDATE products SET id = 3 WHERE id = 2`, `INSERT INTO products VALUES (4, 'Shelf', NULL), (5, 'Table', NULL)`, `DELETE FROM products WHERE id = 4`)
	wants(map[string]string{"1": "Desk lamp 10000", "3": "Chair 0", "5": "Table 0"})
}

// The batcher of the example for a webhook repeats a batch that is refused, and a receiver that goes by
// versions has the rows in the end.
func TestWebhook(t *testing.T) {
	t.Parallel()
	var (
		mu       sync.Mutex
		refused  bool
		newest   = make(map[string]event)
		repeated int
	)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		var events []event
		if err == nil {
			err = json.Unmarshal(body, &events)
		}
		if err != nil {
			t.Error(err)
		}
		for _, e := range events {
			was, there := newest[e.ID]
			before, now := lsn(t, max(was.Version, "0/0")), lsn(t, e.Version)
			if there && (now < before || now == before && e.Group < was.Group) {
				continue
			}
			if there && now == before && e.Group == was.Group {
				repeated++
			}
			newest[e.ID] = e
		}
		if !refused { // after it has taken them: as if the answer were lost
			refused = true
			http.Error(w, "not now", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	_, exec := runLibrary(t, func(s *dbsync.Syncer) {
		s.MessageHandler, s.Batcher = &typesense{syncer: s}, dbsync.OperationsOnly(&webhook{server.URL})
	})
	exec(`INSERT INTO products VALUES (6, 'Rug', NULL)`, `UPDATE products SET title = 'Carpet' WHERE id = 6`, `DELETE FROM products WHERE id = 2`)
	await(t, "the changes are there, and came again after the answer that said no", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return newest["6"].Row["title"] == "Carpet" && newest["2"].Deleted && repeated > 0
	})
}
