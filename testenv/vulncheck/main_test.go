package main

import (
	"os"
	"strings"
	"testing"
)

// Without a way to modules it says what it needs, and leaves nothing half done that
// the next run would take for whole.
func TestWithoutNetwork(t *testing.T) {
	cache, err := os.MkdirTemp("", "tidemark-cache-") // not the test's own: the servers' account must reach it
	if err == nil {
		err = os.Chmod(cache, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(cache) })
	t.Setenv("TIDEMARK_CACHE", cache)
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "-modcacherw") // so that the test's folder can be removed
	t.Setenv("GOMODCACHE", t.TempDir())
	for range 2 {
		for _, version := range []string{"latest", "v0.0.0-20261105234957-e22db6528018"} {
			code, err := run(t.Context(), version, []string{"."})
			if code != 1 || err == nil || !strings.Contains(err.Error(), "module lookup disabled by GOPROXY=off") || !strings.Contains(err.Error(), "run it where Go modules can be downloaded") {
				t.Errorf("database %s: code %d, %v", version, code, err)
			}
		}
	}
}
