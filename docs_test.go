package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namedFile finds files and folders of the tree that the manual names in code spans.
var namedFile = regexp.MustCompile("`((?:dbsync|mapping|indexer|reindex|internal|testenv|bench|deploy|docs)/[A-Za-z0-9_./*-]*)`")

// link finds links to other pages and files.
var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// TestDocsNameWhatIsThere makes sure that files which are named in the manual exist: a reader
// who is sent to one finds it.
func TestDocsNameWhatIsThere(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md")
	named := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range namedFile.FindAllSubmatch(text, -1) {
			named++
			if found, err := filepath.Glob(strings.TrimSuffix(string(m[1]), "/")); err != nil || len(found) == 0 {
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), string(m[1]))); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("the manual names %d files: has its form changed?", named)
	}
}
