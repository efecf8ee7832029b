package dbsync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"

	"tidemark/dbsync"
)

// A webhook posts what changes to a URL, one request for each batch. It takes whole batches, with the version of each
// document: requests may come twice, and a receiver that keeps the highest version of each id takes no harm.
type webhook struct{ url string }

// An event is one of the list that is posted.
type event struct {
	Table   string           `json:"table"`
	ID      string           `json:"id"`
	Version string           `json:"version"` // of the commit, as Postgres writes positions; within a commit the group decides
	Group   uint32           `json:"group"`
	Deleted bool             `json:"deleted,omitempty"`
	Row     dbsync.StringMap `json:"row,omitempty"`
}

// BatchOperations makes it a [dbsync.OperationBatcher]. The slot moves when it returns nil.
func (w *webhook) BatchOperations(ctx context.Context, batch *dbsync.Batch) error {
	var events []event
	for _, op := range batch.Operations() {
		events = append(events, event{op.Index, op.ID, op.Version.String(), op.Group, op.Kind == dbsync.Delete, op.Doc})
	}
	body, err := json.Marshal(events)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 { // the batch comes again, after a pause
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return fmt.Errorf("%s: %s: %s", w.url, response.Status, answer)
	}
	return nil
}

// Posts the changes of two tables.
func Example_webhook() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()

	syncer, err := dbsync.NewSyncer(dbsync.ForTables("public.orders", "public.customers"), dbsync.WithReplicationSlot("webhook"))
	if err != nil {
		log.Fatal(err)
	}
	defer syncer.Close()
	syncer.MessageHandler = &typesense{syncer: syncer} // which makes documents of rows, see the other example
	syncer.Batcher = dbsync.OperationsOnly(&webhook{url: "http://localhost:8080/changes"})
	if err := syncer.Run(ctx); err != nil {
		log.Print(err)
	}
}
