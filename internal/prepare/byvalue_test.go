package prepare

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"tidemark/mapping"
	"tidemark/testenv"
)

// TestValuesTakeTooLong has a table that cannot be read whole within the time limit: that is a problem of the file, with what
// mends it.
func TestValuesTakeTooLong(t *testing.T) {
	d := testenv.NewDatabase(t)
	d.Exec(t, "CREATE TABLE a (id int PRIMARY KEY, region text)", "INSERT INTO a SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 1000000) i",
		fmt.Sprintf("ALTER DATABASE %s SET work_mem = '64kB'", d.Name), fmt.Sprintf("ALTER DATABASE %s SET statement_timeout = '100ms'", d.Name))
	c, err := mapping.Parse("t.yaml", fmt.Appendf(nil, "postgres: {url: %q}\nsearch: {urls: [http://h]}\nindices:\n  a:\n    name: \"a-{region}\"\n    table: a\n", d.URL), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", d.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = ResolveValues(t.Context(), db, c, nil)
	problems, ok := err.(mapping.Problems)
	if !ok || len(problems) != 1 || problems[0].Line != 5 || !strings.Contains(problems[0].Text, "values of column region of table public.a takes longer than the time limit") ||
		problems[0].Hint != `CREATE INDEX CONCURRENTLY ON "public"."a" ("region");` {
		t.Errorf("got %v", err)
	}
	// By an index it is one look for each value.
	d.Exec(t, "SET statement_timeout = 0; CREATE INDEX ON a (region)")
	c, err = ResolveValues(t.Context(), db, c, nil)
	if err != nil || len(c.Indices) != mapping.DefaultMaxIndices {
		t.Errorf("with an index: %v", err)
	}
}
