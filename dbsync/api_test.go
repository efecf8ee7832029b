package dbsync_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
)

// This file does not compile when a name of the public interface is missing or has
// another form. First what users of the first implementation know, then what is ours.

const (
	_ string = dbsync.DEFAULT_DBSYNC_CTRL_NAMESPACE
	_ string = dbsync.DEFAULT_DBSYNC_PUBNAME
	_ string = dbsync.DEFAULT_DBSYNC_REPLSLOT
	_ string = dbsync.DEFAULT_DBSYNC_WM_TABLENAME
	_ string = dbsync.DEFAULT_POSTGRES_DB
	_ string = dbsync.DEFAULT_POSTGRES_HOST
	_ string = dbsync.DEFAULT_POSTGRES_PASSWORD
	_ string = dbsync.DEFAULT_POSTGRES_PORT
	_ string = dbsync.DEFAULT_POSTGRES_USER
	_ string = dbsync.PG_TIMESTAMP_FORMAT
)

var _ error = dbsync.ErrStopProcessingMessages

var (
	_ func(DBName string, Host string, Port int, Username string, Password string) string = dbsync.ConnStr
	_ func() string                                                                       = dbsync.PGConnStringFromEnv
	_ func() *dbsync.InMemSelection                                                       = dbsync.NewInMemSelection
	_ func(opts ...dbsync.SyncerOpt) (*dbsync.Syncer, error)                              = dbsync.NewSyncer

	_ func(tableNames ...string) dbsync.SyncerOpt = dbsync.ForTables
	_ func(string) dbsync.SyncerOpt               = dbsync.WithCtrlNamespace
	_ func(string) dbsync.SyncerOpt               = dbsync.WithPGConnStr
	_ func(string) dbsync.SyncerOpt               = dbsync.WithPublication
	_ func(string) dbsync.SyncerOpt               = dbsync.WithReplicationSlot
	_ func(string) dbsync.SyncerOpt               = dbsync.WithWMTable
)

// Types of a known form.
var (
	_ map[string]any                                                  = dbsync.StringMap(nil)
	_ func(*dbsync.Syncer) error                                      = dbsync.SyncerOpt(nil)
	_ func(msgs []dbsync.PGMSG, err error) (numProcessed int, _ bool) = dbsync.EventsProcessor(nil)
	_                                                                 = struct {
		LSN  string
		Xid  uint64
		Data []byte
	}(dbsync.PGMSG{})
	_ = struct{ Key, Data any }(dbsync.DBItem{})
	_ = struct {
		DBName, Namespace, TableName, ColumnName, ColumnType string
		OrdinalPosition                                      int
	}(dbsync.PGColumnInfo{})
	_ = struct {
		RelationID                   uint32
		DBName, Namespace, TableName string
		ColInfo                      map[string]*dbsync.PGColumnInfo
	}(dbsync.PGTableInfo{})
	_ = struct{}(dbsync.DefaultMessageHandler{})
	_ = dbsync.EchoMessageHandler{DefaultMessageHandler: dbsync.DefaultMessageHandler{}}
	_ = &dbsync.Syncer{
		MessageHandler:            dbsync.MessageHandler(nil),
		Batcher:                   dbsync.Batcher(nil),
		DelayBetweenPeekRetries:   time.Duration(0),
		TimerDelayBackoffFactor:   float32(0),
		MaxDelayBetweenEmptyPeeks: time.Duration(0),
		MaxMessagesToRead:         int(0),
	}
)

// Interfaces: what they ask for is exactly this.
var (
	_ = interface {
		BatchUpsert(doctype string, docs []dbsync.StringMap) (any, error)
		BatchDelete(doctype string, docids []string) (any, error)
	}(dbsync.Batcher(nil))
	_ = dbsync.Batcher(interface {
		BatchUpsert(doctype string, docs []dbsync.StringMap) (any, error)
		BatchDelete(doctype string, docids []string) (any, error)
	}(nil))
	_ = messageHandler(dbsync.MessageHandler(nil))
	_ = dbsync.MessageHandler(messageHandler(nil))

	_ dbsync.MessageHandler = (*dbsync.DefaultMessageHandler)(nil)
	_ dbsync.MessageHandler = (*dbsync.EchoMessageHandler)(nil)
)

type messageHandler interface {
	HandleRefresh(key any, value any) error
	HandleBeginMessage(idx int, msg *pglogrepl.BeginMessage) error
	HandleCommitMessage(idx int, msg *pglogrepl.CommitMessage) error
	HandleRelationMessage(idx int, msg *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) error
	HandleUpdateMessage(idx int, msg *pglogrepl.UpdateMessage, reln *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) error
	HandleDeleteMessage(idx int, msg *pglogrepl.DeleteMessage, reln *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) error
	HandleInsertMessage(idx int, msg *pglogrepl.InsertMessage, reln *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) error
}

// Methods, all of them on pointers.
var (
	_ func(d *dbsync.DefaultMessageHandler, key any, value any) (err error)                                                                                    = (*dbsync.DefaultMessageHandler).HandleRefresh
	_ func(d *dbsync.DefaultMessageHandler, idx int, msg *pglogrepl.BeginMessage) (err error)                                                                  = (*dbsync.DefaultMessageHandler).HandleBeginMessage
	_ func(d *dbsync.DefaultMessageHandler, idx int, msg *pglogrepl.CommitMessage) (err error)                                                                 = (*dbsync.DefaultMessageHandler).HandleCommitMessage
	_ func(d *dbsync.DefaultMessageHandler, idx int, msg *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) (err error)                                = (*dbsync.DefaultMessageHandler).HandleRelationMessage
	_ func(d *dbsync.DefaultMessageHandler, idx int, msg *pglogrepl.UpdateMessage, reln *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) (err error) = (*dbsync.DefaultMessageHandler).HandleUpdateMessage
	_ func(d *dbsync.DefaultMessageHandler, idx int, msg *pglogrepl.DeleteMessage, reln *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) (err error) = (*dbsync.DefaultMessageHandler).HandleDeleteMessage
	_ func(d *dbsync.DefaultMessageHandler, idx int, msg *pglogrepl.InsertMessage, reln *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) (err error) = (*dbsync.DefaultMessageHandler).HandleInsertMessage
	_ func(d *dbsync.EchoMessageHandler, key any, value any) (err error)                                                                                       = (*dbsync.EchoMessageHandler).HandleRefresh
	_ func(d *dbsync.EchoMessageHandler, idx int, msg *pglogrepl.BeginMessage) (err error)                                                                     = (*dbsync.EchoMessageHandler).HandleBeginMessage
	_ func(d *dbsync.EchoMessageHandler, idx int, msg *pglogrepl.CommitMessage) (err error)                                                                    = (*dbsync.EchoMessageHandler).HandleCommitMessage
	_ func(d *dbsync.EchoMessageHandler, idx int, msg *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) (err error)                                   = (*dbsync.EchoMessageHandler).HandleRelationMessage
	_ func(d *dbsync.EchoMessageHandler, idx int, msg *pglogrepl.UpdateMessage, reln *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) (err error)    = (*dbsync.EchoMessageHandler).HandleUpdateMessage
	_ func(d *dbsync.EchoMessageHandler, idx int, msg *pglogrepl.DeleteMessage, reln *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) (err error)    = (*dbsync.EchoMessageHandler).HandleDeleteMessage
	_ func(d *dbsync.EchoMessageHandler, idx int, msg *pglogrepl.InsertMessage, reln *pglogrepl.RelationMessage, tableInfo *dbsync.PGTableInfo) (err error)    = (*dbsync.EchoMessageHandler).HandleInsertMessage
	_ func(i *dbsync.InMemSelection) bool                                                                                                                      = (*dbsync.InMemSelection).Clear
	_ func(i *dbsync.InMemSelection, key any) (value any, exists bool)                                                                                         = (*dbsync.InMemSelection).GetItem
	_ func(i *dbsync.InMemSelection) string                                                                                                                    = (*dbsync.InMemSelection).ID
	_ func(i *dbsync.InMemSelection) map[any]dbsync.DBItem                                                                                                     = (*dbsync.InMemSelection).Items
	_ func(i *dbsync.InMemSelection, key any) (out any)                                                                                                        = (*dbsync.InMemSelection).RemoveItem
	_ func(c *dbsync.PGColumnInfo, input []byte) (out any, err error)                                                                                          = (*dbsync.PGColumnInfo).DecodeBytes
	_ func(c *dbsync.PGColumnInfo, input []byte) (out any, err error)                                                                                          = (*dbsync.PGColumnInfo).DecodeText
	_ func(t *dbsync.PGTableInfo, msg *pglogrepl.TupleData, reln *pglogrepl.RelationMessage) string                                                            = (*dbsync.PGTableInfo).GetRecordID
	_ func(p *dbsync.Syncer) *sql.DB                                                                                                                           = (*dbsync.Syncer).DB
	_ func(p *dbsync.Syncer, nummsgs int) error                                                                                                                = (*dbsync.Syncer).Forward
	_ func(p *dbsync.Syncer, numMessages int, consume bool, out []dbsync.PGMSG) (msgs []dbsync.PGMSG, err error)                                               = (*dbsync.Syncer).GetMessages
	_ func(d *dbsync.Syncer, relationId uint32) *pglogrepl.RelationMessage                                                                                     = (*dbsync.Syncer).GetRelation
	_ func(p *dbsync.Syncer, relationID uint32) *dbsync.PGTableInfo                                                                                            = (*dbsync.Syncer).GetTableInfo
	_ func(d *dbsync.Syncer) bool                                                                                                                              = (*dbsync.Syncer).IsRunning
	_ func(d *dbsync.Syncer, doctype string, docid string)                                                                                                     = (*dbsync.Syncer).MarkDeleted
	_ func(d *dbsync.Syncer, doctype string, docid string, doc dbsync.StringMap)                                                                               = (*dbsync.Syncer).MarkUpdated
	_ func(s *dbsync.Syncer, msg *pglogrepl.TupleData, reln *pglogrepl.RelationMessage) (pkey string, out map[string]any, errors map[string]error)             = (*dbsync.Syncer).MessageToMap
	_ func(d *dbsync.Syncer, selectQuery string) bool                                                                                                          = (*dbsync.Syncer).Refresh
	_ func(p *dbsync.Syncer, relationID uint32, namespace string, table_name string) (tableInfo *dbsync.PGTableInfo, err error)                                = (*dbsync.Syncer).RefreshTableInfo
	_ func(d *dbsync.Syncer)                                                                                                                                   = (*dbsync.Syncer).Start
	_ func(d *dbsync.Syncer)                                                                                                                                   = (*dbsync.Syncer).Stop
	_ func(d *dbsync.Syncer, reln *pglogrepl.RelationMessage) *dbsync.PGTableInfo                                                                              = (*dbsync.Syncer).UpdateRelation
)

// What ours has beyond that.
var (
	_ func(ctx context.Context, opts ...dbsync.SyncerOpt) (*dbsync.Syncer, error)                 = dbsync.NewSyncerContext
	_ func(*slog.Logger) dbsync.SyncerOpt                                                         = dbsync.WithLogger
	_ func(*dbsync.Syncer, context.Context, ...string) (changed bool, err error)                  = (*dbsync.Syncer).Publish
	_ func(*dbsync.Syncer, uint32, ...uint32)                                                     = (*dbsync.Syncer).Inherit
	_ func(context.Context, ...dbsync.SyncerOpt) error                                            = dbsync.Teardown
	_ func(context.Context, ...dbsync.SyncerOpt) (*dbsync.TeardownPlan, error)                    = dbsync.PlanTeardown
	_ func(*dbsync.Syncer) (schema, name string)                                                  = (*dbsync.Syncer).WatermarkTable
	_ func() dbsync.SyncerOpt                                                                     = dbsync.WithNewSlot
	_ func() dbsync.SyncerOpt                                                                     = dbsync.WithEventTriggers
	_ func() dbsync.SyncerOpt                                                                     = dbsync.WithoutFailover
	_ func(string) dbsync.SyncerOpt                                                               = dbsync.WithReplicationConnStr
	_ func(*dbsync.Syncer) *sql.DB                                                                = (*dbsync.Syncer).SlotDB
	_ func(*dbsync.Syncer) *dbsync.Promotion                                                      = (*dbsync.Syncer).Promotion
	_ func(*dbsync.Promotion, string, pglogrepl.LSN, string) error                                = (*dbsync.Promotion).Check
	_ error                                                                                       = (*dbsync.PromotedError)(nil)
	_ string                                                                                      = dbsync.CatalogPrefix
	_ func(*dbsync.Syncer, context.Context) error                                                 = (*dbsync.Syncer).Run
	_ func(*dbsync.Syncer) error                                                                  = (*dbsync.Syncer).Err
	_ func(*dbsync.Syncer) error                                                                  = (*dbsync.Syncer).Close
	_ func(*dbsync.Syncer, context.Context, dbsync.EventsProcessor) error                         = (*dbsync.Syncer).Process
	_ func(*dbsync.Syncer, context.Context, dbsync.Select) (*dbsync.Window, error)                = (*dbsync.Syncer).OpenWindow
	_ func(*dbsync.Syncer, context.Context) error                                                 = (*dbsync.Syncer).Barrier
	_ func(*dbsync.Syncer, dbsync.Operation)                                                      = (*dbsync.Syncer).MarkOperation
	_ func(*dbsync.Syncer) string                                                                 = (*dbsync.Syncer).Generation
	_ func(*dbsync.Syncer, context.Context, *dbsync.Window) error                                 = (*dbsync.Syncer).AwaitStored
	_ func(*dbsync.Syncer, context.Context, []uint32, []string, func(*pgconn.PgConn) error) error = (*dbsync.Syncer).ReadVisible
	_ func(*dbsync.Syncer, string)                                                                = (*dbsync.Syncer).MarkTruncated
	_ func(func(context.Context) error) dbsync.SyncerOpt                                          = dbsync.OnSlot
	_ func(context.Context, ...dbsync.SyncerOpt) (*dbsync.Inspection, error)                      = dbsync.Inspect
	_ func(...dbsync.Operation) *dbsync.Batch                                                     = dbsync.NewBatch
	_ interface{ Operations() []dbsync.Operation }                                                = (*dbsync.Batch)(nil)
	_ interface{ Plain() bool }                                                                   = (*dbsync.Batch)(nil)
	_ interface{ Rerouted(*dbsync.Operation) bool }                                               = (*dbsync.Batch)(nil)
	_ dbsync.Origin                                                                               = fmt.Stringer(nil)
	_ fmt.Stringer                                                                                = dbsync.Store
	_ func(dbsync.OperationBatcher) dbsync.Batcher                                                = dbsync.OperationsOnly
	_ func(*dbsync.Syncer) (identifier string, timeline int32)                                    = (*dbsync.Syncer).System
	_ func(*dbsync.Syncer) pglogrepl.LSN                                                          = (*dbsync.Syncer).Position
	_ func(*dbsync.Syncer) dbsync.Status                                                          = (*dbsync.Syncer).Status
	_ func(text string) (dbsync.Snapshot, error)                                                  = dbsync.ParseSnapshot
	_ func(dbsync.Snapshot, uint32) bool                                                          = dbsync.Snapshot.Visible
	_ func(i *dbsync.InMemSelection, key, value any)                                              = (*dbsync.InMemSelection).AddItem
	_ interface{ Unwrap() error }                                                                 = (*dbsync.PermanentError)(nil)
	_ interface{ Unwrap() error }                                                                 = (*dbsync.SetupError)(nil)
	_ func(error) bool                                                                            = dbsync.IsPermanent
	_ interface{ Permanent() bool }                                                               = (*dbsync.PermanentError)(nil)
	_ error                                                                                       = (*dbsync.SlotLostError)(nil)
	_ error                                                                                       = (*dbsync.ClusterChangedError)(nil)
	_ error                                                                                       = (*dbsync.SetBackError)(nil)
	_ error                                                                                       = (*dbsync.UnchangedError)(nil)
	_ error                                                                                       = dbsync.ErrNotRunning
	_ dbsync.TruncateHandler                                                                      = (*dbsync.EchoMessageHandler)(nil)
	_ dbsync.LogicalMessageHandler                                                                = (*dbsync.EchoMessageHandler)(nil)
	_ interface {
		BatchOperations(context.Context, *dbsync.Batch) error
	} = dbsync.OperationBatcher(nil)
	_ interface {
		HandleRow(*dbsync.Window, *pglogrepl.TupleData) error
	} = dbsync.RowHandler(nil)
)

func TestDefaults(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{dbsync.DEFAULT_DBSYNC_CTRL_NAMESPACE, "dbsync_ctrl"},
		{dbsync.DEFAULT_DBSYNC_PUBNAME, "dbsync_mypub"},
		{dbsync.DEFAULT_DBSYNC_REPLSLOT, "dbsync_replslot"},
		{dbsync.DEFAULT_DBSYNC_WM_TABLENAME, "dbsync_wmtable"},
		{dbsync.DEFAULT_POSTGRES_DB, "postgres"},
		{dbsync.DEFAULT_POSTGRES_HOST, "localhost"},
		{dbsync.DEFAULT_POSTGRES_PASSWORD, "docker"},
		{dbsync.DEFAULT_POSTGRES_PORT, "5432"},
		{dbsync.DEFAULT_POSTGRES_USER, "postgres"},
		{dbsync.PG_TIMESTAMP_FORMAT, "2006-01-02 15:04:05.999999+00"},
		{dbsync.ErrStopProcessingMessages.Error(), "message processing halted"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

func TestDefaultsOfSyncer(t *testing.T) {
	t.Parallel()
	s := newSyncer(t, newDatabase(t, ""))
	if s.DelayBetweenPeekRetries != 100*time.Millisecond || s.TimerDelayBackoffFactor != 1.5 ||
		s.MaxDelayBetweenEmptyPeeks != time.Minute || s.MaxMessagesToRead != 8192 {
		t.Errorf("defaults are %v, %v, %v, %v", s.DelayBetweenPeekRetries, s.TimerDelayBackoffFactor, s.MaxDelayBetweenEmptyPeeks, s.MaxMessagesToRead)
	}
}
