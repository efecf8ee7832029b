package dbsync_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Imports point one way: main -> internal -> reindex -> indexer -> mapping, dbsync. What
// only tests, the demo and the benchmarks use is in testenv and bench.
func TestImports(t *testing.T) {
	// A folder of the module, and the folders that its packages may import beside their own.
	layers := map[string][]string{
		"dbsync":   nil,
		"mapping":  nil,
		"indexer":  {"mapping", "dbsync"},
		"reindex":  {"indexer", "mapping", "dbsync"},
		"internal": {"reindex", "indexer", "mapping", "dbsync"},
		"":         {"internal", "reindex", "indexer", "mapping", "dbsync"}, // main
		"testenv":  {"", "internal", "reindex", "indexer", "mapping", "dbsync"},
		"bench":    {"testenv", "internal", "reindex", "indexer", "mapping", "dbsync"},
	}
	const module = "tidemark"
	folder := func(path string) (name string, ours bool) {
		if path == module {
			return "", true
		}
		rest, ours := strings.CutPrefix(path, module+"/")
		name, _, _ = strings.Cut(rest, "/")
		return name, ours
	}

	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = filepath.Dir(packageFolder(t))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; packages++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, _ := folder(p.ImportPath)
		allowed, known := layers[name]
		if !known {
			t.Errorf("%s is in no layer: where does %s stand?", p.ImportPath, name)
		}
		for _, path := range p.Imports {
			if imported, ours := folder(path); ours && imported != name && !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
		}
	}
	if packages < 3 {
		t.Errorf("go list has found %d packages", packages)
	}
}

// packageFolder is where this package is: tests run in it.
func packageFolder(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	return folder
}
