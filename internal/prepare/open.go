package prepare

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"tidemark/dbsync"
	"tidemark/mapping"
)

// Open connects to the database of c alone, for as long as patience lasts. Its errors are
// those of [Prepare].
func Open(ctx context.Context, c *mapping.Config, log *slog.Logger, patience time.Duration) (*sql.DB, error) {
	db, err := connectPostgres(ctx, c, log, patience)
	if err != nil {
		return nil, err
	}
	return db.DB, nil
}

// AtSlot calls f with connections to the server that has the slot of c: db, where that is the primary. Others are
// closed when f has returned.
func AtSlot(c *mapping.Config, db *sql.DB, f func(db *sql.DB) error) error {
	if c.Postgres.ReplicationURL.IsZero() {
		return f(db)
	}
	there, err := dbsync.OpenSessions(c.Postgres.SlotConnString(), dbsync.SessionOptions{Name: "tidemark"})
	if err != nil {
		return fmt.Errorf("connect to the server of the slot: %w", err)
	}
	defer there.Close()
	return f(there)
}
