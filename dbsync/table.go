package dbsync

import (
	"slices"

	"github.com/jackc/pglogrepl"

	"tidemark/dbsync/internal/pgvalue"
)

// PGTableInfo describes a table of the publication.
type PGTableInfo struct {
	RelationID uint32
	DBName     string
	Namespace  string
	TableName  string
	ColInfo    map[string]*PGColumnInfo // by column name
}

// GetRecordID returns the text that identifies a row within its table, made of the columns
// of the replica identity in the order of reln. Two rows have the same ID exactly when
// all those columns have the same text.
//
// One column: its text as it is, with "~" put before it when it is empty or begins with
// "~". Several: their texts joined by "|", with "~" written as "~~" and "|" as "~|". NULL
// is "~N".
//
//	7         one column, 7
//	7|de      two columns, 7 and de
//	a~|b|     two columns, a|b and the empty text
//	~N|x      two columns, NULL and x
//
// The empty string, which is no row's ID, says that msg does not hold the identity: the
// table has none, a value of it is an unchanged TOAST value, msg and reln do not belong
// together, or a value came in a binary form that has no known text.
func (t *PGTableInfo) GetRecordID(msg *pglogrepl.TupleData, reln *pglogrepl.RelationMessage) string {
	if msg == nil || reln == nil || len(msg.Columns) != len(reln.Columns) {
		return ""
	}
	var key []int
	for i, col := range reln.Columns {
		if !isIdentity(col) {
			continue
		}
		key = append(key, i)
		if value := msg.Columns[i]; value.DataType == pglogrepl.TupleDataTypeBinary {
			text, ok := t.columnText(col.Name, value.Data)
			if !ok {
				return ""
			}
			msg = withText(msg, i, text)
		}
	}
	id, _ := recordID(msg, key)
	return id
}

// withText returns a copy of msg in which column i has this text.
func withText(msg *pglogrepl.TupleData, i int, text []byte) *pglogrepl.TupleData {
	columns := slices.Clone(msg.Columns)
	columns[i] = &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeText, Length: uint32(len(text)), Data: text}
	return &pglogrepl.TupleData{ColumnNum: msg.ColumnNum, Columns: columns}
}

// recordID makes the text described at GetRecordID of the columns at the positions in key.
// ok is false when the row does not hold one of them.
func recordID(row *pglogrepl.TupleData, key []int) (id string, ok bool) {
	var buf [64]byte
	dst := buf[:0]
	for n, i := range key {
		if i >= len(row.Columns) {
			return "", false
		}
		if n > 0 {
			dst = append(dst, '|')
		}
		switch value := row.Columns[i]; {
		case value.DataType == pglogrepl.TupleDataTypeNull:
			dst = append(dst, "~N"...)
		case value.DataType != pglogrepl.TupleDataTypeText:
			return "", false
		case len(key) == 1:
			if len(value.Data) == 0 || value.Data[0] == '~' {
				dst = append(dst, '~')
			}
			dst = append(dst, value.Data...)
		default:
			for _, b := range value.Data {
				if b == '~' || b == '|' {
					dst = append(dst, '~')
				}
				dst = append(dst, b)
			}
		}
	}
	return string(dst), len(key) > 0
}

// columnText returns the text form of a value of the named column in binary form.
func (t *PGTableInfo) columnText(name string, binary []byte) ([]byte, bool) {
	if t == nil || t.ColInfo[name] == nil {
		return nil, false
	}
	text, err := pgvalue.TextOfBinary(t.ColInfo[name].ColumnType, binary)
	return text, err == nil
}

// isIdentity reports whether the column belongs to the replica identity: bit 0 of its flags
// (https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html).
// With REPLICA IDENTITY FULL that is every column.
func isIdentity(col *pglogrepl.RelationMessageColumn) bool { return col.Flags&1 != 0 }
