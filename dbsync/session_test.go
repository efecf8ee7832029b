package dbsync_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// others has another value for each setting that a session of ours has: what a role, a database or a
// connection string may ask for.
var others = map[string]string{
	"client_encoding": "LATIN1", "TimeZone": "Asia/Tokyo", "DateStyle": "German, DMY", "IntervalStyle": "iso_8601", "extra_float_digits": "-15",
	"bytea_output": "escape", "lc_monetary": "POSIX", "xmlbinary": "hex", "xmloption": "document", "quote_all_identifiers": "on",
	"standard_conforming_strings": "off", "array_nulls": "off", "transform_null_equals": "on",
	"search_path": "pg_catalog", "row_security": "on", "gin_fuzzy_search_limit": "1", "role": "pg_monitor",
	"default_transaction_read_only": "on", "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
	"synchronous_commit": "on", "default_table_access_method": "other_heap",
	"statement_timeout": "200ms", "lock_timeout": "1ms", "idle_in_transaction_session_timeout": "1ms", "idle_session_timeout": "1s", "transaction_timeout": "200ms",
	"exit_on_error": "on", "restrict_nonsystem_relation_kind": "view",
	"jit": "on", "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_bitmapscan": "off",
	"enable_tidscan": "off", "enable_sort": "off", "enable_incremental_sort": "off", "enable_nestloop": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
	"enable_hashagg": "off", "enable_material": "off", "enable_memoize": "off", "enable_partition_pruning": "off",
	"client_min_messages": "error", "check_function_bodies": "off",
}

// otherRole makes a role that may do everything, for a test that sets something on it.
func otherRole(t *testing.T, db *testenv.Database) (name, connStr string) {
	t.Helper()
	name = db.Unique("role")
	db.Exec(t, "CREATE ROLE "+name+" SUPERUSER LOGIN PASSWORD 'p'")
	t.Cleanup(func() {
		if _, err := db.DB.Exec("DROP ROLE " + name); err != nil {
			t.Errorf("drop the role: %v", err)
		}
	})
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "p")
	return name, u.String()
}

// known returns the settings that the server has.
func known(t *testing.T, db *testenv.Database) map[string]string {
	t.Helper()
	values, some := dbsync.Settings()
	for name := range others {
		if _, there := values[name]; !there {
			t.Errorf("sessions have %s as role or database have it", name)
		}
	}
	for name := range values {
		if !query[bool](t, db, "SELECT current_setting($1, true) IS NOT NULL", name) {
			if !some[name] {
				t.Errorf("the server has no setting %s", name)
			}
			delete(values, name)
		}
	}
	return values
}

// Every session has every setting as it should be, whoever asks for another: the sessions that read
// rows and the one that streams them alike.
func TestSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		set  func(t *testing.T, db *testenv.Database, role string, settings map[string]string, connStr string) string
	}{
		{"role", func(t *testing.T, db *testenv.Database, role string, settings map[string]string, connStr string) string {
			for name := range settings {
				db.Exec(t, fmt.Sprintf("ALTER ROLE %s SET %s = %s", role, name, literal(others[name])))
			}
			return connStr
		}},
		{"database", func(t *testing.T, db *testenv.Database, role string, settings map[string]string, connStr string) string {
			// From another one, which none of it holds for.
			conn, err := pgx.Connect(t.Context(), db.Postgres.URL("postgres"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if _, err := conn.Exec(context.Background(), "ALTER DATABASE "+db.Name+" RESET ALL"); err != nil {
					t.Error(err)
				}
				conn.Close(context.Background())
			})
			for name := range settings {
				if name == "role" || name == "default_table_access_method" {
					continue // of a role alone; of the database that it is set in
				}
				if _, err := conn.Exec(t.Context(), fmt.Sprintf("ALTER DATABASE %s SET %s = %s", db.Name, name, literal(others[name]))); err != nil {
					t.Fatal(err)
				}
			}
			return connStr
		}},
		{"role in database", func(t *testing.T, db *testenv.Database, role string, settings map[string]string, connStr string) string {
			for name := range settings {
				db.Exec(t, fmt.Sprintf("ALTER ROLE %s IN DATABASE %s SET %s = %s", role, db.Name, name, literal(others[name])))
			}
			return connStr
		}},
		{"options of the connection string", func(t *testing.T, db *testenv.Database, role string, settings map[string]string, connStr string) string {
			var options []string
			for name := range settings {
				if name != "role" && name != "default_table_access_method" { // which are looked for in the catalog, too early
					options = append(options, "-c "+name+"="+strings.ReplaceAll(others[name], " ", `\ `))
				}
			}
			return connStr + "&options=" + strings.ReplaceAll(url.QueryEscape(strings.Join(options, " ")), "+", "%20")
		}},
		{"the connection string", func(t *testing.T, db *testenv.Database, role string, settings map[string]string, connStr string) string {
			for name := range settings {
				connStr += "&" + strings.ToUpper(name) + "=" + url.QueryEscape(others[name])
			}
			return connStr
		}},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			db := testenv.NewDatabase(t)
			db.Exec(t, "CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler")
			settings := known(t, db)
			role, connStr := otherRole(t, db)
			for name, value := range settings {
				if others[name] == "" || others[name] == value {
					t.Errorf("there is no other value of %s to try", name)
				}
			}
			connStr = test.set(t, db, role, settings, connStr)

			pool, err := dbsync.OpenDB(connStr)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			stream, err := dbsync.ConnectReplication(t.Context(), connStr)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close(t.Context())
			for name, value := range settings {
				t.Run(name, func(t *testing.T) {
					var got string
					if err := pool.QueryRowContext(t.Context(), "SHOW "+name).Scan(&got); err != nil || got != value {
						t.Errorf("a session has %q (%v), want %q", got, err, value)
					}
					result, err := stream.Exec(t.Context(), "SHOW "+name).ReadAll()
					if err != nil || string(result[0].Rows[0][0]) != value {
						t.Errorf("the replication session has %s (%v), want %q", result[0].Rows[0][0], err, value)
					}
				})
			}
		})
	}
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// What a login trigger of the database sets, after the settings have come, is set again.
func TestLoginTrigger(t *testing.T) {
	t.Parallel()
	db := testenv.NewDatabase(t)
	if query[int](t, db, "SELECT current_setting('server_version_num')::int") < 170000 {
		t.Skip("the server has no login triggers; TIDEMARK_TEST_POSTGRES_VERSION=17 has")
	}
	db.Exec(t, `CREATE FUNCTION at_login() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		SET DateStyle = 'German'; SET bytea_output = 'escape'; SET transaction_timeout = '1s'; SET default_transaction_read_only = on; SET search_path = pg_catalog; END $$`,
		`CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION at_login()`)
	pool, err := dbsync.OpenDB(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	stream, err := dbsync.ConnectReplication(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close(t.Context())
	for name, value := range known(t, db) {
		var got string
		if err := pool.QueryRowContext(t.Context(), "SHOW "+name).Scan(&got); err != nil || got != value {
			t.Errorf("%s: a session has %q (%v), want %q", name, got, err, value)
		}
		if result, err := stream.Exec(t.Context(), "SHOW "+name).ReadAll(); err != nil || string(result[0].Rows[0][0]) != value {
			t.Errorf("%s: the replication session has %s (%v), want %q", name, result[0].Rows[0][0], err, value)
		}
	}
}

// backend is the server's process of the pool's one connection.
func backend(t *testing.T, pool *sql.DB) (pid int) {
	t.Helper()
	if err := pool.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// A session that somebody has changed is not used again. What the server does not report is seen
// when rows are read, and where the connection was idle.
func TestChangedSession(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(1))
	for _, test := range []struct{ name, sql string }{
		{"reported", "SET DateStyle = 'German'"},
		{"reported, by a function", "SELECT set_config('TimeZone', 'Asia/Tokyo', false)"},
		{"reported, of transactions", "SET default_transaction_read_only = on"},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			pool, err := dbsync.OpenDB(db.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			pool.SetMaxOpenConns(1)
			before := backend(t, pool)
			if backend(t, pool) != before {
				t.Fatal("the pool makes a new connection each time")
			}
			if _, err := pool.ExecContext(t.Context(), test.sql); err != nil {
				t.Fatal(err)
			}
			if backend(t, pool) == before {
				t.Error("the session is used again")
			}
		})
	}
	for _, name := range []string{"bytea_output", "lc_monetary", "extra_float_digits", "search_path", "row_security"} {
		t.Run("read/"+name, func(t *testing.T) {
			t.Parallel()
			s := newSyncer(t, db, "public.t")
			s.DB().SetMaxOpenConns(2) // one of them writes the watermark
			read := func(*pgconn.PgConn) error { return nil }
			var changed []uint32
			err := dbsync.WithConn(t.Context(), s.DB(), func(one *pgx.Conn) error {
				return dbsync.WithConn(t.Context(), s.DB(), func(two *pgx.Conn) error {
					for _, conn := range []*pgx.Conn{one, two} {
						if _, err := conn.Exec(t.Context(), "SET "+name+" = "+literal(others[name])); err != nil {
							return err
						}
						changed = append(changed, conn.PgConn().PID())
					}
					return nil
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			err = s.ReadVisible(t.Context(), nil, nil, read)
			if wrong := (*dbsync.SessionError)(nil); !errors.As(err, &wrong) || wrong.Setting != name {
				t.Fatalf("rows are read in a session with another %s: %v", name, err)
			}
			if dbsync.IsPermanent(err) {
				t.Error("another session is not tried")
			}
			await(t, "sessions that were not changed", func() bool { return s.ReadVisible(t.Context(), nil, nil, read) == nil })
			_ = dbsync.WithConn(t.Context(), s.DB(), func(conn *pgx.Conn) error {
				if conn.PgConn().PID() == changed[0] && changed[0] == changed[1] {
					t.Error("a changed session is used again")
				}
				return nil
			})
		})
	}
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		pool, err := dbsync.OpenDB(db.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		pool.SetMaxOpenConns(1)
		before := backend(t, pool)
		if _, err := pool.ExecContext(t.Context(), "SET lock_timeout = 1"); err != nil {
			t.Fatal(err)
		}
		await(t, "another session", func() bool { return backend(t, pool) != before })
	})
}

// The manual has every setting.
func TestSettingsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/sessions.md")
	if err != nil {
		t.Fatal(err)
	}
	values, _ := dbsync.Settings()
	for name := range values {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/sessions.md does not say what becomes of %s", name)
		}
	}
}
