package reindex

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// leaves are the partitions of one table that hold rows themselves, by oid, each with a mark, see
// [control.Partitions].
type leaves = map[uint32]string

// leafChanges are what became of the leaves of a table.
type leafChanges struct {
	gone     bool     // rows are gone: of leaves that are no longer there, or have another file, or were away for a while
	attached []uint32 // leaves that may have brought rows along, in order
}

// changesOf compares the leaves of a table before and now.
func changesOf(before, now leaves) (c leafChanges) {
	for oid, mark := range before {
		c.gone = c.gone || now[oid] != mark
	}
	for oid, mark := range now {
		_, attached, _ := strings.Cut(mark, ":")
		if _, was, known := strings.Cut(before[oid], ":"); !known || was != attached {
			c.attached = append(c.attached, oid)
		}
	}
	slices.Sort(c.attached)
	return c
}

// partitioned are those of an index's tables that have partitions.
func partitioned(ix *mapping.Index, tables catalog.Tables) (found []*catalog.Table) {
	for _, name := range ix.Tables() {
		if t := tables[name]; t != nil && t.Partitioned {
			found = append(found, t)
		}
	}
	return found
}

// isIncluded reports whether rows of a table are inside of documents of other rows.
func isIncluded(ix *mapping.Index, table catalog.TableName) bool {
	return slices.ContainsFunc(ix.Sources, func(s *mapping.Source) bool {
		return slices.ContainsFunc(s.Paths(), func(p *mapping.Path) bool { return p.Table() == table })
	})
}

// readPartitions reads the partitions of those of an index's tables that have some.
func readPartitions(ctx context.Context, db *sql.DB, ix *mapping.Index, tables catalog.Tables) (all control.Partitions, err error) {
	all.Leaves = make(map[string]leaves)
	for _, t := range partitioned(ix, tables) {
		name := t.TableName().String()
		if all.Leaves[name], err = readLeaves(ctx, db, t); err != nil {
			return control.Partitions{}, fmt.Errorf("read the partitions of %s: %w", name, err)
		}
	}
	return all, nil
}

// leafQuery returns the partitions of a table, and no row where there is no such table.
const leafQuery = `
SELECT p.relid::oid::int8, p.isleaf, coalesce(pg_catalog.pg_relation_filenode(p.relid), 0)::text || coalesce((
	WITH RECURSIVE up AS (
		SELECT inhparent, xmin::text AS attached FROM pg_catalog.pg_inherits WHERE inhrelid = p.relid
		UNION ALL SELECT i.inhparent, i.xmin::text FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.inhparent)
	SELECT pg_catalog.string_agg(':' || attached, '') FROM up), '')
FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) p`

func readLeaves(ctx context.Context, db *sql.DB, t *catalog.Table) (leaves, error) {
	rows, err := db.QueryContext(ctx, leafQuery, t.SQL())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found, there := make(leaves), false
	for rows.Next() {
		var oid int64
		var leaf bool
		var mark string
		if err := rows.Scan(&oid, &leaf, &mark); err != nil {
			return nil, err
		}
		if there = true; leaf && oid != int64(t.OID) { // a root without partitions is a leaf
			found[uint32(oid)] = mark
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if !there {
		return nil, catalog.ErrNoTable
	}
	return found, nil
}

// attachedQuery returns the condition that holds for the rows of a leaf, NULL where it is none
// any more, and the age of the youngest transaction that attached the leaf or a table that it is
// below.
const attachedQuery = `
WITH RECURSIVE up AS (
	SELECT inhparent, pg_catalog.age(xmin) AS age FROM pg_catalog.pg_inherits WHERE inhrelid = $1::int8::oid
	UNION ALL SELECT i.inhparent, pg_catalog.age(i.xmin) FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.inhparent)
SELECT pg_catalog.pg_get_partition_constraintdef($1::int8::oid), min(age) FROM up`

// readAttached returns the condition that holds for the rows of a leaf, if some of them were
// there before it was attached: those that came later came by the stream. "": none were.
func readAttached(ctx context.Context, db *sql.DB, table *catalog.Table, leaf uint32) (condition string, err error) {
	// Within a transaction ages are counted from the same time on.
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return "", fmt.Errorf("look at partition %d: %w", leaf, err)
	}
	defer tx.Rollback() // it has written nothing
	var constraint sql.NullString
	var age sql.NullInt64
	if err := tx.QueryRowContext(ctx, attachedQuery, int64(leaf)).Scan(&constraint, &age); err != nil {
		return "", fmt.Errorf("look at partition %d: %w", leaf, err)
	}
	if !age.Valid {
		return "", nil // detached again
	}
	condition = cmp.Or(constraint.String, "true")
	older := false
	// The root is asked: a role may have no right to its partitions.
	err = tx.QueryRowContext(ctx, fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s t WHERE (%s) AND pg_catalog.age(t.xmin) >= $1)`, table.From(), condition), age.Int64).Scan(&older)
	if err != nil {
		return "", fmt.Errorf("look for rows of partition %d: %w", leaf, err)
	}
	if !older {
		condition = ""
	}
	return condition, nil
}
