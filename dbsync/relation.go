package dbsync

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

// relations are the tables that the stream has described. A description comes before
// the first change of a table on a connection, and again after the table changed.
type relations struct {
	mu       sync.Mutex
	messages map[uint32]*pglogrepl.RelationMessage
	infos    map[uint32]*PGTableInfo
}

func newRelations() *relations {
	return &relations{messages: make(map[uint32]*pglogrepl.RelationMessage), infos: make(map[uint32]*PGTableInfo)}
}

// GetRelation returns the description that the stream gave last of a table, nil when
// it has given none.
func (s *Syncer) GetRelation(relationId uint32) *pglogrepl.RelationMessage {
	s.relations.mu.Lock()
	defer s.relations.mu.Unlock()
	return s.relations.messages[relationId]
}

// GetTableInfo returns what the catalog says of a table, nil when the stream has not
// described the table and [Syncer.RefreshTableInfo] was not called for it.
func (s *Syncer) GetTableInfo(relationID uint32) *PGTableInfo {
	s.relations.mu.Lock()
	defer s.relations.mu.Unlock()
	return s.relations.infos[relationID]
}

// UpdateRelation takes up a table's description and returns what the catalog says of
// the table. When the catalog cannot be read, or does not have the table any more, the
// columns are those of the description, and their values read as strings.
func (s *Syncer) UpdateRelation(reln *pglogrepl.RelationMessage) *PGTableInfo {
	info, err := s.updateRelation(context.Background(), reln)
	if err != nil {
		s.log.Warn("catalog of a table could not be read, its values are taken as text",
			"table", reln.Namespace+"."+reln.RelationName, "error", err)
		return s.describe(reln, nil)
	}
	return info
}

func (s *Syncer) updateRelation(ctx context.Context, reln *pglogrepl.RelationMessage) (*PGTableInfo, error) {
	info, _, err := s.readCatalog(ctx, reln.RelationID, reln.Namespace, reln.RelationName)
	if err != nil {
		return nil, err
	}
	return s.describe(reln, info), nil
}

// updateStreamed is updateRelation for a description that transaction xid brought. The
// transaction may have altered the table, and a commit is streamed before other sessions
// see what it did, to the catalog as well. So a catalog that does not have the columns is
// read again when it shows the transaction; if it still has not, it is newer.
func (s *Syncer) updateStreamed(ctx context.Context, reln *pglogrepl.RelationMessage, xid uint32) (*PGTableInfo, error) {
	info, types, err := s.readCatalog(ctx, reln.RelationID, reln.Namespace, reln.RelationName)
	if err != nil {
		return nil, err
	}
	for _, c := range reln.Columns {
		if types[c.Name] != c.DataType {
			if err := s.ReadVisible(ctx, []uint32{xid}, nil, func(*pgconn.PgConn) error { return nil }); err != nil {
				return nil, fmt.Errorf("wait for the definition of table %s.%s: %w", reln.Namespace, reln.RelationName, err)
			}
			return s.updateRelation(ctx, reln)
		}
	}
	return s.describe(reln, info), nil
}

// describe stores a description, with an entry in info for every column that it names.
func (s *Syncer) describe(reln *pglogrepl.RelationMessage, info *PGTableInfo) *PGTableInfo {
	if info == nil {
		info = &PGTableInfo{RelationID: reln.RelationID, DBName: s.dbName, Namespace: reln.Namespace,
			TableName: reln.RelationName, ColInfo: make(map[string]*PGColumnInfo)}
	}
	for i, c := range reln.Columns {
		if info.ColInfo[c.Name] == nil { // dropped since
			info.ColInfo[c.Name] = &PGColumnInfo{DBName: s.dbName, Namespace: reln.Namespace, TableName: reln.RelationName,
				ColumnName: c.Name, ColumnType: "text", OrdinalPosition: i + 1}
		}
	}
	s.relations.mu.Lock()
	defer s.relations.mu.Unlock()
	s.relations.messages[reln.RelationID] = reln
	s.relations.infos[reln.RelationID] = info
	return info
}

// RefreshTableInfo queries the database for the columns of a table as they are now,
// and stores them under relationID.
func (s *Syncer) RefreshTableInfo(relationID uint32, namespace string, table_name string) (tableInfo *PGTableInfo, err error) {
	tableInfo, _, err = s.readCatalog(context.Background(), relationID, namespace, table_name)
	if err != nil {
		return nil, err
	}
	s.relations.mu.Lock()
	defer s.relations.mu.Unlock()
	s.relations.infos[relationID] = tableInfo
	return tableInfo, nil
}

// readCatalog reads the columns of a table, and their types' oids.
func (s *Syncer) readCatalog(ctx context.Context, relationID uint32, namespace, table string) (info *PGTableInfo, types map[string]uint32, err error) {
	info = &PGTableInfo{RelationID: relationID, DBName: s.dbName, Namespace: namespace, TableName: table,
		ColInfo: make(map[string]*PGColumnInfo)}
	types = make(map[string]uint32)
	// A domain reads as the type that it stands for, through any number of domains.
	rows, err := s.db.QueryContext(ctx, `
		WITH RECURSIVE col AS (
			SELECT a.attname, a.attnum, a.atttypid AS declared, a.atttypid AS typ
			FROM pg_catalog.pg_attribute a
			JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
			JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL
			SELECT col.attname, col.attnum, col.declared, t.typbasetype FROM col JOIN pg_catalog.pg_type t ON t.oid = col.typ WHERE t.typtype = 'd'
		)
		SELECT col.attname, pg_catalog.format_type(t.oid, NULL), col.attnum, col.declared
		FROM col JOIN pg_catalog.pg_type t ON t.oid = col.typ WHERE t.typtype <> 'd'`, namespace, table)
	if err != nil {
		return nil, nil, fmt.Errorf("read the columns of %s.%s: %w", namespace, table, err)
	}
	defer rows.Close()
	for rows.Next() {
		c := &PGColumnInfo{DBName: s.dbName, Namespace: namespace, TableName: table}
		var declared uint32
		if err := rows.Scan(&c.ColumnName, &c.ColumnType, &c.OrdinalPosition, &declared); err != nil {
			return nil, nil, fmt.Errorf("read the columns of %s.%s: %w", namespace, table, err)
		}
		info.ColInfo[c.ColumnName] = c
		types[c.ColumnName] = declared
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("read the columns of %s.%s: %w", namespace, table, err)
	}
	return info, types, nil
}

// An UnchangedError stands for a value that a message leaves out because the change did
// not touch it: a large value kept outside of the row (TOAST). It has to be read from
// the table.
type UnchangedError struct{ Column string }

func (e *UnchangedError) Error() string {
	return fmt.Sprintf("column %s: the value is unchanged and not part of the message", e.Column)
}

// MessageToMap returns the key of a row, as [PGTableInfo.GetRecordID] makes it, and the
// row's values by column name, as [PGColumnInfo.DecodeText] makes them. A value that
// cannot be decoded is in the map as it came, and errors says why; one that the message
// does not hold is not in the map, and its error is an [*UnchangedError].
func (s *Syncer) MessageToMap(msg *pglogrepl.TupleData, reln *pglogrepl.RelationMessage) (pkey string, out map[string]any, errors map[string]error) {
	info := s.GetTableInfo(reln.RelationID)
	if info == nil {
		info = s.UpdateRelation(reln)
	}
	return messageToMap(msg, reln, info)
}

func messageToMap(msg *pglogrepl.TupleData, reln *pglogrepl.RelationMessage, info *PGTableInfo) (pkey string, out map[string]any, errors map[string]error) {
	out = make(map[string]any, len(msg.Columns))
	fail := func(column string, err error) {
		if errors == nil {
			errors = make(map[string]error)
		}
		errors[column] = err
	}
	for i, c := range msg.Columns {
		if i >= len(reln.Columns) {
			break
		}
		name := reln.Columns[i].Name
		column := info.ColInfo[name]
		if column == nil {
			column = &PGColumnInfo{ColumnName: name, ColumnType: "text"}
		}
		var value any
		var err error
		switch c.DataType {
		case pglogrepl.TupleDataTypeNull:
			out[name] = nil
			continue
		case pglogrepl.TupleDataTypeToast:
			fail(name, &UnchangedError{Column: name})
			continue
		case pglogrepl.TupleDataTypeBinary:
			value, err = column.DecodeBytes(c.Data)
		default:
			value, err = column.DecodeText(c.Data)
		}
		if err != nil {
			fail(name, err)
		}
		out[name] = value
	}
	return info.GetRecordID(msg, reln), out, errors
}

// sameColumns reports whether two descriptions of a table give its rows the same shape.
func sameColumns(a, b *pglogrepl.RelationMessage) bool {
	return a.Namespace == b.Namespace && a.RelationName == b.RelationName && a.ReplicaIdentity == b.ReplicaIdentity &&
		slices.EqualFunc(a.Columns, b.Columns, func(x, y *pglogrepl.RelationMessageColumn) bool { return *x == *y })
}
