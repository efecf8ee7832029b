package value

import "strings"

// A sample is a type with literals of it, the outermost values among them.
type sample struct {
	typ    string // as format_type has it, or of our own making
	values []sampleValue
}

// A sampleValue is a literal and the JSON that it becomes; "" is not compared.
type sampleValue struct{ sql, json string }

// extensions are those that the samples are of. What a server does not have is
// left out, and the test says so.
var extensions = []string{
	"citext", "hstore", "ltree", "cube", "isn", "seg", "intarray", "lo", "pg_trgm", "btree_gist", "vector", "postgis",
}

// setup makes types and, for types without an input function, the values.
const setup = `
	create type mood as enum ('so so', 'ok', 'NULL');
	create domain moods as mood[];
	create domain positive as numeric(18,0) check (value > 0);
	create domain amount as positive;
	create domain birthday as date;
	create domain place as point;
	create type pair as (a int, b text);
	create type pairs as (id numeric, "The ""Pair""" pair, list pair[], at timestamptz, "Raw" bytea, day birthday, note json);
	create domain couple as pairs;
	create type nothing as ();
	create type underscores as ("_id" int, "_source" int, "_type" text, "_routing" int, "_" int, "type" int, "properties" int);
	create type points as (a int, "a.b" int, ".c" int, "." int, " " int);
	create type placed as (p points, q int);
	do $$ begin
		if to_regtype('ltree') is not null then -- row_to_json follows such a cast
			create function ltree_json(ltree) returns json language sql as 'select ''{"cast":1}''::json';
			create cast (ltree as json) with function ltree_json(ltree);
		end if;
	end $$;
	create type floatrange as range (subtype = float8, multirange_type_name = floatranges);
	create type realrange as range (subtype = float4);
	create type smallrange as range (subtype = int2);
	create type bigrange as range (subtype = int8);
	create type dayrange as range (subtype = date);
	create type timerange as range (subtype = time);
	create type textrange as range (subtype = text);
	create type pairrange as range (subtype = pair);
	create table stats (a int, b int, c int);
	insert into stats select i % 10, i % 10, i % 5 from generate_series(1, 1000) i;
	create statistics stats_all (ndistinct, dependencies, mcv) on a, b, c from stats;
	analyze stats`

// samples are values of every type that a server with the extensions has.
var samples = []sample{
	{"smallint", []sampleValue{{"'-32768'", "-32768"}, {"'32767'", "32767"}}},
	{"integer", []sampleValue{{"'-2147483648'", "-2147483648"}, {"'2147483647'", "2147483647"}, {"'0'", "0"}}},
	{"bigint", []sampleValue{{"'-9223372036854775808'", "-9223372036854775808"}, {"'9223372036854775807'", "9223372036854775807"}}},
	{"oid", []sampleValue{{"'4294967295'", "4294967295"}}},
	{"xid", []sampleValue{{"'4294967295'", "4294967295"}}},
	{"xid8", []sampleValue{{"'18446744073709551615'", `"18446744073709551615"`}}},
	{"numeric", []sampleValue{
		{"'0.100'", "0.100"}, {"'-12345678901234567890123456789.000000000001'", "-12345678901234567890123456789.000000000001"},
		{"'NaN'", "null"}, {"'Infinity'", "null"}, {"'-Infinity'", "null"}, {"'1e400'", "1" + strings.Repeat("0", 400)},
		{"'1e1200'", `"1` + strings.Repeat("0", 1200) + `"`}, {"'1e-30'", "0.000000000000000000000000000001"},
	}},
	{"numeric(18,0)", []sampleValue{{"'-999999999999999999'", "-999999999999999999"}, {"'NaN'", "null"}}},
	{"numeric(10,2)", []sampleValue{{"'1.5'", "1.50"}}},
	{"real", []sampleValue{{"'3.4028235e38'", "3.4028235e+38"}, {"'1e-45'", "1e-45"}, {"'0.1'", "0.1"}, {"'NaN'", "null"}, {"'-Infinity'", "null"}}},
	{"double precision", []sampleValue{{"'1.7976931348623157e308'", "1.7976931348623157e+308"}, {"'5e-324'", "5e-324"}, {"'-0'", "-0"}, {"'NaN'", "null"}, {"'Infinity'", "null"}, {"'0.30000000000000004'", "0.30000000000000004"}}},
	{"money", []sampleValue{{"'1234.5'", `"$1,234.50"`}}},
	{"boolean", []sampleValue{{"true", "true"}, {"false", "false"}}},

	{"text", []sampleValue{{"''", `""`}, {"'NULL'", `"NULL"`}, {`E'a "q" \\ {,} \n\t\r\x01 日本 😀'`, `"a \"q\" \\ {,} \n\t\r\u0001 日本 😀"`}, {"repeat('x', 40000)", `"` + strings.Repeat("x", 40000) + `"`}}},
	{"character varying(5)", []sampleValue{{"'abc'", `"abc"`}}},
	{"character(5)", []sampleValue{{"'abc'", `"abc  "`}}},
	{"name", []sampleValue{{"'Name'", `"Name"`}}},
	{`"char"`, []sampleValue{{"'x'", `"x"`}, {"''", `""`}}},
	{"citext", []sampleValue{{"'MiXed'", `"MiXed"`}}},
	{"xml", []sampleValue{{"'<a b=\"c\">d</a>'", `"<a b=\"c\">d</a>"`}}},
	{"uuid", []sampleValue{{"'7D9E2C3A-41C5-4a5f-9d0e-2f2e5a8f7d11'", `"7d9e2c3a-41c5-4a5f-9d0e-2f2e5a8f7d11"`}}},
	{"mood", []sampleValue{{"'so so'", `"so so"`}, {"'NULL'", `"NULL"`}}},
	{"moods", []sampleValue{{"'{ok,\"so so\"}'", `["ok","so so"]`}}},
	{"amount", []sampleValue{{"'7'", "7"}}},

	{"date", []sampleValue{{"'2026-01-31'", `"2026-01-31"`}, {"'0044-03-15 BC'", `"-0043-03-15"`}, {"'4713-01-01 BC'", `"-4712-01-01"`}, {"'5874897-12-31'", `"+5874897-12-31"`},
		{"'infinity'", "null"}, {"'-infinity'", "null"}, {"'0001-01-01'", `"0001-01-01"`}, {"'0001-12-31 BC'", `"0000-12-31"`}}},
	{"timestamp without time zone", []sampleValue{{"'2026-01-31 12:00'", `"2026-01-31T12:00:00"`}, {"'2026-01-31 12:00:00.123456'", `"2026-01-31T12:00:00.123456"`},
		{"'294276-12-31 23:59:59.999999'", `"+294276-12-31T23:59:59.999999"`}, {"'4713-01-01 00:00:00.5 BC'", `"-4712-01-01T00:00:00.5"`}, {"'infinity'", "null"}, {"'10000-01-01'", `"+10000-01-01T00:00:00"`}}},
	{"timestamp with time zone", []sampleValue{{"'2026-01-31 12:00+01'", `"2026-01-31T11:00:00Z"`}, {"'2026-01-31 12:00:00.12-03:30'", `"2026-01-31T15:30:00.12Z"`},
		{"'294276-12-31 23:59:59.999999+00'", `"+294276-12-31T23:59:59.999999Z"`}, {"'4713-01-01 00:00:00+00 BC'", `"-4712-01-01T00:00:00Z"`}, {"'-infinity'", "null"}, {"'12345-01-01 00:00:00.1234+00'", `"+12345-01-01T00:00:00.1234Z"`}}},
	{"time without time zone", []sampleValue{{"'24:00'", `"24:00:00"`}, {"'12:00:00.5'", `"12:00:00.5"`}}},
	{"time with time zone", []sampleValue{{"'12:00+05:30'", `"12:00:00+05:30"`}}},
	{"interval", []sampleValue{{"'1 year -3 days 04:05:06.7'", `"1 year -3 days +04:05:06.7"`}}},

	{"json", []sampleValue{{"E'{\"a\":\\n [1, 2.50],\\r\\n \"b\": \"\\\\u0000\\\\ud800\"}'", `{"a":  [1, 2.50],   "b": "\u0000\ud800"}`}, {`'{"b":1,"a":2,"b":3.0}'`, `{"a":2,"b":3.0}`}, {`'"scalar"'`, `"scalar"`}, {"'null'", "null"}, {"'[[1],[{}]]'", "[[1],[{}]]"}}},
	{"jsonb", []sampleValue{{`'{"b":1,"a":[{"c":1.10}],"b":2}'`, `{"a": [{"c": 1.10}], "b": 2}`}, {"'1'", "1"}, {`'"s"'`, `"s"`}, {"'[1,{\"a\":1}]'", `[1, {"a": 1}]`}, {"'1e500'", "1" + strings.Repeat("0", 500)}}},
	{"jsonpath", []sampleValue{{"'$.a'", `"$.\"a\""`}}},
	{"bytea", []sampleValue{{"'\\x00ff10'", `"AP8Q"`}, {"''", `""`}}},
	{"bit(3)", []sampleValue{{"'101'", `"101"`}}},
	{"bit varying", []sampleValue{{"''", `""`}}},

	{"inet", []sampleValue{{"'10.0.0.1'", `"10.0.0.1"`}, {"'10.0.0.1/24'", `"10.0.0.1/24"`}, {"'::ffff:1.2.3.4'", `"::ffff:1.2.3.4"`}, {"'fe80::1/64'", `"fe80::1/64"`}}},
	{"cidr", []sampleValue{{"'10.0.0.0/8'", `"10.0.0.0/8"`}, {"'::/0'", `"::/0"`}, {"'::ffff:1.2.3.0/120'", `"1.2.3.0/24"`}, {"'2001:db8::1/128'", `"2001:db8::1/128"`}, {"'0.0.0.0/0'", `"0.0.0.0/0"`}}},
	{"macaddr", []sampleValue{{"'08:00:2b:01:02:03'", `"08:00:2b:01:02:03"`}}},
	{"macaddr8", []sampleValue{{"'08:00:2b:01:02:03:04:05'", `"08:00:2b:01:02:03:04:05"`}}},

	{"point", []sampleValue{{"'(1,2.5)'", `{"x":1,"y":2.5}`}, {"'(NaN,-Infinity)'", `{"x":null,"y":null}`}, {"'(1e300,-1e-300)'", `{"x":1e+300,"y":-1e-300}`}, {"'(-0,95)'", `{"x":-0,"y":95}`}}},
	{"place", []sampleValue{{"'(13.4,52.5)'", `{"x":13.4,"y":52.5}`}}},
	{"box", []sampleValue{{"'(1,1),(0,0)'", `"(1,1),(0,0)"`}}},
	{"line", []sampleValue{{"'{1,-1,0}'", `"{1,-1,0}"`}}},
	{"lseg", []sampleValue{{"'[(0,0),(1,1)]'", `"[(0,0),(1,1)]"`}}},
	{"path", []sampleValue{{"'[(0,0),(1,1)]'", `"[(0,0),(1,1)]"`}, {"'((0,0),(1,1))'", `"((0,0),(1,1))"`}}},
	{"polygon", []sampleValue{{"'((0,0),(1,1),(1,0))'", `"((0,0),(1,1),(1,0))"`}}},
	{"circle", []sampleValue{{"'<(1,2),3>'", `"<(1,2),3>"`}}},

	{"int4range", []sampleValue{
		{"'[1,5)'", `{"gte":1,"lt":5}`}, {"'(1,5]'", `{"gte":2,"lt":6}`}, {"'empty'", "null"}, {"'(,)'", "{}"}, {"'(,5)'", `{"lt":5}`},
		{"'[5,)'", `{"gte":5}`}, {"'[-2147483648,2147483647)'", `{"gte":-2147483648,"lt":2147483647}`}, {"'(,-2147483648)'", "null"},
		{"'[2147483647,)'", `{"gte":2147483647}`}, {"'[7,7]'", `{"gte":7,"lt":8}`},
	}},
	{"int8range", []sampleValue{
		{"'[-9223372036854775808,9223372036854775807)'", `{"gte":-9223372036854775808,"lt":9223372036854775807}`},
		{"'(,-9223372036854775808)'", "null"}, {"'[9223372036854775807,)'", `{"gte":9223372036854775807}`},
	}},
	{"numrange", []sampleValue{
		{"'[1.10,2.50)'", `{"gte":1.10,"lt":2.50}`}, {"'(1,2]'", `{"gt":1,"lte":2}`}, {"'(1,1.0000000000000000001)'", `{"gte":1,"lte":1.0000000000000000001}`},
		{"'[-Infinity,Infinity]'", "{}"}, {"'[NaN,NaN]'", "null"}, {"'[1e308,)'", "null"}, {"'[-1e400,1e400]'", "{}"}, {"'(,-1e309)'", "null"},
		{"'(0,1e-320)'", `{"gte":0,"lte":0.` + strings.Repeat("0", 319) + `1}`}, {"'[0,1e-1200)'", `{"gte":0,"lte":"0.` + strings.Repeat("0", 1199) + `1"}`},
		{"'(-9.99e307,9.99e307)'", `{"gt":-999` + strings.Repeat("0", 305) + `,"lt":999` + strings.Repeat("0", 305) + `}`},
		{"'(1,1.000000000000002)'", `{"gt":1,"lt":1.000000000000002}`}, {"'(1,1.000000000000001)'", `{"gte":1,"lte":1.000000000000001}`},
	}},
	{"daterange", []sampleValue{
		{"'[2026-01-31,2026-02-01)'", `{"gte":"2026-01-31","lt":"2026-02-01"}`}, {"'[-infinity,infinity]'", "{}"}, {"'[infinity,infinity]'", "null"},
		{"'[0044-03-15 BC,5874897-12-30]'", `{"gte":"-0043-03-15","lt":"+5874897-12-31"}`}, {"'(,0001-01-01)'", `{"lt":"0001-01-01"}`}, {"'(,-infinity]'", "null"},
	}},
	{"tsrange", []sampleValue{
		{"'[2026-01-31 12:00,2026-02-01)'", `{"gte":"2026-01-31T12:00:00","lt":"2026-02-01T00:00:00"}`},
		{"'(2026-01-31 12:00,2026-01-31 12:00:00.5]'", `{"gt":"2026-01-31T12:00:00.000","lte":"2026-01-31T12:00:00.5"}`},
		{"'[2026-01-31 12:00:00.0001,2026-01-31 12:00:00.0002)'", `{"gte":"2026-01-31T12:00:00.0001","lte":"2026-01-31T12:00:00.0002"}`},
		{"'(4713-01-01 00:00:00 BC,294276-12-31 23:59:59.999999]'", `{"gt":"-4712-01-01T00:00:00.000","lte":"+294276-12-31T23:59:59.999999"}`},
		{"'(294276-12-31 23:59:59.999,294276-12-31 23:59:59.999999)'", `{"gte":"+294276-12-31T23:59:59.999","lte":"+294276-12-31T23:59:59.999999"}`},
		{"'[4713-01-01 00:00:00 BC,4713-01-01 00:00:00.001 BC)'", `{"gte":"-4712-01-01T00:00:00","lte":"-4712-01-01T00:00:00.001"}`},
		{"'(1999-12-31 23:59:59.9995,2000-01-01 00:00:00.0005)'", `{"gte":"1999-12-31T23:59:59.9995","lte":"2000-01-01T00:00:00.0005"}`},
	}},
	{"tstzrange", []sampleValue{
		{"'[2026-01-31,)'", `{"gte":"2026-01-31T00:00:00Z"}`}, {"'(2026-01-31 12:00:00+01,2026-01-31 12:00:00.25+00]'", `{"gt":"2026-01-31T11:00:00.000Z","lte":"2026-01-31T12:00:00.25Z"}`},
		{"'(-infinity,infinity)'", "{}"}, {"'[2026-01-31,infinity)'", `{"gte":"2026-01-31T00:00:00Z"}`}, {"'empty'", "null"},
		{"'(2026-01-31,2026-01-31]'", "null"}, {"'[2026-01-31,2026-01-31]'", `{"gte":"2026-01-31T00:00:00Z","lte":"2026-01-31T00:00:00.000Z"}`},
		{"'(2026-01-31 12:00:00.001,2026-01-31 12:00:00.002)'", `{"gte":"2026-01-31T12:00:00.001Z","lte":"2026-01-31T12:00:00.002Z"}`},
	}},
	{"floatrange", []sampleValue{
		{"'(1,2.5e300)'", `{"gt":1,"lt":2.5e+300}`}, {"'(0,5e-324)'", `{"gte":0,"lte":5e-324}`}, {"'[Infinity,)'", "null"}, {"'[-Infinity,NaN]'", "{}"},
		{"'(-1.7976931348623157e308,1.7976931348623157e308)'", `{"gt":-1.7976931348623157e+308,"lt":1.7976931348623157e+308}`},
		{"'(1.7976931348623155e308,1.7976931348623157e308)'", `{"gte":1.7976931348623155e+308,"lte":1.7976931348623157e+308}`},
	}},
	{"realrange", []sampleValue{{"'(0.1,3.4028235e38]'", `{"gt":0.1,"lte":3.4028235e+38}`}, {"'(-Infinity,0)'", `{"lt":0}`}}},
	{"smallrange", []sampleValue{{"'(1,2)'", `{"gte":1,"lte":2}`}, {"'(1,3)'", `{"gt":1,"lt":3}`}, {"'[1,2)'", `{"gte":1,"lt":2}`}, {"'(32767,)'", `{"gt":32767}`}}},
	{"bigrange", []sampleValue{
		{"'(9223372036854775807,)'", "null"}, {"'(,-9223372036854775808)'", "null"}, {"'(9223372036854775806,9223372036854775807)'", `{"gte":9223372036854775806,"lte":9223372036854775807}`},
		{"'(-9223372036854775808,9223372036854775807)'", `{"gt":-9223372036854775808,"lt":9223372036854775807}`},
	}},
	{"dayrange", []sampleValue{{"'(2026-01-31,2026-02-01)'", `{"gte":"2026-01-31","lte":"2026-02-01"}`}, {"'(2026-01-31,2026-02-02]'", `{"gt":"2026-01-31","lte":"2026-02-02"}`}}},
	{"timerange", []sampleValue{{"'[12:00,13:00)'", `{"gte":"12:00:00","lt":"13:00:00"}`}, {"'empty'", "null"}}},
	{"textrange", []sampleValue{{`'["a ""b"" \\,)]",c]'`, `{"gte":"a \"b\" \\,)]","lte":"c"}`}, {`'["",NULL)'`, `{"gte":"","lt":"NULL"}`}}},
	{"pairrange", []sampleValue{{`'["(1,a)","(2,b)")'`, `"[\"(1,a)\",\"(2,b)\")"`}}},
	{"int4multirange", []sampleValue{{"'{[1,2],[4,5)}'", `[{"gte":1,"lt":3},{"gte":4,"lt":5}]`}, {"'{}'", "[]"}, {"'{(,)}'", "[{}]"}}},
	{"int8multirange", []sampleValue{{"'{(,-9223372036854775808),[1,2)}'", `[null,{"gte":1,"lt":2}]`}}},
	{"nummultirange", []sampleValue{{"'{[1,2],[3,4]}'", `[{"gte":1,"lte":2},{"gte":3,"lte":4}]`}}},
	{"datemultirange", []sampleValue{{"'{[2026-01-31,2026-02-02)}'", `[{"gte":"2026-01-31","lt":"2026-02-02"}]`}}},
	{"tsmultirange", []sampleValue{{"'{[2026-01-31,2026-02-02)}'", `[{"gte":"2026-01-31T00:00:00","lt":"2026-02-02T00:00:00"}]`}}},
	{"tstzmultirange", []sampleValue{{"'{[2026-01-31,2026-02-02),[2026-02-03,)}'", `[{"gte":"2026-01-31T00:00:00Z","lt":"2026-02-02T00:00:00Z"},{"gte":"2026-02-03T00:00:00Z"}]`}}},
	{"floatranges", []sampleValue{{"'{[1,2)}'", `[{"gte":1,"lt":2}]`}}},

	{"pair", []sampleValue{{`row(1, E'x "y" \\ ,()')`, `{"a":1,"b":"x \"y\" \\ ,()"}`}, {"row(null, null)", `{"a":null,"b":null}`}, {"row(0, '')", `{"a":0,"b":""}`}}},
	{"pairs", []sampleValue{
		{`row('NaN', row(1, 'a "b"'), array[row(2, 'c'), null, row(null, '{"')]::pair[], '2026-01-31 12:00+00', '\x00ff10', '0044-03-15 BC', '{"a":1,"a":"\n"}')`,
			`{"id":null,"The \"Pair\"":{"a":1,"b":"a \"b\""},"list":[{"a":2,"b":"c"},null,{"a":null,"b":"{\""}],"at":"2026-01-31T12:00:00Z","Raw":"AP8Q","day":"-0043-03-15","note":{"a":"\n"}}`},
		{"row(null, null, '{}', null, null, null, null)", `{"id":null,"The \"Pair\"":null,"list":[],"at":null,"Raw":null,"day":null,"note":null}`},
		{"row(null, null, array[[row(1, 'a')::pair], [null::pair]], 'infinity', '', 'infinity', '1')", `{"id":null,"The \"Pair\"":null,"list":[[{"a":1,"b":"a"}],[null]],"at":null,"Raw":"","day":null,"note":1}`},
	}},
	{"couple", []sampleValue{{"row(1.50, null, null, null, null, null, null)", `{"id":1.50,"The \"Pair\"":null,"list":null,"at":null,"Raw":null,"day":null,"note":null}`}}},
	{"underscores", []sampleValue{{"row(1, 2, 'c', 4, 5, 6, 7)", `{"_id":1,"_source":2,"_type":"c","_routing":4,"_":5,"type":6,"properties":7}`}}},
	{"placed", []sampleValue{{"row(row(1, 2, 3, 4, 5), 6)", `{"p":{"a":1,"a.b":2,".c":3,".":4," ":5},"q":6}`}}},
	{"nothing", []sampleValue{{"row()", "{}"}}},
	{"birthday", []sampleValue{{"'2000-02-29'", `"2000-02-29"`}}},

	{"tsvector", []sampleValue{{"'a:1 b:2'", `"'a':1 'b':2"`}, {"(select string_agg('word' || i, ' ') from generate_series(1, 5000) i)::tsvector", ""}}},
	{"tsquery", []sampleValue{{"'fat & (rat | cat)'", `"'fat' & ( 'rat' | 'cat' )"`}}},
	{"pg_lsn", []sampleValue{{"'16/B374D848'", `"16/B374D848"`}}},
	{"txid_snapshot", []sampleValue{{"'10:20:10,14,15'", `"10:20:10,14,15"`}}},
	{"pg_snapshot", []sampleValue{{"'10:20:10,14,15'", `"10:20:10,14,15"`}}},
	{"cid", []sampleValue{{"'4294967295'", "4294967295"}}},
	{"tid", []sampleValue{{"'(7,8)'", `"(7,8)"`}}},
	{"refcursor", []sampleValue{{"'cursor'", `"cursor"`}}},
	{"aclitem", []sampleValue{{"makeaclitem(10, 10, 'SELECT', false)", `"postgres=r/postgres"`}}},
	{"regclass", []sampleValue{{"'pg_class'", `"pg_class"`}}},
	{"regcollation", []sampleValue{{"'\"C\"'", `"\"C\""`}}},
	{"regconfig", []sampleValue{{"'english'", `"english"`}}},
	{"regdictionary", []sampleValue{{"'simple'", `"simple"`}}},
	{"regnamespace", []sampleValue{{"'pg_catalog'", `"pg_catalog"`}}},
	{"regoper", []sampleValue{{"'||/'", `"||/"`}}},
	{"regoperator", []sampleValue{{"'+(integer,integer)'", ""}}},
	{"regproc", []sampleValue{{"'now'", `"now"`}}},
	{"regprocedure", []sampleValue{{"'abs(integer)'", `"abs(integer)"`}}},
	{"regrole", []sampleValue{{"'pg_monitor'", `"pg_monitor"`}}},
	{"regtype", []sampleValue{{"'integer'", `"integer"`}}},
	{"int2vector", []sampleValue{{"'1 -2 3'", "[1,-2,3]"}, {"''", "[]"}}},
	{"oidvector", []sampleValue{{"'1 4294967295'", "[1,4294967295]"}, {"''", "[]"}}},
	{"pg_node_tree", []sampleValue{{"(select ev_action from pg_rewrite limit 1)", ""}}},
	{"pg_ndistinct", []sampleValue{{"(select stxdndistinct from pg_statistic_ext_data)", ""}}},
	{"pg_dependencies", []sampleValue{{"(select stxddependencies from pg_statistic_ext_data)", ""}}},
	{"pg_mcv_list", []sampleValue{{"(select stxdmcv from pg_statistic_ext_data)", ""}}},
	{"pg_brin_bloom_summary", noValues},
	{"pg_brin_minmax_multi_summary", noValues},
	{"gtsvector", noValues},

	{"hstore", []sampleValue{{`'a=>1, "b \"c\" \\"=>NULL, ""=>"", "NULL"=>"x,y=>z"'`, `{"":"","a":"1","NULL":"x,y=>z","b \"c\" \\":null}`}, {"''", "{}"}}},
	{"ltree", []sampleValue{{"'a.b'", `"a.b"`}, {"''", `""`}}},
	{"lquery", []sampleValue{{"'*.a'", `"*.a"`}}},
	{"ltxtquery", []sampleValue{{"'a & b'", `"a & b"`}}},
	{"cube", []sampleValue{{"'(1,2),(3,4)'", `"(1, 2),(3, 4)"`}}},
	{"seg", []sampleValue{{"'1.50 .. 2'", `"1.50 .. 2"`}}},
	{"ean13", []sampleValue{{"'9780393040029'", ""}}},
	{"isbn", []sampleValue{{"'0-393-04002-X'", ""}}},
	{"isbn13", []sampleValue{{"'9780393040029'", `"978-0-393-04002-9"`}}},
	{"ismn", []sampleValue{{"'9790060115615'", ""}}},
	{"ismn13", []sampleValue{{"'9790060115615'", ""}}},
	{"issn", []sampleValue{{"'1436-4522'", ""}}},
	{"issn13", []sampleValue{{"'9771436452008'", ""}}},
	{"upc", []sampleValue{{"'220356483481'", ""}}},
	{"query_int", []sampleValue{{"'1&(2|3)'", `"1 & ( 2 | 3 )"`}}},
	{"lo", []sampleValue{{"4294967295", "4294967295"}}},
	{"gbtreekey2", noValues}, {"gbtreekey4", noValues}, {"gbtreekey8", noValues}, {"gbtreekey16", noValues}, {"gbtreekey32", noValues}, {"gbtreekey_var", noValues},
	{"ghstore", noValues}, {"ltree_gist", noValues}, {"intbig_gkey", noValues}, {"gtrgm", noValues},

	{"vector", []sampleValue{{"'[1,-2.5,1e-7,3e38,0]'", "[1,-2.5,1e-07,3e+38,0]"}}},
	{"vector(3)", []sampleValue{{"'[1,2,3]'", "[1,2,3]"}}},
	{"halfvec", []sampleValue{{"'[1,-2.5,65504,6e-8]'", ""}}},
	{"sparsevec", []sampleValue{{"'{1:1.5,3:-2e-7}/5'", `{"1":1.5,"3":-2e-07}`}, {"'{}/5'", "{}"}}},

	{"geometry", geometries},
	{"geometry(PointZ,4326)", []sampleValue{{"ST_SetSRID('POINT Z (1 2 3)'::geometry, 4326)", `{"lat":2,"lon":1}`}, {"ST_SetSRID('POINT Z EMPTY'::geometry, 4326)", "null"}}},
	{"geometry(Polygon)", []sampleValue{{"'POLYGON((0 0,1 0,1 1,0 0))'", `{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}`}}},
	{"geometry(Point)", []sampleValue{{"'POINT(1492000 6894000)'", `{"lat":6.894e+06,"lon":1.492e+06}`}, {"ST_MakePoint('Infinity', 1)", "null"}}},
	{"geometry(Point,3857)", []sampleValue{{"'SRID=3857;POINT(1492000 6894000)'", `{"type":"Point","coordinates":[1492000,6894000]}`}}},
	{"geography(Point)", []sampleValue{{"'POINT(13.4 52.5)'", `{"lat":52.5,"lon":13.4}`}}},
	{"geometry(Point,4326)", []sampleValue{{"ST_SetSRID('POINT(13.4 52.5)'::geometry, 4326)", `{"lat":52.5,"lon":13.4}`}}},
	{"geography", []sampleValue{
		{"'POINT(13.4 52.5)'", `{"type":"Point","coordinates":[13.4,52.5]}`}, {"'POINT Z (13.4 52.5 7)'", `{"type":"Point","coordinates":[13.4,52.5,7]}`},
		{"'POLYGON((0 0,1 0,1 1,0 0))'", `{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}`}, {"'LINESTRING EMPTY'", `{"type":"LineString","coordinates":[]}`},
	}},
	{"box2d", []sampleValue{{"'BOX(1 2,3 4)'", `"BOX(1 2,3 4)"`}}},
	{"box3d", []sampleValue{{"'BOX3D(1 2 3,4 5 6)'", `"BOX3D(1 2 3,4 5 6)"`}}},
	{"spheroid", []sampleValue{{`'SPHEROID("GRS 1980",6378137,298.257222101)'`, ""}}},
	{"geometry_dump", []sampleValue{{"row('{1,2}', 'POINT(1 2)'::geometry)", `{"path":[1,2],"geom":{"type":"Point","coordinates":[1,2]}}`}}},
	{"valid_detail", []sampleValue{{"row(true, 'x', null)", `{"valid":true,"reason":"x","location":null}`}}},
	{"box2df", noValues}, {"gidx", noValues},
}

// noValues is for types that no column can be filled with: those of index entries.
var noValues = []sampleValue{{"null", "null"}}

// geometries are of each kind that PostGIS has.
var geometries = []sampleValue{
	{"'POINT(1 2)'", `{"type":"Point","coordinates":[1,2]}`},
	{"'POINT EMPTY'", `{"type":"Point","coordinates":[]}`},
	{"'POINT Z (1 2 3)'", `{"type":"Point","coordinates":[1,2,3]}`},
	{"'POINT M (1 2 3)'", `{"type":"Point","coordinates":[1,2]}`},
	{"'SRID=3857;POINT ZM (1492000.123456789012 6894000 3 4)'", `{"type":"Point","coordinates":[1492000.123456789,6894000,3]}`},
	{"'POINT(0.1234567894 -0.0000000004)'", `{"type":"Point","coordinates":[0.123456789,-4e-10]}`},
	{"'POINT(1e20 -1e300)'", `{"type":"Point","coordinates":[100000000000000000000,-1e300]}`},
	{"'POINT(123456789012345.6789 999999999999999.9)'", `{"type":"Point","coordinates":[123456789012345.67,999999999999999.9]}`},
	{"'MULTIPOINT(0.1234567895 0.1234567885,1.0000000005 1.0000000015,0.00000001 0.000000011,0.0000000105 -0.0000000995,1e15 999999999999999.94,1.5e-9 0.99999999999)'",
		`{"type":"MultiPoint","coordinates":[[0.12345679,0.123456788],[1,1.000000002],[1e-8,1.1e-8],[1e-8,-0.0000001],[1000000000000000,1000000000000000],[1.5e-9,1]]}`},
	{"'LINESTRING(5e-324 1.7976931348623157e308,9.9999999999e-9 1.0000000001e-8,123456789.1234567891 999999999.9999999995,0.0000000249999 1e14)'", ""},
	{"'LINESTRING(9.99999999951e-9 9.9999999995e20,0.9999999995 0.9999999985,1.00000000050001 99999.9999999995,0.00000001001 7e-9)'", ""},
	{"'MULTIPOINT((1 1),EMPTY,(2 2))'", ""},
	{"'MULTIPOLYGON(EMPTY,((0 0,1 0,1 1,0 0)))'", ""},
	{"'MULTILINESTRING((0 0,1 1),EMPTY)'", ""},
	{"'GEOMETRYCOLLECTION(POINT EMPTY,POINT(1 1))'", ""},
	{"'GEOMETRYCOLLECTION(MULTIPOINT(EMPTY))'", ""},
	{"'GEOMETRYCOLLECTION(GEOMETRYCOLLECTION(POINT(1 2)))'", ""},
	{"'SRID=4326;MULTIPOINT ZM ((1 2 3 4),(5 6 7 8))'", `{"type":"MultiPoint","coordinates":[[1,2,3],[5,6,7]]}`},
	{"'LINESTRING(0 0,1 1,2 1)'", `{"type":"LineString","coordinates":[[0,0],[1,1],[2,1]]}`},
	{"'LINESTRING EMPTY'", `{"type":"LineString","coordinates":[]}`},
	{"'POLYGON((0 0,10 0,10 10,0 10,0 0),(1 1,1 2,2 2,1 1))'", `{"type":"Polygon","coordinates":[[[0,0],[10,0],[10,10],[0,10],[0,0]],[[1,1],[1,2],[2,2],[1,1]]]}`},
	{"'POLYGON((0 0,1 1,0 1,1 0,0 0))'", ""},               // crosses itself
	{"'POLYGON((0 0,1 1,0 0,0 0))'", ""},                   // has no area
	{"'POLYGON((170 0,-170 0,-170 10,170 10,170 0))'", ""}, // around the world or across its seam
	{"'POLYGON EMPTY'", `{"type":"Polygon","coordinates":[]}`},
	{"'MULTIPOINT((0 0),(1 1))'", `{"type":"MultiPoint","coordinates":[[0,0],[1,1]]}`},
	{"'MULTIPOINT(EMPTY,(1 1))'", ""},
	{"'MULTIPOINT EMPTY'", `{"type":"MultiPoint","coordinates":[]}`},
	{"'MULTILINESTRING((0 0,1 1),(2 2,3 3))'", `{"type":"MultiLineString","coordinates":[[[0,0],[1,1]],[[2,2],[3,3]]]}`},
	{"'MULTIPOLYGON Z (((0 0 1,1 0 1,1 1 1,0 0 1)),((5 5 1,6 5 1,6 6 1,5 5 1)))'", `{"type":"MultiPolygon","coordinates":[[[[0,0,1],[1,0,1],[1,1,1],[0,0,1]]],[[[5,5,1],[6,5,1],[6,6,1],[5,5,1]]]]}`},
	{"'GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))'", `{"type":"GeometryCollection","geometries":[{"type":"Point","coordinates":[1,2]},{"type":"LineString","coordinates":[[0,0],[1,1]]}]}`},
	{"'GEOMETRYCOLLECTION EMPTY'", `{"type":"GeometryCollection","geometries":[]}`},
	{"'CIRCULARSTRING(0 0,1 1,2 0)'", ""},
	{"'GEOMETRYCOLLECTION(CIRCULARSTRING(0 0,1 1,2 0))'", ""},
	{"'COMPOUNDCURVE((0 0,1 1),(1 1,2 0))'", ""},
	{"'CURVEPOLYGON((0 0,1 0,1 1,0 0))'", ""},
	{"'MULTICURVE((0 0,1 1))'", ""},
	{"'MULTISURFACE(((0 0,1 0,1 1,0 0)))'", ""},
	{"'POLYHEDRALSURFACE Z (((0 0 0,1 0 0,1 1 0,0 0 0)))'", ""},
	{"'TIN Z (((0 0 0,1 0 0,1 1 0,0 0 0)))'", ""},
	{"'TRIANGLE((0 0,1 0,1 1,0 0))'", ""},
	{"ST_MakePoint('Infinity', 1)", ""},
	{"ST_MakePoint('NaN', 1)", ""},
	{"ST_MakeLine(ST_MakePoint('NaN', 1), ST_MakePoint(2, 1))", ""},
	{"'POINT(0 95)'", `{"type":"Point","coordinates":[0,95]}`},
}
