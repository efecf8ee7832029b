package dbsync

import (
	"fmt"

	"tidemark/dbsync/internal/pgvalue"
)

// PGColumnInfo describes one column of a table and turns its values into Go values.
type PGColumnInfo struct {
	DBName     string
	Namespace  string
	TableName  string
	ColumnName string

	// ColumnType is the type's name as format_type(atttypid, NULL) gives it ("integer",
	// "timestamp with time zone", "integer[]"), or as pg_type.typname has it ("int4",
	// "timestamptz", "_int4"). For a domain, give the type that it stands for. A type
	// modifier, as in "numeric(10,2)", is skipped.
	ColumnType string

	// OrdinalPosition counts from 1.
	OrdinalPosition int
}

// DecodeText turns a value in Postgres' text form into a Go value:
//
//	boolean                                bool
//	smallint, integer, bigint              int16, int32, int64
//	oid, xid, cid                          uint32
//	xid8, oid8                             uint64
//	real, double precision                 float32, float64, also NaN and infinities
//	numeric                                json.Number with every digit of the text
//	bytea                                  []byte
//	date, timestamp, timestamp with zone   time.Time in UTC
//	json, jsonb                            json.RawMessage, valid JSON
//	inet                                   netip.Addr, netip.Prefix if it has a netmask
//	cidr                                   netip.Prefix
//	arrays, int2vector, oidvector          []any, nested by dimension, nil for NULL
//	everything else                        string, as Postgres prints it
//
// "Everything else" is text of all kinds, uuid, enums, time, interval, money, bit
// strings, ranges, network hardware addresses, geometric and text search types,
// composites, and every type that the package does not know. An array of a type that
// it does not know is an []any of strings.
//
// A value that exists in Postgres but not in the Go type is a string, too: numeric
// "NaN", "Infinity" and "-Infinity", and the dates and timestamps "infinity" and
// "-infinity". The lower bounds of an array are dropped.
//
// Dates and times are read in DateStyle ISO, which every session of the package sets, as
// it sets lc_monetary to C, in which money is printed.
//
// A nil input is SQL NULL and gives nil. A text that is not of the column's type gives
// the text as a string together with an error; DecodeText never panics, never keeps
// input, and its errors never quote the value.
func (c *PGColumnInfo) DecodeText(input []byte) (out any, err error) {
	out, err = pgvalue.FromText(c.ColumnType, input)
	return out, c.decodeError(err)
}

// DecodeBytes turns a value in Postgres' binary form into the Go value that
// [PGColumnInfo.DecodeText] gives for the same value in a session with TimeZone UTC,
// IntervalStyle postgres and lc_monetary C, as those of the package are. There is one
// difference: of regclass and its kin the binary form holds a number only, so the string
// is the number and not the name.
//
// A nil input is SQL NULL and gives nil. Bytes that are not of the column's type, or of a
// type whose binary form the package does not know, give a copy of the bytes together
// with an error. Not known are types that are not built in, and of the built-in ones the
// planner's own pg_ndistinct, pg_dependencies, pg_mcv_list and pg_brin_* types, and
// aclitem and gtsvector, which have no binary form. DecodeBytes never panics and never keeps input.
func (c *PGColumnInfo) DecodeBytes(input []byte) (out any, err error) {
	out, err = pgvalue.FromBinary(c.ColumnType, input)
	return out, c.decodeError(err)
}

// decodeError says which column err is about.
func (c *PGColumnInfo) decodeError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("decode column %s.%s.%s: %w", c.Namespace, c.TableName, c.ColumnName, err)
}
