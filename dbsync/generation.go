package dbsync

import (
	"context"
	"database/sql"
	"fmt"
)

// TableGeneration names the time for which the slot has had every change of a table: from
// when the table was made and put into the publication, until one of them, or the slot, is
// made anew. What was made from the changes of another generation may lack some. A table
// that was taken out of the publication and put back has another one, and so has a table
// that was dropped and made again under its name.
func (s *Syncer) TableGeneration(ctx context.Context, schema, table string) (string, error) {
	return TableGeneration(ctx, s.db, s.generation, s.publication, schema, table)
}

// TableGeneration is [Syncer.TableGeneration] without a Syncer: generation is that of the
// slot, see [Inspection].
func TableGeneration(ctx context.Context, db *sql.DB, generation, publication, schema, table string) (string, error) {
	var members string
	// Whoever takes a table out of a publication and puts it back makes a new row here.
	err := db.QueryRowContext(ctx, `SELECT coalesce(p.oid::text, '-') || '/' || coalesce(c.oid::text, '-') || '/' || coalesce(r.oid::text, '-')
		FROM (VALUES (1)) one
		LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1
		LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON n.nspname = $2 AND c.relname = $3
		LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid`, publication, schema, table).Scan(&members)
	if err != nil {
		return "", fmt.Errorf("look for table %s.%s in publication %s: %w", schema, table, publication, err)
	}
	return generation + "/" + members, nil
}
