package dbsync

import (
	"errors"
	"reflect"
	"testing"
)

func column(columnType string) *PGColumnInfo {
	return &PGColumnInfo{Namespace: "public", TableName: "t", ColumnName: "c", ColumnType: columnType}
}

// What the values are is tested where they are decoded, in internal/pgvalue.
func TestDecode(t *testing.T) {
	for _, test := range []struct {
		name, columnType string
		decode           func(*PGColumnInfo, []byte) (any, error)
		in               []byte
		want             any
		err              string
	}{
		{"text", "integer[]", (*PGColumnInfo).DecodeText, []byte("{1,NULL}"), []any{int32(1), nil}, ""},
		{"binary", "smallint", (*PGColumnInfo).DecodeBytes, []byte{0, 7}, int16(7), ""},
		{"NULL in text form", "integer", (*PGColumnInfo).DecodeText, nil, nil, ""},
		{"NULL in binary form", "integer", (*PGColumnInfo).DecodeBytes, nil, nil, ""},
		{"not of the type, text", "integer", (*PGColumnInfo).DecodeText, []byte("x"), "x", "decode column public.t.c: not a valid integer in text form"},
		{"not of the type, binary", "integer", (*PGColumnInfo).DecodeBytes, []byte{7}, []byte{7}, "decode column public.t.c: not a valid integer in binary form"},
		{"not known", "shop.mood", (*PGColumnInfo).DecodeBytes, []byte{7}, []byte{7}, "decode column public.t.c: the binary form of type shop.mood is not known"},
	} {
		got, err := test.decode(column(test.columnType), test.in)
		if err == nil {
			err = errors.New("")
		}
		if !reflect.DeepEqual(got, test.want) || err.Error() != test.err {
			t.Errorf("%s: got %T %v, %v", test.name, got, got, err)
		}
	}
}
