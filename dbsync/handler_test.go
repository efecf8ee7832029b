package dbsync

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
)

var (
	_ MessageHandler  = (*DefaultMessageHandler)(nil)
	_ MessageHandler  = (*EchoMessageHandler)(nil)
	_ TruncateHandler = (*EchoMessageHandler)(nil)
)

func TestEchoMessageHandler(t *testing.T) {
	var out strings.Builder
	d := NewEchoMessageHandler(&out)
	reln := relation(1, 0, 0)
	info := &PGTableInfo{ColInfo: map[string]*PGColumnInfo{"a": column("integer"), "b": column("text")}}
	null := &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeNull}
	unchanged := &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeToast}
	tests := []struct {
		handle func() error
		want   string
	}{
		{func() error {
			return d.HandleBeginMessage(0, &pglogrepl.BeginMessage{Xid: 742, FinalLSN: 0x1A2B3C8, CommitTime: time.Date(2026, 1, 31, 13, 0, 0, 0, time.FixedZone("", 3600))})
		}, `BEGIN 742 at 0/1A2B3C8, 2026-01-31T12:00:00Z`},
		{func() error { return d.HandleRelationMessage(1, reln, info) },
			`RELATION public.t (*a integer, b text, c)`},
		{func() error { return d.HandleRelationMessage(1, reln, nil) },
			`RELATION public.t (*a, b, c)`},
		{func() error {
			return d.HandleInsertMessage(2, &pglogrepl.InsertMessage{Tuple: row(text("7"), text("two\nlines, \x1b[31m"), null)}, reln, info)
		}, `INSERT public.t 7 {a: 7, b: "two\nlines, \x1b[31m", c: NULL}`},
		{func() error {
			return d.HandleUpdateMessage(3, &pglogrepl.UpdateMessage{NewTuple: row(text("7"), unchanged, text(""))}, reln, info)
		}, `UPDATE public.t 7 {a: 7, b: unchanged, c: ""}`},
		{func() error {
			return d.HandleUpdateMessage(4, &pglogrepl.UpdateMessage{OldTuple: row(text("7"), null, null), NewTuple: row(text("8"), text("NULL"), binaryValue(1, 2))}, reln, info)
		}, `UPDATE public.t 8 {a: 7} -> {a: 8, b: "NULL", c: 0x0102}`},
		{func() error {
			return d.HandleDeleteMessage(5, &pglogrepl.DeleteMessage{OldTuple: row(text("a\nb"), null, null)}, reln, info)
		}, `DELETE public.t "a\nb" {a: "a\nb"}`},
		{func() error {
			return d.HandleTruncateMessage(6, &pglogrepl.TruncateMessage{}, []*pglogrepl.RelationMessage{reln, nil})
		}, `TRUNCATE public.t, ?`},
		{func() error {
			return d.HandleLogicalMessage(7, &pglogrepl.LogicalDecodingMessage{Prefix: CatalogPrefix, Content: []byte("ALTER TABLE")})
		}, `MESSAGE dbsync.catalog "ALTER TABLE"`},
		{func() error { return d.HandleCommitMessage(7, &pglogrepl.CommitMessage{CommitLSN: 0x1A2B3F0}) },
			`COMMIT 0/1A2B3F0`},
		{func() error { return d.HandleRefresh("7", map[string]any{"id": 7, "note": "a b"}) },
			`REFRESH 7 map[id:7 note:a b]`},
		{func() error {
			return d.HandleDeleteMessage(8, &pglogrepl.DeleteMessage{}, nil, nil)
		}, `DELETE ?  {}`},
	}
	for _, test := range tests {
		out.Reset()
		if err := test.handle(); err != nil || out.String() != test.want+"\n" {
			t.Errorf("got %v, %s\nwant %s", err, out.String(), test.want)
		}
	}
}

type brokenWriter struct{ error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.error }

func TestEchoMessageHandlerReportsWrite(t *testing.T) {
	broken := errors.New("broken pipe")
	err := NewEchoMessageHandler(brokenWriter{broken}).HandleCommitMessage(0, &pglogrepl.CommitMessage{})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
