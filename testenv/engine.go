package testenv

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// An Engine is a search server that Tidemark is tested against.
type Engine string

const (
	OpenSearch3    Engine = "opensearch"
	OpenSearch2    Engine = "opensearch2"
	OpenSearch1    Engine = "opensearch1"
	Elasticsearch9 Engine = "elasticsearch9"
	Elasticsearch8 Engine = "elasticsearch8"
	Elasticsearch7 Engine = "elasticsearch7"
)

// A build is what a server of an engine is made of.
type build struct {
	version string
	image   string // of Docker, which has the version as its tag
	java    int    // the oldest that runs it
	modules bool   // it has to be a named module, with modules of its own beside it
}

var builds = map[Engine]build{
	OpenSearch3:    {version: "3.3.2", image: "opensearchproject/opensearch", java: 21},
	OpenSearch2:    {version: "2.19.6", image: "opensearchproject/opensearch", java: 17},
	OpenSearch1:    {version: "1.3.14", image: "opensearchproject/opensearch", java: 11},
	Elasticsearch9: {version: "9.5.3", image: "elasticsearch", java: 21, modules: true},
	Elasticsearch8: {version: "8.15.5", image: "elasticsearch", java: 17, modules: true},
	Elasticsearch7: {version: "7.17.29", image: "elasticsearch", java: 11},
}

// AllEngines lists them.
func AllEngines() []Engine {
	return []Engine{OpenSearch3, OpenSearch2, OpenSearch1, Elasticsearch9, Elasticsearch8, Elasticsearch7}
}

// IsOpenSearch reports whether it is a release of OpenSearch.
func (e Engine) IsOpenSearch() bool { return strings.HasPrefix(string(e), "opensearch") }

// Version is the release that is started.
func (e Engine) Version() string { return builds[e].version }

// URLVariable names the environment variable with the URL of a running one.
func (e Engine) URLVariable() string {
	return "TIDEMARK_TEST_" + strings.ToUpper(string(e)) + "_URL"
}

// ParseEngines reads a comma-separated list; "" is [OpenSearch3], "all" is [AllEngines].
func ParseEngines(list string) ([]Engine, error) {
	var engines []Engine
	for name := range strings.SplitSeq(list, ",") {
		e := Engine(strings.TrimSpace(name))
		switch {
		case e == "":
		case e == "all":
			return AllEngines(), nil
		case !slices.Contains(AllEngines(), e):
			return nil, fmt.Errorf("no engine %q, only %q", e, AllEngines())
		case !slices.Contains(engines, e):
			engines = append(engines, e)
		}
	}
	if len(engines) == 0 {
		engines = []Engine{OpenSearch3}
	}
	return engines, nil
}

// Engines are those to run a suite against, from TIDEMARK_TEST_ENGINES.
func Engines(t testing.TB) []Engine {
	t.Helper()
	engines, err := ParseEngines(os.Getenv("TIDEMARK_TEST_ENGINES"))
	if err != nil {
		t.Fatalf("TIDEMARK_TEST_ENGINES: %v", err)
	}
	return engines
}
