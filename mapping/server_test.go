package mapping_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/mapping"
	"tidemark/testenv"
)

// A value is one literal of a type and the JSON form that it must have.
type value struct{ sql, json string }

// kinds are values of every type that a form is known for, the outermost ones
// among them, and of some types that become strings.
var kinds = []struct {
	typ    string
	values []value
}{
	{"smallint", []value{{"'-32768'", "-32768"}, {"'32767'", "32767"}}},
	{"integer", []value{{"'-2147483648'", "-2147483648"}, {"'2147483647'", "2147483647"}, {"'0'", "0"}}},
	{"bigint", []value{{"'-9223372036854775808'", "-9223372036854775808"}, {"'9223372036854775807'", "9223372036854775807"}}},
	{"oid", []value{{"'4294967295'", "4294967295"}}},
	{"xid", []value{{"'4294967295'", "4294967295"}}},
	{"xid8", []value{{"'18446744073709551615'", `"18446744073709551615"`}}},
	{"numeric", []value{
		{"'0.100'", "0.100"}, {"'-12345678901234567890123456789.000000000001'", "-12345678901234567890123456789.000000000001"},
		{"'NaN'", "null"}, {"'Infinity'", "null"}, {"'-Infinity'", "null"}, {"'1e400'", "1" + strings.Repeat("0", 400)},
		{"'1e1200'", `"1` + strings.Repeat("0", 1200) + `"`}, {"'1e-30'", "0.000000000000000000000000000001"},
	}},
	{"numeric(18,0)", []value{{"'-999999999999999999'", "-999999999999999999"}, {"'NaN'", "null"}}},
	{"numeric(10,2)", []value{{"'1.5'", "1.50"}}},
	{"real", []value{{"'3.4028235e38'", "3.4028235e+38"}, {"'1e-45'", "1e-45"}, {"'0.1'", "0.1"}, {"'NaN'", "null"}, {"'-Infinity'", "null"}}},
	{"double precision", []value{{"'1.7976931348623157e308'", "1.7976931348623157e+308"}, {"'5e-324'", "5e-324"}, {"'-0'", "-0"}, {"'NaN'", "null"}, {"'Infinity'", "null"}, {"'0.30000000000000004'", "0.30000000000000004"}}},
	{"money", []value{{"'1234.5'", `"$1,234.50"`}}},
	{"boolean", []value{{"true", "true"}, {"false", "false"}}},

	{"text", []value{{"''", `""`}, {"'NULL'", `"NULL"`}, {`E'a "q" \\ {,} \n\t\r\x01 日本 😀'`, `"a \"q\" \\ {,} \n\t\r\u0001 日本 😀"`}, {"repeat('x', 40000)", `"` + strings.Repeat("x", 40000) + `"`}}},
	{"varchar(5)", []value{{"'abc'", `"abc"`}}},
	{"char(5)", []value{{"'abc'", `"abc  "`}}},
	{"name", []value{{"'Name'", `"Name"`}}},
	{`"char"`, []value{{"'x'", `"x"`}, {"''", `""`}}},
	{"citext", []value{{"'MiXed'", `"MiXed"`}}},
	{"xml", []value{{"'<a b=\"c\">d</a>'", `"<a b=\"c\">d</a>"`}}},
	{"uuid", []value{{"'7D9E2C3A-41C5-4a5f-9d0e-2f2e5a8f7d11'", `"7d9e2c3a-41c5-4a5f-9d0e-2f2e5a8f7d11"`}}},
	{"mood", []value{{"'so so'", `"so so"`}, {"'NULL'", `"NULL"`}}},
	{"moods", []value{{"'{ok,\"so so\"}'", `["ok","so so"]`}}},
	{"amount", []value{{"'7'", "7"}}},

	{"date", []value{{"'2026-01-31'", `"2026-01-31"`}, {"'0044-03-15 BC'", `"-0043-03-15"`}, {"'4713-01-01 BC'", `"-4712-01-01"`}, {"'5874897-12-31'", `"+5874897-12-31"`},
		{"'infinity'", "null"}, {"'-infinity'", "null"}, {"'0001-01-01'", `"0001-01-01"`}, {"'0001-12-31 BC'", `"0000-12-31"`}}},
	{"timestamp", []value{{"'2026-01-31 12:00'", `"2026-01-31T12:00:00"`}, {"'2026-01-31 12:00:00.123456'", `"2026-01-31T12:00:00.123456"`},
		{"'294276-12-31 23:59:59.999999'", `"+294276-12-31T23:59:59.999999"`}, {"'4713-01-01 00:00:00.5 BC'", `"-4712-01-01T00:00:00.5"`}, {"'infinity'", "null"}, {"'10000-01-01'", `"+10000-01-01T00:00:00"`}}},
	{"timestamptz", []value{{"'2026-01-31 12:00+01'", `"2026-01-31T11:00:00Z"`}, {"'2026-01-31 12:00:00.12-03:30'", `"2026-01-31T15:30:00.12Z"`},
		{"'294276-12-31 23:59:59.999999+00'", `"+294276-12-31T23:59:59.999999Z"`}, {"'4713-01-01 00:00:00+00 BC'", `"-4712-01-01T00:00:00Z"`}, {"'-infinity'", "null"}, {"'12345-01-01 00:00:00.1234+00'", `"+12345-01-01T00:00:00.1234Z"`}}},
	{"time", []value{{"'24:00'", `"24:00:00"`}, {"'12:00:00.5'", `"12:00:00.5"`}}},
	{"timetz", []value{{"'12:00+05:30'", `"12:00:00+05:30"`}}},
	{"interval", []value{{"'1 year -3 days 04:05:06.7'", `"1 year -3 days +04:05:06.7"`}}},

	{"json", []value{{"E'{\"a\":\\n [1, 2.50],\\r\\n \"b\": \"\\\\u0000\\\\ud800\"}'", `{"a":  [1, 2.50],   "b": "\u0000\ud800"}`}, {`'{"b":1,"a":2,"b":3.0}'`, `{"a":2,"b":3.0}`}, {`'"scalar"'`, `"scalar"`}, {"'null'", "null"}, {"'[[1],[{}]]'", "[[1],[{}]]"}}},
	{"jsonb", []value{{`'{"b":1,"a":[{"c":1.10}],"b":2}'`, `{"a": [{"c": 1.10}], "b": 2}`}, {"'1'", "1"}, {`'"s"'`, `"s"`}, {"'[1,{\"a\":1}]'", `[1, {"a": 1}]`}, {"'1e500'", "1" + strings.Repeat("0", 500)}}},
	{"jsonpath", []value{{"'$.a'", `"$.\"a\""`}}},
	{"bytea", []value{{"'\\x00ff10'", `"AP8Q"`}, {"''", `""`}}},
	{"bit(3)", []value{{"'101'", `"101"`}}},
	{"varbit", []value{{"''", `""`}}},

	{"inet", []value{{"'10.0.0.1'", `"10.0.0.1"`}, {"'10.0.0.1/24'", `"10.0.0.1/24"`}, {"'::ffff:1.2.3.4'", `"::ffff:1.2.3.4"`}, {"'fe80::1/64'", `"fe80::1/64"`}}},
	{"cidr", []value{{"'10.0.0.0/8'", `"10.0.0.0/8"`}, {"'::/0'", `"::/0"`}, {"'::ffff:1.2.3.0/120'", `"1.2.3.0/24"`}, {"'2001:db8::1/128'", `"2001:db8::1/128"`}, {"'0.0.0.0/0'", `"0.0.0.0/0"`}}},
	{"macaddr", []value{{"'08:00:2b:01:02:03'", `"08:00:2b:01:02:03"`}}},
	{"macaddr8", []value{{"'08:00:2b:01:02:03:04:05'", `"08:00:2b:01:02:03:04:05"`}}},

	{"point", []value{{"'(1,2.5)'", `"(1,2.5)"`}}},
	{"box", []value{{"'(1,1),(0,0)'", `"(1,1),(0,0)"`}}},
	{"int4range", []value{{"'[1,5)'", `"[1,5)"`}}},
	{"tstzrange", []value{{"'[2026-01-31,)'", `"[\"2026-01-31 00:00:00+00\",)"`}}},
	{"nummultirange", []value{{"'{[1,2],[3,4]}'", `"{[1,2],[3,4]}"`}}},
	{"tsvector", []value{{"'a:1 b:2'", `"'a':1 'b':2"`}, {"(select string_agg('word' || i, ' ') from generate_series(1, 5000) i)::tsvector", ""}}},
	{"pg_lsn", []value{{"'16/B374D848'", `"16/B374D848"`}}},
	{"regclass", []value{{"'pg_class'", `"pg_class"`}}},
	{"int2vector", []value{{"'1 2 3'", `"1 2 3"`}}},
	{"pair", []value{{"row(1, 'x \"y\"')", `"(1,\"x \"\"y\"\"\")"`}}},
	{"hstore", []value{{"'a=>1'", `"\"a\"=>\"1\""`}}},
	{"ltree", []value{{"'a.b'", `"a.b"`}}},
}

// kindTable makes the table "kinds" with columns c0, c1, … of each type and
// a0, a1, … of its array, and a row per value: row n has the n-th of each type.
// It gives the expected fields of each row.
func kindTable(t *testing.T, d *testenv.Database) []map[string]string {
	t.Helper()
	d.Exec(t, `create extension citext; create extension hstore; create extension ltree;
		create type mood as enum ('so so', 'ok', 'NULL');
		create domain moods as mood[];
		create domain positive as numeric(18,0) check (value > 0);
		create domain amount as positive;
		create type pair as (a int, b text)`)
	columns := "id int primary key"
	var rows []map[string]string
	var sets [][]string
	for i, k := range kinds {
		columns += fmt.Sprintf(", c%d %s, a%d %s[]", i, k.typ, i, k.typ)
		for n, v := range k.values {
			if n == len(rows) {
				rows = append(rows, map[string]string{"id": fmt.Sprint(n)})
				sets = append(sets, nil)
			}
			array := fmt.Sprintf("array[[%s::%s, null]]", v.sql, k.typ)
			if k.typ == "moods" { // itself an array: the constructor would make one of more dimensions
				array = `'{{"{ok,\"so so\"}",NULL}}'`
			}
			sets[n] = append(sets[n], fmt.Sprintf("c%d = %s, a%d = %s", i, v.sql, i, array))
			if v.json == "" {
				continue
			}
			rows[n][fmt.Sprintf("c%d", i)] = v.json
			rows[n][fmt.Sprintf("a%d", i)] = "[[" + v.json + ",null]]"
		}
	}
	d.Exec(t, "create table kinds ("+columns+")")
	for n, set := range sets {
		d.Exec(t, fmt.Sprintf("insert into kinds (id) values (%d); update kinds set %s where id = %d", n, strings.Join(set, ", "), n))
	}
	return rows
}

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

func selectList(columns []string) string {
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = mapping.QuoteIdent(c)
	}
	return strings.Join(quoted, ", ")
}

// Every value of every type has the form that is documented, alone and in an
// array, and no search server refuses a document for any of them.
func TestEveryType(t *testing.T) {
	d := testenv.NewDatabase(t)
	want := kindTable(t, d)
	table, err := mapping.LoadTable(t.Context(), d.DB, "public", "kinds")
	if err != nil {
		t.Fatal(err)
	}
	ix := &mapping.Index{Name: "kinds", Table: table.TableName()}
	columns := ix.Columns(table)
	plan, err := mapping.Compile(ix, table, columns)
	if err != nil {
		t.Fatal(err)
	}
	documents := make(map[string][]byte)
	for n, row := range selectRows(t, d, "select "+selectList(columns)+" from kinds order by id") {
		document := plan.AppendDocument(nil, row)
		var got map[string]json.RawMessage
		if err := json.Unmarshal(document, &got); err != nil {
			t.Fatalf("row %d: %v", n, err)
		}
		for i, k := range kinds {
			for _, name := range []string{fmt.Sprintf("c%d", i), fmt.Sprintf("a%d", i)} {
				if want := want[n][name]; want != "" && string(got[name]) != want {
					t.Errorf("row %d, %s of type %s: got %.200s, want %.200s", n, name, k.typ, got[name], want)
				}
			}
		}
		if strings.ContainsAny(string(document), "\n\r") {
			t.Errorf("row %d: more than one line", n)
		}
		id, ok := plan.ID(row)
		if !ok || !plan.Complete(row) {
			t.Errorf("row %d: id %q, complete %v", n, id, plan.Complete(row))
		}
		documents[id] = document
	}

	body, err := ix.Body(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range testenv.Engines(t) {
		t.Run(string(engine), func(t *testing.T) {
			server := testenv.SharedSearch(t, engine)
			index := server.NewPrefix(t) + "kinds"
			send := func(path string, body []byte) {
				t.Helper()
				status, answer, err := server.Do(t.Context(), http.MethodPut, path, body)
				if err != nil {
					t.Fatal(err)
				}
				if status/100 != 2 {
					t.Errorf("PUT %s: status %d: %.1000s", path, status, answer)
				}
			}
			send("/"+index, body)
			for id, document := range documents {
				send("/"+index+"/_doc/"+id, document)
			}
		})
	}
}

func TestLoadTable(t *testing.T) {
	d := testenv.NewDatabase(t)
	d.Exec(t, `create schema "Weird ""Schema"".s";
		create type mood as enum ('ok');
		create domain one as mood;
		create domain more as one[];
		create domain price as numeric(10,2);
		create table "Weird ""Schema"".s"."Weird ""Name"".tbl" (
			"Ünique" varchar(10) not null,
			dropped int,
			"a ""b""" "char"[],
			m more,
			p price[],
			n numeric(5,1)[],
			double_id int generated always as (k * 2) stored,
			k int,
			bits bit varying(3),
			primary key (k, "Ünique"),
			unique (n, k)
		);
		alter table "Weird ""Schema"".s"."Weird ""Name"".tbl" drop column dropped;
		create unique index part on "Weird ""Schema"".s"."Weird ""Name"".tbl" (k) where k > 0;
		create unique index expr on "Weird ""Schema"".s"."Weird ""Name"".tbl" ((k + 1));
		create unique index incl on "Weird ""Schema"".s"."Weird ""Name"".tbl" (bits) include (k);
		create index plain on "Weird ""Schema"".s"."Weird ""Name"".tbl" (k);
		insert into "Weird ""Schema"".s"."Weird ""Name"".tbl" (k, "Ünique") select i, i from generate_series(1, 100) i;
		analyze "Weird ""Schema"".s"."Weird ""Name"".tbl"`)
	got, err := mapping.LoadTable(t.Context(), d.DB, `Weird "Schema".s`, `Weird "Name".tbl`)
	if err != nil {
		t.Fatal(err)
	}
	type column struct {
		Name, Type, Chain  string
		NotNull, Generated bool
	}
	var columns []column
	for _, c := range got.Columns {
		columns = append(columns, column{c.Name, c.Type.Name, chain(c.Type), c.NotNull, c.Generated})
	}
	wantColumns := []column{
		{"Ünique", "character varying(10)", "b", true, false},
		{`a "b"`, `"char"[]`, "a b", false, false},
		{"m", "public.more", "d a d e", false, false},
		{"p", "public.price[]", "a d b:numeric(10,2)", false, false},
		{"n", "numeric(5,1)[]", "a b:numeric(5,1)", false, false},
		{"double_id", "integer", "b", false, true},
		{"k", "integer", "b", true, false},
		{"bits", "bit varying(3)", "b", false, false},
	}
	if diff := cmp.Diff(wantColumns, columns); diff != "" {
		t.Errorf("columns: want -, got +:\n%s", diff)
	}
	got.Columns, got.OID, got.User = nil, 0, ""
	want := &mapping.Table{
		Schema: `Weird "Schema".s`, Name: `Weird "Name".tbl`,
		PrimaryKey:    []string{"k", "Ünique"},
		Identity:      mapping.Identity{Kind: mapping.IdentityDefault, Columns: []string{"k", "Ünique"}},
		Unique:        [][]string{{"n", "k"}, {"bits"}},
		EstimatedRows: 100,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// chain gives the kinds of a type from the outside in, with the name of a
// numeric at its end.
func chain(t *mapping.Type) string {
	text := string(t.Kind)
	switch {
	case t.Elem != nil:
		return text + " " + chain(t.Elem)
	case t.Base != nil:
		return text + " " + chain(t.Base)
	case strings.HasPrefix(t.Name, "numeric"):
		return text + ":" + t.Name
	}
	return text
}

func TestLoadTableIdentity(t *testing.T) {
	d := testenv.NewDatabase(t)
	d.Exec(t,
		`create table plain (id int primary key, v text)`,
		`create table late (id int primary key deferrable, v text)`,
		`create table nokey (v text)`,
		`create table byindex (id int primary key, a int not null, b int not null, v text);
		 create unique index byindex_ab on byindex (b, a);
		 alter table byindex replica identity using index byindex_ab`,
		`create table whole (v text, g text generated always as (v || 'x') stored, id int primary key); alter table whole replica identity full`,
		`create table nothing (id int primary key); alter table nothing replica identity nothing`,
		`create table part (id int, at date, v text, primary key (at, id)) partition by range (at);
		 create table part1 partition of part for values from ('2026-01-01') to ('2027-01-01');
		 create table part2 (v text, at date not null, id int not null);
		 alter table part attach partition part2 for values from ('2027-01-01') to ('2028-01-01');
		 insert into part select i, '2026-06-01', 'x' from generate_series(1, 10) i;
		 insert into part select i, '2027-06-01', 'x' from generate_series(1, 20) i;
		 analyze part1; analyze part2`,
		`create table fullpart (id int primary key, v text) partition by hash (id);
		 create table fullpart1 partition of fullpart for values with (modulus 2, remainder 0);
		 create table fullpart2 partition of fullpart for values with (modulus 2, remainder 1);
		 alter table fullpart replica identity full; alter table fullpart1 replica identity full`,
		`create table rootless (id int primary key) partition by hash (id)`,
		`create unlogged table fast (id int primary key)`,
		`create table guarded (id int primary key); alter table guarded enable row level security`,
	)
	tests := []struct {
		name string
		want mapping.Table
	}{
		{"plain", mapping.Table{PrimaryKey: []string{"id"}, Identity: mapping.Identity{Kind: 'd', Columns: []string{"id"}}, EstimatedRows: -1}},
		{"late", mapping.Table{PrimaryKey: []string{"id"}, Identity: mapping.Identity{Kind: 'd'}, EstimatedRows: -1}},
		{"nokey", mapping.Table{Identity: mapping.Identity{Kind: 'd'}, EstimatedRows: -1}},
		{"byindex", mapping.Table{PrimaryKey: []string{"id"}, Unique: [][]string{{"b", "a"}}, Identity: mapping.Identity{Kind: 'i', Columns: []string{"b", "a"}}, EstimatedRows: -1}},
		{"whole", mapping.Table{PrimaryKey: []string{"id"}, Identity: mapping.Identity{Kind: 'f', Columns: []string{"v", "id"}}, EstimatedRows: -1}},
		{"nothing", mapping.Table{PrimaryKey: []string{"id"}, Identity: mapping.Identity{Kind: 'n'}, EstimatedRows: -1}},
		{"part", mapping.Table{PrimaryKey: []string{"at", "id"}, Identity: mapping.Identity{Kind: 'd', Columns: []string{"at", "id"}}, Partitioned: true, EstimatedRows: 30}},
		{"fullpart", mapping.Table{PrimaryKey: []string{"id"}, Identity: mapping.Identity{Kind: 'm', Columns: []string{"id"}}, Partitioned: true, EstimatedRows: -1}},
		{"rootless", mapping.Table{PrimaryKey: []string{"id"}, Identity: mapping.Identity{Kind: 'd', Columns: []string{"id"}}, Partitioned: true, EstimatedRows: -1}},
		{"fast", mapping.Table{PrimaryKey: []string{"id"}, Identity: mapping.Identity{Kind: 'd', Columns: []string{"id"}}, Unlogged: true, EstimatedRows: -1}},
		{"guarded", mapping.Table{PrimaryKey: []string{"id"}, Identity: mapping.Identity{Kind: 'd', Columns: []string{"id"}}, EstimatedRows: -1}},
	}
	for _, tt := range tests {
		got, err := mapping.LoadTable(t.Context(), d.DB, "public", tt.name)
		if err != nil {
			t.Fatal(err)
		}
		tt.want.Schema, tt.want.Name = "public", tt.name
		got.OID, got.User, got.Columns = 0, "", nil
		if diff := cmp.Diff(&tt.want, got); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", tt.name, diff)
		}
	}
}

// Row security shows to whom it applies: the owner of the table is not held up
// by it, another user is.
func TestLoadTableRowSecurity(t *testing.T) {
	d := testenv.NewDatabase(t)
	user := mapping.QuoteIdent(d.Unique("reader"))
	d.Exec(t, "create table guarded (id int primary key); alter table guarded enable row level security; create role "+user)
	defer d.Exec(t, "drop role "+user)
	tx, err := d.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "set local role "+user); err != nil {
		t.Fatal(err)
	}
	table, err := mapping.LoadTable(t.Context(), tx, "public", "guarded")
	if err != nil {
		t.Fatal(err)
	}
	if !table.RowSecurity {
		t.Error("row security does not apply to a user whom it hides all rows from")
	}
}

func TestLoadTableRefuses(t *testing.T) {
	d := testenv.NewDatabase(t)
	d.Exec(t, "create view v as select 1; create materialized view m as select 1; create sequence s")
	for name, want := range map[string]string{
		"gone": "public.gone: no such table",
		"v":    "public.v is a view: no such table",
		"m":    "public.m is a materialized view: no such table",
		"s":    "public.s is a sequence: no such table",
	} {
		_, err := mapping.LoadTable(t.Context(), d.DB, "public", name)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mapping.LoadTable(ctx, d.DB, "public", "v"); err == nil || !strings.HasPrefix(err.Error(), "read the catalog about public.v: ") {
		t.Errorf("with a context that has ended: %v", err)
	}
}
