package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "tidemark"

// arrows are the imports between our packages: who may import whom, and what for. Each arrow
// points down: a package stands above all that it imports. A new arrow is added here, with
// its reason, or it is no arrow.
//
// "…" after a name stands for the package and all below it.
var arrows = map[string]map[string]string{
	// The library stands alone.
	"dbsync/pgname":           {},
	"dbsync/internal/pgvalue": {},
	"dbsync": {
		"dbsync/internal/pgvalue": "values of columns",
		"dbsync/pgname":           "names of tables",
	},

	// Leaves of the mapping: what the catalog says, how a value looks, what an expression gives.
	"mapping/catalog":  {"dbsync/pgname": "schema.table is taken apart in one way"},
	"mapping/jsontext": {},
	"mapping/limit":    {},
	"mapping/near":     {"mapping/catalog": "the column that was probably meant"},
	"mapping/value":    {"mapping/catalog": "a form is that of a type", "mapping/jsontext": "strings of documents"},
	"mapping/expr": {
		"mapping/catalog": "expressions are over the columns of a table",
		"mapping/value":   "a column's text becomes a value, and a result becomes JSON",
		"mapping/near":    "names that are not there",
	},
	"mapping": {
		"mapping/catalog": "a mapping is of tables",
		"mapping/value":   "documents, index fields and statements are made of forms",
		"mapping/expr":    "where and expr",
		"mapping/near":    "names that are not there",

		"mapping/jsontext": "names of fields in documents",
		"mapping/limit":    "bounds of bulk requests, which the YAML may not exceed",
	},

	// The search side, which knows no Postgres.
	"indexer/retry": {"dbsync": "which errors are not worth repeating"},
	"indexer/search": {
		"dbsync":           "operations are what a bulk request is made of",
		"indexer/retry":    "attempts, pauses, alarms",
		"mapping/limit":    "bounds of bulk requests",
		"mapping/jsontext": "ids and routings in the lines of a bulk request",
	},
	"indexer": {
		"dbsync":         "messages, operations, windows",
		"mapping…":       "plans, statements, tables",
		"indexer/search": "bulk requests",
		"indexer/retry":  "truncations, which are written by other requests than bulk",
	},

	"indexer/topic": {
		"dbsync":         "operations are what records are made of",
		"indexer/retry":  "Kafka may be away",
		"indexer/search": "versions, and what the search server refuses",
	},

	// What is kept in the control schema, and what works by it.
	"reindex/control": {
		"indexer/topic":  "what is noted of topics",
		"dbsync":         "connections, and operations that became dead letters",
		"mapping…":       "the mapping and the tables that an index was made by",
		"indexer/search": "names of physical indices, refused operations",
		"indexer/retry":  "Postgres may be away",
	},
	"reindex/verify": {
		"dbsync":          "connections and positions",
		"mapping…":        "sources, keys, tables",
		"indexer":         "the same rows, plans and pages as the backfill",
		"indexer/search":  "documents",
		"indexer/retry":   "attempts and alarms",
		"reindex/control": "which index is in use, requests, dead letters",
	},
	"reindex": {
		"dbsync":          "windows, generations",
		"mapping…":        "indices, tables",
		"indexer":         "targets of documents, the pager",
		"indexer/search":  "physical indices and aliases",
		"indexer/retry":   "attempts and alarms",
		"reindex/control": "what is noted of indices, requests",
		"reindex/verify":  "documents without a row are found by it after partitions went",
	},

	// The command.
	"internal/version":  {},
	"internal/logging":  {"dbsync": "errors without the values of rows"},
	"internal/progress": {},
	"internal/systemd":  {},
	"deploy":            {},
	"internal/tracing":  {"dbsync": "what is told of a batch", "indexer": "what is told of rows that are read again", "indexer/search": "what is told of a bulk request"},
	"internal/admin": {
		"dbsync": "what is told of a batch", "indexer": "what is told of rows that are read again", "indexer/search": "what is told of a bulk request, why operations are sent again",
		"indexer/retry": "pauses while another process has the address", "reindex/control": "what is proven of an index, and what is to be stored again",
		"mapping": "admin.token, which is not shown however it is printed",
	},
	"internal/draft": {"mapping…": "init writes a mapping, which is checked as any other"},
	"internal/prepare": {
		"dbsync": "what a Syncer would find and make", "mapping…": "the file against the catalog",
		"indexer/search": "the cluster", "indexer/topic": "the topics of Kafka", "indexer/retry": "pauses",
		"reindex": "what each index needs", "reindex/control": "what is noted of indices",
	},
	"internal/service": {
		"dbsync": "the stream", "mapping…": "the mapping", "indexer…": "operations and bulk requests", "reindex…": "indices and requests",
		"internal/admin": "status, metrics, health", "internal/prepare": "everything is checked first", "internal/progress": "bars", "internal/systemd": "the service manager is told how it is", "internal/tracing": "traces of batches", "internal/version": "metrics",
	},
	"internal/apply": {
		"dbsync": "signs of life", "mapping…": "the file", "indexer": "truncations", "indexer/search": "bulk requests", "indexer/topic": "the worker", "indexer/retry": "alarms",
		"internal/admin": "status, metrics, health", "internal/prepare": "the cluster as run opens it", "internal/systemd": "the service manager is told how it is", "internal/version": "metrics",
	},
	"internal/cli": {
		"dbsync": "errors that decide the exit code", "mapping…": "the file", "indexer…": "errors and requests", "reindex…": "commands on indices, letters, requests",
		"internal/admin": "what status says of an index", "internal/apply": "apply", "internal/draft": "init", "internal/logging": "logs", "internal/prepare": "check", "internal/progress": "bars",
		"internal/service": "run", "internal/systemd": "the service manager that run was started by", "internal/version": "version",
	},
	"": {"internal/cli": "main starts the command"},

	// For tests, the demo and benchmarks.
	"testenv":                   {},
	"testenv/browser":           {"testenv": "a test without a browser is skipped, or fails"},
	"testenv/chaos":             {"testenv": "servers, faults, the checker"},
	"testenv/demo":              {"testenv": "servers"},
	"testenv/servers":           {"testenv": "servers"},
	"testenv/vulncheck":         {"testenv": "the cache of downloads"},
	"indexer/search/searchtest": {"dbsync": "operations", "indexer/retry": "alarms", "indexer/search": "clients and indices", "testenv": "servers"},
	"internal/e2e":              {},
	"bench": {
		"testenv": "servers", "mapping…": "the same documents for the plain load",
		"dbsync": "operations", "indexer/retry": "alarms", "indexer/search": "refused operations", "indexer/topic": "what is in a topic", "internal/prepare": "databases, clusters and topics as run opens them", "internal/progress": "numbers", "internal/service": "run in this process", "internal/version": "what was measured",
	},
}

// soleImporters have one package each that imports them, or one and the nemesis, which trusts nobody: what is
// ours is not made of their types.
var soleImporters = map[string]string{
	"github.com/chromedp/chromedp":                 "testenv/browser",
	"github.com/Shopify/toxiproxy/v2":              "testenv/chaos",
	"gopkg.in/yaml.v3":                             "mapping",
	"github.com/expr-lang/expr":                    "mapping/expr",
	"github.com/elastic/go-elasticsearch/v8/esapi": "indexer/search",
	"github.com/aws/aws-sdk-go-v2":                 "indexer/search",
	"github.com/twmb/franz-go":                     "indexer/topic testenv/chaos",
}

// TestImports holds every import of the module against the list of arrows.
func TestImports(t *testing.T) {
	used := make(map[string]bool)
	for _, p := range modulePackages(t) {
		allowed, known := arrows[p.name]
		if !known {
			t.Errorf("package %q is in no place yet: list what it may import, and what for", p.name)
			continue
		}
		for _, path := range p.imports {
			for library, sole := range soleImporters {
				if (path == library || strings.HasPrefix(path, library+"/")) && !slices.Contains(strings.Fields(sole), p.name) {
					t.Errorf("%s imports %s, which is for %q alone", p.name, path, sole)
				}
			}
			to, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			arrow := arrowTo(allowed, to)
			if arrow == "" {
				t.Errorf("%s imports %s: no arrow leads there", p.name, to)
			}
			used[p.name+" "+arrow] = true
		}
	}
	for from, allowed := range arrows {
		for to, reason := range allowed {
			if !used[from+" "+to] {
				t.Errorf("nothing in %q imports %s any more: take the arrow out", from, to)
			}
			if reason == "" {
				t.Errorf("the arrow from %q to %s has no reason", from, to)
			}
		}
	}
}

// TestArrowsPointDown makes sure that the list itself has no circle, also over "…".
func TestArrowsPointDown(t *testing.T) {
	state := make(map[string]int) // 1: being visited, 2: done
	var visit func(name string, path []string)
	visit = func(name string, path []string) {
		path = append(path, name)
		if state[name] == 1 {
			t.Fatalf("a circle: %s", strings.Join(path, " -> "))
		}
		if state[name] == 2 {
			return
		}
		state[name] = 1
		for to := range arrows {
			if to != name && arrowTo(arrows[name], to) != "" {
				visit(to, slices.Clip(path))
			}
		}
		state[name] = 2
	}
	for name := range arrows {
		visit(name, nil)
	}
}

// arrowTo returns the arrow of those from a package that leads to another one, "" if none does.
func arrowTo(allowed map[string]string, to string) string {
	for arrow := range allowed {
		tree, all := strings.CutSuffix(arrow, "…")
		if to == tree || all && strings.HasPrefix(to, tree+"/") && to != "indexer/search/searchtest" {
			return arrow
		}
	}
	return ""
}

type goPackage struct {
	name    string // below the module
	imports []string
}

func modulePackages(t *testing.T) (found []goPackage) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, _ := strings.CutPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		found = append(found, goPackage{name, p.Imports})
	}
	if len(found) < 20 {
		t.Errorf("go list has found %d packages", len(found))
	}
	return found
}
