package catalog_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

func TestLoadTable(t *testing.T) {
	d := testenv.NewDatabase(t)
	d.Exec(t, `create schema "Weird ""Schema"".s";
		create type mood as enum ('ok');
		create domain one as mood;
		create domain more as one[];
		create domain price as numeric(10,2);
		create table "Weird ""Schema"".s"."Weird ""Name"".tbl" (
			"Ünique" varchar(10) not null,
			dropped int,
			"a ""b""" "char"[],
			m more,
			p price[],
			n numeric(5,1)[],
			double_id int generated always as (k * 2) stored,
			k int,
			bits bit varying(3),
			primary key (k, "Ünique"),
			unique (n, k)
		);
		alter table "Weird ""Schema"".s"."Weird ""Name"".tbl" drop column dropped;
		create unique index part on "Weird ""Schema"".s"."Weird ""Name"".tbl" (k) where k > 0;
		create unique index expr on "Weird ""Schema"".s"."Weird ""Name"".tbl" ((k + 1));
		create unique index incl on "Weird ""Schema"".s"."Weird ""Name"".tbl" (bits) include (k);
		create index plain on "Weird ""Schema"".s"."Weird ""Name"".tbl" (k);
		insert into "Weird ""Schema"".s"."Weird ""Name"".tbl" (k, "Ünique") select i, i from generate_series(1, 100) i;
		analyze "Weird ""Schema"".s"."Weird ""Name"".tbl"`)
	got, err := catalog.LoadTable(t.Context(), d.DB, `Weird "Schema".s`, `Weird "Name".tbl`)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, catalog.Tables{got.TableName(): got})
	type column struct {
		Name, Type, Chain  string
		NotNull, Generated bool
	}
	var columns []column
	for _, c := range got.Columns {
		columns = append(columns, column{c.Name, c.Type.Name, chain(c.Type), c.NotNull, c.Generated})
	}
	wantColumns := []column{
		{"Ünique", "character varying(10)", "b", true, false},
		{`a "b"`, `"char"[]`, "a b", false, false},
		{"m", "public.more", "d a d e", false, false},
		{"p", "public.price[]", "a d b:numeric(10,2)", false, false},
		{"n", "numeric(5,1)[]", "a b:numeric(5,1)", false, false},
		{"double_id", "integer", "b", false, true},
		{"k", "integer", "b", true, false},
		{"bits", "bit varying(3)", "b", false, false},
	}
	if diff := cmp.Diff(wantColumns, columns); diff != "" {
		t.Errorf("columns: want -, got +:\n%s", diff)
	}
	got.Columns, got.OID, got.User, got.File = nil, 0, "", ""
	want := &catalog.Table{
		Schema: `Weird "Schema".s`, Name: `Weird "Name".tbl`,
		PrimaryKey:    []string{"k", "Ünique"},
		Identity:      catalog.Identity{Kind: catalog.IdentityDefault, Columns: []string{"k", "Ünique"}},
		Unique:        [][]string{{"n", "k"}, {"bits"}},
		EstimatedRows: 100,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// A type comes with all that its values are made of, and it is seen when that is
// another.
func TestLoadTableTypes(t *testing.T) {
	d := testenv.NewDatabase(t)
	d.Exec(t, `create schema ext; create extension hstore schema ext;
		create type "Pair" as (a int, gone text, b numeric(5,1));
		alter type "Pair" drop attribute gone;
		create domain couple as "Pair";
		create type spans as range (subtype = numeric);
		create table plain (x int);
		create table t (pairs couple[], span spans, many int4multirange, h ext.hstore, m money, row plain)`)
	load := func() map[string]*catalog.Type {
		table, err := catalog.LoadTable(t.Context(), d.DB, "public", "t")
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, catalog.Tables{table.TableName(): table})
		types := make(map[string]*catalog.Type)
		for _, c := range table.Columns {
			types[c.Name] = c.Type
		}
		return types
	}
	got := load()
	pair := got["pairs"].Elem.Root()
	if a := pair.Attributes; pair.Name != `public."Pair"` || len(a) != 2 || a[0].Name != "a" || a[1].Type.Name != "numeric(5,1)" {
		t.Errorf("the composite is %s of %v", pair.Name, pair.Attributes)
	}
	if s := got["span"]; s.Kind != catalog.KindRange || s.Canonical || s.Elem.Name != "numeric" {
		t.Errorf("the range is %+v", s)
	}
	if m := got["many"]; m.Kind != catalog.KindMultirange || !m.Elem.Canonical || m.Elem.Elem.Name != "integer" {
		t.Errorf("the multirange is %+v", m)
	}
	if h := got["h"]; h.Extension != "hstore" || h.Schema != "ext" || h.Plain != "hstore" || h.Name != "ext.hstore" {
		t.Errorf("the hstore is %+v", h)
	}
	if got["m"].Fraction != 2 || got["span"].Extension != "" {
		t.Errorf("money has %d digits after the point, want 2", got["m"].Fraction)
	}
	if a := got["row"].Attributes; len(a) != 1 || a[0].Name != "x" {
		t.Errorf("the row has %v", a)
	}
	for name, typ := range load() {
		if !typ.Equal(got[name]) {
			t.Errorf("%s is not equal to itself", name)
		}
	}
	d.Exec(t, `alter type "Pair" rename attribute b to c; alter table plain add y text`)
	for name, typ := range load() {
		if want := name != "pairs" && name != "row"; typ.Equal(got[name]) != want {
			t.Errorf("%s is equal to what it was: %v, want %v", name, !want, want)
		}
	}
}

// chain returns the kinds of a type from the outside in, with the name of a
// numeric at its end.
func chain(t *catalog.Type) string {
	text := string(t.Kind)
	switch {
	case t.Elem != nil:
		return text + " " + chain(t.Elem)
	case t.Base != nil:
		return text + " " + chain(t.Base)
	case strings.HasPrefix(t.Name, "numeric"):
		return text + ":" + t.Name
	}
	return text
}

func TestLoadTableIdentity(t *testing.T) {
	d := testenv.NewDatabase(t)
	d.Exec(t,
		`create table plain (id int primary key, v text)`,
		`create table late (id int primary key deferrable, v text)`,
		`create table nokey (v text)`,
		`create table byindex (id int primary key, a int not null, b int not null, v text);
		 create unique index byindex_ab on byindex (b, a);
		 alter table byindex replica identity using index byindex_ab`,
		`create table whole (v text, g text generated always as (v || 'x') stored, id int primary key); alter table whole replica identity full`,
		`create table nothing (id int primary key); alter table nothing replica identity nothing`,
		`create table part (id int, at date, v text, primary key (at, id)) partition by range (at);
		 create table part1 partition of part for values from ('2026-01-01') to ('2027-01-01');
		 create table part2 (v text, at date not null, id int not null);
		 alter table part attach partition part2 for values from ('2027-01-01') to ('2028-01-01');
		 insert into part select i, '2026-06-01', 'x' from generate_series(1, 10) i;
		 insert into part select i, '2027-06-01', 'x' from generate_series(1, 20) i;
		 analyze part1; analyze part2`,
		`create table fullpart (id int primary key, v text) partition by hash (id);
		 create table fullpart1 partition of fullpart for values with (modulus 2, remainder 0);
		 create table fullpart2 partition of fullpart for values with (modulus 2, remainder 1);
		 alter table fullpart replica identity full; alter table fullpart1 replica identity full`,
		`create table rootless (id int primary key) partition by hash (id)`,
		`create unlogged table fast (id int primary key)`,
		`create table guarded (id int primary key); alter table guarded enable row level security`,
	)
	tests := []struct {
		name string
		want catalog.Table
	}{
		{"plain", catalog.Table{PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: 'd', Columns: []string{"id"}}, EstimatedRows: -1}},
		{"late", catalog.Table{PrimaryKey: []string{"id"}, KeyDeferrable: true, Identity: catalog.Identity{Kind: 'd'}, EstimatedRows: -1}},
		{"nokey", catalog.Table{Identity: catalog.Identity{Kind: 'd'}, EstimatedRows: -1}},
		{"byindex", catalog.Table{PrimaryKey: []string{"id"}, Unique: [][]string{{"b", "a"}}, Identity: catalog.Identity{Kind: 'i', Columns: []string{"b", "a"}}, EstimatedRows: -1}},
		{"whole", catalog.Table{PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: 'f', Columns: []string{"v", "id"}}, EstimatedRows: -1}},
		{"nothing", catalog.Table{PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: 'n'}, EstimatedRows: -1}},
		{"part", catalog.Table{PrimaryKey: []string{"at", "id"}, Identity: catalog.Identity{Kind: 'd', Columns: []string{"at", "id"}}, Partitioned: true, EstimatedRows: 30}},
		{"fullpart", catalog.Table{PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: 'm', Columns: []string{"id"}}, Partitioned: true, EstimatedRows: -1}},
		{"rootless", catalog.Table{PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: 'd', Columns: []string{"id"}}, Partitioned: true, EstimatedRows: -1}},
		{"fast", catalog.Table{PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: 'd', Columns: []string{"id"}}, Unlogged: true, EstimatedRows: -1}},
		{"guarded", catalog.Table{PrimaryKey: []string{"id"}, Identity: catalog.Identity{Kind: 'd', Columns: []string{"id"}}, EstimatedRows: -1}},
	}
	for _, tt := range tests {
		got, err := catalog.LoadTable(t.Context(), d.DB, "public", tt.name)
		if err != nil {
			t.Fatal(err)
		}
		tt.want.Schema, tt.want.Name = "public", tt.name
		got.OID, got.User, got.File, got.Columns = 0, "", "", nil
		if diff := cmp.Diff(&tt.want, got); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", tt.name, diff)
		}
	}
}

// Row security shows to whom it applies: the owner of the table is not held up
// by it, another user is.
func TestLoadTableRowSecurity(t *testing.T) {
	d := testenv.NewDatabase(t)
	user := catalog.QuoteIdent(d.Unique("reader"))
	d.Exec(t, "create table guarded (id int primary key); alter table guarded enable row level security; create role "+user)
	defer d.Exec(t, "drop role "+user)
	tx, err := d.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "set local role "+user); err != nil {
		t.Fatal(err)
	}
	table, err := catalog.LoadTable(t.Context(), tx, "public", "guarded")
	if err != nil {
		t.Fatal(err)
	}
	if !table.RowSecurity {
		t.Error("row security does not apply to a user whom it hides all rows from")
	}
}

func TestLoadTableRefuses(t *testing.T) {
	d := testenv.NewDatabase(t)
	d.Exec(t, "create view v as select 1; create materialized view m as select 1; create sequence s")
	for name, want := range map[string]string{
		"gone": "public.gone: no such table",
		"v":    "public.v is a view: no such table",
		"m":    "public.m is a materialized view: no such table",
		"s":    "public.s is a sequence: no such table",
	} {
		_, err := catalog.LoadTable(t.Context(), d.DB, "public", name)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := catalog.LoadTable(ctx, d.DB, "public", "v"); err == nil || !strings.HasPrefix(err.Error(), "read the catalog about public.v: ") {
		t.Errorf("with a context that has ended: %v", err)
	}
}
