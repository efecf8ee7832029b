package dbsync

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pglogrepl"
)

// A MessageHandler is told of the messages of the stream, in commit order, and of the rows
// of a [Syncer.Refresh]. One goroutine calls it, one method at a time.
//
// idx counts the messages of one read of the slot from 0. msg is valid until the method
// returns: its memory is used again for the next message. reln describes the table as it
// was at that change, tableInfo as the catalog has it.
//
// An error stops the Syncer from forwarding the slot: the same messages come again, after
// a delay. [ErrStopProcessingMessages] ends the run.
//
// A handler that is also a [TruncateHandler] is told of TRUNCATE, one that is also a
// [LogicalMessageHandler] of messages that sessions write into the log.
type MessageHandler interface {
	// HandleRefresh takes one row of a Refresh that no change between its two watermarks
	// has touched. key is the row's ID as [PGTableInfo.GetRecordID] gives it, value a
	// StringMap of its columns.
	HandleRefresh(key any, value any) error

	// HandleBeginMessage and HandleCommitMessage enclose the changes of a transaction.
	HandleBeginMessage(idx int, msg *pglogrepl.BeginMessage) error
	HandleCommitMessage(idx int, msg *pglogrepl.CommitMessage) error

	// HandleRelationMessage comes before the first change of a table, and again before the
	// first change after the table was altered.
	HandleRelationMessage(idx int, msg *pglogrepl.RelationMessage, tableInfo *PGTableInfo) error

	// HandleUpdateMessage has the old row in msg.OldTuple if the table's replica identity
	// is FULL, its old key if the key has changed, and nil otherwise.
	HandleUpdateMessage(idx int, msg *pglogrepl.UpdateMessage, reln *pglogrepl.RelationMessage, tableInfo *PGTableInfo) error

	// HandleDeleteMessage has the old row in msg.OldTuple if the table's replica identity
	// is FULL, and its key otherwise.
	HandleDeleteMessage(idx int, msg *pglogrepl.DeleteMessage, reln *pglogrepl.RelationMessage, tableInfo *PGTableInfo) error

	HandleInsertMessage(idx int, msg *pglogrepl.InsertMessage, reln *pglogrepl.RelationMessage, tableInfo *PGTableInfo) error
}

// A TruncateHandler is a [MessageHandler] that is told of TRUNCATE. relns are the tables
// that were emptied, in the order of msg.RelationIDs. For a handler without this method
// the message is skipped.
type TruncateHandler interface {
	HandleTruncateMessage(idx int, msg *pglogrepl.TruncateMessage, relns []*pglogrepl.RelationMessage) error
}

// A LogicalMessageHandler is a [MessageHandler] that is told what sessions write into the log by
// pg_logical_emit_message, of any prefix, if the Syncer was made [WithEventTriggers]. For a
// handler without this method the messages are skipped.
//
// A transactional message comes between begin and commit of its transaction, in the place where it
// was written; but if that was in a subtransaction, the change that directly follows it may come first.
// One of a transaction that is rolled back does not come. Others come between transactions, where no operation can be marked. msg.Content may be large, up to 1 GB, and is of
// whoever may connect to the database.
type LogicalMessageHandler interface {
	HandleLogicalMessage(idx int, msg *pglogrepl.LogicalDecodingMessage) error
}

// DefaultMessageHandler does nothing with any message. Embed it in a handler that has a
// use for some of them only.
type DefaultMessageHandler struct {
}

func (d *DefaultMessageHandler) HandleRefresh(key any, value any) (err error) { return nil }

func (d *DefaultMessageHandler) HandleBeginMessage(idx int, msg *pglogrepl.BeginMessage) (err error) {
	return nil
}

func (d *DefaultMessageHandler) HandleCommitMessage(idx int, msg *pglogrepl.CommitMessage) (err error) {
	return nil
}

func (d *DefaultMessageHandler) HandleRelationMessage(idx int, msg *pglogrepl.RelationMessage, tableInfo *PGTableInfo) (err error) {
	return nil
}

func (d *DefaultMessageHandler) HandleUpdateMessage(idx int, msg *pglogrepl.UpdateMessage, reln *pglogrepl.RelationMessage, tableInfo *PGTableInfo) (err error) {
	return nil
}

func (d *DefaultMessageHandler) HandleDeleteMessage(idx int, msg *pglogrepl.DeleteMessage, reln *pglogrepl.RelationMessage, tableInfo *PGTableInfo) (err error) {
	return nil
}

func (d *DefaultMessageHandler) HandleInsertMessage(idx int, msg *pglogrepl.InsertMessage, reln *pglogrepl.RelationMessage, tableInfo *PGTableInfo) (err error) {
	return nil
}

// EchoMessageHandler prints each event on one line of standard output:
//
//	BEGIN 742 at 0/1A2B3C8, 2026-01-31T12:00:00Z
//	RELATION public.orders (*id integer, note text)
//	INSERT public.orders 7 {id: 7, note: "a b"}
//	UPDATE public.orders 7 {note: "a b"} -> {id: 7, note: unchanged}
//	DELETE public.orders 7 {id: 7}
//	TRUNCATE public.orders, public.lines
//	MESSAGE dbsync.catalog "ALTER TABLE"
//	COMMIT 0/1A2B3F0
//	REFRESH 7 map[id:7 note:a b]
//
// The columns of the replica identity have an asterisk in RELATION. The last word before
// a row is its ID as [PGTableInfo.GetRecordID] gives it. NULLs of an old row are left out,
// since a key has NULL for every other column.
type EchoMessageHandler struct {
	DefaultMessageHandler

	out io.Writer // nil: standard output
}

// NewEchoMessageHandler returns a handler that prints to out instead.
func NewEchoMessageHandler(out io.Writer) *EchoMessageHandler { return &EchoMessageHandler{out: out} }

func (d *EchoMessageHandler) print(format string, args ...any) error {
	out := d.out
	if out == nil {
		out = os.Stdout
	}
	if _, err := fmt.Fprintf(out, format+"\n", args...); err != nil {
		return fmt.Errorf("print an event: %w", err)
	}
	return nil
}

func (d *EchoMessageHandler) HandleRefresh(key any, value any) (err error) {
	return d.print("REFRESH %s %s", oneLine(fmt.Sprint(key)), oneLine(fmt.Sprint(value)))
}

func (d *EchoMessageHandler) HandleBeginMessage(idx int, msg *pglogrepl.BeginMessage) (err error) {
	return d.print("BEGIN %d at %s, %s", msg.Xid, msg.FinalLSN, msg.CommitTime.UTC().Format(time.RFC3339Nano))
}

func (d *EchoMessageHandler) HandleCommitMessage(idx int, msg *pglogrepl.CommitMessage) (err error) {
	return d.print("COMMIT %s", msg.CommitLSN)
}

func (d *EchoMessageHandler) HandleRelationMessage(idx int, msg *pglogrepl.RelationMessage, tableInfo *PGTableInfo) (err error) {
	columns := make([]string, len(msg.Columns))
	for i, col := range msg.Columns {
		if isIdentity(col) {
			columns[i] = "*"
		}
		columns[i] += oneLine(col.Name)
		if tableInfo != nil && tableInfo.ColInfo[col.Name] != nil {
			columns[i] += " " + tableInfo.ColInfo[col.Name].ColumnType
		}
	}
	return d.print("RELATION %s (%s)", tableName(msg), strings.Join(columns, ", "))
}

func (d *EchoMessageHandler) HandleInsertMessage(idx int, msg *pglogrepl.InsertMessage, reln *pglogrepl.RelationMessage, tableInfo *PGTableInfo) (err error) {
	return d.print("INSERT %s %s %s", tableName(reln), oneLine(tableInfo.GetRecordID(msg.Tuple, reln)), rowText(msg.Tuple, reln, true))
}

func (d *EchoMessageHandler) HandleUpdateMessage(idx int, msg *pglogrepl.UpdateMessage, reln *pglogrepl.RelationMessage, tableInfo *PGTableInfo) (err error) {
	old := ""
	if msg.OldTuple != nil {
		old = rowText(msg.OldTuple, reln, false) + " -> "
	}
	return d.print("UPDATE %s %s %s%s", tableName(reln), oneLine(tableInfo.GetRecordID(msg.NewTuple, reln)), old, rowText(msg.NewTuple, reln, true))
}

func (d *EchoMessageHandler) HandleDeleteMessage(idx int, msg *pglogrepl.DeleteMessage, reln *pglogrepl.RelationMessage, tableInfo *PGTableInfo) (err error) {
	return d.print("DELETE %s %s %s", tableName(reln), oneLine(tableInfo.GetRecordID(msg.OldTuple, reln)), rowText(msg.OldTuple, reln, false))
}

// HandleTruncateMessage makes the handler a [TruncateHandler].
func (d *EchoMessageHandler) HandleTruncateMessage(idx int, msg *pglogrepl.TruncateMessage, relns []*pglogrepl.RelationMessage) error {
	names := make([]string, len(relns))
	for i, reln := range relns {
		names[i] = tableName(reln)
	}
	return d.print("TRUNCATE %s", strings.Join(names, ", "))
}

// HandleLogicalMessage makes the handler a [LogicalMessageHandler].
func (d *EchoMessageHandler) HandleLogicalMessage(idx int, msg *pglogrepl.LogicalDecodingMessage) error {
	return d.print("MESSAGE %s %s", oneLine(msg.Prefix), plain(string(msg.Content)))
}

func tableName(reln *pglogrepl.RelationMessage) string {
	if reln == nil {
		return "?"
	}
	return oneLine(reln.Namespace + "." + reln.RelationName)
}

// rowText writes a row as "{id: 7, note: "a b"}".
func rowText(row *pglogrepl.TupleData, reln *pglogrepl.RelationMessage, withNulls bool) string {
	var b strings.Builder
	b.WriteByte('{')
	if row != nil && reln != nil {
		for i, value := range row.Columns[:min(len(row.Columns), len(reln.Columns))] {
			isNull := value.DataType == pglogrepl.TupleDataTypeNull
			if isNull && !withNulls {
				continue
			}
			if b.Len() > 1 {
				b.WriteString(", ")
			}
			b.WriteString(oneLine(reln.Columns[i].Name) + ": ")
			switch {
			case isNull:
				b.WriteString("NULL")
			case value.DataType == pglogrepl.TupleDataTypeToast:
				b.WriteString("unchanged")
			case value.DataType == pglogrepl.TupleDataTypeBinary:
				fmt.Fprintf(&b, "0x%x", value.Data)
			default:
				b.WriteString(plain(string(value.Data)))
			}
		}
	}
	b.WriteByte('}')
	return b.String()
}

// plain quotes a text that is not a single word.
func plain(s string) string {
	quoted := strconv.Quote(s)
	if quoted[1:len(quoted)-1] != s || s == "" || s == "NULL" || s == "unchanged" || strings.ContainsAny(s, " ,:{}") {
		return quoted
	}
	return s
}

// oneLine quotes a text that would break the line or drive the terminal.
func oneLine(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
