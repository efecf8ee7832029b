package e2e

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// save commits a product, and returns when searches find it. tidemark is the address of
// admin.listen: http://127.0.0.1:9630
func save(ctx context.Context, db *pgx.Conn, tidemark string, id int, title string) error {
	if _, err := db.Exec(ctx, `INSERT INTO products (id, title) VALUES ($1, $2)`, id, title); err != nil {
		return err
	}
	// After the commit, on the same connection.
	var lsn string
	if err := db.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&lsn); err != nil {
		return err
	}
	query := url.Values{"lsn": {lsn}, "index": {"products"}, "searchable": {"true"}, "timeout": {"5s"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, tidemark+"/wait?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("committed, but searches may not find it yet: %s: %s", resp.Status, why)
	}
	return nil
}

// exampleOf returns the code block of docs/read-your-writes.md in a language.
func exampleOf(t testing.TB, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/read-your-writes.md")
	must(t, err)
	block := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatalf("docs/read-your-writes.md has no example in %s", language)
	}
	return string(block[1])
}

// TestReadYourWritesExample runs the example of docs/read-your-writes.md, which is the function above to
// the letter.
func TestReadYourWritesExample(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.prefix = "" // the example names its index
	s.db.Exec(t, `CREATE TABLE products (id int PRIMARY KEY, title text)`)
	alias := s.search.NewPrefix(t) + "products"
	s.index(alias, "products", `, settings: {index.refresh_interval: "-1"}`)
	i := s.start(t, "run")
	if code, _, wrong := s.print(t, "wait", "--timeout", "1m"); code != 0 {
		t.Fatalf("wait for the first filling: %d %s", code, wrong)
	}
	// Indices of tests have names of their own.
	proxy := renaming(t, "http://"+i.admin(t), alias)
	conn, err := pgx.Connect(t.Context(), s.db.URL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	for id := range 3 {
		must(t, save(t.Context(), conn, proxy, id, fmt.Sprintf("chair%d", id)))
		if n := s.found(t, alias, fmt.Sprintf("title:chair%d", id)); n != 1 {
			t.Errorf("searches find %d documents", n)
		}
	}
	i.stop(t)
	if err := save(t.Context(), conn, proxy, 100, "nobody"); err == nil {
		t.Error("it is searchable though no instance runs")
	}

	source, err := os.ReadFile("ownwrite_test.go")
	must(t, err)
	if !strings.Contains(string(source), exampleOf(t, "go")) {
		t.Error("the Go example of docs/read-your-writes.md is not the function that this test runs")
	}
}

// driverJar is where Debian's libpostgresql-jdbc-java puts the driver; JDBC_JAR names another one.
const driverJar = "/usr/share/java/postgresql.jar"

// TestReadYourWritesInOtherLanguages runs the examples in Python and in Java, as they stand in
// docs/read-your-writes.md, where their drivers are installed.
func TestReadYourWritesInOtherLanguages(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.prefix = ""
	s.db.Exec(t, `CREATE TABLE products (id int PRIMARY KEY, title text)`)
	alias := s.search.NewPrefix(t) + "products"
	s.index(alias, "products", `, settings: {index.refresh_interval: "-1"}`)
	i := s.start(t, "run")
	if code, _, wrong := s.print(t, "wait", "--timeout", "1m"); code != 0 {
		t.Fatalf("wait for the first filling: %d %s", code, wrong)
	}
	proxy := renaming(t, "http://"+i.admin(t), alias)
	for _, tt := range []struct {
		language string
		program  func(t *testing.T, example string) *exec.Cmd
	}{
		{"python", func(t *testing.T, example string) *exec.Cmd {
			// The first one found may not be the system's, which has the package.
			pythons := []string{"python3", "/usr/bin/python3"}
			has := slices.IndexFunc(pythons, func(python string) bool {
				return exec.CommandContext(t.Context(), python, "-c", "import psycopg").Run() == nil
			})
			if has < 0 {
				t.Skip("there is no python3 with psycopg 3 (Debian: python3-psycopg)")
			}
			file := filepath.Join(t.TempDir(), "save.py")
			must(t, os.WriteFile(file, []byte(example+`
import psycopg, sys
with psycopg.connect(sys.argv[1], autocommit=True) as conn:
    save(conn, sys.argv[2], int(sys.argv[3]), sys.argv[4])
`), 0o600))
			return exec.CommandContext(t.Context(), pythons[has], file, s.db.URL)
		}},
		{"java", func(t *testing.T, example string) *exec.Cmd {
			jar := cmp.Or(os.Getenv("JDBC_JAR"), driverJar)
			if _, err := os.Stat(jar); err != nil {
				t.Skipf("there is no JDBC driver for Postgres (Debian: libpostgresql-jdbc-java, or JDBC_JAR): %v", err)
			}
			java, err := exec.LookPath("java")
			if err != nil {
				t.Skipf("there is no java: %v", err)
			}
			file := filepath.Join(t.TempDir(), "Save.java")
			must(t, os.WriteFile(file, []byte(`import java.net.*;
import java.net.http.*;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.Duration;
class Save {
`+example+`
public static void main(String[] args) throws Exception {
    try (var db = DriverManager.getConnection(args[0])) {
        save(db, HttpClient.newHttpClient(), args[1], Integer.parseInt(args[2]), args[3]);
    }
}
}
`), 0o600))
			u, err := url.Parse(s.db.URL)
			must(t, err)
			password, _ := u.User.Password()
			query := url.Values{"user": {u.User.Username()}, "password": {password}, "sslmode": {"disable"}}
			return exec.CommandContext(t.Context(), java, "-cp", jar, file, "jdbc:postgresql://"+u.Host+u.Path+"?"+query.Encode())
		}},
	} {
		t.Run(tt.language, func(t *testing.T) {
			c := tt.program(t, exampleOf(t, tt.language))
			c.Args = append(c.Args, proxy, fmt.Sprint(len(tt.language)), "chair"+tt.language)
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if n := s.found(t, alias, "title:chair"+tt.language); n != 1 {
				t.Errorf("searches find %d documents", n)
			}
		})
	}
}

// renaming serves /wait of an instance for the index of another name.
func renaming(t testing.TB, instance, alias string) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get(instance + "/wait?" + strings.Replace(r.URL.RawQuery, "index=products", "index="+alias, 1))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body) // who reads it sees what is missing
	}))
	t.Cleanup(server.Close)
	return server.URL
}
