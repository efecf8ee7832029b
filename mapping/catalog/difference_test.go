package catalog_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

// alterations are what is done to table t, which is as in watched, and what is different then.
var alterations = []struct {
	alter string
	want  string // as Difference.String has them, without "public.t: "; "": nothing
}{
	{`insert into t values (2)`, ``},
	{`analyze t`, ``},
	{`vacuum t`, ``},
	{`create index on t (v)`, ``},
	{`alter table t alter v set statistics 10`, ``},
	{`grant select on t to public`, ``},
	{`comment on table t is 'x'`, ``},
	{`alter table t add check (v <> 'x')`, ``},
	{`alter table t alter v set default 'y'`, ``},
	{`update t set v = ''; alter table t alter v set not null`, ``},
	{`alter type mood add value 'well'`, ``},
	{`alter type mood add value 'well' before 'sad'`, ``},
	{`alter domain price add check (value > 0)`, ``},
	{`alter schema public owner to current_user`, ``},
	{`alter table t add column x int`, `column x added`},
	{`alter table t add column x int not null default 7`, `column x added`},
	{`alter table t add column x int generated always as (n * 2) stored`, `rewritten; column x added`},
	{`alter table t drop column v`, `column v dropped`},
	{`alter table t rename column v to x`, `column x renamed from v`},
	{`alter table t drop column v, add column v text`, `column v exchanged`},
	{`alter table t add column x text; alter table t drop column v; alter table t rename column x to v`, `column v exchanged`},
	{`alter table t rename column v to x; alter table t rename column w to v; alter table t rename column x to w`, `column w renamed from v; column v renamed from w; column w exchanged; column v exchanged`},
	{`alter table t alter d type float8`, `rewritten; column d retyped`},
	{`alter table t alter n type int using n * 2`, ``}, // refused, n is what g is computed from
	{`alter table t alter d type numeric(10,2) using d * 100`, `rewritten`},
	{`alter table t alter d type numeric(12,2)`, `column d retyped`},
	{`alter table t alter v type varchar(10)`, `rewritten; column v retyped`},
	{`alter table t alter v type text collate "C"`, `column v collated`},
	{`alter type mood rename value 'sad' to 'unhappy'`, `column m relabelled; column ms relabelled`},
	{`alter type mood rename to feeling`, `column m retyped; column ms retyped`},
	{`alter type pair rename attribute a to c`, `column p retyped`},
	{`alter type pair add attribute c int`, `column p retyped`},
	{`alter type pair drop attribute a`, `column p retyped`},
	{`alter type pair add attribute c int; alter type pair drop attribute a; alter type pair rename attribute c to a`, `column p retyped`},
	{`alter table t drop column g, add column g int generated always as (n * 3) stored`, `rewritten; column g exchanged`},
	{`alter table t alter g drop expression`, `column g retyped`},
	{`alter table t drop constraint t_pkey`, `keyed; identified`},
	{`alter table t add unique (v)`, `keyed`},
	{`alter table t drop constraint t_pkey; alter table t add primary key (id) deferrable`, `keyed; identified`},
	{`alter table t replica identity full`, `identified`},
	{`alter table t set unlogged`, `rewritten; unlogged`},
	{`vacuum full t`, `rewritten`},
	{`cluster t using t_pkey`, `rewritten`},
	{`truncate t`, `rewritten`},
	{`drop table t; create table t (id int primary key)`, `replaced`},
	{`create table t_new (like t including all); alter table t rename to t_old; alter table t_new rename to t`, `replaced`},
	{`do $$ begin for i in 1..1000 loop execute format('alter type mood add value %L', 'v' || i); end loop; end $$`, `column m relabelled; column ms relabelled`},
	{`alter table t rename v to x; alter table t rename x to v`, ``},
	{`alter type mood rename value 'sad' to 'x'; alter type mood rename value 'x' to 'sad'`, `column m touched; column ms touched`},
	{`alter type pair rename attribute a to x; alter type pair rename attribute x to a`, `column p touched`},
	{`alter publication pub set (publish = 'insert'); alter publication pub set (publish = 'insert, update, delete, truncate')`, `republished`},
	{`alter publication pub drop table t; alter publication pub add table t`, ``}, // see dbsync.TableGeneration
	{`alter table t rename to u`, `gone`},
	{`drop table t`, `gone`},
	{`create schema s; alter table t set schema s`, `gone`},
}

const watched = `create type mood as enum ('sad', 'ok'); create type pair as (a int, b int); create domain price as numeric(10,2);
	create table t (id int primary key, v text, w text, n int, d numeric(10,2), m mood, ms mood[], p pair, c price, g int generated always as (n * 2) stored);
	insert into t (id, n) values (1, 1); create publication pub for table t`

// What was altered is told, and the digest says that something was.
func TestDifferences(t *testing.T) {
	t.Parallel()
	d := testenv.NewDatabase(t)
	name := catalog.TableName{Schema: "public", Name: "t"}
	load := func() *catalog.Table {
		tables, err := catalog.LoadTables(t.Context(), d.DB, []catalog.TableName{name}, "pub")
		if err != nil {
			t.Fatal(err)
		}
		return tables[name]
	}
	for _, test := range alterations {
		d.Exec(t, `drop schema if exists s cascade`, `drop publication if exists pub`, `drop schema public cascade`, `create schema public`, watched)
		before := load()
		digest := catalog.NewDigest([]catalog.TableName{name}, catalog.Tables{name: before}, "pub")
		was := read(t, d, digest)
		if again := read(t, d, digest); again != was {
			t.Errorf("the digest is %s and then %s", was, again)
		}
		_, err := d.DB.ExecContext(t.Context(), test.alter)
		if refused := strings.Contains(test.alter, "n type int using") || strings.Contains(test.alter, "set unlogged"); (err != nil) != refused {
			t.Errorf("%s: %v", test.alter, err)
		}
		if err != nil {
			if strings.Contains(test.alter, "set unlogged") { // of a table that is published
				d.Exec(t, "drop publication pub", test.alter)
			} else {
				continue
			}
		}
		got := "gone"
		if now := load(); now != nil {
			var all []string
			for _, difference := range now.Differences(before) {
				all = append(all, strings.TrimPrefix(difference.String(), "public.t: "))
			}
			got = strings.Join(all, "; ")
			if diff := now.Differences(now); len(diff) > 0 {
				t.Errorf("%s: it differs from itself: %v", test.alter, diff)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", test.alter, diff)
		}
		if now := read(t, d, digest); test.want != "" && now == was {
			t.Errorf("%s: the digest is as before", test.alter)
		} else if quiet := strings.HasPrefix(test.alter, "insert") || strings.HasPrefix(test.alter, "analyze") || strings.HasPrefix(test.alter, "vacuum t"); quiet && now != was {
			t.Errorf("%s: the digest is another one", test.alter)
		}
	}
}

// What an earlier version noted of the publication said more, also how it had the table.
func TestDifferencesOfPublications(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		now, before string
		want        bool
	}{
		{"16400.750", "16400.750", false},
		{"16400.750 16500", "16400.750 16500", false},
		{"16400.750 16500", "16400.750", true},
		{"16400.751", "16400.750", true},
		{"", "16400.750", false},
		{"16400.750", "", false},
		{"16400.750", "16400 750 16405 760", false},
		{"16400.750 16500", "16400 750 16500", false},
		{"16400.751", "16400 750 16405 760", true},
		{"16401.750", "16400 750", true},
	} {
		now, before := &catalog.Table{Published: test.now}, &catalog.Table{Published: test.before}
		if got := len(now.Differences(before)) > 0; got != test.want {
			t.Errorf("%q after %q is different: %v", test.now, test.before, got)
		}
	}
}

func read(t *testing.T, d *testenv.Database, digest *catalog.Digest) string {
	t.Helper()
	text, err := digest.Read(t.Context(), d.DB)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What is done to the publication, to partitions and to the role shows in the digest.
func TestDigest(t *testing.T) {
	t.Parallel()
	d := testenv.NewDatabase(t)
	d.Exec(t, `create table a (id int primary key)`, `create table p (id int primary key) partition by range (id)`, `create table p1 partition of p for values from (0) to (10)`,
		`create table q (id int) partition by range (id)`, `create table base (id int primary key)`, `create publication pub for table a`)
	names := []catalog.TableName{{Schema: "public", Name: "a"}, {Schema: "public", Name: "p"}, {Schema: "public", Name: "base"}, {Schema: "public", Name: "later"}}
	tables, err := catalog.LoadTables(t.Context(), d.DB, names, "pub")
	if err != nil {
		t.Fatal(err)
	}
	if tables[names[3]] != nil || tables[names[1]].File != "" || tables[names[0]].File == "" {
		t.Errorf("the tables are %+v", tables)
	}
	digest := catalog.NewDigest(names, tables, "pub")
	was := read(t, d, digest)
	for _, alter := range []string{
		`alter publication pub add table p`, `alter publication pub drop table a`, `alter publication pub set table a where (id > 1)`, `alter publication pub set (publish = 'insert')`,
		`alter publication pub set (publish_via_partition_root = true)`, `drop publication pub`, `create table p2 partition of p for values from (10) to (20)`, `alter table p detach partition p1`,
		`alter table p attach partition p1 for values from (0) to (10)`, `truncate p1`, `create table child () inherits (base)`, `create table later (id int)`, `drop table p`,
	} {
		d.Exec(t, alter)
		now := read(t, d, digest)
		if now == was {
			t.Errorf("%s: the digest is as before", alter)
		}
		was = now
	}
	d.Exec(t, `create table z (id int)`, `alter table z add x int`, `insert into a values (1)`, `alter table q add x int`)
	if read(t, d, digest) != was {
		t.Error("what is done to other tables shows in the digest")
	}
}

// A type's schema, and what a role may see by whom it belongs to, are no rows of the table.
func TestDigestOfWhatIsAround(t *testing.T) {
	t.Parallel()
	d := testenv.NewDatabase(t)
	role, owner := d.Unique("role"), d.Unique("owner")
	d.Exec(t, `create schema s`, `create type s.mood as enum ('sad')`, `create table a (id int primary key, m s.mood)`,
		strings.NewReplacer("$ROLE", role, "$OWNER", owner).Replace(`create role $ROLE; create role $OWNER; grant $OWNER to $ROLE; alter table a owner to $OWNER; alter table a enable row level security`))
	conn, err := d.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), `set role `+role); err != nil {
		t.Fatal(err)
	}
	names := []catalog.TableName{{Schema: "public", Name: "a"}}
	tables, err := catalog.LoadTables(t.Context(), conn, names, "")
	if err != nil {
		t.Fatal(err)
	}
	digest := catalog.NewDigest(names, tables, "pub")
	was := ""
	for _, alter := range []string{``, `revoke ` + owner + ` from ` + role, `grant ` + owner + ` to ` + role, `revoke ` + owner + ` from ` + role, `alter role ` + role + ` bypassrls`, `alter schema s rename to s2`} {
		d.Exec(t, alter)
		now, err := digest.Read(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		if now == was {
			t.Errorf("%s: the digest is as before", alter)
		}
		was = now
	}
}

// A table gets a TOAST table with the first column that needs one: its rows are where they were.
func TestFirstLongColumn(t *testing.T) {
	t.Parallel()
	d := testenv.NewDatabase(t)
	d.Exec(t, `create table a (id int primary key)`)
	names := []catalog.TableName{{Schema: "public", Name: "a"}}
	var found []*catalog.Table
	for _, alter := range []string{``, `alter table a add column v text`, `vacuum full a`} {
		d.Exec(t, alter)
		tables, err := catalog.LoadTables(t.Context(), d.DB, names, "pub")
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, tables[names[0]])
	}
	if found[0].File == found[1].File {
		t.Error("no TOAST table came")
	}
	for i, want := range []string{"[public.a: column v added]", "[public.a: rewritten]"} {
		if got := fmt.Sprint(found[i+1].Differences(found[i])); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// What the watch costs: 50 tables of 10 columns each, alone and in a catalog of 5,000 tables.
func BenchmarkDigest(b *testing.B) {
	for _, all := range []int{50, 5000} {
		d := testenv.NewDatabase(b)
		d.Exec(b, fmt.Sprintf(`do $$ begin for i in 1..%d loop
			execute format('create table t%%s (id int primary key, a text, b text, c int, d numeric, e timestamptz, f jsonb, g int[], h bool, i uuid)', i);
			if i %% 500 = 0 then commit; end if; end loop; end $$`, all), `vacuum analyze`)
		for _, watched := range []int{50, all} {
			var names []catalog.TableName
			for i := range watched {
				names = append(names, catalog.TableName{Schema: "public", Name: fmt.Sprint("t", i+1)})
			}
			tables, err := catalog.LoadTables(b.Context(), d.DB, names, "pub")
			if err != nil {
				b.Fatal(err)
			}
			digest := catalog.NewDigest(names, tables, "pub")
			b.Run(fmt.Sprintf("watched=%d/of=%d", watched, all), func(b *testing.B) {
				for b.Loop() {
					if _, err := digest.Read(b.Context(), d.DB); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("load=%d/of=%d", watched, all), func(b *testing.B) {
				for b.Loop() {
					if _, err := catalog.LoadTables(b.Context(), d.DB, names, "pub"); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
