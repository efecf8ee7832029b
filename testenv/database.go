package testenv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// dropLimit bounds what is done to get rid of a database.
const dropLimit = 30 * time.Second

// A Database is one of its own on a Postgres server, gone after the test with
// its replication slots. Slot names are the whole server's: see [Database.Unique].
type Database struct {
	Name     string
	URL      string // as superuser
	DB       *sql.DB
	Postgres *Postgres
}

// SharedPostgres is the server that the tests of this process share.
func SharedPostgres(t testing.TB) *Postgres {
	t.Helper()
	SkipShort(t)
	p, err := sharedPostgres.get(func(ctx context.Context) (*Postgres, error) {
		if text := os.Getenv("TIDEMARK_TEST_POSTGRES_URL"); text != "" {
			u, err := url.Parse(text)
			if err != nil {
				return nil, errors.New("TIDEMARK_TEST_POSTGRES_URL is not a URL") // its text may hold a password
			}
			return &Postgres{url: *u}, nil
		}
		p, err := LaunchPostgres(ctx, PostgresOptions{})
		if err == nil {
			p.shared = true
		}
		return p, err
	})
	if err != nil {
		skipOrFail(t, fmt.Errorf("shared Postgres: %w", err))
	}
	return p
}

// NewDatabase creates a database on the shared server.
func NewDatabase(t testing.TB) *Database {
	t.Helper()
	return SharedPostgres(t).NewDatabase(t)
}

// NewDatabase creates an empty database (UTF8, C.UTF-8) for this test.
func (p *Postgres) NewDatabase(t testing.TB) *Database {
	t.Helper()
	return p.newDatabase(t, "encoding 'UTF8' locale 'C.UTF-8'")
}

// NewEncodedDatabase creates an empty database in another encoding than UTF8 (locale C). URL asks for
// UTF8 of the sessions that the test has itself.
func (p *Postgres) NewEncodedDatabase(t testing.TB, encoding string) *Database {
	t.Helper()
	return p.newDatabase(t, fmt.Sprintf("encoding '%s' locale 'C'", encoding))
}

func (p *Postgres) newDatabase(t testing.TB, as string) *Database {
	t.Helper()
	d := &Database{Name: fmt.Sprintf("t%d_%x", time.Now().Unix()%1e6, rand.Uint32()), Postgres: p}
	d.URL = p.URL(d.Name)
	if !strings.Contains(as, "UTF8") {
		d.URL += "&client_encoding=UTF8" // which is the database's otherwise
	}
	create := fmt.Sprintf("create database %s template template0 %s", d.Name, as)
	if err := execute(t.Context(), p.URL("postgres"), create); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		if !p.Running() {
			return // the test stopped its own server, the database goes with it
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), dropLimit)
		defer cancel()
		if err := d.drop(ctx); err != nil {
			t.Errorf("drop database %s: %v", d.Name, err)
		}
	})
	db, err := sql.Open("pgx", d.URL)
	if err != nil {
		t.Fatal(err)
	}
	d.DB = db
	t.Cleanup(func() { db.Close() })
	return d
}

// Exec executes statements in order, each of which may be several.
func (d *Database) Exec(t testing.TB, statements ...string) {
	t.Helper()
	if err := execute(t.Context(), d.URL, statements...); err != nil {
		t.Fatal(err)
	}
}

// Unique makes a name, say of a slot or role, that no other test uses on this
// server.
func (d *Database) Unique(name string) string { return d.Name + "_" + name }

// drop takes slots and database away, also from a client that keeps coming back.
func (d *Database) drop(ctx context.Context) error {
	inside, err := pgx.Connect(ctx, d.URL)
	if err != nil {
		return err
	}
	defer inside.Close(context.WithoutCancel(ctx))
	// We are in, nobody else comes in any more.
	if err := execute(ctx, d.Postgres.URL("postgres"), fmt.Sprintf("alter database %s allow_connections false", d.Name)); err != nil {
		return err
	}
	_, err = inside.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
	if err != nil {
		return err
	}
	err = poll(ctx, func(ctx context.Context) error { // until the walsenders have let go
		_, err := inside.Exec(ctx, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()")
		return err
	})
	if err != nil {
		return fmt.Errorf("drop its slots: %w", err)
	}
	if err := inside.Close(ctx); err != nil {
		return err
	}
	return execute(ctx, d.Postgres.URL("postgres"), fmt.Sprintf("drop database %s with (force)", d.Name))
}

func execute(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range statements {
		if _, err := conn.PgConn().Exec(ctx, s).ReadAll(); err != nil {
			return fmt.Errorf("%s: %w", firstLine(s), err)
		}
	}
	return nil
}

func firstLine(s string) string {
	line, rest, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if rest != "" {
		line += " …"
	}
	return line
}

// Database is a database that is on the server already, as one that a standby has from its primary. It is
// not dropped after the test.
func (p *Postgres) Database(t testing.TB, name string) *Database {
	t.Helper()
	db, err := sql.Open("pgx", p.URL(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return &Database{Name: name, URL: p.URL(name), DB: db, Postgres: p}
}
