package testenv

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A checkerFixture is a table with an index that was written by hand.
type checkerFixture struct {
	db     *Database
	search *SearchServer
	alias  string
	index  string
}

func newCheckerFixture(t *testing.T, e Engine, table string) *checkerFixture {
	f := &checkerFixture{db: NewDatabase(t), search: SharedSearch(t, e)}
	f.db.Exec(t, "create table t "+table)
	f.alias = f.search.NewPrefix(t) + "a"
	f.index = f.alias + "-1"
	f.createIndex(t, f.index)
	return f
}

func (f *checkerFixture) createIndex(t *testing.T, name string) {
	do(t, f.search, "PUT", "/"+name, `{"settings":{"number_of_shards":3,"number_of_replicas":0},"mappings":{"enabled":false},"aliases":{"`+f.alias+`":{}}}`)
}

func (f *checkerFixture) put(t *testing.T, id, query, body string) {
	do(t, f.search, "PUT", "/"+f.index+"/_doc/"+id+query, body)
}

func (f *checkerFixture) check(t *testing.T, options ...CheckOption) *Report {
	t.Helper()
	report, err := NewChecker(f.db, f.search, f.alias, "t", options...).Check(t.Context())
	must(t, err)
	return report
}

// TestCheckerKnowsTheForms holds documents written by hand against rows of every
// kind of type.
func TestCheckerKnowsTheForms(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		values := []struct{ kind, value, want string }{
			{"smallint", "-7", `-7`},
			{"bigint", "9007199254740993", `9007199254740993`},
			{"numeric", "1.500", `1.500`},
			{"numeric", "'NaN'", `null`},
			{"numeric", "repeat('9', 1001)::numeric", `"` + strings.Repeat("9", 1001) + `"`},
			{"real", "1.1", `1.1`},
			{"float8", "1e300", `1e+300`},
			{"float8", "'-Infinity'", `null`},
			{"oid", "4294967295", `4294967295`},
			{"boolean", "true", `true`},
			{"text", "null", `null`},
			{"text", `'a "b" <c> ' || chr(10) || chr(1)`, `"a \"b\" <c> \n\u0001"`},
			{"char(3)", "'a'", `"a  "`},
			{"uuid", "'00000000-0000-0000-0000-00000000000a'", `"00000000-0000-0000-0000-00000000000a"`},
			{"mood", "'sad'", `"sad"`},
			{"date", "'2026-01-31'", `"2026-01-31"`},
			{"date", "'infinity'", `null`},
			{"date", "'0044-03-15 BC'", `"-0043-03-15"`},
			{"date", "'0001-03-15 BC'", `"0000-03-15"`},
			{"date", "'10000-01-01'", `"+10000-01-01"`},
			{"timestamp", "'2026-01-31 12:00:00.123456'", `"2026-01-31T12:00:00.123456"`},
			{"timestamptz", "'2026-01-31 12:00:00.5+02'", `"2026-01-31T10:00:00.5Z"`},
			{"timestamptz", "'0044-03-15 12:00:00+00 BC'", `"-0043-03-15T12:00:00Z"`},
			{"timestamptz[]", "array['-infinity', null, '2026-01-31 00:00+00']::timestamptz[]", `[null, null, "2026-01-31T00:00:00Z"]`},
			{"interval", "'1 year -3 days 04:05:06.7'", `"1 year -3 days +04:05:06.7"`},
			{"timetz", "'12:00:00+02'", `"12:00:00+02"`},
			{"jsonb", `'{"b":[1.10,{"c":null}],"a":1e2}'`, `{"a":100,"b":[1.10,{"c":null}]}`},
			{"json", `'{"n":1.10e5,  "s":"\u00e9"}'`, `{"n":1.10e5,"s":"é"}`},
			{"bytea", `'\x00ff10'`, `"AP8Q"`},
			{"bytea[]", `array['\x00ff10', null]::bytea[]`, `["AP8Q", null]`},
			{"inet", "'10.0.0.1/24'", `"10.0.0.1/24"`},
			{"cidr", "'10.0.0.0/8'", `"10.0.0.0/8"`},
			{"int[]", "'[2:3][1:2]={{1,2},{3,null}}'", `[[1,2],[3,null]]`},
			{"numeric[]", "'{1.10,NaN}'", `[1.10,null]`},
			{"money", "12.5", `"$12.50"`},
			{"int4range", "'[1,5)'", `{"gte":1,"lt":5}`},
			{"int8range", "'(,5)'", `{"lt":5}`},
			{"int8range", "'empty'", `null`},
			{"pair", "row(1, 'x')", `{"a":1,"b":"x"}`},
			{"pair[]", "array[row(1, 'x')::pair]", `[{"a":1,"b":"x"}]`},
			{"positive", "5", `5`},
			{"positive[]", "array[5, 6]", `[5, 6]`},
		}
		f := newCheckerFixture(t, e, "(id int primary key)")
		f.db.Exec(t, "create type mood as enum ('sad', 'ok')", "create type pair as (a int, b text)",
			"create domain positive as int check (value > 0)")
		var columns, row, right, wrong []string // wrong: every value is another one
		for i, v := range values {
			other := "null"
			if v.want == "null" {
				other = `""`
			}
			columns = append(columns, fmt.Sprintf("add v%d %s", i, v.kind))
			row = append(row, v.value)
			right = append(right, fmt.Sprintf(`"v%d":%s`, i, v.want))
			wrong = append(wrong, fmt.Sprintf(`"v%d":%s`, i, other))
		}
		f.db.Exec(t, "alter table t "+strings.Join(columns, ", "), "insert into t values (1, "+strings.Join(row, ", ")+")")
		f.put(t, "1", "", `{"id":1,`+strings.Join(right, ",")+`}`)
		if r := f.check(t); !r.Equal() {
			t.Error(r)
		}
		f.put(t, "1", "", `{"id":1,`+strings.Join(wrong, ",")+`}`)
		r := f.check(t)
		if r.Differing.Count != 1 || len(r.Differing.Examples) != maxExamples {
			t.Errorf("other values of all types are not seen: %s", r)
		}
	})
}

func TestCheckerKnowsTheIDs(t *testing.T) {
	for _, test := range []struct {
		key  []any
		want string
	}{
		{[]any{"a"}, "a"},
		{[]any{""}, "~"},
		{[]any{"~x"}, "~~x"},
		{[]any{"a|b"}, "a|b"},
		{[]any{nil}, "~N"},
		{[]any{"1", "2"}, "1|2"},
		{[]any{"a|", "b"}, "a~||b"},
		{[]any{"~", nil, ""}, "~~|~N|"},
		{[]any{strings.Repeat("x", 513)}, "~sha256-"},
	} {
		var key [][]byte
		for _, v := range test.key {
			if v == nil {
				key = append(key, nil)
			} else {
				key = append(key, []byte(v.(string)))
			}
		}
		if got := documentID(key); got != test.want && !(len(test.want) == 8 && strings.HasPrefix(got, test.want) && len(got) == 72) {
			t.Errorf("id of %q is %q, want %q", test.key, got, test.want)
		}
	}
}

// shardOf returns what the server says of the shard that a routing leads to.
func (f *checkerFixture) shardOf(t *testing.T, routing string) string {
	t.Helper()
	_, answer, err := f.search.Do(t.Context(), "GET", "/"+f.index+"/_search_shards?filter_path=shards.shard&routing="+routing, nil)
	must(t, err)
	return string(answer)
}

// TestCheckerSees plants one difference of each kind.
func TestCheckerSees(t *testing.T) {
	const table = `(a int, b text, r text, n numeric, j jsonb, x int[], secret text default 'x', primary key (a, b))`
	body := func(a int, edit func(map[string]any)) string {
		d := map[string]any{
			"a": a, "b": "k", "r": "r1", "renamed": json.Number("1.50"),
			"j": map[string]any{"deep": []any{1, map[string]any{"er": "v"}}}, "x": []any{1, 2, nil},
		}
		if edit != nil {
			edit(d)
		}
		text, _ := json.Marshal(d)
		return string(text)
	}
	options := []CheckOption{WithRouting("r"), WithFields("n", "renamed"), WithFields("secret")}
	eachEngine(t, func(t *testing.T, e Engine) {
		for _, test := range []struct {
			name                      string
			plant                     func(t *testing.T, f *checkerFixture)
			missing, extra, differing int
			says                      string
			option                    CheckOption
		}{
			{name: "nothing", plant: func(*testing.T, *checkerFixture) {}},
			{name: "row without document", missing: 1, says: `"31|k" routing "r1"`, plant: func(t *testing.T, f *checkerFixture) {
				f.db.Exec(t, "insert into t values (31, 'k', 'r1')")
			}},
			{name: "document without row", extra: 1, says: `"5|k" routing "r1"`, plant: func(t *testing.T, f *checkerFixture) {
				f.db.Exec(t, "delete from t where a = 5")
			}},
			{name: "changed key", extra: 1, missing: 1, plant: func(t *testing.T, f *checkerFixture) {
				f.db.Exec(t, "update t set b = 'l' where a = 5")
			}},
			{name: "many", missing: 25, says: "25 rows without a document", plant: func(t *testing.T, f *checkerFixture) {
				f.db.Exec(t, "insert into t select i, 'k', 'r1' from generate_series(101, 125) i")
			}},
			{name: "document with another routing", extra: 1, says: `"5|k" routing "x`, plant: func(t *testing.T, f *checkerFixture) {
				routing := "x" // to another shard: how routings are spread is each release's own
				for f.shardOf(t, routing) == f.shardOf(t, "r1") && len(routing) < 50 {
					routing += "x"
				}
				f.put(t, "5%7Ck", "?routing="+routing, body(5, nil))
			}},
			{name: "digit of a number", differing: 1, says: `"5|k" routing "r1": renamed: want 1.50, got 1.5`, plant: func(t *testing.T, f *checkerFixture) {
				f.put(t, "5%7Ck", "?routing=r1", body(5, func(d map[string]any) { d["renamed"] = json.Number("1.5") }))
			}},
			{name: "number as a string", differing: 1, says: `renamed: want 1.50, got "1.50"`, plant: func(t *testing.T, f *checkerFixture) {
				f.put(t, "5%7Ck", "?routing=r1", body(5, func(d map[string]any) { d["renamed"] = "1.50" }))
			}},
			{name: "value within json", differing: 1, says: `j.deep[1].er: want "v", got "w"`, plant: func(t *testing.T, f *checkerFixture) {
				f.put(t, "5%7Ck", "?routing=r1", body(5, func(d map[string]any) { d["j"] = map[string]any{"deep": []any{1, map[string]any{"er": "w"}}} }))
			}},
			{name: "shorter array", differing: 1, says: `x: want [1,2,null], got [1,2]`, plant: func(t *testing.T, f *checkerFixture) {
				f.put(t, "5%7Ck", "?routing=r1", body(5, func(d map[string]any) { d["x"] = []any{1, 2} }))
			}},
			{name: "field missing", differing: 1, says: `x: want [1,2,null], got no field`, plant: func(t *testing.T, f *checkerFixture) {
				f.put(t, "5%7Ck", "?routing=r1", body(5, func(d map[string]any) { delete(d, "x") }))
			}},
			{name: "field that was left out", differing: 1, says: `secret: want no field, got "x"`, plant: func(t *testing.T, f *checkerFixture) {
				f.put(t, "5%7Ck", "?routing=r1", body(5, func(d map[string]any) { d["secret"] = "x" }))
			}},
			{name: "refused", option: WithRefused("31|k"), plant: func(t *testing.T, f *checkerFixture) {
				f.db.Exec(t, "insert into t values (31, 'k', 'r1')")
			}},
			{name: "two physical indices", extra: 1, says: "2 physical indices", plant: func(t *testing.T, f *checkerFixture) {
				f.index = f.alias + "-2"
				f.createIndex(t, f.index)
				f.put(t, "5%7Ck", "?routing=r1", body(5, nil))
			}},
			{name: "an empty second index", says: "2 physical indices", plant: func(t *testing.T, f *checkerFixture) {
				f.createIndex(t, f.alias+"-2")
			}},
			{name: "no index", missing: 30, says: "0 physical indices", plant: func(t *testing.T, f *checkerFixture) {
				do(t, f.search, "DELETE", "/"+f.index, "")
			}},
		} {
			t.Run(test.name, func(t *testing.T) {
				f := newCheckerFixture(t, e, table)
				f.db.Exec(t, `insert into t select i, 'k', 'r1', 1.50, '{"deep": [1, {"er": "v"}]}', '{1,2,null}' from generate_series(1, 30) i`)
				var bulk strings.Builder
				for i := 1; i <= 30; i++ {
					fmt.Fprintf(&bulk, "{\"index\":{\"_id\":\"%d|k\",\"routing\":\"r1\"}}\n%s\n", i, body(i, nil))
				}
				do(t, f.search, "POST", "/"+f.index+"/_bulk", bulk.String())
				test.plant(t, f)
				all := options
				if test.option != nil {
					all = append(all[:len(all):len(all)], test.option)
				}
				r := f.check(t, all...)
				if r.Missing.Count != test.missing || r.Extra.Count != test.extra || r.Differing.Count != test.differing || !strings.Contains(r.String(), test.says) {
					t.Errorf("want %d missing, %d extra, %d differing and %q, got %s", test.missing, test.extra, test.differing, test.says, r)
				}
				if r.Equal() != (test.missing+test.extra+test.differing == 0 && test.says == "") {
					t.Errorf("equal is %v: %s", r.Equal(), r)
				}
				if len(r.Missing.Examples) > maxExamples {
					t.Errorf("%d examples", len(r.Missing.Examples))
				}
			})
		}
	})
}
