package dbsync_test

import (
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
)

// A connection pooler in between is said at once, with the hint.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(1))
	values, _ := dbsync.Settings()
	// What a pooler is told to keep from the server, so that it lets us in.
	ignored := strings.Join(append(slices.Collect(maps.Keys(values)), "replication", "wal_sender_timeout"), ",")
	for _, test := range []struct {
		name     string
		settings map[string]string
	}{
		{"session", map[string]string{"pool_mode": "session"}},
		{"transaction", map[string]string{"pool_mode": "transaction"}},
		{"statement", map[string]string{"pool_mode": "statement"}},
		{"session, ignoring", map[string]string{"pool_mode": "session", "ignore_startup_parameters": ignored}},
		{"transaction, ignoring", map[string]string{"pool_mode": "transaction", "ignore_startup_parameters": ignored}},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			url := db.Postgres.NewPgBouncer(t, test.settings).URL(db.URL)
			plain, err := sql.Open("pgx", url)
			if err != nil {
				t.Fatal(err)
			}
			defer plain.Close()
			if err := plain.PingContext(t.Context()); err != nil {
				t.Fatalf("PgBouncer does not work: %v", err)
			}
			pooled := func(t *testing.T, err error) {
				t.Helper()
				problem := dbsync.SessionProblem(err)
				if problem == nil || !strings.Contains(problem.Text, "pooler") || !strings.Contains(problem.Hint, "PgBouncer") {
					t.Errorf("it is not said: %v", err)
				}
			}
			pool, err := dbsync.OpenDB(url)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			err = pool.PingContext(t.Context())
			pooled(t, err)
			t.Log(err)
			conn, err := dbsync.ConnectReplication(t.Context(), url)
			if err == nil {
				conn.Close(t.Context())
			}
			pooled(t, err)
			_, err = dbsync.NewSyncerContext(t.Context(), dbsync.WithPGConnStr(url), dbsync.WithReplicationSlot(db.Unique("slot")), dbsync.ForTables("public.t"))
			if refused := (*dbsync.SetupError)(nil); !errors.As(err, &refused) {
				t.Errorf("a Syncer is made, or fails with %v", err)
			}
			pooled(t, err)
		})
	}
}

// One that gives all its sessions the right settings is found out when two statements on one
// connection run in two sessions.
func TestSharedSessions(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(1))
	values := known(t, db)
	for name, value := range values {
		if name != "role" {
			db.Exec(t, "ALTER DATABASE "+db.Name+" SET "+name+" = "+settingLiteral(name, value))
		}
	}
	url := db.Postgres.NewPgBouncer(t, map[string]string{"pool_mode": "transaction", "ignore_startup_parameters": strings.Join(slices.Collect(maps.Keys(values)), ",")}).URL(db.URL)
	pool, err := dbsync.OpenDB(url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	pool.SetMaxOpenConns(1)
	before := backend(t, pool)
	// Somebody else has our session meanwhile.
	other, err := pgx.Connect(t.Context(), url+"&default_query_exec_mode=simple_protocol")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(t.Context())
	var pid int
	if _, err := other.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if err := other.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil || pid != before {
		t.Fatalf("process %d, want the pool's %d: %v", pid, before, err)
	}
	err = pool.PingContext(t.Context())
	if problem := dbsync.SessionProblem(err); problem == nil || !strings.Contains(problem.Text, "two sessions") {
		t.Errorf("it is not said: %v", err)
	}
}

// settingLiteral is the value of a setting as SET takes it: search_path is a list.
func settingLiteral(name, value string) string {
	if name == "search_path" || name == "DateStyle" {
		return value
	}
	return literal(value)
}
