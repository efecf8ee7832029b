package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tidemark/testenv"
)

// noDatabase takes away what the environment says about servers.
func noDatabase(t *testing.T) {
	for _, name := range []string{"DATABASE_URL", "SEARCH_URL", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSERVICE", "PGSSLMODE"} {
		t.Setenv(name, "")
	}
}

// TestInit drafts a file, and check accepts it as it is.
func TestInit(t *testing.T) {
	noDatabase(t)
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	name := strings.ReplaceAll(search.NewPrefix(t), "-", "_") + "books"
	d.Exec(t, "create table authors (id int primary key, name text)",
		"create table "+name+" (id int primary key, author_id int references authors, title text)", "create table heap (x int)")
	t.Setenv("DATABASE_URL", d.URL)
	t.Setenv("SEARCH_URL", search.URL)
	file := filepath.Join(t.TempDir(), "t.yaml")
	code, out, wrong := tidemark(t, "init", "-o", file)
	if want := file + " has an index for each of 2 tables; without one: 1, its end says why. Next: tidemark check -c " + file + "\n"; code != exitDone || out != want || wrong != "" {
		t.Fatalf("%d %s%s", code, out, wrong)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"url: ${DATABASE_URL}\n", "author: {table: public.authors, on: {author_id: id}, fields: [name]}", "##   table public.heap has no primary key"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("not in the file: %s\n%s", want, text)
		}
	}
	if code, out, wrong := tidemark(t, "check", "-c", file); code != exitDone || wrong != "" || !strings.Contains(out, "author.name") {
		t.Errorf("check: %d %s%s", code, out, wrong)
	}

	// A file that is there stays as it is, a link that leads nowhere too.
	link := filepath.Join(t.TempDir(), "link.yaml")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	for _, there := range []string{file, link} {
		code, out, wrong := tidemark(t, "init", "-o", there)
		if want := there + ": it is there already, and is not overwritten\n    hint: name another file: -o FILE\n"; code != exitConfig || out != "" || wrong != want {
			t.Errorf("%d %s%s", code, out, wrong)
		}
	}
	if again, err := os.ReadFile(file); err != nil || string(again) != string(text) {
		t.Errorf("the file was changed: %v", err)
	}
	if code, out, wrong := tidemark(t, "init"); code != exitDone || out != string(text) || wrong != "" {
		t.Errorf("on the standard output: %d %s%s", code, out, wrong)
	}
	if code, _, wrong := tidemark(t, "init", "-o", filepath.Join(t.TempDir(), "no", "t.yaml")); code != exitFailed || !strings.Contains(wrong, "no such file or directory") {
		t.Errorf("into a folder that is not there: %d %s", code, wrong)
	}
}

// TestInitFindsTheDatabase has the database said in every way, and no password come out.
func TestInitFindsTheDatabase(t *testing.T) {
	noDatabase(t)
	d := testenv.NewDatabase(t)
	role := newRole(t, d, "role", "")
	d.Exec(t, "create table a (id int primary key)", "grant select on a to "+role)
	with := as(t, d.URL, role, "right")
	without := strings.Replace(with, ":right@", "@", 1)
	init := func(want string, args ...string) {
		t.Helper()
		code, out, wrong := tidemark(t, append([]string{"init"}, args...)...)
		if code != exitDone || wrong != "" || !strings.Contains(out, want) || strings.Contains(out, "right") || strings.Contains(out, "S3cret") {
			t.Errorf("%v: %d %s%s\nwant %s", args, code, out, wrong, want)
		}
	}
	init("  url: ${DATABASE_URL}\n", "--url", with)
	t.Setenv("PGPASSWORD", "right")
	init("  url: \""+without+"\"\n", "--url", without)
	init("  url: ${DATABASE_URL}\n", "--url", without+"&password=right")
	t.Setenv("DATABASE_URL", without)
	t.Setenv("SEARCH_URL", "https://me:S3cret@h1:9200,http://h2/x/")
	init("  url: ${DATABASE_URL}\n")
	init("  urls: [https://h1:9200, http://h2/x/]\n  user: me\n  password: ${SEARCH_PASSWORD}\n")
	t.Setenv("DATABASE_URL", "")
	for name, key := range map[string]string{"PGHOST": "host", "PGPORT": "port"} {
		host, port, _ := strings.Cut(strings.Split(strings.SplitN(d.URL, "@", 2)[1], "/")[0], ":")
		t.Setenv(name, map[string]string{"host": host, "port": port}[key])
	}
	t.Setenv("PGDATABASE", d.Name)
	t.Setenv("PGUSER", role)
	t.Setenv("PGSSLMODE", "disable")
	init("  # url: ${DATABASE_URL}\n")
}

func TestInitRefuses(t *testing.T) {
	noDatabase(t)
	d := testenv.NewDatabase(t)
	role := newRole(t, d, "role", "")
	d.Exec(t, "create table orders (id int primary key)", "create table hidden (id int primary key)", "alter table hidden enable row level security",
		"create table heap (x int)", `create schema "My ""Own"""`, `create table "My ""Own"""."a,b" (id int primary key)`, "grant select on hidden, heap to "+role)
	const database = "database {database}"
	other := d.Postgres.URL("nothing")
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no database", nil, exitConfig, "tidemark: no database is given: there is no --url, and none of DATABASE_URL, PGHOST, PGDATABASE, PGUSER, PGSERVICE is set\n    hint: see tidemark init --help\n"},
		{"an argument", []string{"x"}, exitConfig, "tidemark: there is no argument here, found \"x\"\n    hint: see tidemark init --help\n"},
		{"no URL", []string{"--url", "S3cret"}, exitConfig, "--url: want the URL of a Postgres database\n    hint: postgres://USER:PASSWORD@HOST:PORT/DATABASE\n          or host=HOST dbname=DATABASE user=USER\n"},
		{"another database", []string{"--url", other}, exitConfig, "--url: there is no database nothing. Postgres says: database \"nothing\" does not exist\n    hint: name an existing database: SELECT datname FROM pg_database;\n"},
		{"no such things", []string{"--url", d.URL, "--schema", "x", "--tables", "ordrs,public.heap,a b"}, exitConfig,
			"--schema: no tables in a schema \"x\"\n    hint: its schemas with tables: My \"Own\", public\n\n" +
				"--tables: no table public.ordrs in the database (a view or a foreign table has no log of its changes)\n    hint: did you mean public.orders?\n\n" +
				"--tables: table public.heap is not in a schema of --schema\n    hint: add its schema: --schema public\n\n" +
				"--tables: a b: a name with ' ' must be in double quotes\n    hint: public.products, or 'public.\"Weird.Name\"'\n"},
		{"a quote", []string{"--url", d.URL, "--tables", `"a`}, exitConfig, "tidemark: \"a: a \" without its end\n    hint: see tidemark init --help\n"},
		{"an empty name", []string{"--url", d.URL, "--tables", "a,"}, exitConfig, "tidemark: a name is missing in \"a,\"\n    hint: see tidemark init --help\n"},
		{"nothing to index", []string{"--url", as(t, d.URL, role, "right")}, exitConfig,
			database + ": table public.heap has no primary key, and id is not given\n    hint: ALTER TABLE \"public\".\"heap\" ADD PRIMARY KEY (…);\n" +
				"          or CREATE UNIQUE INDEX over NOT NULL columns, name them in id, and in the database:\n          ALTER TABLE \"public\".\"heap\" REPLICA IDENTITY FULL;\n\n" +
				database + ": row-level security hides rows of table public.hidden from role {role}\n    hint: ALTER ROLE \"{role}\" BYPASSRLS;\n\n" +
				database + ": role {role} may not read table public.orders\n    hint: GRANT USAGE ON SCHEMA \"public\" TO \"{role}\";\n          GRANT SELECT ON \"public\".\"orders\" TO \"{role}\";\n\n" +
				database + ": role {role} may not read table \"My \"\"Own\"\"\".\"a,b\"\n    hint: GRANT USAGE ON SCHEMA \"My \"\"Own\"\"\" TO \"{role}\";\n          GRANT SELECT ON \"My \"\"Own\"\"\".\"a,b\" TO \"{role}\";\n"},
		{"one of another schema", []string{"--url", d.URL, "--schema", `"My ""Own"""`}, exitDone, ""},
		{"one with a comma", []string{"--url", d.URL, "--tables", `orders,"a,b"`}, exitDone, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			code, out, wrong := tidemark(t, slices.Concat([]string{"init"}, test.args)...)
			want := strings.NewReplacer("{database}", d.Name, "{role}", role).Replace(test.want)
			if code != test.code || wrong != want || (out == "") != (code != exitDone) {
				t.Errorf("%d %s\n%s\nwant %d\n%s", code, out, wrong, test.code, want)
			}
			if code == exitDone && !strings.Contains(out, `"\"My \"\"Own\"\"\".\"a,b\""`) && !strings.Contains(out, `'"My ""Own"""."a,b"'`) {
				t.Errorf("the table is not there:\n%s", out)
			}
		})
	}
	t.Setenv("SEARCH_URL", "h:9200")
	if code, _, wrong := tidemark(t, "init", "--url", d.URL); code != exitConfig || wrong != "SEARCH_URL: this is not the URL of a cluster\n    hint: https://HOST:9200, several with commas between them\n" {
		t.Errorf("%d %s", code, wrong)
	}
}

// TestInitAnEmptyDatabase has nothing to look at.
func TestInitAnEmptyDatabase(t *testing.T) {
	noDatabase(t)
	d := testenv.NewDatabase(t)
	code, out, wrong := tidemark(t, "init", "--url", d.URL)
	if want := "database " + d.Name + ": there is no table in it to index\n    hint: name another database, or other schemas: --schema\n"; code != exitConfig || out != "" || wrong != want {
		t.Errorf("%d %s%s", code, out, wrong)
	}
}

// TestInitForEditors has the schema that the first line of a draft names be beside it, as the command prints it.
func TestInitForEditors(t *testing.T) {
	noDatabase(t)
	d := testenv.NewDatabase(t)
	d.Exec(t, "create table a (id int primary key)")
	file := filepath.Join(t.TempDir(), "shop.yaml")
	schema := filepath.Join(filepath.Dir(file), "tidemark.schema.json")
	if code, _, wrong := tidemark(t, "init", "--url", d.URL, "-o", file); code != exitDone {
		t.Fatalf("%d %s", code, wrong)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(string(text), "\n"); first != "# yaml-language-server: $schema="+filepath.Base(schema) {
		t.Errorf("the first line: %s", first)
	}
	_, printed, _ := tidemark(t, "schema")
	written, err := os.ReadFile(schema)
	if err != nil || string(written) != printed || !strings.HasPrefix(printed, "{") {
		t.Errorf("the schema beside it is not what tidemark schema prints: %v", err)
	}
	// One that is there may be of somebody else.
	if err := os.WriteFile(schema, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if code, _, wrong := tidemark(t, "init", "--url", d.URL, "-o", file); code != exitDone {
		t.Errorf("%d %s", code, wrong)
	}
	if kept, err := os.ReadFile(schema); err != nil || string(kept) != "mine" {
		t.Errorf("the file that was there is %q, %v", kept, err)
	}
}
