package search_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
)

// TestLimitationsAreDocumented holds the table of the manual against that of the code.
func TestLimitationsAreDocumented(t *testing.T) {
	var want strings.Builder
	want.WriteString("| product | | why | hint |\n| --- | --- | --- | --- |\n")
	for _, l := range search.AllLimitations() {
		how := "used"
		if l.Refused {
			how = "refused"
		}
		fmt.Fprintf(&want, "| %s | %s | %s | %s |\n", l.Product, how, l.Lacks, l.Hint)
	}
	manual, err := os.ReadFile("../../docs/clusters.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(manual), "\n\n"+want.String()+"\n") {
		t.Errorf("docs/clusters.md is to have this table:\n%s", want.String())
	}
}

// TestLimitations connects to what says that it is a product of some release.
func TestLimitations(t *testing.T) {
	page := func(number, more, tagline string) string {
		return fmt.Sprintf(`{"cluster_name":"c","cluster_uuid":"u","version":{"number":%q%s},"tagline":%q}`, number, more, tagline)
	}
	es := func(number, flavor string) string {
		return page(number, `,"build_flavor":"`+flavor+`"`, "You Know, for Search")
	}
	os := func(number string) string {
		return page(number, `,"distribution":"opensearch"`, "The OpenSearch Project: https://opensearch.org/")
	}
	for _, test := range []struct {
		page          string
		refused, said string // a product of the table
	}{
		{es("6.8.23", "default"), "Elasticsearch before 7.9", ""},
		{es("7.8.1", "oss"), "Elasticsearch before 7.9", ""},
		{es("7.9.0", "oss"), "", "Elasticsearch 7.9 to 7.16"},
		{es("7.10.2", "oss"), "", "Elasticsearch 7.9 to 7.16"},
		{es("7.17.29", "default"), "", ""},
		{es("8.19.0", "default"), "", ""},
		{es("8.11.0", "serverless"), "Elasticsearch Serverless", ""},
		{es("9.0.0-SNAPSHOT", "default"), "", ""},
		{es("10.0.0", "default"), "", "Elasticsearch from 10 on"},
		{os("1.2.4"), "", "OpenSearch 1.0 to 1.2"},
		{os("1.3.20"), "", ""},
		{os("2.19.1"), "", ""},
		{os("3.0.0"), "", ""},
		{os("4.1.0"), "", "OpenSearch from 4 on"},
	} {
		s := httptest.NewServer(rootPage(200, test.page))
		o := search.Options{URLs: []string{s.URL}, Logger: searchtest.Logger(t), StartTimeout: time.Second}
		c, err := search.Connect(searchtest.Within(t, time.Minute), o)
		refused, said := "", ""
		if unsupported, ok := errors.AsType[*search.UnsupportedError](err); ok {
			refused = unsupported.Limitation.Product
			if !strings.Contains(err.Error(), unsupported.Hint) || strings.Contains(err.Error(), "`") {
				t.Errorf("%s: %v", test.page, err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", test.page, err)
		}
		if err == nil {
			for _, l := range c.Product().Limitations() {
				said += l.Product
			}
			c.Close()
		}
		if refused != test.refused || said != test.said {
			t.Errorf("%s: refused as %q, said of it %q; want %q, %q", test.page, refused, said, test.refused, test.said)
		}
		s.Close()
	}
}
