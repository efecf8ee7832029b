package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A drain is a slot that is made where those of the tools are, before the changes, and read to
// find out how fast Postgres gives them.
type drain struct {
	url, slot string
}

// newDrain makes the slot.
func newDrain(ctx context.Context, conn *pgx.Conn, url, name string) (*drain, error) {
	d := &drain{url: url, slot: name + "_drain"}
	_, err := conn.Exec(ctx, "select pg_create_logical_replication_slot($1, 'pgoutput')", d.slot)
	return d, err
}

func (d *drain) remove(ctx context.Context, conn *pgx.Conn) error {
	return dropSlot(ctx, conn, d.slot)
}

// read reads the slot as barely as can be, until the commit after so many changes, and tells how
// long that took.
func (d *drain) read(ctx context.Context, publication string, changes int) (took time.Duration, err error) {
	config, err := pgconn.ParseConfig(d.url)
	if err != nil {
		return 0, err
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	begin := time.Now()
	err = pglogrepl.StartReplication(ctx, conn, d.slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names '" + publication + "'", "messages 'true'"},
	})
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Conn().SetDeadline(time.Now()) })
	defer stop()
	front := conn.Frontend()
	for seen := 0; ; {
		m, err := front.Receive()
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err != nil {
			return 0, err
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return 0, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.CopyDone:
			return 0, fmt.Errorf("slot %s ended after %d of %d changes", d.slot, seen, changes)
		case *pgproto3.CopyData:
			const head = 1 + 8 + 8 + 8 // of XLogData: kind, begin, end, time
			switch {
			case len(m.Data) > head && m.Data[0] == pglogrepl.XLogDataByteID:
				switch pglogrepl.MessageType(m.Data[head]) {
				case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeUpdate, pglogrepl.MessageTypeDelete:
					seen++
				case pglogrepl.MessageTypeCommit:
					if seen > changes {
						return 0, fmt.Errorf("slot %s has more than %d changes", d.slot, changes)
					}
					if seen == changes {
						return time.Since(begin), nil
					}
				}
			case len(m.Data) > 0 && m.Data[0] == pglogrepl.PrimaryKeepaliveMessageByteID && m.Data[len(m.Data)-1] == 1:
				if err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{}); err != nil {
					return 0, err
				}
			}
		}
	}
}
