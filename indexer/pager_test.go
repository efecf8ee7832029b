package indexer

import (
	"testing"

	"golang.org/x/time/rate"

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
			c := &Pager{Key: source.KeyColumns(test.table), NextRows: 7}
			if test.after {
				c.Cursor = make([][]byte, len(c.Key))
			}
			if got := c.Query(plan); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// sourceOf returns a mapping of all columns of a table.
func sourceOf(t *catalog.Table) *mapping.Source {
	source := &mapping.Source{Index: &mapping.Index{Name: t.Name}, Table: t.TableName()}
	source.Index.Sources = []*mapping.Source{source}
	return source
}

func TestLimiter(t *testing.T) {
	if l := Limiter(0); l.Limit() != rate.Inf {
		t.Errorf("no bound: %v", l.Limit())
	}
	if l := Limiter(70); l.Limit() != 70 || l.Burst() != 70 {
		t.Errorf("70 a second: %v, at once %d", l.Limit(), l.Burst())
	}
}
