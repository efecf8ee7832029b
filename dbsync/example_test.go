package dbsync_test

import (
	"context"
	"log"
	"log/slog"
	"os"
	"os/signal"

	"tidemark/dbsync"
)

// Prints the changes of two tables until it is interrupted. The database is the one that
// POSTGRES_CONNSTR or POSTGRES_NAME, _HOST, _PORT, _USER and _PASSWORD name.
func Example() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()

	syncer, err := dbsync.NewSyncer(
		dbsync.ForTables("public.orders", "public.customers"),
		dbsync.WithReplicationSlot("example"),
		dbsync.WithLogger(slog.Default()),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer syncer.Close()

	syncer.MessageHandler = &dbsync.EchoMessageHandler{}
	if err := syncer.Run(ctx); err != nil {
		log.Print(err)
	}
}
