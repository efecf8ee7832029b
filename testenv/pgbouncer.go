package testenv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A PgBouncer is a connection pooler in front of a Postgres server.
type PgBouncer struct {
	server
	addr string
}

// NewPgBouncer puts a PgBouncer in front of the server, until the test ends. The settings are those of the
// section [pgbouncer] of its configuration, beside what it needs to run: pool_mode, say.
func (p *Postgres) NewPgBouncer(t testing.TB, settings map[string]string) *PgBouncer {
	t.Helper()
	b, err := launchPgBouncer(t.Context(), p, settings)
	if err != nil {
		skipOrFail(t, fmt.Errorf("start PgBouncer: %w", err))
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Errorf("end PgBouncer: %v", err)
		}
	})
	return b
}

// URL puts PgBouncer's address in place of the one in a connection string.
func (b *PgBouncer) URL(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server
	}
	u.Host = b.addr
	return u.String()
}

func launchPgBouncer(ctx context.Context, to *Postgres, settings map[string]string) (*PgBouncer, error) {
	path, err := findPgBouncer()
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		port, err := choosePort(0, try)
		if err != nil {
			return nil, err
		}
		proc, err := newProcess("pgbouncer")
		if err != nil {
			return nil, err
		}
		b := &PgBouncer{addr: address(port)}
		b.process = proc
		b.ready = func(ctx context.Context) error {
			return poll(ctx, func(ctx context.Context) error {
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.addr)
				if err == nil {
					err = conn.Close()
				}
				return err
			})
		}
		err = b.configure(to, path, port, settings)
		if err == nil {
			err = b.boot(ctx)
		}
		if err == nil {
			return b, nil
		}
		retry := try < 5 && proc.portTaken()
		if err = errors.Join(err, b.close()); !retry {
			return nil, err
		}
	}
}

// findPgBouncer looks where packages put it, which is not on the path of every user.
func findPgBouncer() (string, error) {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	for _, path := range []string{"/usr/sbin/pgbouncer", "/usr/local/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"} {
		if exists(path) {
			return path, nil
		}
	}
	return "", &MissingError{What: "PgBouncer", Hint: "apt-get install pgbouncer"}
}

func (b *PgBouncer) configure(to *Postgres, path string, port int, settings map[string]string) error {
	host, behind, err := net.SplitHostPort(to.Addr())
	if err != nil {
		return err
	}
	users, file := filepath.Join(b.process.folder, "users"), filepath.Join(b.process.folder, "pgbouncer.ini")
	all := map[string]string{
		"listen_addr": "127.0.0.1", "listen_port": fmt.Sprint(port), "unix_socket_dir": "",
		"auth_type": "trust", "auth_file": users,
	}
	maps.Copy(all, settings)
	var text strings.Builder
	fmt.Fprintf(&text, "[databases]\n* = host=%s port=%s\n[pgbouncer]\n", host, behind)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s = %s\n", name, all[name])
	}
	password, _ := to.url.User.Password()
	for name, content := range map[string]string{users: fmt.Sprintf("%q %q\n", to.url.User.Username(), password), file: text.String()} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return err
		}
		if err := giveTo(serverAccount(), name); err != nil {
			return err
		}
	}
	b.program = &program{
		command: command{Path: path, Args: []string{file}, Env: environment(), Account: serverAccount(), End: syscall.SIGKILL},
		stop:    syscall.SIGTERM,
	}
	return nil
}
