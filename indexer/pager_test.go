package indexer

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"

	"tidemark/dbsync"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

func TestChunkQuery(t *testing.T) {
	t.Parallel()
	integer, text := &catalog.Type{Name: "integer", Kind: catalog.KindBase}, &catalog.Type{Name: "text", Kind: catalog.KindBase}
	mood := &catalog.Type{Name: `"Sch ema"."Mo""od"`, Kind: catalog.KindEnum}
	table := &catalog.Table{Schema: "public", Name: "t", PrimaryKey: []string{"id"}, Columns: []catalog.Column{
		{Name: "id", Type: integer}, {Name: "v", Type: text}, {Name: `Od"d`, Type: mood}, {Name: "secret", Type: text}}}
	citext := &catalog.Type{Name: `"Ex.t".citext`, Kind: catalog.KindBase, OID: 17000}
	domain := &catalog.Type{Name: "public.name", Kind: catalog.KindDomain, OID: 17001, Base: citext}
	extended := &catalog.Table{Schema: "public", Name: "t", PrimaryKey: []string{"c"}, Columns: []catalog.Column{
		{Name: "c", Type: citext}, {Name: "d", Type: domain}, {Name: "id", Type: integer}}}
	parted := *table
	parted.Partitioned = true
	tests := []struct {
		name  string
		table *catalog.Table
		id    []string
		after bool
		want  string
	}{
		{"first", table, nil, false, `SELECT t."id", t."v", t."Od""d" FROM ONLY "public"."t" t ORDER BY t."id" LIMIT 7`},
		{"next", table, nil, true, `SELECT t."id", t."v", t."Od""d" FROM ONLY "public"."t" t WHERE (t."id") > ($1::integer) ORDER BY t."id" LIMIT 7`},
		{"partitions", &parted, nil, true, `SELECT t."id", t."v", t."Od""d" FROM "public"."t" t WHERE (t."id") > ($1::integer) ORDER BY t."id" LIMIT 7`},
		{"composite", table, []string{`Od"d`, "id"}, true,
			`SELECT t."id", t."v", t."Od""d" FROM ONLY "public"."t" t WHERE (t."Od""d", t."id") > ($1::"Sch ema"."Mo""od", $2::integer) ORDER BY t."Od""d", t."id" LIMIT 7`},
		{"type of an extension", extended, nil, true,
			`SELECT t."c", t."d", t."id" FROM ONLY "public"."t" t WHERE t."c" OPERATOR("Ex.t".>) $1::"Ex.t".citext ORDER BY t."c" LIMIT 7`},
		{"types of extensions in a composite key", extended, []string{"d", "id", "c"}, true,
			`SELECT t."c", t."d", t."id" FROM ONLY "public"."t" t WHERE t."d" OPERATOR("Ex.t".>=) $1::"Ex.t".citext AND (t."d" OPERATOR("Ex.t".>) $1::"Ex.t".citext OR ` +
				`t."id" >= $2::integer AND (t."id" > $2::integer OR t."c" OPERATOR("Ex.t".>) $3::"Ex.t".citext)) ORDER BY t."d", t."id", t."c" LIMIT 7`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source := sourceOf(test.table)
			source.ID, source.Fields = test.id, []mapping.Field{{Name: "secret", Omit: true}}
			plan, err := NewRowPlan(&Documents{Index: source.Index}, source, catalog.Tables{source.Table: test.table})
			if err != nil {
				t.Fatal(err)
			}
			c := &Pager{Plan: plan, Key: source.KeyColumns(test.table), NextRows: 7}
			if test.after {
				c.Cursor = make([][]byte, len(c.Key))
			}
			if got := c.Query(plan); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestChunkQueryOfValues reads the rows of an index that is named by a value: no others, and by one reader.
func TestChunkQueryOfValues(t *testing.T) {
	t.Parallel()
	h, _ := regionsOf(t, "EU", "eu", "us")
	p := h.plans[1][1] // of eu
	plan, err := NewRowPlan(p.documents, p.source, catalog.Tables{p.table.TableName(): p.table})
	if err != nil {
		t.Fatal(err)
	}
	c := NewPager(plan, nil)
	const rows = `t."region" = ANY (ARRAY['EU', 'eu']::pg_catalog.text[])`
	if got := c.Query(plan); !strings.Contains(got, `FROM (SELECT * FROM ONLY "public"."orders" t WHERE `+rows+`) t ORDER BY`) || c.Divisible() {
		t.Errorf("chunk: %s", got)
	}
	c.Where = "tableoid > 0"
	if got := c.Query(plan); !strings.Contains(got, "WHERE (tableoid > 0\n) AND orders.\"region\" = ANY") && !strings.Contains(got, "WHERE (tableoid > 0\n) AND \"orders\".\"region\" = ANY") {
		t.Errorf("with a condition: %s", got)
	}
	if got, _ := KeysQuery(plan, [][][]byte{{[]byte("1")}}); !strings.Contains(got, rows) {
		t.Errorf("by key: %s", got)
	}
}

// sourceOf returns a mapping of all columns of a table.
func sourceOf(t *catalog.Table) *mapping.Source {
	source := &mapping.Source{Index: &mapping.Index{Name: t.Name}, Table: t.TableName()}
	source.Index.Sources = []*mapping.Source{source}
	return source
}

// Spans of a table are from one key to another, and what finds their ends reads nothing but keys.
func TestSpanQueries(t *testing.T) {
	t.Parallel()
	integer, citext := &catalog.Type{Name: "integer", Kind: catalog.KindBase}, &catalog.Type{Name: `"Ex.t".citext`, Kind: catalog.KindBase, OID: 17000}
	table := &catalog.Table{Schema: "public", Name: "t", PrimaryKey: []string{"a", "b"}, Columns: []catalog.Column{{Name: "a", Type: integer}, {Name: "b", Type: integer}, {Name: "c", Type: citext}}}
	text := func(values ...string) (key [][]byte) {
		for _, v := range values {
			key = append(key, []byte(v))
		}
		return key
	}
	for _, test := range []struct {
		name          string
		id            []string
		cursor, until [][]byte
		want          string // behind FROM
	}{
		{"the first one", nil, nil, text("3", "4"), `WHERE (t."a", t."b") <= ($1::integer, $2::integer) ORDER BY t."a", t."b"`},
		{"in between", nil, text("1", "2"), text("3", "4"),
			`WHERE (t."a", t."b") > ($1::integer, $2::integer) AND (t."a", t."b") <= ($3::integer, $4::integer) ORDER BY t."a", t."b"`},
		{"the last one", nil, text("1", "2"), nil, `WHERE (t."a", t."b") > ($1::integer, $2::integer) ORDER BY t."a", t."b"`},
		{"types of extensions", []string{"a", "c"}, text("1", "x"), text("3", "y"),
			`WHERE t."a" >= $1::integer AND (t."a" > $1::integer OR t."c" OPERATOR("Ex.t".>) $2::"Ex.t".citext) AND ` +
				`t."a" <= $3::integer AND (t."a" < $3::integer OR t."c" OPERATOR("Ex.t".<=) $4::"Ex.t".citext) ORDER BY t."a", t."c"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := sourceOf(table)
			source.ID, source.Index.MaxDocumentBytes = test.id, 1<<20
			plan, err := NewRowPlan(&Documents{Index: source.Index}, source, catalog.Tables{source.Table: table})
			if err != nil {
				t.Fatal(err)
			}
			rest := &Pager{Plan: plan, Key: source.KeyColumns(table), NextRows: 7, MaxRows: 100, Cursor: test.cursor}
			key := `t."` + strings.Join(rest.Key, `", t."`) + `"`
			before, _ := rest.Boundary()
			if !strings.HasPrefix(before, "SELECT "+key+" FROM ") || !strings.HasSuffix(before, " ORDER BY "+key+" OFFSET 6 LIMIT 1") || strings.Contains(before, "<=") {
				t.Errorf("the statement that finds the end is %s", before)
			}
			span := rest.Cut(test.until)
			if diff := cmp.Diff(test.until, rest.Cursor); diff != "" {
				t.Errorf("what is left begins elsewhere than the span ends (-want +got):\n%s", diff)
			}
			sel := span.Next()
			if want := `SELECT t."a", t."b", t."c" FROM ONLY "public"."t" t ` + test.want + " LIMIT 7"; sel.Query != want {
				t.Errorf("got  %s\nwant %s", sel.Query, want)
			}
			if diff := cmp.Diff(slices.Concat(test.cursor, test.until), sel.Args); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
			// Not before a row was too large are rows measured by the statement.
			if sel.MaxRowBytes == 0 || !span.Measure() || span.Measure() {
				t.Errorf("a row of any size is read: up to %d bytes", sel.MaxRowBytes)
			}
			if sel := span.Next(); sel.MaxRowBytes != 0 || !strings.Contains(sel.Query, "document_bytes") || !strings.Contains(sel.Query, test.want) {
				t.Errorf("rows are not measured by %s", sel.Query)
			}
			rest.Learn(span, new(dbsync.Window))
			if rest.Measure() {
				t.Error("the spans to come are not measured")
			}
			// Nor are there more rows at a time than one of them has found to be too many.
			span.suspicion.most = 3
			rest.Learn(span, new(dbsync.Window))
			rest.Learn(&Pager{Plan: plan}, new(dbsync.Window))
			if got := rest.suspicion.Bound(7); got != 3 {
				t.Errorf("the spans to come have %d rows at a time, want 3", got)
			}
		})
	}
}

func TestLimiter(t *testing.T) {
	if l := Limiter(0); l.Limit() != rate.Inf {
		t.Errorf("no bound: %v", l.Limit())
	}
	if l := Limiter(70); l.Limit() != 70 || l.Burst() != 70 {
		t.Errorf("70 a second: %v, at once %d", l.Limit(), l.Burst())
	}
}
