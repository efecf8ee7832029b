package dbsync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync"
)

// peek returns the kinds of the messages at the head of the slot.
func (s *syncer) peek(t *testing.T, n int, consume bool) string {
	t.Helper()
	msgs, err := s.GetMessages(n, consume, nil)
	if err != nil {
		t.Fatal(err)
	}
	return kinds(msgs)
}

func kinds(msgs []dbsync.PGMSG) string {
	var b bytes.Buffer
	for _, m := range msgs {
		b.WriteByte(m.Data[0])
	}
	return b.String()
}

func TestGetMessages(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got messages %q, want %q", got, want)
		}
	}
	want(s.peek(t, 10, false), "")
	s.db.Exec(t, "INSERT INTO t VALUES (1), (2)")
	want(s.peek(t, 100, false), "BRIIC")
	want(s.peek(t, 3, false), "BRI")
	want(s.peek(t, 0, false), "")
	want(s.peek(t, 100, false), "BRIIC")
	before := s.Position()
	if err := s.Forward(3); err != nil {
		t.Fatal(err)
	}
	want(s.peek(t, 100, false), "IC")
	if s.Position() != before {
		t.Error("the position moved inside a transaction")
	}
	want(s.peek(t, 100, true), "IC")
	if s.Position() <= before {
		t.Error("the position did not move at the end of the transaction")
	}
	want(s.peek(t, 100, false), "")
	for _, n := range []int{1, -1} {
		if err := s.Forward(n); err == nil {
			t.Errorf("Forward(%d) beyond what was read gave no error", n)
		}
	}
	if _, err := s.GetMessages(-1, false, nil); err == nil {
		t.Error("GetMessages(-1) gave no error")
	}
	s.db.Exec(t, "DELETE FROM t")
	have := []dbsync.PGMSG{{LSN: "mine"}}
	msgs, err := s.GetMessages(100, true, have)
	if err != nil || len(msgs) != 5 || msgs[0].LSN != "mine" || kinds(msgs[1:]) != "BDDC" {
		t.Errorf("appended were %v, %v", msgs, err)
	}
	if begin := msgs[1]; begin.Xid == 0 || begin.Xid != msgs[4].Xid || lsn(t, begin.LSN) == 0 {
		t.Errorf("the messages are not of one transaction: %v", msgs)
	}
	if _, err := pglogrepl.Parse(msgs[2].Data); err != nil {
		t.Error(err)
	}

	// A new process starts where the last one ended.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.db.Exec(t, "INSERT INTO t VALUES (3)")
	s.open(t)
	want(s.peek(t, 100, false), "BRIC")
	// Half of a transaction is not forwarded, for another process.
	if err := s.Forward(2); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.open(t)
	want(s.peek(t, 100, false), "BRIC")
	// Nor is it when the connection breaks.
	if err := s.Forward(2); err != nil {
		t.Fatal(err)
	}
	s.terminate(t)
	await(t, "it has noticed", func() bool { return !s.Status().Connected })
	want(s.peek(t, 100, false), "IC") // what has come is there
	want(s.peek(t, 100, true), "IC")
	want(s.peek(t, 100, true), "")
}

// What can be peeked at is bounded, and all of it comes in turn.
func TestGetMessagesInPieces(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	s.MaxMessagesToRead = 10
	s.db.Exec(t, "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 1000) i")
	inserts := 0
	for {
		got := s.peek(t, 1000, true)
		if got == "" {
			break
		}
		if len(got) > 30 {
			t.Fatalf("%d messages at once, want 30 at most", len(got))
		}
		inserts += bytes.Count([]byte(got), []byte("I"))
	}
	if inserts != 1000 {
		t.Errorf("%d inserts came", inserts)
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, table(0)), "t")
	s.db.Exec(t, "INSERT INTO t VALUES (1), (2)")
	seen := ""
	calls := 0
	err := s.Process(t.Context(), func(msgs []dbsync.PGMSG, err error) (int, bool) {
		if err != nil {
			t.Error(err)
			return 0, false
		}
		switch calls++; calls {
		case 1: // the first come again
			return 0, false
		case 3: // more than there were comes while it waits
			go s.db.Exec(t, "INSERT INTO t VALUES (3)")
		}
		seen += kinds(msgs[:1])
		return 1, len(seen) == len("BRIICBIC")
	})
	if err != nil || seen != "BRIICBIC" {
		t.Errorf("processed were %q, %v", seen, err)
	}
	if got := s.peek(t, 10, false); got != "" {
		t.Errorf("left is %q", got)
	}
	// More than there were is an error, the context's end another.
	s.db.Exec(t, "INSERT INTO t VALUES (4)")
	if err := s.Process(t.Context(), func(msgs []dbsync.PGMSG, _ error) (int, bool) { return len(msgs) + 1, false }); err == nil {
		t.Error("more messages were forwarded than there are")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTransient)
	if err := s.Process(ctx, nil); !errors.Is(err, errTransient) {
		t.Errorf("after the end of the context: %v", err)
	}
	// A connection that breaks is made again.
	ctx, cancel = context.WithCancelCause(t.Context())
	defer cancel(nil)
	processed := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Process(ctx, func(msgs []dbsync.PGMSG, err error) (int, bool) {
			processed <- kinds(msgs)
			return len(msgs), false
		})
	}()
	receive(t, "what was left", processed)
	s.terminate(t)
	s.db.Exec(t, "INSERT INTO t VALUES (5)")
	for got := ""; got != "BRIC"; {
		got += receive(t, "the next transaction", processed)
	}
	cancel(errTransient)
	if err := receive(t, "Process", ended); !errors.Is(err, errTransient) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// capture keeps what MessageToMap gives for each row.
type capture struct {
	dbsync.DefaultMessageHandler
	s    *dbsync.Syncer
	rows chan captured
}

type captured struct {
	key    string
	values map[string]any
	errors map[string]error
	info   *dbsync.PGTableInfo
}

func (c *capture) row(row *pglogrepl.TupleData, r *pglogrepl.RelationMessage) error {
	key, values, errs := c.s.MessageToMap(row, r)
	c.rows <- captured{key, values, errs, c.s.GetTableInfo(r.RelationID)}
	return nil
}

func (c *capture) HandleInsertMessage(_ int, msg *pglogrepl.InsertMessage, r *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	return c.row(msg.Tuple, r)
}

func (c *capture) HandleUpdateMessage(_ int, msg *pglogrepl.UpdateMessage, r *pglogrepl.RelationMessage, _ *dbsync.PGTableInfo) error {
	return c.row(msg.NewTuple, r)
}

func TestMessageToMap(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, `CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE DOMAIN very_positive AS positive CHECK (VALUE > 10);
		CREATE TYPE mood AS ENUM ('sad', 'glad');
		CREATE TABLE t (a text, id int, big text, p very_positive, ps positive[], m mood, n numeric, b boolean, ts timestamptz, PRIMARY KEY (id, a));
		ALTER TABLE t ALTER big SET STORAGE EXTERNAL`), "t")
	c := &capture{s: s.Syncer, rows: make(chan captured, 10)}
	s.MessageHandler, s.Batcher = c, nil
	s.run(t)
	s.db.Exec(t, "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; INSERT INTO t VALUES ('x|y', 7, repeat('x', 5000), 12, '{1,2}', 'glad', 1.50, true, '2026-01-31 12:00:00+00')")
	got := receive(t, "the insert", c.rows)
	ts := got.values["ts"]
	delete(got.values, "ts")
	if len(got.values["big"].(string)) != 5000 {
		t.Error("the large value is not whole")
	}
	delete(got.values, "big")
	want := map[string]any{"a": "x|y", "id": int32(7), "p": int32(12), "m": "glad", "b": true}
	for k, v := range want {
		if !reflect.DeepEqual(got.values[k], v) {
			t.Errorf("%s is %T %v, want %T %v", k, got.values[k], got.values[k], v, v)
		}
	}
	if fmt.Sprint(got.values["n"]) != "1.50" || fmt.Sprint(ts) != "2026-01-31 12:00:00 +0000 UTC" {
		t.Errorf("n is %v, ts %v", got.values["n"], ts)
	}
	if got.key != `x~|y|7` || len(got.errors) != 0 {
		t.Errorf("the key is %s, errors are %v", got.key, got.errors)
	}
	if got.info.ColInfo["p"].ColumnType != "integer" || got.info.ColInfo["id"].OrdinalPosition != 2 || got.info.TableName != "t" || got.info.DBName != s.db.Name {
		t.Errorf("the table is %+v, p %+v", got.info, got.info.ColInfo["p"])
	}

	// A large value that the update did not touch is not in the message, and said to be so.
	s.db.Exec(t, "UPDATE t SET b = NULL")
	got = receive(t, "the update", c.rows)
	var unchanged *dbsync.UnchangedError
	if _, there := got.values["big"]; there || !errors.As(got.errors["big"], &unchanged) || unchanged.Column != "big" || len(got.errors) != 1 {
		t.Errorf("errors are %v", got.errors)
	}
	if v, there := got.values["b"]; !there || v != nil {
		t.Errorf("NULL is %v, %v", v, there)
	}

	// A column that came is known at its first row.
	s.db.Exec(t, "ALTER TABLE t ADD COLUMN later bigint; UPDATE t SET later = 1")
	if got = receive(t, "the update", c.rows); got.values["later"] != int64(1) {
		t.Errorf("the new column is %T %v", got.values["later"], got.values["later"])
	}
	info, err := s.RefreshTableInfo(1, "public", "t")
	if err != nil || s.GetTableInfo(1) != info || info.ColInfo["later"].ColumnType != "bigint" {
		t.Errorf("RefreshTableInfo: %+v, %v", info, err)
	}
	// A table that is gone when its changes are read has its values as text.
	reln := &pglogrepl.RelationMessage{RelationID: 2, Namespace: "public", RelationName: "gone", Columns: []*pglogrepl.RelationMessageColumn{{Name: "x", DataType: 23, Flags: 1}}}
	if info := s.UpdateRelation(reln); info.ColInfo["x"].ColumnType != "text" || s.GetRelation(2) != reln || s.GetRelation(3) != nil {
		t.Errorf("a table that is gone: %+v", info)
	}
}
