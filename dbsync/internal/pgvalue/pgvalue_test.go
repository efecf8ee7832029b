package pgvalue

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// A sample is a value of a built-in type as Postgres 15 writes it in both forms, and the
// Go value that both give.
type sample struct {
	format, name string // as format_type and pg_type.typname call the type
	text, binary string // binary in hex
	want         any
}

func utc(year, month, day, hour, minute, second, nanosecond int) time.Time {
	return time.Date(year, time.Month(month), day, hour, minute, second, nanosecond, time.UTC)
}

func samples() []sample {
	return []sample{
		{"boolean", "bool", "t", "01", true},
		{"boolean", "bool", "f", "00", false},
		{"smallint", "int2", "-32768", "8000", int16(-32768)},
		{"integer", "int4", "2147483647", "7fffffff", int32(2147483647)},
		{"bigint", "int8", "-9223372036854775808", "8000000000000000", int64(math.MinInt64)},
		{"oid", "oid", "4294967295", "ffffffff", uint32(math.MaxUint32)},
		{"xid", "xid", "7", "00000007", uint32(7)},
		{"cid", "cid", "8", "00000008", uint32(8)},
		{"xid8", "xid8", "18446744073709551615", "ffffffffffffffff", uint64(math.MaxUint64)},
		{"real", "float4", "1.5", "3fc00000", float32(1.5)},
		{"real", "float4", "1e-10", "2edbe6ff", float32(1e-10)},
		{"real", "float4", "-Infinity", "ff800000", float32(math.Inf(-1))},
		{"double precision", "float8", "0.1", "3fb999999999999a", 0.1},
		{"double precision", "float8", "1e+300", "7e37e43c8800759c", 1e300},
		{"double precision", "float8", "-0", "8000000000000000", math.Copysign(0, -1)},
		{"double precision", "float8", "Infinity", "7ff0000000000000", math.Inf(1)},
		{"numeric", "numeric", "0", "0000000000000000", json.Number("0")},
		{"numeric", "numeric", "0.00", "0000000000000002", json.Number("0.00")},
		{"numeric", "numeric", "-12345678901234567890.123456789000", "000800044000000c04d2162e23340d801ed204d2162e2328", json.Number("-12345678901234567890.123456789000")},
		{"numeric", "numeric", "100000000", "00010002000000000001", json.Number("100000000")},
		{"numeric", "numeric", "0.00001234", "0001fffe0000000804d2", json.Number("0.00001234")},
		{"numeric", "numeric", "10000.0001", "0003000100000004000100000001", json.Number("10000.0001")},
		{"numeric", "numeric", "NaN", "00000000c0000000", "NaN"},
		{"numeric", "numeric", "Infinity", "00000000d0000020", "Infinity"},
		{"numeric", "numeric", "-Infinity", "00000000f0000020", "-Infinity"},
		{"money", "money", "-$1,234,567.89", "fffffffff8a432eb", "-$1,234,567.89"},
		{"money", "money", "$0.05", "0000000000000005", "$0.05"},
		{"text", "text", `häß "\' `, "68c3a4c39f20225c2720", `häß "\' `},
		{"text", "text", "", "", ""},
		{"character varying", "varchar", "x", "78", "x"},
		{"character", "bpchar", "ab   ", "6162202020", "ab   "},
		{"name", "name", "n", "6e", "n"},
		{`"char"`, "char", "c", "63", "c"},
		{`"char"`, "char", "", "00", ""},
		{"xml", "xml", `<a b="1"/>`, "3c6120623d2231222f3e", `<a b="1"/>`},
		{"uuid", "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{"bytea", "bytea", `\x00ff5c`, "00ff5c", []byte{0, 0xff, '\\'}},
		{"bytea", "bytea", `\x`, "", []byte{}},
		{"date", "date", "2026-01-31", "00002537", utc(2026, 1, 31, 0, 0, 0, 0)},
		{"date", "date", "0044-03-15 BC", "fff49d7b", utc(-43, 3, 15, 0, 0, 0, 0)},
		{"date", "date", "4713-01-01 BC", "ffda97cd", utc(-4712, 1, 1, 0, 0, 0, 0)},
		{"date", "date", "5874897-12-31", "7fda970c", utc(5874897, 12, 31, 0, 0, 0, 0)},
		{"date", "date", "infinity", "7fffffff", "infinity"},
		{"date", "date", "-infinity", "80000000", "-infinity"},
		{"timestamp without time zone", "timestamp", "2026-01-31 12:00:00", "0002ecac99115000", utc(2026, 1, 31, 12, 0, 0, 0)},
		{"timestamp without time zone", "timestamp", "1999-12-31 23:59:59.000001", "fffffffffff0bdc1", utc(1999, 12, 31, 23, 59, 59, 1000)},
		{"timestamp without time zone", "timestamp", "294276-12-31 23:59:59.999999", "7fffff5bb3b29fff", utc(294276, 12, 31, 23, 59, 59, 999999000)},
		{"timestamp without time zone", "timestamp", "0001-02-03 04:05:06.78 BC", "ff1fc8d8610c2760", utc(0, 2, 3, 4, 5, 6, 780000000)},
		{"timestamp without time zone", "timestamp", "infinity", "7fffffffffffffff", "infinity"},
		{"timestamp with time zone", "timestamptz", "2026-01-31 10:00:00.5+00", "0002ecaaebf1a920", utc(2026, 1, 31, 10, 0, 0, 500000000)},
		{"timestamp with time zone", "timestamptz", "0044-03-15 12:00:00+00 BC", "ff1af9e8fb46d000", utc(-43, 3, 15, 12, 0, 0, 0)},
		{"timestamp with time zone", "timestamptz", "-infinity", "8000000000000000", "-infinity"},
		{"time without time zone", "time", "24:00:00", "000000141dd76000", "24:00:00"},
		{"time without time zone", "time", "01:02:03.0405", "00000000dde916f4", "01:02:03.0405"},
		{"time with time zone", "timetz", "01:02:03.5+05:30", "00000000ddf019e0ffffb2a8", "01:02:03.5+05:30"},
		{"time with time zone", "timetz", "23:00:00-00:53:28", "000000134743bc0000000c88", "23:00:00-00:53:28"},
		{"interval", "interval", "1 year 2 mons 3 days 04:05:06.789", "000000036c97ca88000000030000000e", "1 year 2 mons 3 days 04:05:06.789"},
		{"interval", "interval", "-1 years -2 mons +3 days -04:05:06", "fffffffc93743f8000000003fffffff2", "-1 years -2 mons +3 days -04:05:06"},
		{"interval", "interval", "-1 years +1 day", "000000000000000000000001fffffff4", "-1 years +1 day"},
		{"interval", "interval", "-3 days +100:00:00.000001", "00000053d1ac1001fffffffd00000000", "-3 days +100:00:00.000001"},
		{"interval", "interval", "00:00:00", "00000000000000000000000000000000", "00:00:00"},
		{"interval", "interval", "1 mon -1 days", "0000000000000000ffffffff00000001", "1 mon -1 days"},
		{"json", "json", `{"a": [1.50, null]}`, "7b2261223a205b312e35302c206e756c6c5d7d", json.RawMessage(`{"a": [1.50, null]}`)},
		{"jsonb", "jsonb", `{"a": 12345678901234567890}`, "017b2261223a2031323334353637383930313233343536373839307d", json.RawMessage(`{"a": 12345678901234567890}`)},
		{"jsonpath", "jsonpath", `$."a"[*]`, "01242e2261225b2a5d", `$."a"[*]`},
		{"inet", "inet", "192.168.0.1", "02200004c0a80001", netip.MustParseAddr("192.168.0.1")},
		{"inet", "inet", "192.168.0.1/24", "02180004c0a80001", netip.MustParsePrefix("192.168.0.1/24")},
		{"inet", "inet", "::ffff:1.2.3.4", "0380001000000000000000000000ffff01020304", netip.MustParseAddr("::ffff:1.2.3.4")},
		{"inet", "inet", "2001:db8::1/64", "0340001020010db8000000000000000000000001", netip.MustParsePrefix("2001:db8::1/64")},
		{"cidr", "cidr", "10.1.2.3/32", "022001040a010203", netip.MustParsePrefix("10.1.2.3/32")},
		{"cidr", "cidr", "2001:db8::/32", "0320011020010db8000000000000000000000000", netip.MustParsePrefix("2001:db8::/32")},
		{"macaddr", "macaddr", "08:00:2b:01:02:03", "08002b010203", "08:00:2b:01:02:03"},
		{"macaddr8", "macaddr8", "08:00:2b:01:02:03:04:05", "08002b0102030405", "08:00:2b:01:02:03:04:05"},
		{"bit", "bit", "10110011101", "0000000bb3a0", "10110011101"},
		{"bit varying", "varbit", "", "00000000", ""},
		{"bit varying", "varbit", "1", "0000000180", "1"},
		{"tid", "tid", "(4294967295,65535)", "ffffffffffff", "(4294967295,65535)"},
		{"pg_lsn", "pg_lsn", "16/B374D848", "00000016b374d848", "16/B374D848"},
		{"pg_snapshot", "pg_snapshot", "10:20:10,14,15", "00000003000000000000000a0000000000000014000000000000000a000000000000000e000000000000000f", "10:20:10,14,15"},
		{"txid_snapshot", "txid_snapshot", "10:20:", "00000000000000000000000a0000000000000014", "10:20:"},
		{"int2vector", "int2vector", "1 -2 3", "000000010000000000000015000000030000000000000002000100000002fffe000000020003", []any{int16(1), int16(-2), int16(3)}},
		{"oidvector", "oidvector", "1 2", "00000001000000000000001a000000020000000000000004000000010000000400000002", []any{uint32(1), uint32(2)}},
		{"int2vector", "int2vector", "", "0000000100000000000000150000000000000000", []any{}},
		{"regclass", "regclass", "-", "00000000", "-"},
		{"point", "point", "(1.5,-1e+20)", "3ff8000000000000c415af1d78b58c40", "(1.5,-1e+20)"},
		{"point", "point", "(123456789012345,1e+15)", "42dc12218377de40430c6bf526340000", "(123456789012345,1e+15)"},
		{"point", "point", "(0.0001,1e-05)", "3f1a36e2eb1c432d3ee4f8b588e368f1", "(0.0001,1e-05)"},
		{"lseg", "lseg", "[(1,2),(3,4)]", "3ff0000000000000400000000000000040080000000000004010000000000000", "[(1,2),(3,4)]"},
		{"line", "line", "{1,-2,0.5}", "3ff0000000000000c0000000000000003fe0000000000000", "{1,-2,0.5}"},
		{"box", "box", "(3,4),(1,2)", "400800000000000040100000000000003ff00000000000004000000000000000", "(3,4),(1,2)"},
		{"path", "path", "((1,2),(3,4))", "01000000023ff0000000000000400000000000000040080000000000004010000000000000", "((1,2),(3,4))"},
		{"path", "path", "[(1,2),(3,4),(5,6)]", "00000000033ff000000000000040000000000000004008000000000000401000000000000040140000000000004018000000000000", "[(1,2),(3,4),(5,6)]"},
		{"polygon", "polygon", "((1,2),(3,4),(5,6))", "000000033ff000000000000040000000000000004008000000000000401000000000000040140000000000004018000000000000", "((1,2),(3,4),(5,6))"},
		{"circle", "circle", "<(1,2),3>", "3ff000000000000040000000000000004008000000000000", "<(1,2),3>"},
		{"tsvector", "tsvector", "'a':1A,2 'b''cd':3B,4C 'e'", "0000000361000002c0010002622763640000028003400465000000", "'a':1A,2 'b''cd':3B,4C 'e'"},
		{"tsvector", "tsvector", `'b''c\\d'`, "000000016227635c64000000", `'b''c\\d'`},
		{"tsvector", "tsvector", "", "00000000", ""},
		{"tsquery", "tsquery", "'fat' & !( 'rat' | 'cat':*AB ) <-> 'dog'", "00000008020202040001010000646f670002010203010c01636174000100007261740001000066617400", "'fat' & !( 'rat' | 'cat':*AB ) <-> 'dog'"},
		{"tsquery", "tsquery", "'a' <2> ( 'b' <-> 'c' ) & !'d'", "000000080202020101000064000204000202040001010000630001000062000100006100", "'a' <2> ( 'b' <-> 'c' ) & !'d'"},
		{"tsquery", "tsquery", "'a' <-> 'b' <-> 'c' | !!'d' & 'e''f'", "0000000b02030202010000652766000201020101000064000204000101000063000204000101000062000100006100", "'a' <-> 'b' <-> 'c' | !!'d' & 'e''f'"},
		{"tsquery", "tsquery", "", "00000000", ""},
		{"int4range", "int4range", "[1,5)", "0200000004000000010000000400000005", "[1,5)"},
		{"int4range", "int4range", "empty", "01", "empty"},
		{"int8range", "int8range", "(,10)", "0800000008000000000000000a", "(,10)"},
		{"numrange", "numrange", "(1.50,2.00]", "040000000c0002000000000002000113880000000a00010000000000020002", "(1.50,2.00]"},
		{"daterange", "daterange", "[2026-01-01,infinity)", "020000000400002519000000047fffffff", "[2026-01-01,infinity)"},
		{"tsrange", "tsrange", `["2026-01-01 00:00:00","2026-01-02 12:30:00.5"]`, "06000000080002ea470ae86000000000080002ea65a2fce320", `["2026-01-01 00:00:00","2026-01-02 12:30:00.5"]`},
		{"tstzrange", "tstzrange", `["2026-01-01 00:00:00+00",)`, "12000000080002ea470ae86000", `["2026-01-01 00:00:00+00",)`},
		{"int4multirange", "int4multirange", "{[1,3),[5,9)}", "00000002000000110200000004000000010000000400000003000000110200000004000000050000000400000009", "{[1,3),[5,9)}"},
		{"nummultirange", "nummultirange", "{}", "00000000", "{}"},
		{"datemultirange", "datemultirange", "{(,2026-01-01),[2026-02-01,)}", "000000020000000908000000040000251900000009120000000400002538", "{(,2026-01-01),[2026-02-01,)}"},
		{"tstzmultirange", "tstzmultirange", `{["2026-01-01 00:00:00+00","2026-01-02 00:00:00+00")}`, "000000010000001902000000080002ea470ae86000000000080002ea5b28bfc000", `{["2026-01-01 00:00:00+00","2026-01-02 00:00:00+00")}`},
		{"integer[]", "_int4", "{}", "000000000000000000000017", []any{}},
		{"integer[]", "_int4", "{1,NULL,3}", "00000001000000010000001700000003000000010000000400000001ffffffff0000000400000003", []any{int32(1), nil, int32(3)}},
		{"integer[]", "_int4", "{{1,2},{3,NULL}}", "00000002000000010000001700000002000000010000000200000001000000040000000100000004000000020000000400000003ffffffff", []any{[]any{int32(1), int32(2)}, []any{int32(3), nil}}},
		{"smallint[]", "_int2", "[-1:0]={7,8}", "00000001000000000000001500000002ffffffff000000020007000000020008", []any{int16(7), int16(8)}},
		{"text[]", "_text", `{"",NULL,"NULL","a,b","{}","q\"\\",ü,"with space"}`, "000000010000000100000019000000080000000100000000ffffffff000000044e554c4c00000003612c62000000027b7d0000000371225c00000002c3bc0000000a77697468207370616365", []any{"", nil, "NULL", "a,b", "{}", `q"\`, "ü", "with space"}},
		{"boolean[]", "_bool", "{t,f}", "000000010000000000000010000000020000000100000001010000000100", []any{true, false}},
		{"numeric[]", "_numeric", "{1.50,NaN}", "0000000100000000000006a400000002000000010000000c0002000000000002000113880000000800000000c0000000", []any{json.Number("1.50"), "NaN"}},
		{"double precision[]", "_float8", "{0.5,Infinity}", "0000000100000000000002bd0000000200000001000000083fe0000000000000000000087ff0000000000000", []any{0.5, math.Inf(1)}},
		{"bytea[]", "_bytea", `{"\\x00ff",NULL}`, "00000001000000010000001100000002000000010000000200ffffffffff", []any{[]byte{0, 0xff}, nil}},
		{"timestamp with time zone[]", "_timestamptz", `{"2026-01-31 12:00:00+00"}`, "0000000100000000000004a00000000100000001000000080002ecac99115000", []any{utc(2026, 1, 31, 12, 0, 0, 0)}},
		{"date[]", "_date", "{{2026-01-31},{infinity}}", "00000002000000000000043a000000020000000100000001000000010000000400002537000000047fffffff", []any{[]any{utc(2026, 1, 31, 0, 0, 0, 0)}, []any{"infinity"}}},
		{"uuid[]", "_uuid", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "000000010000000000000b86000000010000000100000010a0eebc999c0b4ef8bb6d6bb9bd380a11", []any{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}},
		{"jsonb[]", "_jsonb", `{"{\"a\": 1}",NULL}`, "000000010000000100000eda000000020000000100000009017b2261223a20317dffffffff", []any{json.RawMessage(`{"a": 1}`), nil}},
		{"inet[]", "_inet", "{10.0.0.1,10.0.0.0/8}", "000000010000000000000365000000020000000100000008022000040a00000100000008020800040a000000", []any{netip.MustParseAddr("10.0.0.1"), netip.MustParsePrefix("10.0.0.0/8")}},
		{"box[]", "_box", "{(1,1),(0,0);(3,3),(2,2)}", "00000001000000000000025b0000000200000001000000203ff00000000000003ff000000000000000000000000000000000000000000000000000204008000000000000400800000000000040000000000000004000000000000000", []any{"(1,1),(0,0)", "(3,3),(2,2)"}},
		{"int4range[]", "_int4range", `{"[1,5)",empty}`, "000000010000000000000f4000000002000000010000001102000000040000000100000004000000050000000101", []any{"[1,5)", "empty"}},
		{"tsvector[]", "_tsvector", `{"'a':1 'b'"}`, "000000010000000000000e1e00000001000000010000000e0000000261000001000162000000", []any{"'a':1 'b'"}},
		{"money[]", "_money", "{$1.00}", "0000000100000000000003160000000100000001000000080000000000000064", []any{"$1.00"}},
		{`"char"[]`, "_char", `{a,"\""}`, "000000010000000000000012000000020000000100000001610000000122", []any{"a", `"`}},
	}
}

func TestDecode(t *testing.T) {
	for _, s := range samples() {
		for _, name := range []string{s.format, s.name, "pg_catalog." + s.name} {
			got, err := FromText(name, []byte(s.text))
			if err != nil || !equal(got, s.want) {
				t.Errorf("%s text %q: got %T %v, %v, want %T %v", name, s.text, got, got, err, s.want, s.want)
			}
			want := s.want
			if s.name == "regclass" {
				want = "0" // the binary form has the number, not the name
			}
			got, err = FromBinary(name, fromHex(t, s.binary))
			if err != nil || !equal(got, want) {
				t.Errorf("%s binary of %q: got %T %v, %v, want %T %v", name, s.text, got, got, err, want, want)
			}
		}
	}
}

// equal is reflect.DeepEqual, but tells -0 from 0.
func equal(got, want any) bool {
	if f, ok := want.(float64); ok && f == 0 {
		g, ok := got.(float64)
		return ok && g == 0 && math.Signbit(g) == math.Signbit(f)
	}
	return reflect.DeepEqual(got, want)
}

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The text form of a value in binary form is what Postgres prints: IDs are made of it.
func TestTextOfBinary(t *testing.T) {
	for _, s := range samples() {
		if s.name == "regclass" {
			continue
		}
		got, err := TextOfBinary(s.format, fromHex(t, s.binary))
		if err != nil || string(got) != s.text {
			t.Errorf("%s %q: got %q, %v", s.format, s.text, got, err)
		}
	}
}

func TestDecodeNaN(t *testing.T) {
	for _, columnType := range []string{"real", "double precision"} {
		got, err := FromText(columnType, []byte("NaN"))
		if v := reflect.ValueOf(got); err != nil || !v.CanFloat() || !math.IsNaN(v.Float()) {
			t.Errorf("%s NaN: got %v, %v", columnType, got, err)
		}
	}
}

func TestDecodeNull(t *testing.T) {
	for name := range valueTypes {
		if got, err := FromText(name, nil); got != nil || err != nil {
			t.Errorf("%s text: got %v, %v", name, got, err)
		}
		if got, err := FromBinary(name, nil); got != nil || err != nil {
			t.Errorf("%s binary: got %v, %v", name, got, err)
		}
	}
}

func TestDecodeTypeNames(t *testing.T) {
	tests := []struct {
		columnType, text string
		want             any
	}{
		{"numeric(10,2)", "1.50", json.Number("1.50")},
		{"numeric(10,2)[]", "{1.50}", []any{json.Number("1.50")}},
		{"character varying(20)", "a", "a"},
		{"timestamp(3) with time zone", "2026-01-31 12:00:00+00", utc(2026, 1, 31, 12, 0, 0, 0)},
		{"interval day to second(3)", "1 day", "1 day"},
		{"interval year to month[]", "{\"1 year\"}", []any{"1 year"}},
		{`"bit"`, "101", "101"},
		{"public.citext", "A", "A"},
		{"citext[]", "{A,NULL}", []any{"A", nil}},
		{"shop.mood", "happy", "happy"},
		{"shop.mood[]", `{happy,"very sad",NULL}`, []any{"happy", "very sad", nil}},
		{`"Odd Type"[]`, `{"(1,\"a b\")"}`, []any{`(1,"a b")`}},
		{"public.geometry[]", "{0101:0102}", []any{"0101", "0102"}},
		{"shop.point", "not a point", "not a point"}, // a user's type of that name
		{"shop.integer", "x", "x"},
		{"aclitem", "postgres=r/postgres", "postgres=r/postgres"},
		{"bytea", `a\\b\000\377`, []byte{'a', '\\', 'b', 0, 0xff}}, // bytea_output escape
		{"", "x", "x"},
	}
	for _, test := range tests {
		got, err := FromText(test.columnType, []byte(test.text))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q %q: got %T %v, %v, want %T %v", test.columnType, test.text, got, got, err, test.want, test.want)
		}
	}
}

func TestFromTextMalformed(t *testing.T) {
	tests := []struct{ columnType, text string }{
		{"boolean", "maybe"},
		{"smallint", "32768"},
		{"integer", ""},
		{"integer", "1.0"},
		{"bigint", "9223372036854775808"},
		{"oid", "-1"},
		{"numeric", "1e5"},
		{"numeric", "."},
		{"numeric", "1."},
		{"numeric", "-"},
		{"numeric", "01"},
		{"real", "1e39"},
		{"double precision", "one"},
		{"bytea", `\x0`},
		{"bytea", `\x0g`},
		{"bytea", `\9`},
		{"bytea", `\777`},
		{"date", "31.01.2026"}, // another DateStyle
		{"date", "2026-02-30"},
		{"date", "0000-01-01"},
		{"date", "2026-01-31 12:00:00"},
		{"timestamp", "2026-01-31"},
		{"timestamp", "2026-01-31 12:00:00+00"},
		{"timestamp", "2026-01-31 12:00:00."},
		{"timestamp", "2026-01-31 12:00:00.1234567"},
		{"timestamp", "2026-01-31 24:00:00"},
		{"timestamptz", "2026-01-31 12:00:00"},
		{"timestamptz", "2026-01-31 12:00:00 CET"},
		{"timestamptz", "2026-01-31 12:00:00+1"},
		{"timestamptz", "2026-01-31 12:00:00+01:02:03:04"},
		{"json", "{"},
		{"inet", "fe80::1%eth0"},
		{"inet", "1.2.3.4/33"},
		{"cidr", "1.2.3.4"},
		{"int2vector", "1 x"},
		{"integer[]", ""},
		{"integer[]", "1"},
		{"integer[]", "{"},
		{"integer[]", "{1"},
		{"integer[]", "{1,"},
		{"integer[]", "{1,}"},
		{"integer[]", "{1}}"},
		{"integer[]", "{x}"},
		{"integer[]", "{{1}{2}}"},
		{"integer[]", "[1:2]"},
		{"integer[]", "[a]={1}"},
		{"integer[]", "{{{{{{{1}}}}}}}"},
		{"text[]", `{"a`},
		{"text[]", `{"a\`},
		{"text[]", `{"a"b}`},
	}
	for _, test := range tests {
		got, err := FromText(test.columnType, []byte(test.text))
		if err == nil || got != test.text {
			t.Errorf("%s %q: got %T %v, %v, want the text and an error", test.columnType, test.text, got, got, err)
			continue
		}
		want := "not a valid " + test.columnType + " in text form"
		if err.Error() != want {
			t.Errorf("%s %q: error %q, want %q", test.columnType, test.text, err, want)
		}
	}
}

func TestFromBinaryMalformed(t *testing.T) {
	tests := []struct{ columnType, binary, reason string }{
		{"shop.mood", "6161", "the binary form of type shop.mood is not known"},
		{"shop.mood[]", "6161", "the binary form of type shop.mood[] is not known"},
		{"aclitem", "00", "the binary form of type aclitem is not known"},
		{"boolean", "", ""},
		{"boolean", "0000", ""},
		{"integer", "000000", ""},
		{"numeric", "0001000000000000", ""},     // a digit is missing
		{"numeric", "0001000000000000ffff", ""}, // a digit below 0
		{"numeric", "0000000012340000", ""},     // an unknown sign
		{"jsonb", "027b7d", ""},                 // another version
		{"jsonb", "017b", ""},
		{"uuid", "00", ""},
		{"time", "ffffffffffffffff", ""},
		{"bit", "0000000900", ""},
		{"bit", "ffffffff", ""},
		{"inet", "022100047f000001", ""}, // 33 bits
		{"inet", "032000047f000001", ""}, // four bytes of IPv6
		{"polygon", "ffffffff", ""},
		{"polygon", "7fffffff", ""},
		{"tsvector", "7fffffff", ""},
		{"tsquery", "0000000109", ""},
		{"tsquery", "000000010209", ""},
		{"tsquery", "00000001" + strings.Repeat("0201", maxTSQueryDepth+2), ""},
		{"int4range", "02", ""},
		{"int4range", "02ffffffff00000000", ""},
		{"int4multirange", "ffffffff", ""},
		{"integer[]", "00000001", ""},
		{"integer[]", "000000070000000000000017", ""},                                                           // seven dimensions
		{"integer[]", "0000000100000000000000177fffffff00000001", ""},                                           // elements that are not there
		{"integer[]", "0000000100000000000000170000000100000001" + "fffffffe", ""},                              // an element of size -2
		{"integer[]", "000000060000000000000017" + strings.Repeat("0000ffff00000001", 6) + "ffffffff", ""},      // a product that overflows
		{"integer[]", "0000000100000000000000170000000100000001" + "0000000400000001" + "00", ""},               // a byte too many
		{"int2vector", "00000001000000000000001500000001000000000000000400000001", ""},                          // an element of the wrong size
		{"oidvector", "00000002000000000000001a00000001000000010000000100000001" + "00000004" + "00000001", ""}, // two dimensions
	}
	for _, test := range tests {
		in := fromHex(t, test.binary)
		reason := test.reason
		if reason == "" {
			reason = "not a valid " + test.columnType + " in binary form"
		}
		got, err := FromBinary(test.columnType, in)
		if err == nil || err.Error() != reason {
			t.Errorf("%s %s: error %v, want %q", test.columnType, test.binary, err, reason)
		}
		b, ok := got.([]byte)
		if !ok || string(b) != string(in) || len(in) > 0 && &b[0] == &in[0] {
			t.Errorf("%s %s: got %T %v, want a copy of the bytes", test.columnType, test.binary, got, got)
		}
	}
}

// A value must not change when the buffer that it was read from is used again.
func TestDecodeKeepsNoInput(t *testing.T) {
	for _, s := range samples() {
		text, binary := []byte(s.text), fromHex(t, s.binary)
		fromText, _ := FromText(s.format, text)
		fromBytes, _ := FromBinary(s.format, binary)
		clear(text)
		clear(binary)
		if !equal(fromText, s.want) || s.name != "regclass" && !equal(fromBytes, s.want) {
			t.Errorf("%s %q changed with its input", s.format, s.text)
		}
	}
}

func FuzzFromText(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.name, []byte(s.text))
	}
	f.Add("interval second(3)[]", []byte("{\"1 day\"}"))
	f.Fuzz(func(t *testing.T, columnType string, in []byte) {
		decodeAll(t, columnType, in, FromText)
	})
}

func FuzzFromBinary(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.name, fromHex(f, s.binary))
	}
	f.Fuzz(func(t *testing.T, columnType string, in []byte) {
		decodeAll(t, columnType, in, FromBinary)
	})
}

// decodeAll decodes in as a value of that type and of every built-in type: no panic, never
// nil without an error, and errors that do not quote the value.
func decodeAll(t *testing.T, columnType string, in []byte, decode func(string, []byte) (any, error)) {
	if in == nil {
		return
	}
	check := func(name string) {
		got, err := decode(name, in)
		if got == nil {
			t.Errorf("%s %x: got nil, %v", name, in, err)
		}
	}
	check(columnType)
	for name := range valueTypes {
		check(name)
	}
}
