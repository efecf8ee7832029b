package testenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// tempCache is a cache that the servers' account could read.
func tempCache(t *testing.T) string {
	folder, err := os.MkdirTemp("", "tidemark-cache-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(folder) })
	t.Setenv("TIDEMARK_CACHE", folder)
	return folder
}

func TestCachedFillsOnce(t *testing.T) {
	root := tempCache(t)
	must(t, os.MkdirAll(filepath.Join(root, "a.partial", "of a killed process"), 0o700))
	fills := 0
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			folder, err := Cached(t.Context(), "a", func(_ context.Context, folder string) error {
				fills++ // one at a time: the lock holds off the others
				return os.WriteFile(filepath.Join(folder, "file"), nil, 0o600)
			})
			if err != nil {
				t.Error(err)
				return
			}
			left, err := os.ReadDir(folder)
			if err != nil || len(left) != 1 || left[0].Name() != "file" {
				t.Errorf("the folder holds %v, %v", left, err)
			}
		})
	}
	all.Wait()
	if fills != 1 {
		t.Errorf("filled %d times", fills)
	}
	info, err := os.Stat(filepath.Join(root, "a", "file"))
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		t.Errorf("others cannot read it: %v, %v", info, err)
	}
}

func TestCachedFailureLeavesNothing(t *testing.T) {
	root := tempCache(t)
	broken := errors.New("broken")
	fail := func(context.Context, string) error { return broken }
	if _, err := Cached(t.Context(), "a", fail); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, "a*")); len(left) != 1 { // the lock's file
		t.Errorf("left are %v", left)
	}
}
