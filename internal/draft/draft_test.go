package draft

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/testenv"
)

var update = flag.Bool("update", false, "write testdata anew")

func TestMain(m *testing.M) { testenv.Main(m) }

// chinookFile is the Chinook sample database, beside the tree.
const chinookFile = "../../../shared/data/chinook.sql"

// make drafts a file for d and the shared search server.
func (s *servers) make(t *testing.T, o Options) *Draft {
	t.Helper()
	o.Variable, o.SearchURLs = "DATABASE_URL", []string{s.search.URL}
	made, err := Make(t.Context(), s.db.DB, o)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// servers are what a draft is checked against.
type servers struct {
	db     *testenv.Database
	search *testenv.SearchServer
}

func newServers(t *testing.T, statements ...string) *servers {
	t.Helper()
	s := &servers{testenv.NewDatabase(t), testenv.SharedSearch(t, testenv.Engines(t)[0])}
	s.db.Exec(t, statements...)
	return s
}

// accepted does what tidemark check does with the text.
func (s *servers) accepted(t *testing.T, text []byte) *mapping.Config {
	t.Helper()
	c, err := mapping.Parse("t.yaml", text, func(name string) (string, bool) { return s.db.URL, name == "DATABASE_URL" })
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	p, err := prepare.Prepare(t.Context(), c, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	p.Close()
	return c
}

var (
	proposal = regexp.MustCompile(`(?m)^( *)# `)
	sqlLine  = regexp.MustCompile(`(?m)^ *(?:#   )?## (?:changes of .* cost less with: )?((?:ALTER|CREATE|SELECT) .*)$`)
)

// allAccepted runs every statement that the draft asks for and takes up all that it
// proposes.
func (s *servers) allAccepted(t *testing.T, text []byte) *mapping.Config {
	t.Helper()
	for _, m := range sqlLine.FindAllSubmatch(text, -1) {
		query, each := strings.CutSuffix(string(m[1]), ` \gexec`)
		if !each {
			s.db.Exec(t, query)
			continue
		}
		rows, err := s.db.DB.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var made []string
		for rows.Next() {
			var statement string
			if err := rows.Scan(&statement); err != nil {
				t.Fatal(err)
			}
			made = append(made, statement)
		}
		s.db.Exec(t, made...)
	}
	all := proposal.ReplaceAll(bytes.TrimPrefix(text, []byte("# yaml-language-server: $schema="+SchemaFile)), []byte("$1"))
	all = regexp.MustCompile(`(?m)^  user: elastic\n  password: .*\n`).ReplaceAll(all, nil) // the cluster asks for none
	return s.accepted(t, all)
}

func TestChinook(t *testing.T) {
	text, err := os.ReadFile(filepath.FromSlash(chinookFile))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the Chinook sample database is not at %s", chinookFile)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := newServers(t, string(text), "ANALYZE")
	made := s.make(t, Options{})
	got := bytes.ReplaceAll(bytes.ReplaceAll(made.Text, []byte(s.db.Name), []byte("chinook")), []byte(s.search.URL), []byte("http://localhost:9200"))
	got = regexp.MustCompile(`(?m)^  slot: .*\n`).ReplaceAll(got, nil) // where somebody else works on the server
	golden := filepath.Join("testdata", "chinook.golden.yaml")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if made.Indices != 10 || made.LeftOut != 0 {
		t.Errorf("%d indices, %d tables left out", made.Indices, made.LeftOut)
	}
	s.accepted(t, made.Text)
	c := s.allAccepted(t, made.Text)
	if n := len(c.Indices[9].Sources[0].Include); n != 5 { // of track
		t.Errorf("track includes %d tables", n)
	}
	// With the statements run, there is nothing more to ask for.
	if again := s.make(t, Options{}); bytes.Contains(again.Text, []byte("ALTER")) {
		t.Errorf("%s", again.Text)
	}
}

// nasty is a schema of names and types that somebody has somewhere.
const nasty = `
	CREATE TABLE "Upper Case" ("Id" bigint PRIMARY KEY, "Group" text, "select" int, "with.dot" text, "with" text, " " text, "*" text, "a""b'c" text,
		"ünïcode ✓" text, "_id" text, "_source" text, "$${x}" text, "${HOME}" text, "null" text, "yes" bool, "<<" text, "a: b" text, "# no" text, "tab	x" text, "..." text, "-" text, "{" text, "~" text, "1" text);
	COMMENT ON TABLE "Upper Case" IS E'What: "it" is for # \n - [really] \x01\u2028';
	COMMENT ON COLUMN "Upper Case"."Id" IS 'The id: {}';
	CREATE TABLE "null" ("on" int PRIMARY KEY, "off" int NOT NULL REFERENCES "Upper Case", "Name" text);
	ALTER TABLE "null" REPLICA IDENTITY FULL;
	CREATE INDEX ON "null" ("off");
	CREATE TABLE "yes" (id int PRIMARY KEY, note text);
	CREATE TABLE "a.b" (id uuid PRIMARY KEY);
	CREATE TABLE "a_b" (id uuid PRIMARY KEY, "a.b" uuid REFERENCES "a.b", "a_b" text);
	CREATE TABLE "A_B" (id uuid PRIMARY KEY);
	CREATE TABLE "_-+ *" (id int PRIMARY KEY);
	CREATE TABLE "日本語" ("番号" int PRIMARY KEY, "名前" text);
	CREATE TABLE "x-20260131t120000z" (id int PRIMARY KEY);
	CREATE TABLE "${DATABASE_URL}" (id int PRIMARY KEY, up int REFERENCES "Upper Case");
	CREATE TABLE "line
break" (id int PRIMARY KEY);
	CREATE SCHEMA "Other.Schema";
	CREATE TABLE "Other.Schema"."a.b" (id int PRIMARY KEY);
	CREATE TABLE "Other.Schema"."yes" (id int PRIMARY KEY);
	CREATE TYPE mood AS ENUM ('sad', 'ok');
	CREATE TYPE pair AS (a int, b text);
	CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE TABLE types (id positive PRIMARY KEY, m mood, p pair, ps pair[], n numeric(30,5), r int4range, rs int4multirange, j json, jb jsonb, b bytea, i inet, c cidr, iv interval,
		ts timestamptz, tv tsvector, x xml, bits bit(3), g int GENERATED ALWAYS AS (1) STORED, pt point, mac macaddr, arr text[], u uuid, password_hash text, api_key text);
	CREATE TABLE of_domain (id int PRIMARY KEY, type_id positive UNIQUE REFERENCES types);
	CREATE TABLE wide (id int PRIMARY KEY);
	DO $do$ BEGIN FOR i IN 1..700 LOOP EXECUTE format('ALTER TABLE wide ADD c%s text', i); END LOOP; END $do$;
`

func TestNastyNames(t *testing.T) {
	s := newServers(t, nasty)
	made := s.make(t, Options{})
	t.Logf("%s", made.Text)
	if made.Indices != 16 || made.LeftOut != 0 {
		t.Errorf("%d indices, %d tables left out", made.Indices, made.LeftOut)
	}
	s.accepted(t, made.Text)
	s.allAccepted(t, made.Text)
}

// shop is a schema with keys, links and tables of every kind.
const shop = `
	CREATE TABLE tenants (id int PRIMARY KEY, name text);
	CREATE TABLE products (tenant_id int REFERENCES tenants, sku text, title text NOT NULL, "parentSku" text, PRIMARY KEY (tenant_id, sku),
		FOREIGN KEY (tenant_id, "parentSku") REFERENCES products (tenant_id, sku));
	CREATE TABLE product_details (tenant_id int, sku text, story text, PRIMARY KEY (tenant_id, sku), FOREIGN KEY (tenant_id, sku) REFERENCES products);
	CREATE TABLE tags (id int PRIMARY KEY, name text UNIQUE NOT NULL, password text);
	CREATE TABLE product_tags (tenant_id int, sku text, tag_id int REFERENCES tags, position int, PRIMARY KEY (tag_id, tenant_id, sku), FOREIGN KEY (tenant_id, sku) REFERENCES products);
	CREATE TABLE people (id int PRIMARY KEY, first_name text, last_name text);
	CREATE TABLE friends (person_id int REFERENCES people, friend_id int REFERENCES people, PRIMARY KEY (person_id, friend_id));
	CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY, at date, buyer_id int REFERENCES people, payer_id int REFERENCES people, tag text REFERENCES tags (name), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
	CREATE TABLE orders_2 PARTITION OF orders DEFAULT;
	CREATE TABLE order_lines (id int PRIMARY KEY, order_id bigint, order_at date, FOREIGN KEY (order_id, order_at) REFERENCES orders, note text);
	CREATE TABLE by_unique (code text NOT NULL UNIQUE, n int);
	ALTER TABLE by_unique REPLICA IDENTITY FULL;
	CREATE TABLE by_unique_mute (code text NOT NULL UNIQUE, n int);
	CREATE TABLE no_key (n int, at timestamptz);
	CREATE TABLE no_columns ();
	CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
	CREATE TABLE mute (id int PRIMARY KEY, tenant_id int UNIQUE REFERENCES tenants);
	ALTER TABLE mute REPLICA IDENTITY NOTHING;
	CREATE TABLE mute_refs (id int PRIMARY KEY, mute_id int REFERENCES mute);
	CREATE TABLE mute_parts (id int PRIMARY KEY, tenant_id int REFERENCES tenants) PARTITION BY LIST (id);
	CREATE TABLE mute_parts_1 PARTITION OF mute_parts DEFAULT;
	ALTER TABLE mute_parts REPLICA IDENTITY NOTHING;
	ALTER TABLE mute_parts_1 REPLICA IDENTITY NOTHING;
	CREATE TABLE mute_parts_refs (id int PRIMARY KEY, part_id int REFERENCES mute_parts);
	CREATE TABLE events (person_id int REFERENCES people, at timestamptz);
	CREATE TABLE invitations (secret text PRIMARY KEY);
	CREATE TABLE guests (id int PRIMARY KEY, secret text REFERENCES invitations);
	CREATE TABLE loops_a (id int PRIMARY KEY, b_id int);
	CREATE TABLE loops_b (id int PRIMARY KEY, a_id int REFERENCES loops_a);
	ALTER TABLE loops_a ADD FOREIGN KEY (b_id) REFERENCES loops_b;
	CREATE TABLE of_extension (id int PRIMARY KEY);
	ALTER EXTENSION plpgsql ADD TABLE of_extension;
	CREATE VIEW view AS SELECT * FROM people;
	CREATE TEMPORARY TABLE temporary (id int PRIMARY KEY);
	CREATE SCHEMA dbsync_ctrl;
	CREATE TABLE dbsync_ctrl.states (id int PRIMARY KEY);
	CREATE SCHEMA other_ctrl;
	CREATE TABLE other_ctrl.dbsync_wmtable (id int PRIMARY KEY);
	CREATE SCHEMA sales;
	CREATE TABLE sales.tenants (id int PRIMARY KEY, tenant int REFERENCES public.tenants);
	ALTER TABLE sales.tenants REPLICA IDENTITY FULL;
	COMMENT ON TABLE people IS 'Everybody we know';
`

func TestShop(t *testing.T) {
	s := newServers(t, shop)
	made := s.make(t, Options{})
	t.Logf("%s", made.Text)
	for _, want := range []string{
		"  ## Everybody we know\n  people:",
		"  sales_tenants:",
		"\n  orders:",
		"##   table public.no_key has no primary key, and id is not given\n##     hint: ALTER TABLE \"public\".\"no_key\" ADD PRIMARY KEY (…);\n",
		"##   table public.unlogged is unlogged or temporary",
		"table: public.by_unique\n    id: [code]\n",
		"have no index of their own: public.friends, public.product_tags\n",
		"through: {table: public.product_tags, on: {tenant_id: tenant_id, sku: sku}, to: {tag_id: id}}, value: name,",
		"order_by: position",
		"events: ", // a table without a key can be inside of another
		"products_by_parentsku: {table: public.products,",
	} {
		if !bytes.Contains(made.Text, []byte(want)) {
			t.Errorf("not there: %s", want)
		}
	}
	if made.LeftOut != 7 {
		t.Errorf("%d tables left out", made.LeftOut)
	}
	for _, not := range []string{"orders_1", "of_extension", "view", "public.temporary", "states", "wmtable", "password,", "table: public.invitations, on"} {
		if bytes.Contains(made.Text, []byte(not)) {
			t.Errorf("there: %s", not)
		}
	}
	if bytes.Contains(made.Text, []byte("REPLICA IDENTITY DEFAULT")) {
		t.Error("one include asks for less of a table than another one")
	}
	s.accepted(t, made.Text)
	s.allAccepted(t, made.Text)
}

// TestSelection has tables chosen by schema and by name, and the database not named at all.
func TestSelection(t *testing.T) {
	s := newServers(t, shop)
	indices := func(o Options) string {
		t.Helper()
		var names []string
		for _, ix := range s.accepted(t, s.make(t, o).Text).Indices {
			names = append(names, ix.Name)
		}
		return strings.Join(names, " ")
	}
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{Schemas: []string{"sales"}}, "tenants"},
		{Options{Tables: []string{"tags", "sales.tenants"}}, "tags tenants"},
		{Options{Tables: []string{"friends"}}, "friends"}, // a link table that is asked for
		{Options{Schemas: []string{"sales"}, Tables: []string{"tenants"}}, "tenants"},
	} {
		if got := indices(test.o); got != test.want {
			t.Errorf("%+v: got %s, want %s", test.o, got, test.want)
		}
	}
	made, err := Make(t.Context(), s.db.DB, Options{SearchURLs: []string{"https://s:9200"}, SearchUser: "me", Tables: []string{"people"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mapping.Parse("t.yaml", made.Text, func(name string) (string, bool) { return "x", name == "SEARCH_PASSWORD" }); err != nil {
		t.Errorf("%v\n%s", err, made.Text)
	}
}
