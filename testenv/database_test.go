package testenv

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

func TestDatabase(t *testing.T) {
	d := NewDatabase(t)
	d.Exec(t, "create table a (id int primary key)", "insert into a values (1); insert into a values (2)")
	var n int
	var encoding, collation string
	must(t, d.DB.QueryRowContext(t.Context(), "select count(*) from a").Scan(&n))
	must(t, d.DB.QueryRowContext(t.Context(), "select pg_encoding_to_char(encoding), datcollate from pg_database where datname = current_database()").Scan(&encoding, &collation))
	if n != 2 || encoding != "UTF8" || collation != "C.UTF-8" {
		t.Errorf("%d rows, encoding %s, collation %s", n, encoding, collation)
	}
}

func TestDatabaseTakesSlotsWithIt(t *testing.T) {
	server := SharedPostgres(t)
	var name string
	t.Run("with a walsender at work", func(t *testing.T) {
		d := NewDatabase(t)
		name = d.Name
		slot := d.Unique("slot")
		d.Exec(t, "create publication p for all tables",
			"select pg_create_logical_replication_slot('"+slot+"', 'pgoutput')",
			"select pg_create_logical_replication_slot('"+d.Unique("idle")+"', 'pgoutput')")
		conf, err := pgconn.ParseConfig(d.URL)
		must(t, err)
		conf.RuntimeParams["replication"] = "database"
		conn, err := pgconn.ConnectConfig(t.Context(), conf)
		must(t, err)
		// Closed only after the database has gone: nobody ends it in order.
		t.Cleanup(func() { t.Cleanup(func() { conn.Close(t.Context()) }) })
		conn.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION SLOT " + slot + " LOGICAL 0/0 (proto_version '1', publication_names 'p')"})
		must(t, conn.Frontend().Flush())
		m, err := conn.ReceiveMessage(within(t, 10*time.Second))
		if _, ok := m.(*pgproto3.CopyBothResponse); !ok {
			t.Fatalf("replication starts with %#v, %v", m, err)
		}
	})
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	must(t, err)
	defer conn.Close(t.Context())
	var databases, slots int
	must(t, conn.QueryRow(t.Context(), "select count(*) from pg_database where datname = $1", name).Scan(&databases))
	must(t, conn.QueryRow(t.Context(), "select count(*) from pg_replication_slots where database = $1", name).Scan(&slots))
	if databases+slots > 0 {
		t.Errorf("%d databases and %d slots are left", databases, slots)
	}
}
