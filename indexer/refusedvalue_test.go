package indexer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/indexer/search"
	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

// What is refused is found by few questions.
func TestFindRefused(t *testing.T) {
	for _, test := range []struct {
		n       int
		refused []int
		most    int // questions
	}{
		{n: 0, most: 0},
		{n: 1, most: 1},
		{n: 1, refused: []int{0}, most: 1},
		{n: 1000, most: 1},
		{n: 1000, refused: []int{0}, most: 21},
		{n: 1024, refused: []int{1023}, most: 21},
		{n: 1000, refused: []int{7, 500, 999}, most: 61},
		{n: 4, refused: []int{0, 1, 2, 3}, most: 7},
	} {
		var texts [][]byte
		want := make(map[string]bool)
		for i := range test.n {
			texts = append(texts, fmt.Append(nil, i), nil, fmt.Append(nil, i)) // each twice
		}
		for _, i := range test.refused {
			want[fmt.Sprint(i)] = true
		}
		questions := 0
		got, err := findRefused(texts, func(some [][]byte) (bool, error) {
			questions++
			return slices.ContainsFunc(some, func(v []byte) bool { return want[string(v)] }), nil
		})
		if err != nil || !maps.Equal(got, want) || questions > test.most {
			t.Errorf("of %d, %v are refused: got %v after %d questions, want at most %d; %v", test.n, test.refused, got, questions, test.most, err)
		}
	}
	broken := errors.New("broken")
	if _, err := findRefused([][]byte{{'x'}}, func([][]byte) (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("%v, want the error", err)
	}
}

// A value that the type of its column does not take any more leads to no document: it is in no
// row. All that stands beside it is written.
func TestRefusedValues(t *testing.T) {
	const setup = `CREATE TYPE mood AS ENUM ('ok', 'well'); CREATE DOMAIN positive AS int CHECK (value > 0); CREATE DOMAIN checked AS text; CREATE EXTENSION IF NOT EXISTS ltree`
	tests := []struct {
		name, alter string   // SQL, what becomes of the column of type text
		good, bad   []string // values
	}{
		{"int", `int USING c::int`, []string{"1", "-20", "300"}, []string{"n/a", ""}},
		{"out of range", `smallint USING c::smallint`, []string{"1", "300"}, []string{"40000"}},
		{"digits", `numeric(3,1) USING c::numeric`, []string{"1.5", "10.0"}, []string{"1234", "x"}},
		{"date", `date USING c::date`, []string{"2026-01-31"}, []string{"2026-02-30", "yesterday's", "1-1-1-1"}},
		{"uuid", `uuid USING c::uuid`, []string{"00000000-0000-0000-0000-000000000001"}, []string{"00000000"}},
		{"enum", `mood USING c::mood`, []string{"ok", "well"}, []string{"sad"}},
		{"domain", `positive USING c::positive`, []string{"1", "2"}, []string{"-1", "zero"}},
		{"array", `int[] USING c::int[]`, []string{"{1,2}", "{}"}, []string{"{1,x}", "1,2"}},
		{"array of a domain", `positive[] USING c::positive[]`, []string{"{1,2}"}, []string{"{0}"}},
		{"path", `ltree USING c::ltree`, []string{"a.b"}, []string{"a..b"}},
		{"nothing refused", `varchar(20)`, []string{"a", "b"}, nil},
	}
	list := func(values []string) string {
		var quoted []string
		for _, v := range values {
			quoted = append(quoted, "('"+strings.ReplaceAll(v, "'", "''")+"')")
		}
		return strings.Join(quoted, ", ")
	}
	db := testenv.NewDatabase(t)
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	db.Exec(t, setup)
	var indices strings.Builder
	for i, test := range tests {
		db.Exec(t, fmt.Sprintf(`CREATE TABLE keyed%d (c text PRIMARY KEY, v int, note text); ALTER TABLE keyed%[1]d ALTER note SET STORAGE EXTERNAL;
			CREATE TABLE root%[1]d (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, c text); ALTER TABLE root%[1]d REPLICA IDENTITY FULL;
			CREATE TABLE related%[1]d (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, c text, v int); ALTER TABLE related%[1]d REPLICA IDENTITY FULL`, i))
		for _, table := range []string{"keyed", "root", "related"} {
			db.Exec(t, fmt.Sprintf(`INSERT INTO %s%d (c) VALUES %s`, table, i, list(append(test.good, test.bad...))))
		}
		db.Exec(t, fmt.Sprintf(`UPDATE keyed%d SET note = %s`, i, large))
		fmt.Fprintf(&indices, "keyed%d: {table: keyed%[1]d}\nroot%[1]d: {table: root%[1]d, fields: [id], include: {vs: {table: related%[1]d, on: {c: c}, value: v}}}\n", i)
	}
	s := newStream(t, db, indices.String())
	w := s.writeTo(t, engine.URL, search.BulkOptions{})
	r := s.record()
	s.run(t)
	// Every row is in a batch with its old value, which is written when the value is gone.
	for i := range tests {
		for _, index := range []string{"keyed", "root"} {
			s.documentsOf(t, engine, fmt.Sprint(index, i), loose)
		}
		db.Exec(t, fmt.Sprintf(`UPDATE keyed%d SET v = 1; UPDATE root%[1]d SET c = c; UPDATE related%[1]d SET v = 1`, i))
	}
	s.settle(t)
	s.write(t, r.operations())
	for i := range tests {
		db.Exec(t, fmt.Sprintf(`UPDATE keyed%d SET v = 2; UPDATE root%[1]d SET c = c; UPDATE related%[1]d SET v = 3`, i))
	}
	s.settle(t)
	before := r.operations()
	for i, test := range tests {
		alter := ""
		if bad := list(test.bad); bad != "" {
			alter = fmt.Sprintf(`DELETE FROM keyed%d WHERE c IN (VALUES %s); UPDATE root%[1]d SET c = NULL WHERE c IN (VALUES %[2]s); UPDATE related%[1]d SET c = NULL, v = 2 WHERE c IN (VALUES %[2]s); `, i, bad)
		}
		for _, table := range []string{"keyed", "root", "related"} {
			alter += fmt.Sprintf(`ALTER TABLE %s%d ALTER c TYPE %s; `, table, i, test.alter)
		}
		db.Exec(t, alter)
	}
	s.settle(t)
	s.write(t, before)
	w.WantRefused(t)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var ids []string
			for _, doc := range engine.Documents(t, s.targets[fmt.Sprint("keyed", i)].Targets()[0].Alias) {
				ids = append(ids, doc.ID)
			}
			slices.Sort(ids)
			if diff := cmp.Diff(slices.Sorted(slices.Values(test.good)), ids); diff != "" {
				t.Errorf("ids of rows with such a key (-want +got):\n%s", diff)
			}
			testenv.CheckSynced(t, db, engine, s.targets[fmt.Sprint("root", i)].Targets()[0].Alias, fmt.Sprint("root", i), testenv.WithQuery(fmt.Sprintf(
				`SELECT id, json_build_object('id', id, 'vs', coalesce((SELECT json_agg(v ORDER BY r.id) FROM related%d r WHERE r.c = root%[1]d.c), '[]')) FROM root%[1]d`, i)))
		})
	}
}

// What a domain refuses may be in its columns all the same: a constraint that is NOT VALID says
// nothing of them.
func TestValuesThatTheirDomainRefuses(t *testing.T) {
	db := testenv.NewDatabase(t)
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	db.Exec(t, `CREATE DOMAIN code AS text; CREATE TABLE keyed (c code PRIMARY KEY, v int, note text); ALTER TABLE keyed ALTER note SET STORAGE EXTERNAL;
		CREATE TABLE related (id int PRIMARY KEY, c code, v int); ALTER TABLE related REPLICA IDENTITY FULL;
		INSERT INTO keyed SELECT 'c' || i, 0, `+large+` FROM generate_series(1, 5) i; INSERT INTO related SELECT i, 'c' || i, 0 FROM generate_series(1, 5) i;
		ALTER DOMAIN code ADD CHECK (value <> 'c3') NOT VALID`)
	s := newStream(t, db, "keyed: {table: keyed}\naround: {table: keyed, fields: [c], include: {vs: {table: related, on: {c: c}, value: v}}}")
	w := s.writeTo(t, engine.URL, search.BulkOptions{})
	for _, index := range []string{"keyed", "around"} {
		s.documentsOf(t, engine, index, loose)
	}
	s.run(t)
	db.Exec(t, `UPDATE keyed SET v = 1`, `UPDATE related SET v = 2`)
	s.settle(t)
	testenv.CheckSynced(t, db, engine, s.targets["keyed"].Targets()[0].Alias, "keyed")
	testenv.CheckSynced(t, db, engine, s.targets["around"].Targets()[0].Alias, "keyed", testenv.WithQuery(
		`SELECT c, json_build_object('c', c, 'vs', coalesce((SELECT json_agg(v) FROM related r WHERE r.c = k.c), '[]')) FROM keyed k`))
	w.WantRefused(t)

	// A chunk goes on after such a key, too.
	table := s.handler.o.Catalog.Tables()[catalog.TableName{Schema: "public", Name: "keyed"}]
	var after int
	if err := db.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM keyed t WHERE `+table.After("t", []string{"c"}, 1), "c3").Scan(&after); err != nil || after != 2 {
		t.Errorf("%d rows after it, want 2: %v", after, err)
	}
}
