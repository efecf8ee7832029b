package prepare

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

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
