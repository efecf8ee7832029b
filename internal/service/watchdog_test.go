package service_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/internal/service"
	"tidemark/internal/systemd"
	"tidemark/testenv"
)

// hangingLog blocks whoever logs a message, as a pipe does that nobody reads.
type hangingLog struct {
	slog.Handler
	message string
	hung    func()
	release <-chan struct{}
}

func (h *hangingLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.message) {
		h.hung()
		<-h.release
	}
	return h.Handler.Handle(ctx, r)
}

// A service manager hears of a start, of an instance that has nothing to do or waits for a search server
// that is away, and not of one that hangs.
func TestServiceManager(t *testing.T) {
	e := testenv.Engines(t)[0]
	f := newFixture(t, e, "", "v: {type: integer}")
	proxy := f.search.NewProxy(t)
	f.yaml = strings.Replace(f.yaml, f.search.URL, proxy.URL, 1)
	hung, release := make(chan struct{}), make(chan struct{})
	f.log = slog.New(&hangingLog{f.log.Handler(), "refuses a document", sync.OnceFunc(func() { close(hung) }), release})

	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	manager, err := systemd.FromEnvironment(func(name string) string {
		return map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "4000000"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	// hears waits for n messages that begin so, for as long as the manager would.
	buf := make([]byte, 4096)
	hears := func(within time.Duration, want string, n int) bool {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		for n > 0 {
			k, err := conn.Read(buf)
			if err != nil {
				return false
			}
			if strings.HasPrefix(string(buf[:k]), want) {
				n--
			}
		}
		return true
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.run(ctx, t, service.Options{Manager: manager}) }()
	must := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("the manager does not hear %s", what)
		}
	}
	must("that it is ready", hears(time.Minute, "READY=1", 1))
	must("its status", hears(time.Minute, "STATUS=", 1))
	must("that it lives with nothing to do", hears(time.Minute, "WATCHDOG=1", 8))
	proxy.CutOff()
	f.db.Exec(t, "UPDATE t SET v = '7' WHERE id = 1")
	must("that it lives while the search server is away", hears(time.Minute, "WATCHDOG=1", 8))
	proxy.Restore()
	f.db.Exec(t, "UPDATE t SET v = 'no number' WHERE id = 2")
	select {
	case <-hung:
	case err := <-done:
		t.Fatalf("the service has ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("nothing was refused")
	}
	hears(4*time.Second, "never", 1) // what was said before
	if hears(4*time.Second, "WATCHDOG=1", 1) {
		t.Error("the manager hears that it lives while it hangs")
	}
	close(release)
	must("that it lives again", hears(time.Minute, "WATCHDOG=1", 2))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	must("that it ends", hears(time.Minute, "STOPPING=1", 1))
}
