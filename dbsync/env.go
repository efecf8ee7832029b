package dbsync

import (
	"cmp"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// What a Syncer uses when neither an option nor the environment says otherwise.
const (
	DEFAULT_DBSYNC_CTRL_NAMESPACE = "dbsync_ctrl"
	DEFAULT_DBSYNC_PUBNAME        = "dbsync_mypub"
	DEFAULT_DBSYNC_REPLSLOT       = "dbsync_replslot"
	DEFAULT_DBSYNC_WM_TABLENAME   = "dbsync_wmtable"
	DEFAULT_POSTGRES_DB           = "postgres"
	DEFAULT_POSTGRES_HOST         = "localhost"
	DEFAULT_POSTGRES_PASSWORD     = "docker"
	DEFAULT_POSTGRES_PORT         = "5432"
	DEFAULT_POSTGRES_USER         = "postgres"
)

// PG_TIMESTAMP_FORMAT is the layout, for [time.Time.Format], of a timestamp with time zone
// in UTC as Postgres prints it.
const PG_TIMESTAMP_FORMAT = "2006-01-02 15:04:05.999999+00"

// ConnStr returns the connection URL of a database. Every part may hold any character;
// Host may also be an IPv6 address, or the directory of a Unix socket. The result holds
// the password: it does not belong in a log.
func ConnStr(DBName string, Host string, Port int, Username string, Password string) string {
	return connStr(DBName, Host, strconv.Itoa(Port), Username, Password)
}

// PGConnStringFromEnv returns the connection string of the database that the environment
// names: POSTGRES_CONNSTR as it is, or a URL made of
//
//	POSTGRES_NAME, or else POSTGRES_DB   database, default postgres
//	POSTGRES_HOST                        default localhost
//	POSTGRES_PORT                        default 5432
//	POSTGRES_USER                        default postgres
//	POSTGRES_PASSWORD                    default docker
//
// A variable that is set to nothing counts as not set.
func PGConnStringFromEnv() string {
	if s := os.Getenv("POSTGRES_CONNSTR"); s != "" {
		return s
	}
	return connStr(
		cmp.Or(os.Getenv("POSTGRES_NAME"), os.Getenv("POSTGRES_DB"), DEFAULT_POSTGRES_DB),
		cmp.Or(os.Getenv("POSTGRES_HOST"), DEFAULT_POSTGRES_HOST),
		cmp.Or(os.Getenv("POSTGRES_PORT"), DEFAULT_POSTGRES_PORT),
		cmp.Or(os.Getenv("POSTGRES_USER"), DEFAULT_POSTGRES_USER),
		cmp.Or(os.Getenv("POSTGRES_PASSWORD"), DEFAULT_POSTGRES_PASSWORD),
	)
}

// connStr takes the port as text: one that is no number is reported by whoever connects,
// instead of being replaced here.
func connStr(database, host, port, user, password string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(user, password),
		Path:   "/" + database,
	}
	if strings.HasPrefix(host, "/") { // in the authority of a URL a directory cannot stand
		u.RawQuery = url.Values{"host": {host}, "port": {port}}.Encode()
	} else {
		u.Host = net.JoinHostPort(host, port)
	}
	return u.String()
}
