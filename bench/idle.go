package main

import (
	"context"
	"time"
)

// A stillness is how much was written to Postgres until a moment.
type stillness struct {
	transactions int64 // that wrote
	wal          int64 // bytes
}

// stillness looks at a Postgres in which only the tool works. It writes nothing itself.
func (b *bench) stillness(ctx context.Context) (s stillness, err error) {
	err = b.conn.QueryRow(ctx, `select pg_snapshot_xmax(pg_current_snapshot())::text::bigint, (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&s.transactions, &s.wal)
	return s, err
}

// confirmedStep is how long it is between two looks at whether a slot has moved.
const confirmedStep = 50 * time.Millisecond

// idle has a tool follow while nothing is committed.
func (b *bench) idle(ctx context.Context, t *tool, d *dataset) error {
	b.tell("nothing to follow for %s, by %s", b.o.idle, t.name)
	if err := b.awaitIdle(ctx); err != nil {
		return err
	}
	if sink := b.servers.sink; sink != nil {
		sink.keep()
		defer sink.pass()
	}
	r, err := t.run()
	if err != nil {
		return err
	}
	var begin, end moment
	var before, after stillness
	err = func() (err error) {
		ctx, cancel := r.process.context(ctx)
		defer cancel()
		if err := b.awaitFollowing(ctx, t, "items", d.live[0]); err != nil {
			return err
		}
		if err := b.awaitConfirmed(ctx, t); err != nil {
			return err
		}
		if begin, err = r.look(ctx); err != nil {
			return err
		}
		if before, err = b.stillness(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(b.o.idle):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if after, err = b.stillness(ctx); err != nil {
			return err
		}
		end, err = r.look(ctx)
		return err
	}()
	u, err := r.stop(ctx, err)
	if err != nil {
		return err
	}
	s, minutes := b.report.of(idle, "", t.name), end.at.Sub(begin.at).Minutes()
	s.add("share of a core", "% of a core", 100*(end.processor-begin.processor).Seconds()/end.at.Sub(begin.at).Seconds())
	s.add("transactions that wrote to Postgres, a minute", "", float64(after.transactions-before.transactions)/minutes)
	s.add("log that Postgres wrote, a minute", "KB", float64(after.wal-before.wal)/1e3/minutes)
	s.add("bulk requests, a minute", "", float64(end.written.since(begin.written).requests)/minutes)
	s.add("peak memory", "MB", float64(u.Memory)/1e6)
	return nil
}

// awaitConfirmed waits until a tool has confirmed all that was committed.
func (b *bench) awaitConfirmed(ctx context.Context, t *tool) error {
	var end string
	if err := b.conn.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&end); err != nil {
		return err
	}
	for tick := time.NewTicker(confirmedStep); ; {
		var confirmed bool
		if err := b.conn.QueryRow(ctx, "select confirmed_flush_lsn >= $2::pg_lsn from pg_replication_slots where slot_name = $1", t.id, end).Scan(&confirmed); err != nil {
			return err
		}
		if confirmed {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
