package dbsync

import "database/sql"

// OpenDB opens a database with sessions as those of a [Syncer] are: a value has the text in
// them that it has in the stream. It connects when the database is used first.
func OpenDB(connStr string) (*sql.DB, error) {
	cfg, err := connectConfig(connStr)
	if err != nil {
		return nil, err
	}
	return openDB(cfg), nil
}
