package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// save commits a product, and returns when searches find it. tidemark is the address of
// admin.listen: http://127.0.0.1:9630
func save(ctx context.Context, db *pgx.Conn, tidemark string, id int, title string) error {
	if _, err := db.Exec(ctx, `INSERT INTO products (id, title) VALUES ($1, $2)`, id, title); err != nil {
		return err
	}
	// After the commit, on the same connection.
	var lsn string
	if err := db.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&lsn); err != nil {
		return err
	}
	query := url.Values{"lsn": {lsn}, "index": {"products"}, "searchable": {"true"}, "timeout": {"5s"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, tidemark+"/wait?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("committed, but searches may not find it yet: %s: %s", resp.Status, why)
	}
	return nil
}

// TestReadYourWritesExample runs the example of docs/read-your-writes.md, which is the function above to
// the letter.
func TestReadYourWritesExample(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.prefix = "" // the example names its index
	s.db.Exec(t, `CREATE TABLE products (id int PRIMARY KEY, title text)`)
	alias := s.search.NewPrefix(t) + "products"
	s.index(alias, "products", `, settings: {index.refresh_interval: "-1"}`)
	i := s.start(t, "run")
	if code, _, wrong := s.print(t, "wait", "--timeout", "1m"); code != 0 {
		t.Fatalf("wait for the first filling: %d %s", code, wrong)
	}
	// Indices of tests have names of their own.
	proxy := renaming(t, "http://"+i.admin(t), alias)
	conn, err := pgx.Connect(t.Context(), s.db.URL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	for id := range 3 {
		must(t, save(t.Context(), conn, proxy, id, fmt.Sprintf("chair%d", id)))
		if n := s.found(t, alias, fmt.Sprintf("title:chair%d", id)); n != 1 {
			t.Errorf("searches find %d documents", n)
		}
	}
	i.stop(t)
	if err := save(t.Context(), conn, proxy, 100, "nobody"); err == nil {
		t.Error("it is searchable though no instance runs")
	}

	page, err := os.ReadFile("../../docs/read-your-writes.md")
	must(t, err)
	source, err := os.ReadFile("ownwrite_test.go")
	must(t, err)
	block := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(page)
	if block == nil || !strings.Contains(string(source), string(block[1])) {
		t.Error("the Go example of docs/read-your-writes.md is not the function that this test runs")
	}
}

// renaming serves /wait of an instance for the index of another name.
func renaming(t testing.TB, instance, alias string) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get(instance + "/wait?" + strings.Replace(r.URL.RawQuery, "index=products", "index="+alias, 1))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body) // who reads it sees what is missing
	}))
	t.Cleanup(server.Close)
	return server.URL
}
