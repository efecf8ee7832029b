package prepare

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

// TestResolve leaves out the schemas of which no documents can be made yet, whatever they lack, and takes the others.
func TestResolve(t *testing.T) {
	db := testenv.NewDatabase(t)
	role := db.Unique("role")
	db.Exec(t, fmt.Sprintf("CREATE ROLE %[1]s LOGIN REPLICATION; GRANT CREATE ON DATABASE %[2]s TO %[1]s", role, db.Name))
	defer db.Exec(t, fmt.Sprintf("DROP OWNED BY %[1]s CASCADE; DROP ROLE %[1]s", role))
	const both = `CREATE SCHEMA $S; GRANT USAGE ON SCHEMA $S TO $R; CREATE TABLE $S.o (id int PRIMARY KEY, n int); CREATE TABLE $S.i (id int PRIMARY KEY, o int); ALTER TABLE $S.i REPLICA IDENTITY FULL;
		GRANT SELECT ON ALL TABLES IN SCHEMA $S TO $R; ALTER TABLE $S.o OWNER TO $R; ALTER TABLE $S.i OWNER TO $R;`
	for schema, more := range map[string]string{
		"t_fit": "", "t_known": `ALTER TABLE $S.o DROP CONSTRAINT o_pkey`, "t_also": "",
		"t_keyless":  `ALTER TABLE $S.o DROP CONSTRAINT o_pkey`,
		"t_unread":   `ALTER TABLE $S.i OWNER TO CURRENT_USER; REVOKE ALL ON $S.i FROM $R`,
		"t_foreign":  `ALTER TABLE $S.o OWNER TO CURRENT_USER; GRANT SELECT ON $S.o TO $R`,
		"t_typed":    `ALTER TABLE $S.o ALTER n TYPE text`,
		"t_partly":   `DROP TABLE $S.i`,
		"t_unlogged": `ALTER TABLE $S.o SET UNLOGGED`,
		"unmatched":  "",
	} {
		db.Exec(t, strings.NewReplacer("$S", schema, "$R", role).Replace(both+more))
	}
	u, err := url.Parse(db.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	file := filepath.Join(t.TempDir(), "t.yaml")
	text := fmt.Sprintf("postgres: {url: %q, slot: s}\nsearch: {urls: [http://h]}\nindices:\n  a:\n    table: \"t_*.o\"\n    id: \"{schema}-{id}\"\n    include: {i: {table: \"{schema}.i\", on: {id: o}, many: object}}\n", u)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Read(t.Context(), file, logger(t), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Matched()); got != "[t_also.o t_fit.o]" {
		t.Errorf("of patterns: %s", got)
	}
	want := map[string]string{
		"t_keyless":  "has no unique index on exactly id",
		"t_known":    "has no unique index on exactly id",
		"t_unread":   "may not read table t_unread.i",
		"t_foreign":  "t_foreign",
		"t_typed":    "field n of table t_typed.o is not what it is of another table",
		"t_partly":   "no table t_partly.i in the database",
		"t_unlogged": "is unlogged or temporary",
	}
	for _, p := range c.Left {
		schema := ""
		for name, text := range want {
			if strings.Contains(p.Text, "table "+name+".o is left out: ") && strings.Contains(p.Text, text) {
				schema = name
			}
		}
		if schema == "" || p.Hint == "" || p.Line == 0 {
			t.Errorf("left out: %v", p)
		}
		delete(want, schema)
	}
	if len(want) > 0 {
		t.Errorf("not said: %v\nof %v", want, c.Left)
	}

	// One that is followed stays, whatever became of it: that is for the running instance to say.
	session, err := connectPostgres(t.Context(), c, logger(t), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	again, err := Resolve(t.Context(), session.DB, c.Written(), map[catalog.TableName]bool{{Schema: "t_known", Name: "o"}: true})
	if err != nil || fmt.Sprint(again.Matched()) != "[t_also.o t_fit.o t_known.o]" {
		t.Errorf("with one that is followed: %v, %v", again.Matched(), err)
	}
	// Where nothing is left it is an error, with what each lacks.
	db.Exec(t, "DROP SCHEMA t_fit CASCADE", "DROP SCHEMA t_also CASCADE")
	if _, err := Read(t.Context(), file, logger(t), time.Second); err == nil || !strings.Contains(err.Error(), "has no unique index on exactly id") {
		t.Errorf("nothing is left: %v", err)
	}
}
