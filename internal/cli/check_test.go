package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/testenv"
)

// A file is a mapping file of a test, with a slot of its own.
type file struct{ path, slot string }

// newFile writes a mapping file: the servers, then the text of its indices.
func newFile(t testing.TB, databaseURL, searchURL, slot, indices string) *file {
	t.Helper()
	f := &file{path: filepath.Join(t.TempDir(), "t.yaml"), slot: slot}
	f.write(t, databaseURL, searchURL, indices)
	return f
}

func (f *file) write(t testing.TB, databaseURL, searchURL, indices string) {
	t.Helper()
	text := fmt.Sprintf(`postgres:
  url: %s
  slot: %s
search:
  urls: [%s]
admin: {listen: "127.0.0.1:0"}
indices:
%s`, databaseURL, f.slot, searchURL, indices)
	if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// as returns the URL for another user.
func as(t testing.TB, raw, user, password string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

// refused runs check and run, which must say the same, and exit with 2.
func refused(t *testing.T, f *file, want string) {
	t.Helper()
	for _, args := range [][]string{{"check", "-c", f.path}, {"run", "--once", "--log-level", "error", "-c", f.path}} {
		code, out, wrong := tidemark(t, args...)
		wrong = strings.ReplaceAll(wrong, f.path, "t.yaml")
		wrong = strings.NewReplacer(
			"Failed to parse mapping: ", "", // Elasticsearch 8
			"permission denied to start WAL sender", "must be superuser or replication role to start walsender", // Postgres 16
			", publish_generated_columns = stored", "", // Postgres 18
		).Replace(wrong)
		if code != exitConfig || out != "" || wrong != want {
			t.Errorf("%s: exit code %d, printed %q, and\n%s\nwant 2 and\n%s", args[0], code, out, wrong, want)
		}
	}
}

// newRole makes a role that may log in, and more by options. It owns nothing after the test.
func newRole(t testing.TB, d *testenv.Database, name, options string) string {
	t.Helper()
	role := d.Unique(name)
	d.Exec(t, fmt.Sprintf("create role %s login password 'right' %s", role, options))
	t.Cleanup(func() {
		if _, err := d.DB.ExecContext(context.WithoutCancel(t.Context()), fmt.Sprintf("drop owned by %s; drop role %s", role, role)); err != nil {
			t.Errorf("drop role: %v", err)
		}
	})
	return role
}

func TestCredentials(t *testing.T) {
	server := testenv.StartPostgres(t, testenv.PostgresOptions{Auth: "scram-sha-256"})
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d := server.NewDatabase(t)
	d.Exec(t, "create table a (id int primary key)")
	indices := "  " + search.NewPrefix(t) + "a: {table: a}\n"

	f := newFile(t, as(t, d.URL, "postgres", "Wr0ng!"), search.URL, "s", indices)
	refused(t, f, `t.yaml:2: postgres.url: wrong password for role postgres. Postgres says: password authentication failed for user "postgres"
    hint: give the right password of role "postgres": in the file, in what it names by ${…}, or in PGPASSWORD
`)
	f.write(t, as(t, d.URL, "nobody", "Wr0ng!"), search.URL, indices)
	refused(t, f, `t.yaml:2: postgres.url: wrong password for role nobody. Postgres says: password authentication failed for user "nobody"
    hint: give the right password of role "nobody": in the file, in what it names by ${…}, or in PGPASSWORD
`)
	f.write(t, server.URL("nothing"), search.URL, indices)
	refused(t, f, `t.yaml:2: postgres.url: there is no database nothing. Postgres says: database "nothing" does not exist
    hint: name an existing database: SELECT datname FROM pg_database;
`)
	f.write(t, strings.Replace(d.URL, "sslmode=disable", "sslmode=require", 1), search.URL, indices)
	refused(t, f, `t.yaml:2: postgres.url: the server has no TLS, and sslmode asks for it
    hint: switch TLS on in the server (ssl = on), or ask for less: sslmode=prefer
`)
	// A cluster that speaks no TLS, in the same go.
	f.write(t, as(t, d.URL, "postgres", "Wr0ng!"), strings.Replace(search.URL, "http:", "https:", 1), indices)
	_, _, wrong := tidemark(t, "check", "-c", f.path)
	if !strings.Contains(wrong, "t.yaml:2: postgres.url: wrong password") || !strings.Contains(wrong, "t.yaml:5: search.urls: search server https://") {
		t.Errorf("not both of what is wrong:\n%s", wrong)
	}
}

func TestServerWithoutLogicalLog(t *testing.T) {
	server := testenv.StartPostgres(t, testenv.PostgresOptions{Settings: map[string]string{"wal_level": "replica"}})
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d := server.NewDatabase(t)
	d.Exec(t, "create table a (id int primary key)")
	f := newFile(t, d.URL, search.URL, "s", "  "+search.NewPrefix(t)+"a: {table: a}\n")
	refused(t, f, `t.yaml:1: postgres: wal_level is replica, logical replication needs logical
    hint: ALTER SYSTEM SET wal_level = logical; then restart Postgres
`)
}

// TestEverythingInOneGo has a file with a problem of each kind that the database tells.
func TestEverythingInOneGo(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	prefix := search.NewPrefix(t)
	if status, answer, err := search.Do(t.Context(), "PUT", "/"+prefix+"taken", nil); err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, answer, err)
	}
	role := newRole(t, d, "role", "")
	d.Exec(t,
		"create table orders (id int primary key, total numeric)", "create table heap (x int)", "create table taken (id int primary key)",
		"create table hidden (id int primary key)", "alter table hidden enable row level security",
		"create table unreadable (id int primary key)",
		fmt.Sprintf("grant select on orders, heap, taken, hidden to %s", role))
	f := newFile(t, as(t, d.URL, role, "right"), search.URL, d.Unique("slot"), fmt.Sprintf(`  %[1]sa:
    table: ordrs
  %[1]sb:
    table: orders
    fields: {sum: {column: totl}}
  %[1]sc:
    table: heap
  %[1]sd:
    table: hidden
  %[1]se:
    table: unreadable
  %[1]staken:
    table: taken
    fields: {id: {type: longish}}
`, prefix))
	refused(t, f, strings.NewReplacer("{role}", role, "{p}", prefix, "{database}", d.Name).Replace(
		`t.yaml:1: postgres: role {role} may not open a replication connection. Postgres says: must be superuser or replication role to start walsender
    hint: ALTER ROLE "{role}" REPLICATION; and a line for the database in pg_hba.conf

t.yaml:1: postgres: role {role} may not make control schema dbsync_ctrl
    hint: CREATE SCHEMA "dbsync_ctrl" AUTHORIZATION "{role}";

t.yaml:1: postgres: role {role} may not make publication dbsync_mypub: that takes CREATE on the database and the rights of the owner of each table
    hint: as a role that may:
          CREATE SCHEMA IF NOT EXISTS "dbsync_ctrl" AUTHORIZATION "{role}";
          CREATE TABLE "dbsync_ctrl"."dbsync_wmtable" (slot text PRIMARY KEY, token text NOT NULL, at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50);
          ALTER TABLE "dbsync_ctrl"."dbsync_wmtable" OWNER TO "{role}";
          CREATE PUBLICATION "dbsync_mypub" FOR TABLE ONLY "public"."heap", ONLY "public"."hidden", ONLY "public"."orders", ONLY "public"."taken", ONLY "dbsync_ctrl"."dbsync_wmtable" WITH (publish_via_partition_root = true);

t.yaml:9: indices.{p}a.table: no table public.ordrs in the database (a view or a foreign table has no log of its changes)
    hint: did you mean public.orders?

t.yaml:12: indices.{p}b.fields.sum: table public.orders has no column totl
    hint: did you mean total?

t.yaml:14: indices.{p}c: table public.heap has no primary key, and id is not given
    hint: ALTER TABLE "public"."heap" ADD PRIMARY KEY (…);
          or CREATE UNIQUE INDEX over NOT NULL columns, name them in id, and in the database:
          ALTER TABLE "public"."heap" REPLICA IDENTITY FULL;

t.yaml:16: indices.{p}d.table: row-level security hides rows of table public.hidden from role {role}
    hint: ALTER ROLE "{role}" BYPASSRLS;

t.yaml:18: indices.{p}e.table: role {role} may not read table public.unreadable. Postgres says: permission denied for table unreadable
    hint: GRANT USAGE ON SCHEMA "public" TO "{role}";
          GRANT SELECT ON "public"."unreadable" TO "{role}";

t.yaml:19: indices.{p}taken: {p}taken is an index of the cluster already, and cannot become an alias
    hint: give the mapping another name, or copy that index to a new name and delete it, or let run --adopt fill another one and delete it then

t.yaml:19: indices.{p}taken: the cluster refuses the index: No handler for type [longish] declared on field [id]
    hint: correct settings, mappings and the parameters of fields, as the cluster takes them
`))
	// Nothing was made by any of it.
	var made int
	if err := d.DB.QueryRowContext(t.Context(), `select (select count(*) from pg_namespace where nspname = 'dbsync_ctrl') + (select count(*) from pg_publication)
		+ (select count(*) from pg_replication_slots where database = current_database())`).Scan(&made); err != nil || made != 0 {
		t.Errorf("%d things were made, %v", made, err)
	}
}

// TestHintOfThePublication does what the hint says, and finds that it helps.
func TestHintOfThePublication(t *testing.T) {
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	setUp := func(t *testing.T) (*testenv.Database, *file, string) {
		d := testenv.NewDatabase(t)
		role := newRole(t, d, "role", "replication")
		owner := newRole(t, d, "owner", "")
		d.Exec(t, "create table a (id int primary key)", "alter table a owner to "+owner, "grant select on a to "+role,
			fmt.Sprintf("grant create on database %s to %s", d.Name, role))
		return d, newFile(t, as(t, d.URL, role, "right"), search.URL, d.Unique("slot"), "  "+search.NewPrefix(t)+"a: {table: a}\n"), owner
	}
	hint := func(t *testing.T, f *file) (first, second string) {
		t.Helper()
		code, _, wrong := tidemark(t, "check", "-c", f.path)
		_, text, found := strings.Cut(wrong, "\n    hint: ")
		first, second, both := strings.Cut(text, "or, as a role that may:\n")
		if code != exitConfig || !found || !both || strings.Contains(second, "hint:") {
			t.Fatalf("%d %s", code, wrong)
		}
		return first, second
	}
	works := func(t *testing.T, f *file) {
		t.Helper()
		if code, _, wrong := tidemark(t, "check", "-c", f.path); code != exitDone {
			t.Fatalf("after the hint: %d %s", code, wrong)
		}
		if code, _, wrong := tidemark(t, "run", "--once", "-c", f.path); code != exitDone {
			t.Fatalf("after the hint: %d %s", code, wrong)
		}
	}
	t.Run("grant", func(t *testing.T) {
		d, f, owner := setUp(t)
		grant, _ := hint(t, f)
		if !strings.HasPrefix(grant, "GRANT \""+owner+"\" TO ") {
			t.Errorf("hint: %s", grant)
		}
		d.Exec(t, grant)
		works(t, f)
	})
	t.Run("made by another role", func(t *testing.T) {
		d, f, _ := setUp(t)
		_, statements := hint(t, f)
		d.Exec(t, statements)
		works(t, f)
		// What it lacks later is said in the same way.
		d.Exec(t, "alter publication dbsync_mypub drop table a")
		code, _, wrong := tidemark(t, "check", "-c", f.path)
		if want := "publication dbsync_mypub, which was not made by this program, lacks \"public\".\"a\"\n    hint: ALTER PUBLICATION \"dbsync_mypub\" ADD TABLE ONLY \"public\".\"a\";\n"; code != exitConfig || !strings.HasSuffix(wrong, want) {
			t.Errorf("%d %s\nwant %s", code, wrong, want)
		}
	})
}

// TestHintOfTheEventTriggers does what the hint says, copied from where it is printed, and finds
// that it helps.
func TestHintOfTheEventTriggers(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	role := newRole(t, d, "role", "replication")
	d.Exec(t, "create table a (id int primary key)", "alter table a owner to "+role, fmt.Sprintf("grant create on database %s to %s", d.Name, role))
	indices := "  " + search.NewPrefix(t) + "a: {table: a}\n"
	f := newFile(t, as(t, d.URL, role, "right"), search.URL, d.Unique("slot"), indices)
	with := func(url string) {
		t.Helper()
		f.write(t, url, search.URL, indices)
		text, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.path, []byte(strings.Replace(string(text), "postgres:\n", "postgres:\n  event_triggers: true\n", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := func(args ...string) string {
		t.Helper()
		code, out, wrong := tidemark(t, append(args, "-c", f.path)...)
		if code != exitDone {
			t.Fatalf("%s: %d %s", args[0], code, wrong)
		}
		return out
	}
	triggers := func() (n int) {
		t.Helper()
		if err := d.DB.QueryRowContext(t.Context(), "select count(*) from pg_event_trigger").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if out := command("check"); strings.Contains(strings.ToLower(out), "event trigger") {
		t.Errorf("nobody asked for event triggers, but check says\n%s", out)
	}

	with(as(t, d.URL, role, "right"))
	for _, args := range [][]string{{"check"}, {"run", "--once"}} {
		code, _, wrong := tidemark(t, append(args, "-c", f.path)...)
		if code != exitConfig || strings.Count(wrong, "hint:") != 1 || !strings.Contains(wrong, "postgres: role "+role+" may not make event triggers: that takes a superuser") {
			t.Errorf("%s: %d %s", args[0], code, wrong)
		}
	}
	_, _, wrong := tidemark(t, "check", "-c", f.path)
	_, hint, _ := strings.Cut(wrong, "hint: ")
	d.Exec(t, hint)
	if out := command("check"); strings.Contains(out, "event trigger") {
		t.Errorf("after the hint check says\n%s", out)
	}
	command("run", "--once")
	if triggers() != 2 {
		t.Errorf("after the hint there are %d event triggers", triggers())
	}

	// Another role's are no obstacle when they are not wanted any more. A role that may drop them does, and
	// one that may make them, too.
	f.write(t, as(t, d.URL, role, "right"), search.URL, indices)
	command("check")
	command("run", "--once")
	f.write(t, d.URL, search.URL, indices)
	if out := command("check"); !strings.Contains(out, "\n  run will drop the event triggers:\n    DROP EVENT TRIGGER \"dbsync_ctrl_ddl_command_end\";\n    DROP EVENT TRIGGER \"dbsync_ctrl_sql_drop\";\n") {
		t.Errorf("when they are not wanted any more check says\n%s", out)
	}
	command("run", "--once")
	if triggers() != 0 {
		t.Errorf("when they are not wanted any more there are %d event triggers", triggers())
	}
	with(d.URL)
	d.Exec(t, "drop function dbsync_ctrl.dbsync_announce")
	out := command("check")
	for _, want := range []string{"\n  run will make event triggers, which announce changes of the catalog in the stream:\n    CREATE OR REPLACE FUNCTION ", "\n    DECLARE\n",
		"\n    CREATE EVENT TRIGGER \"dbsync_ctrl_sql_drop\" ON sql_drop EXECUTE FUNCTION \"dbsync_ctrl\".\"dbsync_announce\"();\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("check does not say %s:\n%s", want, out)
		}
	}
	command("run", "--once")
	if triggers() != 2 {
		t.Errorf("there are %d event triggers", triggers())
	}
	d.Exec(t, "drop schema dbsync_ctrl cascade", "alter table a add column n int")
	if triggers() != 0 {
		t.Errorf("without the control schema there are %d event triggers", triggers())
	}
}

// TestCheckSaysWhatRunDoes follows an index through its life.
func TestCheckSaysWhatRunDoes(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table products (id bigint primary key, tenant int not null, title text, price numeric(10,2), tags text[], at timestamptz, extra jsonb)",
		"alter table products replica identity full",
		"insert into products select i, 1, 'title ' || i from generate_series(1, 250) i; analyze products")
	name := search.NewPrefix(t) + "products"
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), "  "+name+": {table: products, routing: tenant, reindex: {chunk: 100}}\n")
	check := func(want ...string) {
		t.Helper()
		code, out, wrong := tidemark(t, "check", "-c", f.path)
		if code != exitDone || wrong != "" {
			t.Fatalf("check: %d %s", code, wrong)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("check does not say %q:\n%s", w, out)
			}
		}
	}
	run := func() {
		t.Helper()
		if code, out, wrong := tidemark(t, "run", "--once", "-c", f.path); code != exitDone || out != "" {
			t.Fatalf("run: %d %s%s", code, out, wrong)
		}
	}
	check("run will make control schema dbsync_ctrl", "run will make publication dbsync_mypub for 2 tables", "run will make slot "+d.Unique("slot"),
		"index "+name+" from table public.products, about 250 rows", "run makes an index and fills it: the index is new", "_id from id", "routing from tenant",
		"  field   indexed as  column  type\n", "  price   double      price   numeric(10,2)\n", "  extra   object      extra   jsonb\n")
	run()
	if n := count(t, search, name); n != 250 {
		t.Errorf("%d documents", n)
	}
	check("slot "+d.Unique("slot")+" is at ", "run keeps "+name+"-2", " equal to the table")
	d.Exec(t, "insert into products values (0, 2, 'one more')")
	run()
	if n := count(t, search, name); n != 251 {
		t.Errorf("%d documents after one more row", n)
	}
	f.write(t, d.URL, search.URL, "  "+name+": {table: products, routing: tenant, fields: {extra: false}}\n")
	check("run rebuilds it beside "+name+"-2", "the mapping or a table changed; about ", " rows/s of the last time")
	run()
	check("run keeps " + name + "-2")
	d.Exec(t, "alter table products add column color text")
	check("run adds the fields of new columns to "+name+"-2", "no rebuild is needed")
	run()
	check("run keeps " + name + "-2")

	// Somebody has the name stand for another index.
	other := name + "-other"
	request := func(method, path, body string) {
		t.Helper()
		if status, answer, err := search.Do(t.Context(), method, path, []byte(body)); err != nil || status != 200 {
			t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
		}
	}
	request("PUT", "/"+other, "{}")
	request("POST", "/_aliases", `{"actions": [{"remove": {"index": "`+name+`-2*", "alias": "`+name+`"}}, {"add": {"index": "`+other+`", "alias": "`+name+`"}}]}`)
	for _, args := range [][]string{{"check", "-c", f.path}, {"run", "--once", "-c", f.path}} {
		if code, _, wrong := tidemark(t, args...); code != exitFailed || !strings.Contains(wrong, "stands for "+other) || !strings.Contains(wrong, "hint: remove the alias") {
			t.Errorf("%s with another index under the name: %d %s", args[0], code, wrong)
		}
	}
	request("DELETE", "/"+other, "{}")
	run() // puts it back
	if n := count(t, search, name); n != 251 {
		t.Errorf("%d documents under the name that was put back", n)
	}

	// Changes are missing: run refuses, and so does check.
	d.Exec(t, "select pg_drop_replication_slot('"+d.Unique("slot")+"')")
	for _, args := range [][]string{{"check", "-c", f.path}, {"run", "--once", "-c", f.path}} {
		if code, _, wrong := tidemark(t, args...); code != exitFailed || !strings.Contains(wrong, "it does not exist any more") || !strings.Contains(wrong, "hint: every index") {
			t.Errorf("%s without its slot: %d %s", args[0], code, wrong)
		}
	}
	d.Exec(t, "insert into products values (-1, 2, 'missed')")
	if code, _, wrong := tidemark(t, "run", "--once", "--reindex", "all", "-c", f.path); code != exitDone {
		t.Fatalf("run --reindex all without its slot: %d %s", code, wrong)
	}
	if n := count(t, search, name); n != 252 {
		t.Errorf("%d documents after everything was filled again", n)
	}
	check("slot "+d.Unique("slot")+" is at ", "run keeps "+name+"-2")
}

// What others have set around an index in the cluster is said by check, and what cannot be kept over
// a rebuild, or is somebody else's, keeps run from beginning: nothing is made then.
func TestCheckSaysWhatIsAround(t *testing.T) {
	d, search := testenv.NewDatabase(t), testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table products (id int primary key, title text)", "insert into products select i, 'title ' || i from generate_series(1, 50) i")
	name := search.NewPrefix(t) + "products"
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), "  "+name+": {table: products}\n")
	request := func(method, path, body string) {
		t.Helper()
		if status, answer, err := search.Do(t.Context(), method, path, []byte(body)); err != nil || status != 200 {
			t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
		}
	}
	template := "/_index_template/" + name
	t.Cleanup(func() {
		if _, _, err := search.Do(context.WithoutCancel(t.Context()), "DELETE", template, nil); err != nil {
			t.Error(err)
		}
	})
	// stops has check and run refuse, before anything is made.
	stops := func(want ...string) {
		t.Helper()
		for _, args := range [][]string{{"check", "-c", f.path}, {"run", "--once", "-c", f.path}} {
			code, out, wrong := tidemark(t, args...)
			if code != exitFailed {
				t.Errorf("%s ends with %d:\n%s%s", args[0], code, out, wrong)
			}
			for _, text := range want {
				if !strings.Contains(wrong, text) {
					t.Errorf("%s does not say %q:\n%s", args[0], text, wrong)
				}
			}
		}
		var slots int
		if err := d.DB.QueryRow("select count(*) from pg_replication_slots where database = current_database()").Scan(&slots); err != nil || slots > 0 {
			t.Errorf("there are %d slots, %v", slots, err)
		}
		if indices, err := search.Indices(t.Context(), name+"-2*"); err != nil || len(indices) > 0 {
			t.Errorf("there are indices: %v, %v", indices, err)
		}
	}
	request("PUT", template, `{"index_patterns": ["`+name+`-*"], "priority": 900, "template": {"aliases": {"`+name+`": {}}}}`)
	stops("index "+name+": the index template "+name+" puts each physical index behind the alias", "hint: change the template")
	request("PUT", template, `{"index_patterns": ["`+name+`-*"], "priority": 900, "template": {"mappings": {"_routing": {"required": true}}}}`)
	stops("has every document without a routing refused")
	request("PUT", template, `{"index_patterns": ["`+name+`-*"], "priority": 900, "template": {"mappings": {"_source": {"enabled": false}}}}`)
	stops("has documents not kept")
	request("PUT", template, `{"index_patterns": ["`+name+`-*"], "priority": 900, "template": {"aliases": {"`+name+`-all": {}}, "settings": {"index.mapping.total_fields.limit": 2000}}}`)

	run := func() {
		t.Helper()
		if code, _, wrong := tidemark(t, "run", "--once", "-c", f.path, "--log-level", "warn"); code != 0 {
			t.Fatalf("run: %d %s", code, wrong)
		}
	}
	run()
	request("POST", "/_aliases", `{"actions": [{"add": {"index": "`+name+`-2*", "alias": "`+name+`", "filter": {"range": {"id": {"lt": 10}}}}},
		{"add": {"index": "`+name+`-2*", "alias": "`+name+`-shop", "routing": "eu"}}]}`)
	code, out, wrong := tidemark(t, "check", "-c", f.path)
	for _, text := range []string{
		"the alias " + name + " stands for " + name + "-2", `with filter {"range":{"id":{"lt":10}}}, and does so for the next one after a rebuild`,
		"the alias " + name + "-all stands for " + name + "-2", "the alias " + name + "-shop stands for ", "with index_routing eu, search_routing eu",
		"the index template " + name + " gives to its physical indices the aliases " + name + "-all; the settings index.mapping.total_fields.limit",
	} {
		if code != 0 || !strings.Contains(out, text) {
			t.Errorf("check (%d) does not say %q:\n%s%s", code, text, out, wrong)
		}
	}
	if code, _, wrong := tidemark(t, "run", "--once", "-c", f.path, "--reindex", name, "--log-level", "warn"); code != 0 {
		t.Fatalf("run: %d %s", code, wrong)
	}
	if n := count(t, search, name); n != 9 {
		t.Errorf("by the alias with its filter %d documents are seen after a rebuild", n)
	}
	if n := count(t, search, name+"-all"); n != 50 {
		t.Errorf("by the template's alias %d documents are seen after a rebuild", n)
	}
}

// TestInterruptedOnce ends before the work is done: that is no success, as it is for run
// without --once.
func TestInterruptedOnce(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table a (id int primary key)")
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), "  "+search.NewPrefix(t)+"a: {table: a}\n")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stopped by signal"))
	for want, args := range map[int][]string{
		exitFailed: {"run", "--once", "-c", f.path},
		exitDone:   {"run", "-c", f.path},
	} {
		code, _, wrong := tidemarkUntil(ctx, args...)
		if code != want || strings.HasSuffix(wrong, "tidemark: interrupted before it was done\n") != (want == exitFailed) {
			t.Errorf("%v: %d %s", args, code, wrong)
		}
	}
}

// TestUnknownIndexToReindex is found out before any server is asked.
func TestUnknownIndexToReindex(t *testing.T) {
	f := newFile(t, "postgres://127.0.0.1:1/d", "http://127.0.0.1:1", "s", "  a: {table: a}\n")
	code, _, wrong := tidemark(t, "run", "--reindex", "a,b", "-c", f.path)
	if code != exitConfig || !strings.Contains(wrong, "there is no index b in the mapping") {
		t.Errorf("%d %s", code, wrong)
	}
}

// TestAdminAddress has run meet an admin address that another process has, which holds
// nothing up, and one that it never can have, which is found out before anything is made.
func TestAdminAddress(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table a (id int primary key)")
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), "  "+search.NewPrefix(t)+"a: {table: a}\n")

	const nowhere = "192.0.2.1:9630" // of no host, RFC 5737
	f.setAdmin(t, nowhere)
	code, _, wrong := tidemark(t, "run", "-c", f.path)
	if code != exitConfig || !strings.Contains(wrong, f.path+":6: admin.listen: cannot listen on "+nowhere) || !strings.Contains(wrong, "\n    hint: an address of this host") {
		t.Errorf("%d %s", code, wrong)
	}
	for what, query := range map[string]string{
		"slots":        "select count(*) from pg_replication_slots where database = current_database()",
		"publications": "select count(*) from pg_publication",
		"schemas":      "select count(*) from pg_namespace where nspname = 'dbsync_ctrl'",
	} {
		var n int
		if err := d.DB.QueryRowContext(t.Context(), query).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d %s were made for a file that cannot be used, %v", n, what, err)
		}
	}
	// It is needed by none that comes to an end by itself.
	says(t, exitDone, []string{"run", "--once", "-c", f.path})

	address := f.takeAdmin(t)
	code, _, wrong = tidemark(t, "run", "--once", "-c", f.path)
	if code != exitDone || strings.Contains(wrong, "admin server") {
		t.Errorf("run --once: %d %s", code, wrong)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	log := &lineWatch{text: "the admin server cannot listen", then: cancel}
	if code := Run(ctx, []string{"run", "-c", f.path}, io.Discard, log); code != exitDone {
		t.Errorf("exit code %d:\n%s", code, log)
	}
	if context.Cause(ctx) != context.Canceled || !strings.Contains(log.String(), address) || !strings.Contains(log.String(), "set admin.listen") {
		t.Errorf("it says\n%s", log)
	}
}

// A lineWatch is a log; then is called when it has the text.
type lineWatch struct {
	text string
	then func()

	mu  sync.Mutex
	log strings.Builder
}

func (l *lineWatch) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.Contains(string(line), l.text) {
		l.then()
	}
	return l.log.Write(line)
}

func (l *lineWatch) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.String()
}

// takeAdmin has the file name an admin address that somebody else listens on.
func (f *file) takeAdmin(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	address = l.Addr().String()
	f.setAdmin(t, address)
	return address
}

// setAdmin has the file name an admin address.
func (f *file) setAdmin(t *testing.T, address string) {
	t.Helper()
	text, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`listen: "[^"]*"`).ReplaceAll(text, []byte(`listen: "`+address+`"`))
	if err := os.WriteFile(f.path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// count returns the number of documents that searchers see.
func count(t *testing.T, s *testenv.SearchServer, index string) int {
	t.Helper()
	var answer struct{ Count int }
	for _, request := range [][2]string{{"POST", "/" + index + "/_refresh"}, {"GET", "/" + index + "/_count"}} {
		status, body, err := s.Do(t.Context(), request[0], request[1], nil)
		if err != nil || status != 200 {
			t.Fatalf("%s: %d %s %v", request[1], status, body, err)
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatal(err)
		}
	}
	return answer.Count
}
