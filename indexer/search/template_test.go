package search_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

// What templates of the cluster give to physical indices is known before one is made, and refused
// where it could not be lived with.
func TestTemplates(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		for name, test := range map[string]struct {
			old  bool   // of the older form
			body string // of the template, for names that begin with P
			says string
			why  string // "": it can be lived with
		}{
			"settings and an alias": {body: `{"index_patterns":["P*"],"priority":7,"template":{"settings":{"index":{"refresh_interval":"77s"}},"aliases":{"P-all":{"filter":{"term":{"x":1}}}}}}`,
				says: `the aliases P-all (filter {"term":{"x":1}}); the settings index.refresh_interval`},
			"fields":                 {body: `{"index_patterns":["*","no"],"priority":7,"template":{"mappings":{"properties":{"tenant":{"type":"keyword"}}}}}`, says: "the fields tenant"},
			"our own alias":          {body: `{"index_patterns":["P-products-*"],"priority":7,"template":{"aliases":{"P-products":{}}}}`, why: "before it is filled"},
			"an alias that writes":   {body: `{"index_patterns":["P*"],"priority":7,"template":{"aliases":{"P-w":{"is_write_index":true}}}}`, why: "whoever writes by the alias P-w"},
			"a data stream":          {body: `{"index_patterns":["P*z"],"priority":7,"data_stream":{}}`, why: "data streams"},
			"old, our own alias":     {old: true, body: `{"index_patterns":["P*"],"aliases":{"P-products":{}}}`, why: "before it is filled"},
			"old, settings":          {old: true, body: `{"index_patterns":["P*"],"settings":{"index.refresh_interval":"77s"}}`, says: "the settings index.refresh_interval"},
			"for the alias' name":    {body: `{"index_patterns":["P-products"],"priority":7,"data_stream":{}}`},
			"for other names, old":   {old: true, body: `{"index_patterns":["P-product-*"],"aliases":{"P-products":{}}}`},
			"for what looks like it": {body: `{"index_patterns":["P-products-*x"],"priority":7,"data_stream":{}}`},
		} {
			t.Run(name, func(t *testing.T) {
				ctx := searchtest.Within(t, time.Minute)
				c := searchtest.Connect(t, s.URL)
				prefix := strings.TrimSuffix(s.NewPrefix(t), "-")
				path := "/_index_template/" + prefix
				if test.old {
					path = "/_template/" + prefix
				}
				test.body = strings.Replace(test.body, `"*"`, `"P-pro*cts-2*"`, 1)
				status, answer, err := s.Do(ctx, http.MethodPut, path, []byte(strings.ReplaceAll(test.body, "P", prefix)))
				if strings.Contains(string(answer), "unknown field [data_stream]") {
					t.Skip("the server has no module of data streams")
				}
				if err != nil || status != http.StatusOK {
					t.Fatalf("%d %s %v", status, answer, err)
				}
				defer func() { _, _, _ = s.Do(ctx, http.MethodDelete, path, nil) }()
				found, err := c.Templates(ctx, prefix+"-products")
				if err != nil {
					t.Fatal(err)
				}
				if test.says == "" && test.why == "" {
					if len(found) != 0 {
						t.Errorf("%v matches", found[0])
					}
					return
				}
				if len(found) != 1 || found[0].Name != prefix {
					t.Fatalf("there are %v", found)
				}
				if got, want := found[0].String(), strings.ReplaceAll(test.says, "P", prefix); test.says != "" && got != want {
					t.Errorf("it gives %q, want %q", got, want)
				}
				err = found[0].Check(prefix + "-products")
				wrong, refused := errors.AsType[*search.TemplateError](err)
				if refused != (test.why != "") || refused && (!dbsync.IsPermanent(err) || wrong.Template != prefix || !strings.Contains(err.Error(), strings.ReplaceAll(test.why, "P", prefix))) {
					t.Errorf("it is refused with %v, want %q", err, test.why)
				}
			})
		}
	})
}
