package mapping

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/mapping/catalog"
	"tidemark/mapping/value"
)

// aggregate returns the expression for what several rows come to.
func (w *selectWriter) aggregate(in *Include, t *catalog.Table, rows, from string) string {
	if in.Column == "" {
		return fmt.Sprintf("(SELECT pg_catalog.to_json(pg_catalog.count(*)) FROM %s)", from)
	}
	c := t.Column(in.Column)
	if c == nil {
		return w.fail("include %s: table %s has no column %s", in.Name, in.Table, in.Column)
	}
	result := in.Aggregate.of(c.Type)
	v := w.alias("v")
	schema := "pg_catalog"
	if root := c.Type.Root(); root.Kind == catalog.KindBase && root.OID >= catalog.FirstUserOID && in.Aggregate != AggregateCount {
		schema = catalog.SchemaOf(root.Name) // of an extension, which has its own
	}
	return fmt.Sprintf("(SELECT pg_catalog.to_json(%s) FROM (SELECT %s.%s(%s) AS v FROM %s) %s)",
		value.FormOf(result).SQL(v+".v", result), schema, in.Aggregate, catalog.ColumnRef(rows, in.Column), from, v)
}

// of returns the type of what values of a type come to.
func (a Aggregate) of(t *catalog.Type) *catalog.Type {
	t = t.Root()
	long, numeric, double := catalog.NewBase(pgtype.Int8OID, "bigint"), catalog.NewBase(pgtype.NumericOID, "numeric"), catalog.NewBase(pgtype.Float8OID, "double precision")
	switch a {
	case AggregateCount:
		return long
	case AggregateSum:
		switch t.OID {
		case pgtype.Int2OID, pgtype.Int4OID:
			return long
		case pgtype.Int8OID, pgtype.NumericOID:
			return numeric
		}
	case AggregateAvg:
		switch t.OID {
		case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.NumericOID:
			return numeric
		case pgtype.Float4OID, pgtype.Float8OID:
			return double
		}
	}
	if t.OID == pgtype.NumericOID {
		return numeric // without a modifier
	}
	return t
}
