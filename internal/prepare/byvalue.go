package prepare

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// ResolveValues puts an index for each value in the place of one whose name has a column, after [Resolve]. known has the values
// of columns that are not to be asked for, and may be nil. The error is [mapping.Problems] where a column names no index.
func ResolveValues(ctx context.Context, db *sql.DB, c *mapping.Config, known map[mapping.ValueColumn][]mapping.Value) (*mapping.Config, error) {
	columns := c.ValueColumns()
	if len(columns) == 0 {
		return c, nil
	}
	var names []catalog.TableName
	for of := range columns {
		if !slices.Contains(names, of.Table) {
			names = append(names, of.Table)
		}
	}
	tables, err := catalog.LoadTables(ctx, db, names, "")
	if err != nil {
		return nil, err
	}
	if with := c.WithChildren(); len(with) > 0 {
		catalog.Tables(tables).Follow(with)
	}
	if problems := c.CheckValues(tables); len(problems) > 0 {
		return nil, problems
	}
	reader, err := asDatabase(ctx, db)
	if err != nil {
		return nil, err
	}
	found := make(map[mapping.ValueColumn][]mapping.Value)
	for of, most := range columns {
		if values, ok := known[of]; ok {
			found[of] = values
			continue
		}
		t := tables[of.Table]
		problem, err := reader.readable(ctx, c, t)
		if err != nil {
			return nil, err
		}
		if problem != nil {
			return nil, mapping.Problems{*problem}
		}
		if found[of], err = valuesOf(ctx, db, t, of.Column, most); isTimeLimit(err) {
			return nil, mapping.Problems{c.Problem(c.ValueKey(of), fmt.Sprintf("CREATE INDEX CONCURRENTLY ON %s (%s);", t.SQL(), catalog.QuoteIdent(of.Column)),
				"to find the values of column %s of table %s takes longer than the time limit, as the whole table is read", of.Column, of.Table)}
		} else if err != nil {
			return nil, err
		}
	}
	kept, err := keptIndices(ctx, db, c)
	if err != nil {
		return nil, err
	}
	return c.ByValues(found, kept)
}

// isTimeLimit reports whether Postgres has ended a statement that took too long.
func isTimeLimit(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	return ok && server.Code == "57014"
}

// valuesOf returns the values that rows of a table have in a column, the first ones in their order. Where an index begins
// with the column it is asked for one value after the other; otherwise the whole table is read.
func valuesOf(ctx context.Context, db *sql.DB, t *catalog.Table, column string, most int) (values []mapping.Value, err error) {
	indexed, err := isIndexed(ctx, db, t, column)
	if err != nil {
		return nil, err
	}
	ref, from := catalog.ColumnRef(mapping.Root, column), t.From()+" "+mapping.Root
	less := t.Column(column).Type.Operator("<")
	query := fmt.Sprintf("SELECT DISTINCT %s AS v FROM %s WHERE %s IS NOT NULL ORDER BY 1 LIMIT %d", ref, from, ref, most)
	if indexed {
		query = fmt.Sprintf(`WITH RECURSIVE found (v) AS (
				(SELECT %[1]s FROM %[2]s WHERE %[1]s IS NOT NULL ORDER BY 1 LIMIT 1)
				UNION ALL
				SELECT (SELECT %[1]s FROM %[2]s WHERE found.v %[3]s %[1]s ORDER BY 1 LIMIT 1) FROM found WHERE found.v IS NOT NULL
			) SELECT v FROM found WHERE v IS NOT NULL LIMIT %[4]d`, ref, from, less, most)
	}
	// format writes a value as the type's output function does, which for a boolean is not what a cast gives.
	rows, err := db.QueryContext(ctx, "SELECT pg_catalog.format('%s', v), v::pg_catalog.text FROM ("+query+") s")
	if err != nil {
		return nil, fmt.Errorf("look for the values of column %s of %s: %w", column, t.TableName(), err)
	}
	defer rows.Close()
	for rows.Next() {
		var v mapping.Value
		if err := rows.Scan(&v.Text, &v.Name); err != nil {
			return nil, fmt.Errorf("look for the values of column %s of %s: %w", column, t.TableName(), err)
		}
		values = append(values, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for the values of column %s of %s: %w", column, t.TableName(), err)
	}
	return values, nil
}

// isIndexed reports whether an index of a table begins with a column, and has all rows.
func isIndexed(ctx context.Context, db *sql.DB, t *catalog.Table, column string) (indexed bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
			JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam
		WHERE i.indrelid = $1 AND a.attname = $2 AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree')`, t.OID, column).Scan(&indexed)
	if err != nil {
		return false, fmt.Errorf("look for an index on column %s of %s: %w", column, t.TableName(), err)
	}
	return indexed, nil
}

// keptIndices returns the mappings of the indices that the control schema has.
func keptIndices(ctx context.Context, db *sql.DB, c *mapping.Config) ([]*mapping.Index, error) {
	condition, err := control.Look(ctx, db, c.StateSchema())
	if err != nil {
		return nil, fmt.Errorf("look at the control schema: %w", err)
	}
	if !condition.Readable {
		return nil, nil
	}
	return control.Open(db, c.StateSchema(), c.Postgres.Slot).States().Mappings(ctx)
}
