package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync"
	"tidemark/mapping/catalog"
)

// known are the tables that are made in a control schema, by this package and by dbsync.
var known = []string{"dead_letters", "epochs", "fan_out_passes", "fan_outs", "indices", "physical_indices", "proofs", "recoveries", "requests", "topics",
	"schema_version", "dbsync_memberships", "dbsync_slots", dbsync.DEFAULT_DBSYNC_WM_TABLENAME}

// Tables returns the tables, views and sequences that stand by themselves in the schema, in order, and those of them that
// nobody but a user can have made there. exists is false where there is no schema.
func (s *Schema) Tables(ctx context.Context) (tables, foreign []string, exists bool, err error) {
	err = dbsync.WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)`, s.name).Scan(&exists); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, `SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND c.relkind = 'S')
			ORDER BY c.relname`, s.name)
		if err == nil {
			tables, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	if err != nil {
		return nil, nil, false, fmt.Errorf("look at the control schema %s: %w", s.name, err)
	}
	for _, table := range tables {
		if !slices.Contains(known, table) {
			foreign = append(foreign, table)
		}
	}
	return tables, foreign, exists, nil
}

// Drop drops the schema with all that is in it. That there is none is fine.
func (s *Schema) Drop(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, `DROP SCHEMA IF EXISTS `+catalog.QuoteIdent(s.name)+` CASCADE`); err != nil {
		return fmt.Errorf("drop control schema %s: %w", s.name, err)
	}
	return nil
}

// Forget deletes what is noted of the slot, whose indices have this generation, where others have notes, too. Dead letters
// stay: which slot they are of is not noted.
func (s *Schema) Forget(ctx context.Context, generation string) error {
	err := dbsync.WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if generation != "" {
				rows, err := tx.Query(ctx, `DELETE FROM `+s.table("indices")+`
					WHERE $1 IN (pg_catalog.split_part(live_generation, '/', 1), pg_catalog.split_part(building_generation, '/', 1)) RETURNING name`, generation)
				if err != nil {
					return err
				}
				names, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, `DELETE FROM `+s.table("proofs")+` WHERE index_name = ANY ($1)`, names); err != nil {
					return err
				}
			}
			for _, table := range []string{"requests", "fan_outs", "fan_out_passes", "epochs", "topics"} {
				if _, err := tx.Exec(ctx, `DELETE FROM `+s.table(table)+` WHERE slot = $1`, s.slot); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("forget slot %s in control schema %s: %w", s.slot, s.name, err)
	}
	return nil
}
