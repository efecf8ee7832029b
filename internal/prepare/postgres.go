package prepare

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

const (
	minPause = 200 * time.Millisecond
	maxPause = 5 * time.Second

	// statementTimeout bounds what is asked of the catalog before the start.
	statementTimeout = 30 * time.Second
)

// An UnreachableError says that Postgres did not answer for as long as it was waited
// for. It is no fault of the configuration, as far as one can tell.
type UnreachableError struct {
	Address string // host:port, or the folder of a socket
	Key     string // of the file that names it; "": postgres.url
	Waited  time.Duration
	Err     error // of the last attempt
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("Postgres at %s does not answer, tried for %s: %v\n    hint: start the server, or correct %s",
		e.Address, e.Waited.Round(time.Millisecond*100), e.Err, cmp.Or(e.Key, "postgres.url"))
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// A database is the connection that the catalog is read by.
type database struct {
	*sql.DB
	role string
}

// asDatabase returns connections that somebody else has made as those that the catalog is read by.
func asDatabase(ctx context.Context, db *sql.DB) (*database, error) {
	d := &database{DB: db}
	if err := db.QueryRowContext(ctx, "SELECT current_user").Scan(&d.role); err != nil {
		return nil, fmt.Errorf("ask for the role: %w", err)
	}
	return d, nil
}

// A postgresServer is one of the servers that the file names.
type postgresServer struct {
	connString string
	key        string // of the file; "": that of postgres which says most about what is wrong
}

// connectPostgres connects to the database. For as long as patience lasts it tries again
// while the server does not answer.
// Its errors are mapping.Problems where somebody has to fix something, an
// [*UnreachableError], or the end of ctx.
func connectPostgres(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration) (*database, error) {
	return connectServer(ctx, c, postgresServer{connString: c.Postgres.ConnString()}, log, patience)
}

// connectSlotServer is connectPostgres for the server that has the slot.
func connectSlotServer(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration) (*database, error) {
	return connectServer(ctx, c, postgresServer{c.Postgres.SlotConnString(), "postgres.replication_url"}, log, patience)
}

func connectServer(ctx context.Context, c *mapping.Config, server postgresServer, log *slog.Logger, patience time.Duration) (*database, error) {
	config, err := pgx.ParseConfig(server.connString)
	if err != nil {
		return nil, mapping.Problems{unreadable(c, server.key, err)}
	}
	db, err := dbsync.OpenSessions(server.connString, dbsync.SessionOptions{Name: "tidemark", StatementTimeout: statementTimeout})
	if err != nil {
		return nil, mapping.Problems{unreadable(c, server.key, err)}
	}
	db.SetMaxOpenConns(1)
	db.SetConnMaxIdleTime(time.Minute) // run needs it no more

	pause := retry.NewBackoff(minPause, maxPause)
	for start, attempt := time.Now(), 1; ; attempt++ {
		err := db.PingContext(ctx)
		if err == nil {
			log.Info("connected to Postgres", "address", address(config), "database", config.Database, "role", config.User)
			return &database{DB: db, role: config.User}, nil
		}
		if ctx.Err() != nil {
			db.Close()
			return nil, fmt.Errorf("connect to Postgres at %s: %w", address(config), context.Cause(ctx))
		}
		if p, ok := connectProblem(c, server.key, config, err); ok {
			db.Close()
			return nil, mapping.Problems{p}
		}
		next := pause.NextBackOff()
		if time.Since(start)+next > patience {
			db.Close()
			return nil, &UnreachableError{Address: address(config), Key: server.key, Waited: time.Since(start), Err: plain(err)}
		}
		log.Warn("Postgres does not answer yet", "address", address(config), "attempt", attempt, "next_in", next.Round(time.Millisecond), "error", plain(err))
		if err := retry.Sleep(ctx, next); err != nil {
			db.Close()
			return nil, fmt.Errorf("connect to Postgres at %s: %w", address(config), err)
		}
	}
}

// connectProblem says what has to be fixed before a connection can be had; false where
// waiting may be enough.
func connectProblem(c *mapping.Config, key string, config *pgx.ConnConfig, err error) (mapping.Problem, bool) {
	role := catalog.QuoteIdent(config.User)
	// The first key that the file has says where the value comes from.
	at := func(keys ...string) string {
		if key != "" {
			return key
		}
		for _, key := range keys {
			if c.Has(key) {
				return key
			}
		}
		return urlKey(c)
	}
	if problem := dbsync.SessionProblem(err); problem != nil {
		return c.Problem(at("postgres.url", "postgres.host"), problem.Hint, "%s", problem.Reason()), true
	}
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		said := "Postgres says: " + server.Message
		switch server.Code {
		case "28P01":
			wrong := "wrong password"
			if config.Password == "" {
				wrong = "no password is given"
			}
			return c.Problem(at("postgres.url", "postgres.password"), "give the right password of role "+role+": in the file, in what it names by ${…}, or in PGPASSWORD",
				"%s for role %s. %s", wrong, config.User, said), true
		case "28000":
			return c.Problem(at("postgres.url", "postgres.user"), "name an existing role that may log in, and allow it in pg_hba.conf: CREATE ROLE "+role+" LOGIN REPLICATION PASSWORD '…';",
				"role %s may not log in. %s", config.User, said), true
		case "3D000":
			return c.Problem(at("postgres.url", "postgres.database"), "name an existing database: SELECT datname FROM pg_database;",
				"there is no database %s. %s", config.Database, said), true
		case "42501":
			return c.Problem(at("postgres.url", "postgres.database"), fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", catalog.QuoteIdent(config.Database), role),
				"role %s may not connect to database %s. %s", config.User, config.Database, said), true
		}
		return mapping.Problem{}, false
	}
	text := err.Error()
	switch {
	case isCertificateError(err):
		return c.Problem(at("postgres.url", "postgres.sslmode"), "sslrootcert=FILE in the url with the authority of the server's certificate, and a host name that is in it",
			"the certificate of the server is not trusted: %v", plain(err)), true
	case strings.Contains(text, "server refused TLS connection"):
		return c.Problem(at("postgres.url", "postgres.sslmode"), "switch TLS on in the server (ssl = on), or ask for less: sslmode=prefer",
			"the server has no TLS, and sslmode asks for it"), true
	}
	return mapping.Problem{}, false
}

func isCertificateError(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	_, hostname := errors.AsType[x509.HostnameError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	return hostname || unknown
}

// urlKey is the key that says most about where the database is.
func urlKey(c *mapping.Config) string {
	if c.Has("postgres.url") {
		return "postgres.url"
	}
	if c.Has("postgres.host") {
		return "postgres.host"
	}
	return "postgres"
}

func address(config *pgx.ConnConfig) string {
	if strings.HasPrefix(config.Host, "/") {
		return config.Host
	}
	return net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
}

// plain takes off what pgx puts before the reason: user, database and address are said
// already.
func plain(err error) error {
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok && connect.Unwrap() != nil {
		return oneLine{connect.Unwrap()}
	}
	return err
}

// oneLine shows an error that pgx joined from all addresses of a host on one line.
type oneLine struct{ error }

func (e oneLine) Error() string {
	lines := strings.Split(e.error.Error(), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}

func (e oneLine) Unwrap() error { return e.error }

// unreadable says that what the connection is described by cannot be used. The parser's
// error is not shown: it quotes the text, and does not find every password in it.
func unreadable(c *mapping.Config, key string, err error) mapping.Problem {
	key = cmp.Or(key, urlKey(c))
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return c.Problem(key, "name a file that is there and can be read", "it asks for file %s: %v", file.Path, file.Err)
	}
	return c.Problem(key, "postgres://USER:PASSWORD@HOST:PORT/DATABASE, or keywords as in: host=HOST dbname=DATABASE user=USER\nPGHOST, PGPORT, PGSSLMODE and their like count as well",
		"not a description of a Postgres connection (its text is not shown, a password may be in it)")
}
