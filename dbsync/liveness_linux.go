package dbsync

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setUserTimeout has a connection end when the other machine does not acknowledge what was sent: without it
// that takes a quarter of an hour (tcp_retries2).
func setUserTimeout(_, _ string, raw syscall.RawConn) error {
	var err error
	if e := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}
