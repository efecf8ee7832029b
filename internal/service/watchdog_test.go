package service_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
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

// healthz returns what is answered there.
func healthz(t *testing.T, address string) (status int, body string) {
	t.Helper()
	resp, err := http.Get("http://" + address + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// A service manager hears of a start, of an instance that has nothing to do, that waits for a search server which
// is away, or for one that takes a request and never answers; and not of one that hangs, whether or not an alarm
// is up. /healthz says the same.
func TestServiceManager(t *testing.T) {
	for _, tt := range []struct {
		name    string
		message string // of the log, that hangs
		fault   func(f *fixture, proxy *testenv.SearchProxy)
	}{
		{"hangs with nothing else wrong", "refuses a document", func(f *fixture, _ *testenv.SearchProxy) {
			f.db.Exec(t, "UPDATE t SET v = 'no number' WHERE id = 2")
		}},
		{"hangs while an alarm is up", "writing is held back", func(f *fixture, proxy *testenv.SearchProxy) {
			proxy.CutOff()
			f.db.Exec(t, "UPDATE t SET v = '8' WHERE id = 2")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { checkManager(t, tt.message, tt.fault) })
	}
}

func checkManager(t *testing.T, message string, fault func(f *fixture, proxy *testenv.SearchProxy)) {
	f := newFixture(t, testenv.Engines(t)[0], "", "v: {type: integer}")
	proxy := f.search.NewProxy(t)
	f.yaml = strings.Replace(f.yaml, f.search.URL, proxy.URL, 1)
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	f.yaml = strings.Replace(f.yaml, "127.0.0.1:0", address, 1)
	hung, release := make(chan struct{}), make(chan struct{})
	f.log = slog.New(&hangingLog{f.log.Handler(), message, sync.OnceFunc(func() { close(hung) }), release})

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
	go func() {
		done <- f.run(ctx, t, service.Options{Manager: manager, Admin: true, HangAfter: 2 * time.Second})
	}()
	must := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("the manager does not hear %s", what)
		}
	}
	must("that it is ready", hears(time.Minute, "READY=1", 1))
	must("its status", hears(time.Minute, "STATUS=", 1))
	must("that it lives with nothing to do", hears(time.Minute, "WATCHDOG=1", 8))
	held := proxy.Inject(testenv.Hold(100, testenv.Bulk))
	f.db.Exec(t, "UPDATE t SET v = '7' WHERE id = 1")
	must("that it lives while the search server does not answer", hears(time.Minute, "WATCHDOG=1", 8))
	if status, body := healthz(t, address); status != http.StatusOK {
		t.Errorf("/healthz while the search server does not answer: %d %s", status, body)
	}
	held.Lift()
	fault(f, proxy)
	select {
	case <-hung:
	case err := <-done:
		t.Fatalf("the service has ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("nothing hangs")
	}
	hears(4*time.Second, "never", 1) // what was said before
	if hears(4*time.Second, "WATCHDOG=1", 1) {
		t.Error("the manager hears that it lives while it hangs")
	}
	status, body := healthz(t, address)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "the process hangs: what follows slot") {
		t.Errorf("/healthz while it hangs: %d %s", status, body)
	}
	proxy.Restore()
	close(release)
	must("that it lives again", hears(time.Minute, "WATCHDOG=1", 2))
	if status, body := healthz(t, address); status != http.StatusOK {
		t.Errorf("/healthz when it goes on: %d %s", status, body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	must("that it ends", hears(time.Minute, "STOPPING=1", 1))
}
