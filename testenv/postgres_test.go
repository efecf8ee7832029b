package testenv

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func setting(t testing.TB, p *Postgres, name string) (value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URL("postgres"))
	must(t, err)
	defer conn.Close(t.Context())
	must(t, conn.QueryRow(t.Context(), "show "+name).Scan(&value))
	return value
}

func TestPostgresKeepsData(t *testing.T) {
	p := StartPostgres(t, PostgresOptions{Settings: map[string]string{"wal_level": "replica", "synchronous_standby_names": "'nobody_there'", "synchronous_commit": "local"}})
	if got := setting(t, p, "wal_level") + setting(t, p, "synchronous_standby_names"); got != "replicanobody_there" {
		t.Errorf("settings are %s", got)
	}
	d := p.NewDatabase(t)
	d.Exec(t, "create table a (id int primary key)")
	for i, again := range []func(context.Context) error{
		p.Restart,
		func(ctx context.Context) error { return errors.Join(p.Kill(ctx), p.Start(ctx)) },
		func(ctx context.Context) error { return errors.Join(p.Stop(ctx), p.Start(ctx)) },
	} {
		d.Exec(t, "insert into a select count(*) from a")
		must(t, again(within(t, time.Minute)))
		var n int
		conn, err := pgx.Connect(t.Context(), d.URL) // not d.DB, whose connections broke
		must(t, err)
		must(t, conn.QueryRow(t.Context(), "select count(*) from a").Scan(&n))
		must(t, conn.Close(t.Context()))
		if n != i+1 {
			t.Fatalf("%d rows after start %d", n, i+2)
		}
	}
}

func TestPostgresVersion(t *testing.T) {
	p := StartPostgres(t, PostgresOptions{Version: "18"})
	if v := setting(t, p, "server_version"); !strings.HasPrefix(v, "18.") {
		t.Errorf("asked for 18, got %s", v)
	}
	if v := setting(t, p, "wal_level"); v != "logical" {
		t.Errorf("wal_level is %s", v)
	}
}

func TestPostgresPassword(t *testing.T) {
	p := StartPostgres(t, PostgresOptions{Auth: "scram-sha-256"})
	setting(t, p, "port") // the URL's password is right
	_, err := pgx.Connect(t.Context(), strings.Replace(p.URL("postgres"), ":"+superuserPassword+"@", ":wrong@", 1))
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "28P01" {
		t.Errorf("a wrong password gives %v", err)
	}
}

// Somebody may listen on the port between the choice and the start.
func TestPostgresPortTaken(t *testing.T) {
	SkipShort(t)
	bin, err := postgresBin(t.Context(), "")
	if err != nil {
		skipOrFail(t, err)
	}
	tries := 0
	p, err := launch(t.Context(), "postgres", PostgresOptions{Auth: "trust"}, func(ctx context.Context, proc *process, port int, o PostgresOptions) (*program, error) {
		if tries++; tries == 1 {
			l, err := net.Listen("tcp", address(port))
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { l.Close() })
		}
		return localPostgres(ctx, proc, port, bin, o)
	})
	must(t, err)
	must(t, p.Close())
	if tries != 2 {
		t.Errorf("%d tries", tries)
	}
}

func TestPostgresThatCannotStartSaysWhy(t *testing.T) {
	SkipShort(t)
	_, err := LaunchPostgres(t.Context(), PostgresOptions{Settings: map[string]string{"max_wal_senders": "many"}})
	if err == nil || !strings.Contains(err.Error(), "max_wal_senders") {
		t.Errorf("error is %v", err)
	}
}
