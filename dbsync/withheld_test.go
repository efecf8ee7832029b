package dbsync_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
)

// canary is a value of a row that nobody may see but who reads the table.
const canary = "S3cr3tCanary"

// What Postgres says of values does not come into a log, whatever the kind of error; which table
// and constraint it is about does.
func TestWithoutValues(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, `CREATE TYPE mood AS ENUM ('good'); CREATE TABLE t (id text PRIMARY KEY, n int CONSTRAINT positive CHECK (n > 0), m text NOT NULL);
		INSERT INTO t VALUES ('`+canary+`', 1, '');
		CREATE FUNCTION raised(code text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the customer `+canary+` is not known' USING ERRCODE = code, DETAIL = 'S3cr3tCanary', HINT = 'S3cr3tCanary'; END $$`)
	for _, test := range []struct{ name, sql, want string }{
		{"integer", `SELECT 'S3cr3tCanary'::int`, "invalid input syntax for type integer … (SQLSTATE 22P02)"},
		{"integer out of range", `SELECT '99999999999999'::int`, "value … (SQLSTATE 22003)"},
		{"numeric", `SELECT 'S3cr3tCanary'::numeric`, "invalid input syntax for type numeric …"},
		{"date", `SELECT 'S3cr3tCanary'::date`, "invalid input syntax for type date …"},
		{"date out of range", `SELECT '2026-13-77'::date`, "date/time field value out of range …"},
		{"time zone", `SELECT now() AT TIME ZONE 'S3cr3tCanary'`, "time zone …"},
		{"enum", `SELECT 'S3cr3tCanary'::mood`, "invalid input value for enum mood …"},
		{"json", `SELECT '{"S3cr3tCanary'::json`, "invalid input syntax for type json (SQLSTATE 22P02)"},
		{"uuid", `SELECT 'S3cr3tCanary'::uuid`, "invalid input syntax for type uuid …"},
		{"inet", `SELECT 'S3cr3tCanary'::inet`, "invalid input syntax for type inet …"},
		{"array", `SELECT '{S3cr3tCanary'::int[]`, "malformed array literal …"},
		{"range", `SELECT 'S3cr3tCanary'::int4range`, "malformed range literal …"},
		{"interval", `SELECT 'S3cr3tCanary'::interval`, "invalid input syntax for type interval …"},
		{"bytea", `SELECT '\xS3cr3tCanary'::bytea`, "invalid hexadecimal digit …"},
		{"regular expression", `SELECT 'a' ~ '(S3cr3tCanary'`, "invalid regular expression …"},
		{"bytes", `SELECT convert_from('\x5333637233744361e9', 'UTF8')`, "invalid byte sequence for encoding …"},
		{"unique", `INSERT INTO t VALUES ('S3cr3tCanary', 1, '')`, `duplicate key value violates unique constraint "t_pkey" (SQLSTATE 23505)`},
		{"check", `INSERT INTO t VALUES ('b', -1, 'S3cr3tCanary')`, `new row for relation "t" violates check constraint "positive"`},
		{"not null", `INSERT INTO t VALUES ('S3cr3tCanary', 1, NULL)`, `null value in column "m" of relation "t"`},
		{"raised", `SELECT raised('P0001')`, "is left out) (SQLSTATE P0001)"},
		{"raised as a check", `SELECT raised('23514')`, "is left out) (SQLSTATE 23514)"},
		{"raised as of its own", `SELECT raised('ZZ001')`, "is left out) (SQLSTATE ZZ001)"},
		{"no table", `SELECT FROM missing`, `relation "missing" does not exist`},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			_, err := db.DB.ExecContext(t.Context(), test.sql)
			if err == nil {
				t.Fatal("it is no error")
			}
			for _, wrapped := range []error{err, fmt.Errorf("read rows: %w", err), fmt.Errorf("two: %w: %w", errors.New("first"), err), errors.Join(errors.New("first"), err), &dbsync.SetupError{Text: "cannot", Err: err}} {
				text := dbsync.WithoutValues(wrapped)
				if strings.Contains(text, canary) || strings.Contains(text, "99999") || strings.Contains(text, "2026-13") || strings.Contains(text, "0xe9") || !strings.Contains(text, test.want) {
					t.Errorf("%q, want no value in it, and %q", text, test.want)
				}
			}
		})
	}
}

// What a library's logger gets has no values either.
func TestLoggerWithoutValues(t *testing.T) {
	var out bytes.Buffer
	log := dbsync.LoggerOf(dbsync.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
	err := fmt.Errorf("read: %w", &pgconn.PgError{Severity: "ERROR", Code: "22P02", Message: `invalid input syntax for type integer: "` + canary + `"`})
	log.Warn("first", "error", err)
	log.With("slot", "s").WithGroup("g").Error("second", "error", err)
	if text := out.String(); strings.Contains(text, canary) || strings.Count(text, "invalid input syntax for type integer …") != 2 {
		t.Error(text)
	}
}
