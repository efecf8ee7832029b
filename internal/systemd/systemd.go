// Package systemd tells the service manager how the process is, where it was started by one that
// wants to know: Type=notify and WatchdogSec= of a unit, see sd_notify(3). Elsewhere it does nothing.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Manager is the service manager that the process was started by. The methods of a nil one do
// nothing. It is safe for concurrent use.
type Manager struct {
	socket   *net.UnixAddr
	watchdog time.Duration // 0: there is none
}

// FromEnvironment returns the manager that the environment names, nil if it names none. Its error is
// of variables that no manager sets.
func FromEnvironment(environment func(string) string) (*Manager, error) {
	path := environment("NOTIFY_SOCKET")
	if path == "" {
		return nil, nil
	}
	if path[0] != '/' && path[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET is %q: want an absolute path, or one that begins with @", path)
	}
	m := &Manager{socket: &net.UnixAddr{Name: path, Net: "unixgram"}}
	usec := environment("WATCHDOG_USEC")
	if pid := environment("WATCHDOG_PID"); usec == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(24*time.Hour/time.Microsecond) {
		return nil, fmt.Errorf("WATCHDOG_USEC is %q: want microseconds, 1 to a day", usec)
	}
	m.watchdog = time.Duration(n) * time.Microsecond
	return m, nil
}

// Watchdog returns how long the process may show nothing of itself, 0 for as long as it likes.
func (m *Manager) Watchdog() time.Duration {
	if m == nil {
		return 0
	}
	return m.watchdog
}

// Ready says that the start is over.
func (m *Manager) Ready() error { return m.notify("READY=1") }

// Status says in a few words what the process is doing, for systemctl status.
func (m *Manager) Status(text string) error {
	return m.notify("STATUS=" + strings.ReplaceAll(text, "\n", " "))
}

// Stopping says that the process has begun to end.
func (m *Manager) Stopping() error { return m.notify("STOPPING=1") }

// notify sends one message. The manager takes it when it can; the socket holds some hundred.
func (m *Manager) notify(text string) error {
	if m == nil {
		return nil
	}
	conn, err := net.DialUnix(m.socket.Net, nil, m.socket)
	if err == nil {
		_, err = conn.Write([]byte(text))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		return fmt.Errorf("tell the service manager %s: %w", text, err)
	}
	return nil
}

// Watch tells the manager's watchdog that the process lives, for as long as it does: silent returns for how long
// a sign of that has been due. Where it is silent the manager is told nothing, and ends and starts it when its
// WatchdogSec= is over. It looks four times in that time. It returns when ctx is done, or at once where no
// watchdog is. Its error is of the socket.
func (m *Manager) Watch(ctx context.Context, silent func() time.Duration) error {
	if m == nil || m.watchdog == 0 {
		return nil
	}
	interval := m.watchdog / 4
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if silent() < interval {
			if err := m.notify("WATCHDOG=1"); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
