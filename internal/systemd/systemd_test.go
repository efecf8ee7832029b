package systemd

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen is a service manager's socket.
func listen(t *testing.T) (path string, messages <-chan string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	c, ended := make(chan string, 1000), make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			c <- string(buf[:n])
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return path, c
}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestFromEnvironment(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for _, tt := range []struct {
		name     string
		env      []string
		manager  bool
		watchdog time.Duration
		err      string
	}{
		{"none", nil, false, 0, ""},
		{"a watchdog without a socket", []string{"WATCHDOG_USEC", "1000"}, false, 0, ""},
		{"a socket", []string{"NOTIFY_SOCKET", "/run/n"}, true, 0, ""},
		{"an abstract one", []string{"NOTIFY_SOCKET", "@n"}, true, 0, ""},
		{"a relative path", []string{"NOTIFY_SOCKET", "n"}, false, 0, `NOTIFY_SOCKET is "n"`},
		{"a watchdog", []string{"NOTIFY_SOCKET", "/n", "WATCHDOG_USEC", "3000000", "WATCHDOG_PID", pid}, true, 3 * time.Second, ""},
		{"one for whoever asks", []string{"NOTIFY_SOCKET", "/n", "WATCHDOG_USEC", "3000000"}, true, 3 * time.Second, ""},
		{"one for another process", []string{"NOTIFY_SOCKET", "/n", "WATCHDOG_USEC", "3000000", "WATCHDOG_PID", "1"}, true, 0, ""},
		{"no number", []string{"NOTIFY_SOCKET", "/n", "WATCHDOG_USEC", "3s"}, false, 0, `WATCHDOG_USEC is "3s"`},
		{"no time", []string{"NOTIFY_SOCKET", "/n", "WATCHDOG_USEC", "0"}, false, 0, `WATCHDOG_USEC is "0"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := FromEnvironment(environment(tt.env...))
			if (m != nil) != tt.manager || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) || m != nil && m.watchdog != tt.watchdog {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
}

func TestNotify(t *testing.T) {
	path, messages := listen(t)
	m, err := FromEnvironment(environment("NOTIFY_SOCKET", path))
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{m.Ready(), m.Status("two\nlines"), m.Stopping(), m.Watch(t.Context(), nil)} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"READY=1", "STATUS=two lines", "STOPPING=1"} {
		if got := <-messages; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	var none *Manager
	if err := none.Ready(); err != nil {
		t.Error(err)
	}
	gone := &Manager{socket: &net.UnixAddr{Name: path + "x", Net: "unixgram"}}
	if err := gone.Ready(); err == nil || !strings.Contains(err.Error(), "READY=1") {
		t.Errorf("a socket that is not there: %v", err)
	}
}

// The watchdog hears of a process that gives its signs; not of one that hangs, and again when that goes on.
func TestWatch(t *testing.T) {
	path, messages := listen(t)
	m := &Manager{socket: &net.UnixAddr{Name: path, Net: "unixgram"}, watchdog: 40 * time.Millisecond}
	var looks atomic.Uint64
	var hangs atomic.Bool
	silent := func() time.Duration {
		looks.Add(1)
		if hangs.Load() {
			return 10 * time.Millisecond
		}
		return 9 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Watch(ctx, silent) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	hears := func(what string, n int) {
		t.Helper()
		for range n {
			select {
			case got := <-messages:
				if got != "WATCHDOG=1" {
					t.Errorf("%s: %q", what, got)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("%s: the watchdog hears nothing", what)
			}
		}
	}
	// looked waits until silent was asked so many more times.
	looked := func(n uint64) {
		for from := looks.Load(); looks.Load() < from+n; {
			time.Sleep(time.Millisecond)
		}
	}
	hears("at the start", 1)
	hears("it lives", 5)
	hangs.Store(true)
	looked(2) // what was seen before it hung is said
	for len(messages) > 0 {
		<-messages
	}
	looked(10)
	if len(messages) > 0 {
		t.Errorf("a process that hangs says %q", <-messages)
	}
	hangs.Store(false)
	hears("it goes on", 3)
}
