package mapping_test

import (
	"strings"
	"testing"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

// Where a publication names columns of a table, the hint for another replica identity takes the list
// away first: otherwise Postgres refuses the application's updates.
func TestIdentityHintOfAListedTable(t *testing.T) {
	t.Parallel()
	d := testenv.NewDatabase(t)
	var version int
	if err := d.DB.QueryRowContext(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 150000 {
		t.Skip("Postgres 14 has no column lists")
	}
	d.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `CREATE TABLE b (id int PRIMARY KEY, a_id int, v text, file bytea)`, `INSERT INTO b VALUES (1, 1, 'v', 'f')`,
		`CREATE PUBLICATION "My Pub" FOR TABLE a, b (id, a_id)`)
	c, err := mapping.Parse("t.yaml", []byte("search: {urls: [http://h]}\nindices: {a: {table: a, include: {bs: {table: b, on: {id: a_id}, value: v}}}}\n"), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	check := func() mapping.Problems {
		t.Helper()
		tables, err := catalog.LoadTables(t.Context(), d.DB, c.Tables(), "")
		if err != nil {
			t.Fatal(err)
		}
		return c.Check(tables)
	}
	const update = `UPDATE b SET a_id = 2`
	problems := check()
	if len(problems) != 1 || !strings.Contains(problems[0].Hint, `ALTER PUBLICATION "My Pub" DROP TABLE ONLY "public"."b";`) {
		t.Fatalf("the problems are %v", problems)
	}
	d.Exec(t, problems[0].Hint, update)
	if problems := check(); len(problems) > 0 {
		t.Errorf("after that the problems are %v", problems)
	}
	d.Exec(t, `ALTER PUBLICATION "My Pub" SET TABLE b (id, a_id)`)
	if _, err := d.DB.ExecContext(t.Context(), update); err == nil {
		t.Error("an update is not refused while the publication names columns")
	}
}
