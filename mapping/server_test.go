package mapping_test

import (
	"context"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/testenv"
)

// selectRows reads rows as the log has them: in text form, by the settings of
// our sessions.
func selectRows(t *testing.T, d *testenv.Database, query string) []*pglogrepl.TupleData {
	t.Helper()
	ctx := t.Context()
	conn, err := pgconn.Connect(ctx, d.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const settings = "set TimeZone = 'UTC'; set DateStyle = 'ISO, YMD'; set IntervalStyle = 'postgres'; set extra_float_digits = 1; set bytea_output = 'hex'"
	if _, err := conn.Exec(ctx, settings).ReadAll(); err != nil {
		t.Fatal(err)
	}
	results, err := conn.Exec(ctx, query).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []*pglogrepl.TupleData
	for _, values := range results[0].Rows {
		row := &pglogrepl.TupleData{ColumnNum: uint16(len(values))}
		for _, v := range values {
			c := &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeText, Data: v, Length: uint32(len(v))}
			if v == nil {
				c.DataType = pglogrepl.TupleDataTypeNull
			}
			row.Columns = append(row.Columns, c)
		}
		rows = append(rows, row)
	}
	return rows
}
