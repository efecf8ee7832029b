package testenv

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
)

// An account is whom a server runs as.
type account struct{ UID, GID uint32 }

// serverAccount is nil for an ordinary user: servers run as that user. Neither
// Postgres nor the search servers run as root, so for root it is nobody.
var serverAccount = sync.OnceValue(func() *account {
	if os.Geteuid() != 0 {
		return nil
	}
	nobody := &account{UID: 65534, GID: 65534}
	u, err := user.Lookup("nobody")
	if err != nil {
		return nobody
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		return nobody
	}
	return &account{UID: uint32(uid), GID: uint32(gid)}
})

// giveTo makes the tree the account's own.
func giveTo(a *account, folder string) error {
	if a == nil {
		return nil
	}
	return filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(a.UID), int(a.GID))
	})
}

// reachable reports what keeps the servers' account from a path: as root they
// run as nobody, for whom the home of root is closed.
func reachable(path string) error {
	if serverAccount() == nil {
		return nil
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for parent := filepath.Dir(path); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%s is closed to the user nobody, as whom servers run when root starts them", parent)
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}
