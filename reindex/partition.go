package reindex

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// leaves are the tables that hold the rows of one, by oid, each with a mark, see [control.Partitions]:
// its partitions, or where the rows of children count itself and those.
type leaves = map[uint32]string

// leafChanges are what became of the leaves of a table.
type leafChanges struct {
	gone      bool     // rows are gone: of leaves that are no longer there, or have another file, or were away for a while
	rewritten bool     // the rows of a leaf may be others: it has another file
	attached  []uint32 // leaves that may have brought rows along, in order
}

// changesOf compares the leaves of a table before and now.
func changesOf(before, now leaves) (c leafChanges) {
	for oid, mark := range before {
		c.gone = c.gone || now[oid] != mark
	}
	for oid, mark := range now {
		file, attached, _ := strings.Cut(mark, ":")
		fileBefore, was, known := strings.Cut(before[oid], ":")
		if !known || was != attached {
			c.attached = append(c.attached, oid)
		} else if file != fileBefore {
			c.rewritten = true
		}
	}
	slices.Sort(c.attached)
	return c
}

// partitioned are those of an index's tables whose rows are in several: that have partitions, or
// children whose rows count.
func partitioned(ix *mapping.Index, tables catalog.Tables) (found []*catalog.Table) {
	for _, name := range ix.Tables() {
		if t := tables[name]; t != nil && (t.Partitioned || t.WithChildren) {
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

// readPartitions reads the leaves of those of an index's tables that have some.
func readPartitions(ctx context.Context, db *sql.DB, ix *mapping.Index, tables catalog.Tables, publication string) (all control.Partitions, err error) {
	all.Leaves = make(map[string]leaves)
	for _, t := range partitioned(ix, tables) {
		name := t.TableName().String()
		if all.Leaves[name], err = readLeaves(ctx, db, t, publication); err != nil {
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

// childQuery returns a table and what inherits from it, and no row where there is no such table. What
// became of a child while it was not published is not in the stream, so when it came into the
// publication is a part of how it was attached.
const childQuery = `
WITH RECURSIVE tree(oid, attached) AS (
	SELECT pg_catalog.to_regclass($1)::oid, ':' WHERE pg_catalog.to_regclass($1) IS NOT NULL
	UNION ALL SELECT i.inhrelid, ':' || i.xmin::text || tree.attached FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
), ways AS (
	SELECT oid, pg_catalog.string_agg(attached, '+' ORDER BY attached) AS attached FROM tree GROUP BY oid
)
SELECT ways.oid::int8, true, coalesce(pg_catalog.pg_relation_filenode(ways.oid), 0)::text || ways.attached
	|| CASE ways.attached WHEN ':' THEN '' ELSE coalesce('/' || r.oid, '') END
FROM ways JOIN pg_catalog.pg_class c ON c.oid = ways.oid AND c.relpersistence <> 't'
LEFT JOIN (pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid AND p.pubname = $2) ON r.prrelid = ways.oid`

func readLeaves(ctx context.Context, db *sql.DB, t *catalog.Table, publication string) (leaves, error) {
	query, args := leafQuery, []any{t.SQL()}
	if t.WithChildren {
		query, args = childQuery, append(args, publication)
	}
	rows, err := db.QueryContext(ctx, query, args...)
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
		if there = true; leaf && (t.WithChildren || oid != int64(t.OID)) { // a root without partitions is a leaf
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
	if table.WithChildren {
		return readChild(ctx, db, table, leaf)
	}
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

// readChild is readAttached for a child, or the table itself. Which rows came by the stream is not
// known: a transaction that wrote some may have been under way when the child was published.
func readChild(ctx context.Context, db *sql.DB, table *catalog.Table, leaf uint32) (condition string, err error) {
	condition = fmt.Sprintf("tableoid = '%d'::pg_catalog.oid", leaf)
	from, where := table.From(), " WHERE "+condition
	// A role that may look into the child itself is spared looking through all of them.
	var child sql.NullString
	err = db.QueryRowContext(ctx, `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = $1::int8::oid AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')`, int64(leaf)).Scan(&child)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("look at child %d of %s: %w", leaf, table.TableName(), err)
	}
	if child.Valid {
		from, where = "ONLY "+child.String, ""
	}
	there := false
	if err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM "+from+where+")").Scan(&there); err != nil {
		return "", fmt.Errorf("look for rows of child %d of %s: %w", leaf, table.TableName(), err)
	}
	if !there {
		return "", nil
	}
	return condition, nil
}

// partitionOutcome is what came of a look at the partitions of an index's tables.
type partitionOutcome int

const (
	partitionsUnknown   partitionOutcome = iota // the index was not looked at, since it is being built, or an error came
	partitionsUnchanged                         // they are those that are noted with the index
	partitionsApplied                           // they had changed; the index is as they were when they were looked at
)

// applyPartitions looks at the partitions of an index's tables, changes the documents of the
// index in use as they have changed since they were noted, and notes them. A crash in the middle
// costs that it is done again.
func (m *Manager) applyPartitions(ctx context.Context, x *index) (partitionOutcome, error) {
	tables := m.o.Catalog.Tables()
	parted := partitioned(x.Index, tables)
	if len(parted) == 0 {
		return partitionsUnchanged, nil
	}
	st := x.state()
	if !x.isRunDone() || st.Building.Physical != "" {
		return partitionsUnknown, nil // what is being built has the partitions that it began with noted
	}
	now, err := readPartitions(ctx, m.o.Syncer.DB(), x.Index, tables, m.o.Publication)
	if err != nil {
		return partitionsUnknown, err
	}
	text, err := now.Encode()
	if err != nil {
		return partitionsUnknown, err
	}
	if text == st.Live.Partitions {
		return partitionsUnchanged, nil
	}
	before, err := control.DecodePartitions(st.Live.Partitions)
	if err != nil {
		return partitionsUnknown, err
	}
	rowsGone := before.Unlisted
	for _, t := range parted {
		name := t.TableName().String()
		changes := changesOf(before.Leaves[name], now.Leaves[name])
		// Of a child that is followed from now on, what was deleted before is not in the stream; a
		// document may have been made of it, where rows were read for another reason.
		rowsGone = rowsGone || changes.gone || t.WithChildren && len(changes.attached) > 0
		if changes.rewritten {
			if err := m.unprove(ctx, x, fmt.Sprintf("%s: a partition was rewritten", name)); err != nil {
				return partitionsUnknown, err
			}
		}
		if err := m.applyLeaves(ctx, x, t, changes); errors.Is(err, errRebuilt) {
			return partitionsApplied, nil // the new index has its own noted
		} else if err != nil {
			return partitionsUnknown, fmt.Errorf("partitions of %s: %w", name, err)
		}
	}
	if rowsGone {
		if err := m.removeRowless(ctx, x, tables); err != nil {
			return partitionsUnknown, err
		}
	}
	return m.notePartitions(ctx, x, &st, text)
}

// notePartitions notes that the index which is in use by st is as these partitions are. If
// another one is in use by now, nothing is noted: that one has its own.
func (m *Manager) notePartitions(ctx context.Context, x *index, st *control.State, now string) (partitionOutcome, error) {
	st.Live.Partitions = now
	if err := m.o.Control.States().NotePartitions(ctx, st); err != nil {
		if _, taken := errors.AsType[*control.TakenOverError](err); taken {
			return partitionsApplied, nil
		}
		return partitionsUnknown, err
	}
	x.setPartitions(st.Live.Physical, now)
	return partitionsApplied, nil
}

// errRebuilt says that the index was rebuilt.
var errRebuilt = errors.New("the index was rebuilt")

// applyLeaves has rows that came with leaves of one table read. Documents whose rows are gone are
// not its business. Where rows of the table are inside of other documents, nothing tells in which,
// and it has the index rebuilt: errRebuilt.
func (m *Manager) applyLeaves(ctx context.Context, x *index, table *catalog.Table, changes leafChanges) error {
	var conditions []string // that hold for the rows of leaves which brought some
	for _, leaf := range changes.attached {
		condition, err := readAttached(ctx, m.o.Syncer.DB(), table, leaf)
		if err != nil {
			return err
		}
		if condition != "" {
			conditions = append(conditions, condition)
		}
	}
	if !changes.gone && len(conditions) == 0 {
		return nil
	}
	m.o.Logger.Info("partitions came or went", "index", x.Name, "table", table.TableName().String(), "attached", len(conditions), "gone", changes.gone)
	if isIncluded(x.Index, table.TableName()) {
		if err := m.ask(ctx, &control.Request{Kind: control.KindReindex, Index: x.Name}); err != nil {
			return err
		}
		return errRebuilt
	}
	for _, condition := range conditions {
		if err := m.ask(ctx, &control.Request{Kind: control.KindRefresh, Index: x.Name, Source: table.TableName().String(), Condition: condition}); err != nil {
			return err
		}
	}
	return nil
}

// removeRowless lists the documents of an index and removes those that have no row.
func (m *Manager) removeRowless(ctx context.Context, x *index, tables catalog.Tables) error {
	// A refresh that read the rows before they were gone must not store them afterwards.
	open, err := m.o.Control.Requests().Open(ctx)
	if err != nil {
		return err
	}
	for _, q := range open {
		if q.Index != x.Name {
			continue
		}
		if _, err := m.awaitRequest(ctx, q.ID); err != nil {
			return err
		}
	}
	// Nor must what the stream has still to bring of them.
	if err := m.barrier(ctx); err != nil {
		return err
	}
	watermarks, _ := m.o.Syncer.WatermarkTable()
	v, err := verify.Run(ctx, x.Index, verify.Options{
		DB: m.o.Syncer.DB(), SlotDB: m.o.Syncer.SlotDB(), Client: m.o.Client, Bulk: m.o.Bulk, Applied: m.o.Applied, Schema: m.o.Control.Name(), WatermarkSchema: watermarks, Slot: m.o.Control.Slot(), Tables: tables, Logger: m.o.Logger,
		Listed: true, Repair: true, Progress: verify.NoProgress{}, Found: func(verify.Difference) error { return nil },
	})
	if err != nil {
		return err
	}
	m.o.Logger.Info("documents whose rows went with a partition are removed", "index", x.Name, "documents", v.Repaired, "looked_at", v.Documents)
	if n := v.Differences() + v.Undecided; n > 0 {
		return fmt.Errorf("%d documents without a row could not be removed, or are being written", n)
	}
	return nil
}
