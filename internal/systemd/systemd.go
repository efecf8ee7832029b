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

// A Sign is what a process shows of itself at a moment.
type Sign struct {
	Steps uint64 // done so far: grows as long as something is done

	// Waits says that nothing can be done, and that it is known why: until somebody else has done
	// something, of which there is no telling how long it takes.
	Waits bool
}

// Watch tells the manager's watchdog that the process lives, as long as sign says so: whenever
// something was done since the last time, or is waited for. A process that does nothing and waits for
// nothing hangs; the manager is told nothing then, and ends and starts it when its WatchdogSec= is
// over. It looks four times in that time. It returns when ctx is done, or at once where no watchdog is. Its error is of the socket.
func (m *Manager) Watch(ctx context.Context, sign func() Sign) error {
	if m == nil || m.watchdog == 0 {
		return nil
	}
	ticker := time.NewTicker(m.watchdog / 4)
	defer ticker.Stop()
	last := sign()
	for {
		if err := m.notify("WATCHDOG=1"); err != nil {
			return err
		}
		for alive := false; !alive; {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
			now := sign()
			alive = now.Waits || now.Steps != last.Steps
			last = now
		}
	}
}
