package testenv

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions configure a server of one's own. The zero value is what the
// shared server runs with.
type PostgresOptions struct {
	// Version is the major version, "14" to "18". Default:
	// TIDEMARK_TEST_POSTGRES_VERSION, else what is installed, else 18.
	Version string
	// Settings are added to postgresql.conf, over those of [DefaultSettings].
	Settings map[string]string
	// Auth is how clients over TCP are authenticated: "trust" (default) or
	// "scram-sha-256". The superuser's password is in the server's URL.
	Auth string
	// Port is the one to listen on if it is free. Default: any that is free.
	Port int
}

// DefaultSettings are those of the servers started here. Nothing has to survive
// a crash of the machine, but everything a crash of Postgres.
func DefaultSettings() map[string]string {
	return map[string]string{
		"wal_level":             "logical",
		"max_wal_senders":       "50",
		"max_replication_slots": "50",
		"max_connections":       "200",
		"fsync":                 "off",
		"full_page_writes":      "off",
		"max_wal_size":          "'2GB'",
		"logging_collector":     "off",
		"jit":                   "off", // which takes longer than any statement of a test
	}
}

const (
	superuser         = "postgres"
	superuserPassword = "tidemark"
	postgresBootLimit = time.Minute // a start after a crash replays the log first
)

// A Postgres is a running server.
type Postgres struct {
	server
	url url.URL // of the database postgres, as superuser
}

// URL is the superuser's connection string for a database.
func (p *Postgres) URL(database string) string {
	u := p.url
	u.Path = "/" + database
	return u.String()
}

// Addr is HOST:PORT.
func (p *Postgres) Addr() string { return p.url.Host }

// Close ends the server and removes its data.
func (p *Postgres) Close() error { return p.close() }

// StartPostgres starts a server for this test alone.
func StartPostgres(t testing.TB, o PostgresOptions) *Postgres {
	t.Helper()
	SkipShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	p, err := LaunchPostgres(ctx, o)
	if err != nil {
		skipOrFail(t, fmt.Errorf("start Postgres: %w", err))
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("end Postgres: %v", err)
		}
	})
	return p
}

// LaunchPostgres starts a server; the caller closes it.
func LaunchPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	if o.Version == "" {
		o.Version = os.Getenv("TIDEMARK_TEST_POSTGRES_VERSION")
	}
	if o.Auth == "" {
		o.Auth = "trust"
	}
	if docker() != "" {
		p, err := launch(ctx, "postgres", o, dockerPostgres)
		if !errors.Is(err, errNoImage) {
			return p, err
		}
	}
	bin, err := postgresBin(ctx, o.Version)
	if err != nil {
		return nil, err
	}
	return launch(ctx, "postgres", o, func(ctx context.Context, p *process, port int, o PostgresOptions) (*program, error) {
		return localPostgres(ctx, p, port, bin, o)
	})
}

// launch prepares and boots a server, on another port if somebody was faster.
func launch(ctx context.Context, name string, o PostgresOptions, prepare func(context.Context, *process, int, PostgresOptions) (*program, error)) (*Postgres, error) {
	for try := 1; ; try++ {
		port, err := choosePort(o.Port, try)
		if err != nil {
			return nil, err
		}
		proc, err := newProcess(name)
		if err != nil {
			return nil, err
		}
		p := &Postgres{url: url.URL{Scheme: "postgres", User: url.UserPassword(superuser, superuserPassword), Host: address(port), Path: "/postgres", RawQuery: "sslmode=disable"}}
		p.process = proc
		p.ready = func(ctx context.Context) error { return p.waitReady(ctx, clusterName(proc)) }
		p.program, err = prepare(ctx, proc, port, o)
		if err == nil {
			err = p.boot(ctx)
		}
		if err == nil {
			return p, nil
		}
		retry := try < 5 && proc.portTaken()
		if err = errors.Join(err, p.Close()); !retry {
			return nil, err
		}
	}
}

// clusterName returns the server in that process from any other.
func clusterName(p *process) string { return baseName(p.folder) }

func (p *Postgres) waitReady(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, postgresBootLimit, fmt.Errorf("no answer within %s", postgresBootLimit))
	defer cancel()
	return poll(ctx, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.URL("postgres"))
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		var got string
		if err := conn.QueryRow(ctx, "show cluster_name").Scan(&got); err != nil {
			return err
		}
		if got != name {
			return fmt.Errorf("%s belongs to another server, %q", p.Addr(), got)
		}
		return nil
	})
}

// settings returns the lines to add to postgresql.conf.
func settings(p *process, o PostgresOptions) string {
	all := DefaultSettings()
	all["cluster_name"] = "'" + clusterName(p) + "'"
	maps.Copy(all, o.Settings)
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(all)) {
		v := all[k]
		if !strings.HasPrefix(v, "'") {
			v = "'" + strings.ReplaceAll(v, "'", "''") + "'"
		}
		fmt.Fprintf(&b, "%s = %s\n", k, v)
	}
	return b.String()
}

func localPostgres(ctx context.Context, p *process, port int, bin string, o PostgresOptions) (*program, error) {
	data, password := filepath.Join(p.folder, "data"), filepath.Join(p.folder, "password")
	if err := os.WriteFile(password, []byte(superuserPassword), 0o600); err != nil {
		return nil, err
	}
	if err := giveTo(serverAccount(), password); err != nil {
		return nil, err
	}
	env := environment("LC_ALL=C.UTF-8", "TZ=UTC")
	// A new cluster each time, never a copy: its system identifier is its own.
	err := p.run(ctx, command{
		Path: filepath.Join(bin, "initdb"),
		Args: []string{"-D", data, "-U", superuser, "--pwfile", password, "--auth-local", "trust", "--auth-host", o.Auth,
			"-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"},
		Env: env, Account: serverAccount(), End: syscall.SIGKILL,
	})
	if err != nil {
		return nil, err
	}
	conf := settings(p, o) + fmt.Sprintf("listen_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = '%s'\n", port, p.folder)
	if err := appendFile(filepath.Join(data, "postgresql.conf"), conf); err != nil {
		return nil, err
	}
	const hba = "host replication all 127.0.0.1/32 %s\n"
	if err := appendFile(filepath.Join(data, "pg_hba.conf"), fmt.Sprintf(hba, o.Auth)); err != nil {
		return nil, err
	}
	return &program{
		command: command{
			Path: filepath.Join(bin, "postgres"), Args: []string{"-D", data}, Env: env, Account: serverAccount(),
			End: syscall.SIGQUIT, // immediate shutdown: a killed postmaster would leave its children and shared memory for a while
		},
		stop: syscall.SIGINT, // fast shutdown
	}, nil
}

func appendFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func dockerPostgres(ctx context.Context, p *process, port int, o PostgresOptions) (*program, error) {
	version := o.Version
	if version == "" {
		version = "18"
	}
	// The image runs it after initdb and before the server that is reached from outside.
	script := filepath.Join(p.folder, "settings.sh")
	text := "cat >> \"$PGDATA/postgresql.conf\" <<'END'\n" + settings(p, o) + "END\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		return nil, err
	}
	prog, err := createContainer(ctx, p, container{
		image: "postgres:" + version,
		port:  5432,
		env: map[string]string{
			"POSTGRES_PASSWORD":         superuserPassword,
			"POSTGRES_HOST_AUTH_METHOD": o.Auth,
			"POSTGRES_INITDB_ARGS":      "-E UTF8 --locale=C.UTF-8 --no-sync --auth-host=" + o.Auth,
			"TZ":                        "UTC",
		},
		files: map[string]string{"/docker-entrypoint-initdb.d/settings.sh": script},
	}, port)
	if err != nil {
		return nil, err
	}
	prog.stop = syscall.SIGINT
	return prog, nil
}

// postgresBin finds the folder with initdb and postgres.
func postgresBin(ctx context.Context, version string) (string, error) {
	for _, i := range installedPostgres() {
		if version == "" || i.version == version {
			return i.bin, nil
		}
	}
	if version == "" {
		version = "18"
	}
	return fetchPostgres(ctx, version)
}

type installation struct{ version, bin string }

var postgresVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// installedPostgres lists what can run here: of the PATH, then the usual places,
// newest first.
var installedPostgres = sync.OnceValue(func() []installation {
	var bins []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			bins = append(bins, filepath.Dir(path))
		}
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"} {
		found, _ := filepath.Glob(pattern)
		slices.Reverse(found)
		bins = append(bins, found...)
	}
	var all []installation
	for _, bin := range bins {
		postgres := filepath.Join(bin, "postgres")
		if !exists(filepath.Join(bin, "initdb")) || !exists(postgres) || reachable(postgres) != nil {
			continue
		}
		out, err := exec.Command(postgres, "--version").Output()
		m := postgresVersion.FindSubmatch(out)
		// 14 streams empty transactions, too, which tests of the stream do not expect: it
		// is taken only where it is asked for.
		if err != nil || m == nil {
			continue
		}
		if v, err := strconv.Atoi(string(m[1])); err != nil || v < 15 {
			continue
		}
		all = append(all, installation{string(m[1]), bin})
	}
	return all
})

// postgresArtifacts are the builds to fetch for a version that is not installed.
var postgresArtifacts = map[string]string{"14": "14.24.0", "15": "15.18.0", "16": "16.15.0", "17": "17.11.0", "18": "18.6.0"}

func fetchPostgres(ctx context.Context, version string) (string, error) {
	artifact, ok := postgresArtifacts[version]
	if !ok {
		return "", fmt.Errorf("no build of Postgres %q is known, only of %s", version, slices.Sorted(maps.Keys(postgresArtifacts)))
	}
	platform, ok := map[string]string{
		"linux/amd64": "linux-amd64", "linux/arm64": "linux-arm64v8",
		"darwin/amd64": "darwin-amd64", "darwin/arm64": "darwin-arm64v8",
	}[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return "", &MissingError{What: "Postgres " + version, Hint: "install it"}
	}
	java, err := findJDK(11)
	if err != nil {
		return "", err
	}
	folder, err := Cached(ctx, "postgres-"+artifact+"-"+recipe("postgres"), func(ctx context.Context, folder string) error {
		work, err := os.MkdirTemp("", "tidemark-postgres-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		if err := fetchJars(ctx, "postgres", work, "-Dplatform="+platform, "-Dpostgres="+artifact); err != nil {
			return err
		}
		jar := filepath.Join(work, "unpack.jar")
		if err := java.compile(ctx, "postgres", "Unpack.java", filepath.Join(work, "*"), jar, 11); err != nil {
			return err
		}
		builds, _ := filepath.Glob(filepath.Join(work, "embedded-postgres-binaries-*.jar"))
		if len(builds) != 1 {
			return fmt.Errorf("%d builds of Postgres were fetched", len(builds))
		}
		archive := filepath.Join(work, "postgres.tar")
		if err := runTool(ctx, java.tool("java"), "-cp", filepath.Join(work, "*"), "Unpack", builds[0], archive); err != nil {
			return err
		}
		return untar(archive, folder)
	})
	return filepath.Join(folder, "bin"), err
}

func untar(archive, folder string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	for entries := tar.NewReader(f); ; {
		h, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(archive), err)
		}
		name := filepath.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, name)
		case tar.TypeReg:
			err = writeEntry(root, name, h.FileInfo().Mode().Perm(), entries)
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", h.Name, err)
		}
	}
}

func writeEntry(root *os.Root, name string, mode os.FileMode, content io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
