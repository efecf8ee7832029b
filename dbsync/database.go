package dbsync

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// session are the settings that the replication session and the SQL sessions share, so
// that a value reads the same from either.
var session = map[string]string{
	"TimeZone":           "UTC",
	"DateStyle":          "ISO, YMD",
	"IntervalStyle":      "postgres",
	"extra_float_digits": "1",
	"bytea_output":       "hex",
	"client_encoding":    "UTF8",
	"lc_monetary":        "C",
	// A policy that hides rows from this role gives an error, not an empty table.
	"row_security": "off",
	// Our own commits must not hang with a synchronous standby that does not answer:
	// watermarks are what finds out which commits do.
	"synchronous_commit": "local",
	// A role's own limits are meant for people and applications.
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
}

// maxConnections bounds the SQL connections of a Syncer. A window holds one for its
// select and one for its watermarks, the slot's bookkeeping one.
const maxConnections = 8

// connectConfig parses a connection string and adds the session's settings.
func connectConfig(connStr string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(connStr)
	if err != nil {
		return nil, fmt.Errorf("connection string of Postgres: %w", err)
	}
	maps.Copy(cfg.RuntimeParams, session)
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "dbsync"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	return cfg, nil
}

func openDB(cfg *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(maxConnections)
	db.SetMaxIdleConns(maxConnections / 2)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db
}

// connectReplication opens a replication connection.
func connectReplication(ctx context.Context, cfg *pgx.ConnConfig) (*pgconn.PgConn, error) {
	c := cfg.Config.Copy()
	c.RuntimeParams["replication"] = "database"
	// The default of the server may be off, or shorter than a full queue takes.
	c.RuntimeParams["wal_sender_timeout"] = "60s"
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect for replication: %w", err)
	}
	return conn, nil
}

// quoteIdent quotes an identifier.
func quoteIdent(name string) string { return pgx.Identifier{name}.Sanitize() }

// quoteTable quotes a table's name. "a.b" is table b in schema a; a name in double
// quotes is taken to the letter.
func quoteTable(name string) (string, error) {
	parts, err := splitTable(name)
	if err != nil {
		return "", err
	}
	return pgx.Identifier(parts).Sanitize(), nil
}

// splitTable splits the name of a table into schema and table, or into table alone.
func splitTable(name string) ([]string, error) {
	var parts []string
	for rest := name; ; {
		var part string
		if strings.HasPrefix(rest, `"`) {
			end := 1
			for {
				i := strings.IndexByte(rest[end:], '"')
				if i < 0 {
					return nil, fmt.Errorf("table name %s: a quote is not closed", name)
				}
				end += i + 1
				if !strings.HasPrefix(rest[end:], `"`) {
					break
				}
				end++
			}
			part, rest = strings.ReplaceAll(rest[1:end-1], `""`, `"`), rest[end:]
		} else {
			i := strings.IndexByte(rest, '.')
			if i < 0 {
				i = len(rest)
			}
			part, rest = rest[:i], rest[i:]
		}
		if part == "" || rest != "" && rest[0] != '.' {
			return nil, fmt.Errorf("table name %q: want table or schema.table", name)
		}
		parts = append(parts, part)
		if rest == "" {
			break
		}
		rest = rest[1:]
	}
	if len(parts) > 2 {
		return nil, fmt.Errorf("table name %q: want table or schema.table", name)
	}
	return parts, nil
}

// WithConn runs f on a connection of db that nobody else uses meanwhile. The connection is
// one of pgx, so db is one that pgx opened.
func WithConn(ctx context.Context, db *sql.DB, f func(conn *pgx.Conn) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close()
	return conn.Raw(func(c any) error { return f(c.(*stdlib.Conn).Conn()) })
}

// sqlState returns the SQLSTATE of a server's error, "" for any other.
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// A PermanentError wraps an error that repeating cannot cure. A [Batcher] or a handler
// that returns one ends the run; any other error of theirs is tried again.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

// permanent reports whether repeating cannot cure err: it says so itself, or Postgres
// refuses what was asked for, not the moment it was asked in.
// Classes: https://www.postgresql.org/docs/current/errcodes-appendix.html
func permanent(err error) bool {
	var p *PermanentError
	var lost *SlotLostError
	var cluster *ClusterChangedError
	var newer *NewerSchemaError
	if errors.As(err, &p) || errors.As(err, &lost) || errors.As(err, &cluster) || errors.As(err, &newer) {
		return true
	}
	state := sqlState(err)
	if len(state) != 5 {
		return false
	}
	switch state[:2] {
	case "0A", "22", "3F", "42": // not supported, data, no such schema, syntax or missing right
		return true
	}
	return false
}
