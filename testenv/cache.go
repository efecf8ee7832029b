package testenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// cacheFolder holds what was downloaded and compiled: TIDEMARK_CACHE, else a
// folder in the user's cache; for root one that the servers' account can read.
func cacheFolder() (string, error) {
	folder := os.Getenv("TIDEMARK_CACHE")
	switch {
	case folder != "":
	case os.Geteuid() == 0:
		folder = "/var/cache/tidemark"
	default:
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no folder for downloads, set TIDEMARK_CACHE: %w", err)
		}
		folder = filepath.Join(base, "tidemark")
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("folder for downloads, set by TIDEMARK_CACHE: %w", err)
	}
	if serverAccount() != nil {
		if err := os.Chmod(folder, 0o755); err != nil { // whatever the umask was
			return "", err
		}
		if err := reachable(folder); err != nil {
			return "", fmt.Errorf("folder for downloads, set TIDEMARK_CACHE to another: %w", err)
		}
	}
	return folder, nil
}

// Cached returns the folder of that name in the cache, filled by fill if it is not
// there. Of several processes one makes it, the others wait; a process
// killed meanwhile leaves nothing that counts.
func Cached(ctx context.Context, name string, fill func(ctx context.Context, folder string) error) (string, error) {
	root, err := cacheFolder()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(root, name)
	if exists(folder) {
		return folder, nil
	}
	unlock, err := lock(ctx, folder+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(folder) {
		return folder, nil
	}
	partial := folder + ".partial" // of a process that was killed
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	if err := os.Mkdir(partial, 0o755); err != nil {
		return "", err
	}
	if err := fill(ctx, partial); err != nil {
		return "", errors.Join(fmt.Errorf("prepare %s: %w", name, err), os.RemoveAll(partial))
	}
	if err := openToAll(partial); err != nil {
		return "", err
	}
	return folder, os.Rename(partial, folder)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// lock takes the file's lock, which the kernel gives up for a process that ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
		}
	}
}

// openToAll lets everybody read the tree, whatever the umask was.
func openToAll(folder string) error {
	return filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if d.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}
