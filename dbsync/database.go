package dbsync

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/stdlib"

	"tidemark/dbsync/pgname"
)

// maxConnections bounds the SQL connections of a Syncer. A window holds one for its
// select and one for its watermarks, the slot's bookkeeping one.
const maxConnections = 8

// connectConfig says how a Syncer connects.
func connectConfig(connStr string) (*pgx.ConnConfig, error) {
	return sessionConfig(connStr, SessionOptions{})
}

// openDB opens a pool of sessions. A connection whose session is not what it was when it was made
// is closed, and another one made: see checkAgain, which replaces the ping of one that was idle.
func openDB(cfg *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*cfg,
		stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false }),
		stdlib.OptionResetSession(func(ctx context.Context, conn *pgx.Conn) error {
			if err := checkAgain(ctx, conn.PgConn()); err != nil {
				return driver.ErrBadConn
			}
			return nil
		}))
	db.SetMaxOpenConns(maxConnections)
	db.SetMaxIdleConns(maxConnections / 2)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db
}

// A replicationConn is a replication connection.
type replicationConn struct {
	*pgconn.PgConn
	in *valueCutter // that it is read through
}

// connectReplication opens a replication connection. maxRow is that of WithMaxRowBytes, 0: none.
func connectReplication(ctx context.Context, cfg *pgx.ConnConfig, maxRow int) (*replicationConn, error) {
	c := cfg.Config.Copy()
	c.MaxProtocolMessageBodyLen = 0
	limit := cutBytes
	if maxRow == 0 {
		limit = math.MaxInt
	}
	var in *valueCutter
	c.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		in = newValueCutter(r, limit) // of the connection that is made last
		return pgproto3.NewFrontend(in, w)
	}
	c.RuntimeParams["replication"] = "database"
	// The default of the server may be off, or shorter than a full queue takes.
	c.RuntimeParams["wal_sender_timeout"] = "60s"
	c.RuntimeParams["application_name"] += " stream"
	c.DialFunc = dialKept // a stream watches itself
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		if problem := SessionProblem(err); problem != nil {
			return nil, problem
		}
		return nil, fmt.Errorf("connect for replication: %w", err)
	}
	return &replicationConn{conn, in}, nil
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

// splitTable splits the name of a table into schema and table, or into table alone, which is
// then looked for along the search path.
func splitTable(name string) ([]string, error) {
	parts, err := pgname.Split(name)
	if err != nil {
		return nil, fmt.Errorf("table name %s: %w", name, err)
	}
	names := make([]string, len(parts))
	for i, part := range parts {
		names[i] = part.Name
	}
	if len(names) > 2 || slices.Contains(names, "") {
		return nil, fmt.Errorf("table name %q: want table or schema.table", name)
	}
	return names, nil
}

// WithConn runs f on a connection of db that nobody else uses meanwhile. The connection is
// one of pgx, so db is one that pgx opened. After a [*RowTooLargeError] it is broken, and the next
// call gets another one.
func WithConn(ctx context.Context, db *sql.DB, f func(conn *pgx.Conn) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close()
	return conn.Raw(func(c any) error { return tooLargeRow(f(c.(*stdlib.Conn).Conn())) })
}

// sqlState returns the SQLSTATE of a server's error, "" for any other.
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
