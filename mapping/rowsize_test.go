package mapping_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"tidemark/mapping"
)

// sizesSchema has a table with a column of every kind that is measured. Row 1 is small and row 2 has
// NULLs; each row from 10 on has one thing that is large, but small where it is stored.
const sizesSchema = `
	create domain long as text;
	create table big (id int primary key, t text, v varchar, s varchar(20), c char(70000), b bytea, j json, jb jsonb, a text[], x xml, l long, n numeric, r int4range, state text, only_where text);
	create table part (id serial primary key, big_id int, body text);
	insert into big (id, t, v, s, c, b, j, jb, a, x, l, n, r, state) values (1, 'a', 'b', 'c', null, '\x00ff', '{"k":  1}', '{"k": 1}', '{a,b}', '<x/>', 'l', 1.5, '[1,2)', 'open');
	insert into big (id) values (2);
	insert into big (id, t) values (10, repeat('x', 70000));
	insert into big (id, v) values (11, repeat('x', 70000));
	insert into big (id, c) values (12, 'x');
	insert into big (id, b) values (13, decode(repeat('00', 50000), 'hex'));
	insert into big (id, j) values (14, to_json(repeat('x', 70000)));
	insert into big (id, jb) values (15, to_jsonb(repeat('x', 70000)));
	insert into big (id, a) values (16, array_fill('x'::text, array[40000]));
	insert into big (id, x) values (17, xmlcomment(repeat('x', 70000)));
	insert into big (id, l) values (18, repeat('x', 70000));
	insert into big (id, t, v) values (19, repeat('x', 35000), repeat('y', 35000));
	insert into big (id) values (20), (21);
	insert into part (big_id, body) select 20, repeat('x', 7000) from generate_series(1, 10);
	insert into part (big_id, body) values (21, 'small');
	insert into big (id, t, state) values (30, repeat('x', 70000), 'closed'), (31, repeat('x', 70000), 'open');
	insert into big (id, t, state) values (32, 'x', repeat('x', 70000));
	insert into big (id, t, only_where) values (33, 'x', repeat('x', 70000)), (34, 'x', repeat('x', 20000));
	insert into big (id, b) values (40, decode(repeat('00', 40000), 'hex'));
`

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Values of rows whose documents are too large never leave the server; what is not too large is
// as it is without a bound.
func TestRowSize(t *testing.T) {
	const file = "search: {urls: [http://h], max_document_bytes: 64KiB}\nindices: {a: {table: big, fields: {only_where: false}%s, include: {parts: {table: part, on: {id: big_id}, value: body}}}}"
	d, source, tables := databaseOf(t, sizesSchema, fmt.Sprintf(file, ""))
	unbounded := source.Index.MaxDocumentBytes
	source.Index.MaxDocumentBytes = 0
	whole, err := source.Select(tables)
	must(t, err)
	source.Index.MaxDocumentBytes = unbounded
	sel, err := source.Select(tables)
	must(t, err)
	plan, err := mapping.Compile(source, tables[source.Table], sel.Names)
	must(t, err)
	plain, err := mapping.Compile(source, tables[source.Table], whole.Names)
	must(t, err)
	from := "big t order by id"
	rows, want := selectRows(t, d, sel.Statement(from)), selectRows(t, d, whole.Statement(from))
	large := ""
	for i, row := range rows {
		id, _ := plan.ID(row)
		got, err := plan.AppendDocument(nil, row)
		if tooLarge, ok := errors.AsType[*mapping.TooLargeError](err); ok {
			sent := 0
			for _, c := range row.Columns {
				sent += len(c.Data)
			}
			if large += " " + id; tooLarge.Bytes <= 64<<10 || tooLarge.Bytes > 200_000 || sent > 1000 {
				t.Errorf("row %s: %v; %d bytes came", id, err, sent)
			}
			continue
		}
		must(t, err)
		document, err := plain.AppendDocument(nil, want[i])
		if err == nil && string(got) != string(document) {
			t.Errorf("row %s: %s\nwant %s", id, got, document)
		}
	}
	if diff := cmp.Diff(" 10 11 12 13 14 15 16 17 18 19 20 30 31 32", large); diff != "" {
		t.Errorf("too large, want -, got +:\n%s", diff)
	}

	// Whether a row that is too large is a document is known, unless where reads what is large.
	t.Run("where", func(t *testing.T) {
		source := sourceIn(t, fmt.Sprintf(file, `, where: 'state != "closed" && (only_where == nil || only_where != "x")'`))
		sel, err := source.Select(tables)
		must(t, err)
		plan, err := mapping.Compile(source, tables[source.Table], sel.Names)
		must(t, err)
		got := ""
		for _, row := range selectRows(t, d, sel.Statement("big t where id between 30 and 34 order by id")) {
			id, _ := plan.ID(row)
			holds, err := plan.Holds(row)
			must(t, err)
			_, err = plan.AppendDocument(nil, row)
			got += fmt.Sprintf("%s %t %t\n", id, holds, err == nil)
		}
		if diff := cmp.Diff("30 false false\n31 true false\n32 true false\n33 true false\n34 true true\n", got); diff != "" {
			t.Errorf("id, is a document, can be made: want -, got +:\n%s", diff)
		}
	})

	// A document may be larger than the values of its row.
	t.Run("escaped", func(t *testing.T) {
		row := selectRows(t, d, sel.Statement(`(select 50 as id, repeat(chr(1), 20000) as t, v, s, c, b, j, jb, a, x, l, n, r, state from big where id = 2) t`))[0]
		_, err := plan.AppendDocument(nil, row)
		if tooLarge, ok := errors.AsType[*mapping.TooLargeError](err); !ok || tooLarge.Bytes < 120_000 {
			t.Errorf("got %v", err)
		}
	})

	// Texts are measured where they are kept.
	t.Run("not read", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), d.URL)
		must(t, err)
		defer conn.Close(context.WithoutCancel(t.Context()))
		var before, after int
		count := `select pg_stat_get_xact_blocks_fetched(reltoastrelid)::int from pg_class where oid = 'big'::regclass`
		tx, err := conn.Begin(t.Context())
		must(t, err)
		defer tx.Rollback(context.WithoutCancel(t.Context()))
		_, err = tx.Exec(t.Context(), `alter table big alter t set storage external; insert into big (id, t) values (60, repeat('x', 1000000))`)
		must(t, err)
		must(t, tx.QueryRow(t.Context(), count).Scan(&before))
		_, err = tx.Exec(t.Context(), sel.Statement("big t where id = 60"))
		must(t, err)
		must(t, tx.QueryRow(t.Context(), count).Scan(&after))
		if after != before {
			t.Errorf("%d blocks of the large value were read", after-before)
		}
	})

	t.Run("nothing large", func(t *testing.T) {
		source := sourceIn(t, "search: {urls: [http://h]}\nindices: {a: {table: big, fields: [id, s, n, r]}}")
		sel, err := source.Select(tables)
		must(t, err)
		if got := sel.Statement("x"); strings.Contains(got, "document_bytes") {
			t.Errorf("values are measured none of which can be large: %s", got)
		}
	})
}
