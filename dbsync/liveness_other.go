//go:build !linux

package dbsync

import "syscall"

// setUserTimeout does nothing: this system has its own limit on what is not acknowledged.
func setUserTimeout(_, _ string, _ syscall.RawConn) error { return nil }
