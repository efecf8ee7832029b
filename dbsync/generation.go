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
//
// A list of columns that a Syncer gives a table in the publication, or takes from it, leaves the
// generation as it is: no change is missing.
func (s *Syncer) TableGeneration(ctx context.Context, schema, table string) (string, error) {
	return tableGeneration(ctx, s.db, s.generation, s.publication, s.control(memberTable), schema, table)
}

// TableGeneration is [Syncer.TableGeneration] without a Syncer: generation is that of the
// slot, see [Inspection].
func TableGeneration(ctx context.Context, db *sql.DB, generation, publication, schema, table string) (string, error) {
	// The control schema is the one whose watermark table is in the publication.
	var members string
	err := db.QueryRowContext(ctx, `SELECT coalesce((SELECT pg_catalog.format('%I.%I', n.nspname, m.relname) FROM pg_catalog.pg_publication p
		JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_class m ON m.relnamespace = n.oid AND m.relname = $2
		WHERE p.pubname = $1 ORDER BY n.nspname LIMIT 1), '')`, publication, memberTable).Scan(&members)
	if err != nil {
		return "", fmt.Errorf("look for the control schema of publication %s: %w", publication, err)
	}
	return tableGeneration(ctx, db, generation, publication, members, schema, table)
}

// tableGeneration is TableGeneration with the quoted name of memberTable, "" where there is none.
func tableGeneration(ctx context.Context, db *sql.DB, generation, publication, memberTable, schema, table string) (string, error) {
	since, join := "r.oid", ""
	if memberTable != "" {
		since, join = "coalesce(m.since, r.oid)", "LEFT JOIN "+memberTable+" m ON m.member = r.oid"
	}
	var members string
	// Whoever takes a table out of a publication and puts it back makes a new row here.
	err := db.QueryRowContext(ctx, `SELECT coalesce(p.oid::text, '-') || '/' || coalesce(c.oid::text, '-') || '/' || coalesce((`+since+`)::text, '-')
		FROM (VALUES (1)) one
		LEFT JOIN pg_catalog.pg_publication p ON p.pubname = $1
		LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON n.nspname = $2 AND c.relname = $3
		LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid `+join, publication, schema, table).Scan(&members)
	if err != nil {
		return "", fmt.Errorf("look for table %s.%s in publication %s: %w", schema, table, publication, err)
	}
	return generation + "/" + members, nil
}
