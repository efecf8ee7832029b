package testenv

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// FreePort returns a port of 127.0.0.1 that nobody listens on. It comes from below
// the range that outgoing connections use: a server that stops and starts again
// finds its port free, and a client that tries it meanwhile cannot be connected
// to itself. Another process may still be faster; then the server says so, and
// is started on another one.
func FreePort() (int, error) {
	for range 100 {
		port := 12000 + rand.IntN(20000)
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("no free port on 127.0.0.1")
}

// choosePort returns the port that is wanted, unless it is 0, taken, or was tried before.
func choosePort(wanted, try int) (int, error) {
	if wanted != 0 && try == 1 {
		if l, err := net.Listen("tcp", address(wanted)); err == nil {
			return wanted, l.Close()
		}
	}
	return FreePort()
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
