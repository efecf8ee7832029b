package dbsync

import (
	"slices"
	"testing"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"
)

func relation(flags ...uint8) *pglogrepl.RelationMessage {
	reln := &pglogrepl.RelationMessage{RelationID: 1, Namespace: "public", RelationName: "t", ColumnNum: uint16(len(flags))}
	for i, f := range flags {
		reln.Columns = append(reln.Columns, &pglogrepl.RelationMessageColumn{Flags: f, Name: string(rune('a' + i))})
	}
	return reln
}

func text(s string) *pglogrepl.TupleDataColumn {
	return &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeText, Length: uint32(len(s)), Data: []byte(s)}
}

func binaryValue(b ...byte) *pglogrepl.TupleDataColumn {
	return &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeBinary, Length: uint32(len(b)), Data: b}
}

func row(columns ...*pglogrepl.TupleDataColumn) *pglogrepl.TupleData {
	return &pglogrepl.TupleData{ColumnNum: uint16(len(columns)), Columns: columns}
}

func TestGetRecordID(t *testing.T) {
	null := &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeNull}
	unchanged := &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeToast}
	info := &PGTableInfo{ColInfo: map[string]*PGColumnInfo{"a": column("integer"), "b": column("date"), "c": column("shop.mood")}}
	tests := []struct {
		name string
		info *PGTableInfo
		row  *pglogrepl.TupleData
		reln *pglogrepl.RelationMessage
		want string
	}{
		{"one column", info, row(text("7"), text("x")), relation(1, 0), "7"},
		{"not the first column", info, row(text("7"), text("x")), relation(0, 1), "x"},
		{"other flags", info, row(text("7"), text("x")), relation(2, 3), "x"},
		{"separators in one column stay", info, row(text("a|b~c")), relation(1), "a|b~c"},
		{"empty", info, row(text("")), relation(1), "~"},
		{"tilde first", info, row(text("~N")), relation(1), "~~N"},
		{"null", info, row(null), relation(1), "~N"},
		{"two columns", info, row(text("7"), text("x"), text("de")), relation(1, 0, 1), "7|de"},
		{"separators in two columns", info, row(text("a|b"), text("~")), relation(1, 1), "a~|b|~~"},
		{"two empty", info, row(text(""), text("")), relation(1, 1), "|"},
		{"null among two", info, row(null, text("N")), relation(1, 1), "~N|N"},
		{"replica identity full", info, row(text("1"), null, text("x")), relation(1, 1, 1), "1|~N|x"},
		{"binary", info, row(binaryValue(0, 0, 0, 7), binaryValue(0, 0, 0x25, 0x37)), relation(1, 1), "7|2026-01-31"},
		{"binary of unknown type", info, row(text(""), text(""), binaryValue(1)), relation(0, 0, 1), ""},
		{"binary of unknown column", info, row(text(""), text(""), text(""), binaryValue(1)), relation(0, 0, 0, 1), ""},
		{"binary without table", nil, row(binaryValue(0, 0, 0, 7)), relation(1), ""},
		{"text without table", nil, row(text("7")), relation(1), "7"},
		{"unchanged TOAST in the key", info, row(text("7"), unchanged), relation(1, 1), ""},
		{"unchanged TOAST elsewhere", info, row(text("7"), unchanged), relation(1, 0), "7"},
		{"no identity", info, row(text("7")), relation(0), ""},
		{"fewer values than columns", info, row(text("7")), relation(1, 1), ""},
		{"no row", info, nil, relation(1), ""},
		{"no relation", info, row(text("7")), nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.info.GetRecordID(test.row, test.reln); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Different keys have different IDs, and equal keys equal ones.
func TestGetRecordIDInjective(t *testing.T) {
	value := rapid.Custom(func(t *rapid.T) *pglogrepl.TupleDataColumn {
		if rapid.IntRange(0, 4).Draw(t, "null") == 0 {
			return &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeNull}
		}
		return text(rapid.StringOfN(rapid.RuneFrom([]rune("~|Nax")), 0, 4, -1).Draw(t, "text"))
	})
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(1, 3).Draw(t, "columns")
		reln := relation(slices.Repeat([]uint8{1}, columns)...)
		a := rapid.SliceOfN(value, columns, columns).Draw(t, "a")
		b := rapid.SliceOfN(value, columns, columns).Draw(t, "b")
		equal := slices.EqualFunc(a, b, func(x, y *pglogrepl.TupleDataColumn) bool {
			return x.DataType == y.DataType && string(x.Data) == string(y.Data)
		})
		var info *PGTableInfo
		idA, idB := info.GetRecordID(row(a...), reln), info.GetRecordID(row(b...), reln)
		if idA == "" || (idA == idB) != equal {
			t.Fatalf("IDs %q and %q, keys equal: %v", idA, idB, equal)
		}
	})
}
