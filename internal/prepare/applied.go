package prepare

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"tidemark/indexer/retry"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// WithApplied calls f with what waits until everything that the instance has handed over is in the cluster: nil
// where it writes to that itself. db leads to the database, patience is how long Kafka may not answer.
func WithApplied(ctx context.Context, c *mapping.Config, db *sql.DB, log *slog.Logger, patience time.Duration, f func(applied func(context.Context) error) error) error {
	if c.Kafka == nil {
		return f(nil)
	}
	client, err := ConnectKafka(ctx, c, retry.NewAlarm(log), log, patience)
	if err != nil {
		return err
	}
	defer client.Close()
	topics := control.Open(db, c.StateSchema(), c.Postgres.Slot).Topics()
	return f(func(ctx context.Context) error { return topics.AwaitApplied(ctx, client) })
}
