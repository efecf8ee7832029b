package value

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/mapping/catalog"
	"tidemark/mapping/jsontext"
	"tidemark/testenv"
)

// A typedColumn is a column of the table of samples, in one form.
type typedColumn struct {
	name string // of the field: that of the column, or with the word of as
	from string // name of the column
	form *Form
}

// createTypes creates the extensions that the server has, and types of our own.
func createTypes(t *testing.T, d *testenv.Database) {
	t.Helper()
	for _, name := range extensions {
		var there bool
		if err := d.DB.QueryRowContext(t.Context(), "select exists (select from pg_available_extensions where name = $1)", name).Scan(&there); err != nil {
			t.Fatal(err)
		}
		if !there {
			t.Logf("the types of %s are left out: the server does not have this extension", name)
			continue
		}
		d.Exec(t, "create extension "+name)
	}
	d.Exec(t, setup)
}

// sampleTable makes the table "kinds" with columns c0, c1, … of each type and
// a0, a1, … of its array, with a row per value: row n has the n-th of each type.
// Row -1 has NULL everywhere. It gives the samples that the server has types for.
func sampleTable(t *testing.T, d *testenv.Database) []sample {
	t.Helper()
	var kept []sample
	columns := "id int primary key"
	var sets [][]string
	var first, second, third []string // arrays with other dimensions and lower bounds, and without
	for _, s := range samples {
		var there, inArrays bool
		const query = "select to_regtype($1) is not null, exists (select from pg_type where oid = to_regtype($1) and typarray <> 0)"
		if err := d.DB.QueryRowContext(t.Context(), query, s.typ).Scan(&there, &inArrays); err != nil {
			t.Fatal(err)
		}
		if !there {
			continue
		}
		switch s.typ {
		case "xml":
			if _, err := d.DB.ExecContext(t.Context(), "select '<a/>'::xml"); err != nil {
				t.Logf("values of xml are left out: %v", err)
				s.values = noValues
			}
		case "interval":
			var infinite bool // since Postgres 17
			if err := d.DB.QueryRowContext(t.Context(), "select current_setting('server_version_num')::int >= 170000").Scan(&infinite); err != nil {
				t.Fatal(err)
			}
			if infinite {
				s.values = append(slices.Clip(s.values), sampleValue{"'-infinity'", `"-infinity"`})
			}
		}
		i := len(kept)
		kept = append(kept, s)
		columns += fmt.Sprintf(", c%d %s", i, s.typ)
		if inArrays {
			if len(s.values) > 1 && s.typ != "moods" {
				first = append(first, fmt.Sprintf("a%d = array_fill(c%d, array[1,2,2], array[0,3,1])", i, i))
				second = append(second, fmt.Sprintf("a%d = array[c%d, null]", i, i))
			}
			third = append(third, fmt.Sprintf("a%d = '{}'", i))
			columns += fmt.Sprintf(", a%d %s[]", i, s.typ)
		}
		for n, v := range s.values {
			for n >= len(sets) {
				sets = append(sets, nil)
			}
			array := fmt.Sprintf("array[[%s::%s, null]]", v.sql, s.typ)
			if s.typ == "moods" { // itself an array: the constructor would make one of more dimensions
				array = `'{{"{ok,\"so so\"}",NULL}}'`
			}
			sets[n] = append(sets[n], fmt.Sprintf("c%d = %s", i, v.sql))
			if inArrays {
				sets[n] = append(sets[n], fmt.Sprintf("a%d = %s", i, array))
			}
		}
	}
	d.Exec(t, "create table kinds ("+columns+")", "insert into kinds values (-1)")
	for n, set := range sets {
		d.Exec(t, fmt.Sprintf("insert into kinds (id) values (%d)", n))
		for part := range slices.Chunk(set, 20) { // an error shows the statement
			d.Exec(t, fmt.Sprintf("update kinds set %s where id = %d", strings.Join(part, ", "), n))
		}
	}
	for id, set := range [][]string{first, second, third} {
		d.Exec(t, fmt.Sprintf("update kinds set %s where id = %d", strings.Join(set, ", "), id))
	}
	return kept
}

// arrayOfSample returns what the array beside a value is, by [sampleTable].
func arrayOfSample(s sample, row int) string {
	value := s.values[row].json
	switch {
	case row == 2:
		return "[]"
	case len(s.values) == 1, row > 1, s.typ == "moods":
		return "[[" + value + ",null]]"
	case row == 0:
		return "[[[" + value + "," + value + "],[" + value + "," + value + "]]]"
	}
	return "[" + value + ",null]"
}

// sampleColumns returns the columns of the table in each form that they can have.
func sampleColumns(table *catalog.Table) []typedColumn {
	var columns []typedColumn
	for _, c := range table.Columns {
		columns = append(columns, typedColumn{c.Name, c.Name, FormOf(c.Type)})
		for _, word := range formWords {
			if f, err := FormFor(c.Type, word); err == nil && c.Name != "id" {
				columns = append(columns, typedColumn{c.Name + "_" + word, c.Name, f})
			}
		}
	}
	return columns
}

// sessionSettings are those of our sessions.
const sessionSettings = "set TimeZone = 'UTC'; set DateStyle = 'ISO, YMD'; set IntervalStyle = 'postgres'; set extra_float_digits = 1; set bytea_output = 'hex'"

// readRows returns the rows of the last query in text form, nil for NULL.
func readRows(t *testing.T, conn *pgconn.PgConn, query string) [][][]byte {
	t.Helper()
	results, err := conn.Exec(t.Context(), query).ReadAll()
	if err != nil {
		t.Fatalf("%.2000s: %v", query, err)
	}
	return results[len(results)-1].Rows
}

// sampleDocument writes a row with each column in its form.
func sampleDocument(columns []typedColumn, of func(column string) []byte) []byte {
	dst := []byte{'{'}
	for i, c := range columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(jsontext.Append(dst, []byte(c.name)), ':')
		if text := of(c.from); text != nil {
			dst = c.form.Encode(dst, text)
		} else {
			dst = append(dst, "null"...)
		}
	}
	return append(dst, '}')
}

// Every type of the catalog has samples, and each of them has the form that is
// documented, alone and in an array: from a select, from the stream, and from
// Postgres' own JSON. No search server refuses a document for any of them.
func TestEveryType(t *testing.T) {
	d := testenv.NewDatabase(t)
	slot := d.Unique("types")
	createTypes(t, d)
	kept := sampleTable(t, d)
	table, err := catalog.LoadTable(t.Context(), d.DB, "public", "kinds")
	if err != nil {
		t.Fatal(err)
	}
	columns := sampleColumns(table)
	position := make(map[string]int)
	var list []string
	for i, c := range table.Columns {
		position[c.Name] = i
		list = append(list, catalog.QuoteIdent(c.Name))
	}
	conn, err := pgconn.Connect(t.Context(), d.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	readRows(t, conn, sessionSettings)

	t.Run("samples", func(t *testing.T) {
		missing := readRows(t, conn, `select format_type(t.oid, null) from pg_type t
			where t.typtype in ('b', 'r', 'm', 'd', 'e', 'c')
			and not exists (select from pg_type e where e.typarray = t.oid)
			and (t.typrelid = 0 or exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
			and (t.typnamespace = 'pg_catalog'::regnamespace or exists (
				select from pg_depend d where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'))
			and not exists (select from pg_attribute a where a.attrelid = 'kinds'::regclass and a.atttypid = t.oid)`)
		for _, row := range missing {
			t.Errorf("type %s has no sample", row[0])
		}
	})

	var ids []string
	documents := make(map[string][]byte)
	filled := make(map[string][]typedColumn) // the columns of a row that are not NULL; all of row -1
	for _, row := range readRows(t, conn, "select "+strings.Join(list, ", ")+" from public.kinds order by id") {
		id := string(row[0])
		ids = append(ids, id)
		documents[id] = sampleDocument(columns, func(column string) []byte { return row[position[column]] })
		if bytes.ContainsAny(documents[id], "\n\r") {
			t.Errorf("row %s: more than one line", id)
		}
		for _, c := range columns {
			if id == "-1" || row[position[c.from]] != nil {
				filled[id] = append(filled[id], c)
			}
		}
	}

	t.Run("select", func(t *testing.T) {
		for row, id := range ids[1:] {
			got := fieldsOf(t, documents[id])
			for i, s := range kept {
				if row >= len(s.values) || s.values[row].json == "" {
					continue
				}
				if got, want := string(got[fmt.Sprintf("c%d", i)]), s.values[row].json; got != want {
					t.Errorf("%s %.80s: got %.300s, want %.300s", s.typ, s.values[row].sql, got, want)
				}
				if got, want := string(got[fmt.Sprintf("a%d", i)]), arrayOfSample(s, row); got != want && got != "" {
					t.Errorf("array of %s %.80s: got %.300s, want %.300s", s.typ, s.values[row].sql, got, want)
				}
			}
		}
	})

	t.Run("stream", func(t *testing.T) {
		d.Exec(t, "create publication types for table kinds", "select pg_create_logical_replication_slot('"+slot+"', 'pgoutput')",
			"alter table kinds replica identity full", "update kinds set id = id")
		seen := make(map[string]int)
		var relation *pglogrepl.RelationMessage
		for _, row := range readRows(t, conn, "select data from pg_logical_slot_get_binary_changes('"+slot+"', null, null, 'proto_version', '1', 'publication_names', 'types')") {
			data, err := hex.DecodeString(strings.TrimPrefix(string(row[0]), `\x`))
			if err != nil {
				t.Fatal(err)
			}
			message, err := pglogrepl.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			switch m := message.(type) {
			case *pglogrepl.RelationMessage:
				relation = m
			case *pglogrepl.UpdateMessage:
				value := func(column string) []byte {
					for i, c := range relation.Columns {
						if c.Name == column { // the old row has also what is stored out of line
							if v := m.OldTuple.Columns[i]; v.DataType == pglogrepl.TupleDataTypeText {
								return append([]byte{}, v.Data...)
							}
						}
					}
					return nil
				}
				id := string(value("id"))
				seen[id]++
				if got := sampleDocument(columns, value); !bytes.Equal(got, documents[id]) {
					t.Errorf("row %s from the stream: got\n%.4000s\nwant\n%.4000s", id, got, documents[id])
				}
			}
		}
		if len(seen) != len(ids) {
			t.Errorf("the stream had rows %v, want %v", seen, ids)
		}
	})

	t.Run("postgres", func(t *testing.T) {
		// Whatever somebody has put in the way is not what we mean.
		d.Exec(t, `create schema evil;
			create function evil.to_json(anyelement) returns json language sql as 'select ''1''::json';
			create function evil.replace(text, text, text) returns text language sql as 'select ''evil''::text';
			create function evil.less(date, date) returns bool language sql as 'select null::bool';
			create function evil.less(float8, float8) returns bool language sql as 'select null::bool';
			create operator evil.< (leftarg = date, rightarg = date, function = evil.less);
			create operator evil.< (leftarg = float8, rightarg = float8, function = evil.less);
			create domain evil.text as int;
			create domain evil.json as int`)
		readRows(t, conn, "set search_path = evil, pg_catalog")
		for _, id := range ids {
			for part := range slices.Chunk(filled[id], 50) {
				if err := comparePostgres(t, conn, table, id, part, documents[id]); err == nil {
					continue
				}
				for i := range part { // to find which
					if err := comparePostgres(t, conn, table, id, part[i:i+1], documents[id]); err != nil {
						t.Errorf("row %s, %s: %v\n%.400s", id, part[i].name, err, part[i].form.SQL("ref", nil))
					}
				}
			}
		}
		readRows(t, conn, "reset search_path")
	})

	properties := make(map[string]any)
	for _, c := range columns {
		properties[c.name] = c.form.Field
	}
	body, err := Marshal(map[string]any{
		"settings": map[string]any{"index.mapping.total_fields.limit": 5000, "index.number_of_shards": 1, "index.number_of_replicas": 0},
		"mappings": map[string]any{"dynamic": false, "properties": properties},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range testenv.Engines(t) {
		t.Run(string(engine), func(t *testing.T) {
			server := testenv.SharedSearch(t, engine)
			index := server.NewPrefix(t) + "kinds"
			send := func(path string, body []byte) bool {
				t.Helper()
				status, answer, err := server.Do(t.Context(), http.MethodPut, path, body)
				if err != nil {
					t.Fatal(err)
				}
				if status/100 != 2 {
					t.Errorf("PUT %s: status %d: %.1000s", path, status, answer)
				}
				return status/100 == 2
			}
			if !send("/"+index, body) {
				return
			}
			for _, id := range ids {
				send("/"+index+"/_doc/"+id, documents[id])
			}
		})
	}
}

// randomValues are SQL expressions of values all over the range of a type.
var randomValues = []struct{ typ, sql string }{
	{"float8", "(random() - 0.5) * 10.0 ^ (random() * 600 - 300)::int"},
	{"numeric", "(random() - 0.5)::numeric * (10::numeric ^ (random() * 60 - 30)::int)"},
	{"date", "'4713-01-01 BC'::date + (random() * random() * 2e9)::int"},
	{"timestamp", "'4713-01-01 BC'::timestamp + random() * random() * interval '298000 years'"},
	{"timestamptz", "'1990-01-01'::timestamptz + random() * interval '20 years'"},
	{"interval", "make_interval((random() * 20 - 10)::int, (random() * 24 - 12)::int, 0, (random() * 4 - 2)::int, (random() * 4 - 2)::int, 0, round((random() * 4 - 2)::numeric, (random() * 6)::int)::float8)"},
	{"tstzrange", "tstzrange(v, v + (random() * 4000)::int * interval '1 microsecond', (array['[]', '[)', '(]', '()'])[1 + (random() * 3)::int]) from (values ('2026-01-31 12:00+00'::timestamptz + (random() * 2e6)::int * interval '1 microsecond')) w(v)"},
	{"numrange", "numrange(v, v + (random() * 10)::int * 10::numeric ^ (random() * 40 - 30)::int, (array['[]', '[)', '(]', '()'])[1 + (random() * 3)::int]) from (values (round(random()::numeric, (random() * 15)::int))) w(v)"},
	{"int4range", "int4range(v, v + (random() * 3)::int, (array['[]', '[)', '(]', '()'])[1 + (random() * 3)::int]) from (values ((random() * 100)::int)) w(v)"},
	{"smallrange", "smallrange(v, v + (random() * 3)::int2, (array['[]', '[)', '(]', '()'])[1 + (random() * 3)::int]) from (values ((random() * 100)::int2)) w(v)"},
	{"dayrange", "dayrange(v, v + (random() * 3)::int, (array['[]', '[)', '(]', '()'])[1 + (random() * 3)::int]) from (values ('2026-01-31'::date)) w(v)"},
	{"date[]", "array_fill('9999-12-30'::date + (random() * 3)::int, array[1 + (random() * 2)::int, 1 + (random() * 2)::int, 1 + (random() * 2)::int])"},
	{"timestamptz[]", "array_fill(now() + random() * interval '1 year', array[1 + (random() * 2)::int, 1 + (random() * 2)::int, 1 + (random() * 2)::int], array[1, -2, 3])"},
	{"geometry", "ST_MakePoint(v, round(v::numeric, (random() * 12)::int)::float8, v / 10.0 ^ (random() * 12)::int) from (values ((random() - 0.5) * 10.0 ^ (random() * 34 - 17)::int)) w(v)"},
}

// Random values are the same from Postgres and from the text, too.
func TestRandomValues(t *testing.T) {
	const rows = 1000
	d := testenv.NewDatabase(t)
	createTypes(t, d)
	conn, err := pgconn.Connect(t.Context(), d.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	readRows(t, conn, sessionSettings+"; select setseed(0.5)")
	for _, r := range randomValues {
		t.Run(r.typ, func(t *testing.T) {
			if readRows(t, conn, "select to_regtype('"+r.typ+"')")[0][0] == nil {
				t.Skip("the server does not have the type")
			}
			readRows(t, conn, fmt.Sprintf("drop table if exists random; create table random (id int primary key, v %s); "+
				"insert into random select i, v from generate_series(1, %d) i, lateral (select i, %s) w(j, v)", r.typ, rows, r.sql))
			table, err := catalog.LoadTable(t.Context(), d.DB, "public", "random")
			if err != nil {
				t.Fatal(err)
			}
			columns := sampleColumns(table)
			got, err := postgresRows(t, conn, table, columns, "true")
			if err != nil {
				t.Fatal(err)
			}
			for i, row := range readRows(t, conn, "select id, v from random order by id") {
				document := sampleDocument(columns, func(column string) []byte { return row[map[string]int{"id": 0, "v": 1}[column]] })
				compareRow(t, table, string(row[0]), columns, got[i][0], document)
			}
		})
	}
}

// comparePostgres holds the JSON that Postgres makes of columns against those of
// a document. It fails where the query does.
func comparePostgres(t *testing.T, conn *pgconn.PgConn, table *catalog.Table, id string, columns []typedColumn, document []byte) error {
	t.Helper()
	rows, err := postgresRows(t, conn, table, columns, "a1.id = "+id)
	if err != nil {
		return err
	}
	compareRow(t, table, id, columns, rows[0][0], document)
	return nil
}

// postgresRows returns the JSON that Postgres makes of columns, for each row.
func postgresRows(t *testing.T, conn *pgconn.PgConn, table *catalog.Table, columns []typedColumn, where string) ([][][]byte, error) {
	t.Helper()
	var list []string
	for _, c := range columns {
		list = append(list, c.form.SQL("a1."+catalog.QuoteIdent(c.from), table.Column(c.from).Type)+" AS "+catalog.QuoteIdent(c.name))
	}
	results, err := conn.Exec(t.Context(), "select pg_catalog.row_to_json(r) from (select "+strings.Join(list, ", ")+
		" from "+table.TableName().String()+" a1 where "+where+" order by a1.id) r").ReadAll()
	if err != nil {
		return nil, err
	}
	return results[0].Rows, nil
}

// compareRow holds the JSON that Postgres made of columns against a document.
func compareRow(t *testing.T, table *catalog.Table, id string, columns []typedColumn, postgres, document []byte) {
	t.Helper()
	got, want := fieldsOf(t, postgres), fieldsOf(t, document)
	for _, c := range columns {
		if !c.form.loose && bytes.ContainsAny(got[c.name], "\n\r") {
			t.Errorf("row %s: %s from Postgres has more than one line, and is not said to be loose", id, c.name)
		}
		if !sameJSON(t, got[c.name], want[c.name]) {
			t.Errorf("row %s: %s of type %s:\nPostgres %.600s\ndocument %.600s\n%.400s",
				id, c.name, table.Column(c.from).Type.Name, got[c.name], want[c.name], c.form.SQL("ref", nil))
		}
	}
}

// fieldsOf takes a document apart.
func fieldsOf(t *testing.T, text []byte) map[string]json.RawMessage {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatalf("%v: %.1000s", err, text)
	}
	return fields
}

// sameJSON compares values: the order of keys, blanks and escapes do not count,
// numbers are equal by their value.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	parse := func(text []byte) (value any) {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		if err := dec.Decode(&value); err != nil {
			t.Errorf("%v: %.300s", err, text)
		}
		return value
	}
	return equalJSON(parse(a), parse(b))
}

func equalJSON(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key := range a {
			if other, ok := b[key]; !ok || !equalJSON(a[key], other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equalJSON)
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			return false
		}
		x, ok1 := new(big.Rat).SetString(string(a))
		y, ok2 := new(big.Rat).SetString(string(b))
		return ok1 && ok2 && x.Cmp(y) == 0
	}
	return a == b
}
