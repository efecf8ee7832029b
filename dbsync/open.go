package dbsync

import "database/sql"

// OpenDB opens a database with sessions as those of a [Syncer] are: a value has the text in
// them that it has in the stream. It connects when the database is used first.
func OpenDB(connStr string) (*sql.DB, error) { return OpenSessions(connStr, SessionOptions{}) }

// OpenSessions is OpenDB for sessions of a name or with a limit of their own.
func OpenSessions(connStr string, o SessionOptions) (*sql.DB, error) {
	cfg, err := sessionConfig(connStr, o)
	if err != nil {
		return nil, err
	}
	return openDB(cfg), nil
}
