package search_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// Every document is listed once, whichever shard it is on and whatever is inside of it; a list
// that another process goes on with leaves none out; and what was written meanwhile may be.
func TestDocumentList(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		const documents = 9000
		ctx := searchtest.Within(t, 2*time.Minute)
		c := searchtest.Connect(t, s.URL)
		// Nested objects are documents of their own to the server, with the number of theirs.
		physical, alias := searchtest.NewIndex(t, s, `{"settings": {"number_of_shards": 7, "number_of_replicas": 0},
			"mappings": {"dynamic": false, "properties": {"inner": {"type": "nested", "properties": {"a": {"type": "keyword"}}}}}}`)
		w := searchtest.NewWriter(t, c, search.BulkOptions{})
		empty, err := c.NewDocumentList(ctx, physical)
		if err != nil || !empty.Done() {
			t.Fatalf("of an empty index: %+v, %v", empty, err)
		}

		var ops []dbsync.Operation
		write := func() {
			t.Helper()
			if err := w.Write(ctx, ops); err != nil {
				t.Fatal(err)
			}
			ops = ops[:0]
		}
		version := pglogrepl.LSN(1000)
		want := make(map[string]string) // routing by id
		store := func(i int) {
			version++
			op := searchtest.Store(alias, fmt.Sprint("doc ", i), version, `{"inner":[{"a":"1"},{"a":"2"},{"a":"3"}]}`)
			if i%3 == 0 {
				op.Routing = strconv.Itoa(i % 5)
			}
			ops, want[op.ID] = append(ops, op), op.Routing
		}
		for i := range documents {
			store(i)
		}
		write()
		for i := range documents { // many are written again, so that numbers are missing in between
			if i%4 != 0 {
				store(i)
			}
		}
		write()
		for i := range documents / 10 {
			op := searchtest.Remove(alias, fmt.Sprint("doc ", i*10), 1<<40)
			op.Routing = want[op.ID]
			ops = append(ops, op)
			delete(want, op.ID)
		}
		write()
		if err := c.Refresh(ctx, physical); err != nil {
			t.Fatal(err)
		}

		l, err := c.NewDocumentList(ctx, physical)
		if err != nil {
			t.Fatal(err)
		}
		listed := make(map[string]string)
		pages := 0
		for !l.Done() {
			before := l.Next
			page, err := l.Page(ctx, c)
			if err != nil {
				t.Fatal(err)
			}
			if l.Next <= before {
				t.Fatalf("it stands at %d after %d documents", l.Next, len(page))
			}
			for _, d := range page {
				if _, twice := listed[d.ID]; twice {
					t.Fatalf("document %q is listed twice", d.ID)
				}
				listed[d.ID] = d.Routing
			}
			if pages++; pages == 2 {
				// Another process goes on, while the first documents of the index are written again.
				store(1)
				store(documents - 1)
				write()
				if err := c.Refresh(ctx, physical); err != nil {
					t.Fatal(err)
				}
				l = &search.DocumentList{Index: physical, Next: l.Next, Last: l.Last}
			}
		}
		for id, routing := range want {
			if at, ok := listed[id]; ok && at != routing {
				t.Errorf("document %q is listed with routing %q, not %q", id, at, routing)
			} else if !ok && id != "doc 1" && id != fmt.Sprint("doc ", documents-1) {
				t.Errorf("document %q is not listed", id)
			}
		}
		if len(listed) > len(want) || pages < 4 {
			t.Errorf("%d documents listed in %d pages, %d are there", len(listed), pages, len(want))
		}
		t.Log(len(listed), "documents in", pages, "pages, numbers up to", l.Last)
	})
}

// A sparse index costs few searches, and a dense one is not sorted as a whole for each page.
func TestDocumentListWindow(t *testing.T) {
	type doc struct {
		seqNo int64
		id    string
	}
	var docs []doc
	add := func(seqNo int64) { docs = append(docs, doc{seqNo, fmt.Sprint(len(docs))}) }
	for i := range int64(10) { // after a billion of writes
		add(i * 100_000_000)
	}
	for i := range int64(10_000) { // of three shards
		for range 3 {
			add(1_000_000_000 + i)
		}
	}
	searches, widest := 0, 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			io.WriteString(w, elasticsearchPage)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(string(body), "desc") {
			last := docs[len(docs)-1]
			fmt.Fprintf(w, `{"hits":{"hits":[{"_id":"%s","sort":[%d]}]}}`, last.id, last.seqNo)
			return
		}
		searches++
		var size int
		var from, to int64
		if _, err := fmt.Sscanf(string(body), `{"size":%d,"query":{"range":{"_seq_no":{"gte":%d,"lt":%d}}}`, &size, &from, &to); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		var hits []string
		found := 0
		for _, d := range docs {
			if d.seqNo >= from && d.seqNo < to {
				if found++; found <= size {
					hits = append(hits, fmt.Sprintf(`{"_id":"%s","sort":[%d]}`, d.id, d.seqNo))
				}
			}
		}
		widest = max(widest, found)
		fmt.Fprintf(w, `{"hits":{"hits":[%s]}}`, strings.Join(hits, ","))
	}))
	t.Cleanup(s.Close)
	c := searchtest.Connect(t, s.URL)
	ctx := searchtest.Within(t, time.Minute)
	l, err := c.NewDocumentList(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for !l.Done() {
		page, err := l.Page(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			listed = append(listed, d.ID)
		}
	}
	if want := len(docs); len(listed) != want || listed[0] != "0" || !slices.IsSortedFunc(listed, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	}) {
		t.Errorf("%d documents are listed, %d are there", len(listed), want)
	}
	if searches > 70 {
		t.Errorf("%d searches", searches)
	}
	t.Log(searches, "searches; the widest one has", widest, "documents")
}
