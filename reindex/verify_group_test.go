package reindex

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/jackc/pglogrepl"

	"tidemark/indexer/retry"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// TestSlotOfAGroup waits for a slot by the watermarks of the control schema, and asks its instance by the tables of
// another one.
func TestSlotOfAGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t, `PREFIXt: {table: t}`, tableT, rowsT(3))
	p := r.start(t, options{serve: true})
	p.complete(t)
	r.db.Exec(t, `CREATE SCHEMA "state_of-a-group"`)
	if err := control.Migrate(t.Context(), r.db.DB, "state_of-a-group", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	config := r.config(t)
	slot, err := verify.OpenSlot(t.Context(), verify.SlotOptions{DB: r.db.DB, Schema: "state_of-a-group", WatermarkSchema: config.Postgres.ControlSchema, Slot: config.Postgres.Slot})
	if err != nil {
		t.Fatal(err)
	}
	var text string
	if err := r.db.DB.QueryRowContext(t.Context(), `SELECT pg_catalog.pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	end, err := pglogrepl.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing but its own mark brings the log past this.
	if err := slot.Await(within(t, patience), end+1); err != nil {
		t.Error(err)
	}
	// Nobody serves requests there, and what is asked for stands there alone.
	ctx, cancel := context.WithCancel(within(t, patience))
	asked := make(chan error, 1)
	go func() {
		_, err := slot.Reread(ctx, config.Indices[0].Sources[0], [][]string{{"1"}})
		asked <- err
	}()
	of := func(schema string) []*control.Request {
		open, err := control.Open(r.db.DB, schema, config.Postgres.Slot).Requests().Open(t.Context())
		if err != nil {
			t.Error(err)
		}
		return open
	}
	if err := retry.Poll(ctx, func() (bool, error) { return len(of("state_of-a-group")) > 0, nil }); err != nil {
		t.Error(err)
	}
	if n := len(of(config.Postgres.ControlSchema)); n != 0 {
		t.Errorf("%d requests in the control schema", n)
	}
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
