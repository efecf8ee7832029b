package dbsync_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"tidemark/dbsync"
)

// A machine that has gone is noticed within three quarters of a minute, by TCP.
func TestTCPTimeouts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := dbsync.DialKept(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range []struct {
		name         string
		number, most int
	}{
		{"TCP_USER_TIMEOUT", unix.TCP_USER_TIMEOUT, 45_000},
		{"TCP_KEEPIDLE", unix.TCP_KEEPIDLE, 15},
		{"TCP_KEEPINTVL", unix.TCP_KEEPINTVL, 5},
		{"TCP_KEEPCNT", unix.TCP_KEEPCNT, 6},
	} {
		var got int
		if e := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option.number) }); e != nil || err != nil {
			t.Fatal(e, err)
		}
		if got == 0 || got > option.most {
			t.Errorf("%s is %d, want at most %d", option.name, got, option.most)
		}
	}
}
