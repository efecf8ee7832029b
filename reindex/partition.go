package reindex

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tidemark/mapping"
)

// partitionInterval is how often partitions are looked at.
//
// The stream of a partitioned table has what is done to its rows, and to all of them by
// TRUNCATE. It has nothing of partitions that are attached, detached, dropped or truncated by
// themselves (https://www.postgresql.org/docs/current/sql-createpublication.html,
// publish_via_partition_root), and nothing else tells of them. So the catalog is asked.
const partitionInterval = 30 * time.Second

// partitions are the leaves of partitioned tables, by table and oid. The text tells whether
// a leaf is still what it was: its file, which TRUNCATE and what rewrites it replace, and
// the transactions that attached it and what it is below.
type partitions map[string]map[uint32]string

// String is what the control schema has; the same for the same partitions.
func (p partitions) String() string {
	text, err := json.Marshal(p) // in the order of the keys
	if err != nil {
		panic(err) // it is made of texts
	}
	return string(text)
}

func parsePartitions(text string) (p partitions) {
	if json.Unmarshal([]byte(text), &p) != nil {
		return nil // every leaf is new then
	}
	return p
}

// leafQuery gives the partitions of a table, and no row where there is no such table.
const leafQuery = `
SELECT p.relid::oid::int8, p.isleaf, coalesce(pg_catalog.pg_relation_filenode(p.relid), 0)::text || coalesce((
	WITH RECURSIVE up AS (
		SELECT inhparent, xmin::text AS attached FROM pg_catalog.pg_inherits WHERE inhrelid = p.relid
		UNION ALL SELECT i.inhparent, i.xmin::text FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.inhparent)
	SELECT pg_catalog.string_agg(':' || attached, '') FROM up), '')
FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) p`

// readPartitions reads the partitions of those of an index's tables that have some.
func readPartitions(ctx context.Context, db *sql.DB, ix *mapping.Index, tables mapping.Tables) (partitions, error) {
	all := make(partitions)
	for _, name := range ix.Tables() {
		if t := tables[name]; t == nil || !t.Partitioned {
			continue
		}
		leaves, err := readLeaves(ctx, db, tables[name])
		if err != nil {
			return nil, fmt.Errorf("read the partitions of %s: %w", name, err)
		}
		all[name.String()] = leaves
	}
	return all, nil
}

func readLeaves(ctx context.Context, db *sql.DB, t *mapping.Table) (map[uint32]string, error) {
	rows, err := db.QueryContext(ctx, leafQuery, t.SQL())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	leaves, there := make(map[uint32]string), false
	for rows.Next() {
		var oid int64
		var leaf bool
		var mark string
		if err := rows.Scan(&oid, &leaf, &mark); err != nil {
			return nil, err
		}
		if there = true; leaf && oid != int64(t.OID) { // a root without partitions is a leaf
			leaves[uint32(oid)] = mark
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if !there {
		return nil, mapping.ErrNoTable
	}
	return leaves, nil
}

// compare tells what became of the leaves of a table. Of gone ones the rows, or some of
// them, are not there any more. Those that have come may have brought rows along.
func compare(before, now map[uint32]string) (gone bool, come []uint32) {
	for oid, mark := range before {
		gone = gone || now[oid] != mark
	}
	for oid, mark := range now {
		_, attached, _ := strings.Cut(mark, ":")
		if _, was, known := strings.Cut(before[oid], ":"); !known || was != attached {
			come = append(come, oid)
		}
	}
	slices.Sort(come)
	return gone, come
}

// watchPartitions looks at the partitions of tables, and has the indices be as these are,
// until ctx is done.
func (m *Manager) watchPartitions(ctx context.Context) error {
	tick := time.NewTicker(cmp.Or(m.o.PartitionInterval, partitionInterval))
	defer tick.Stop()
	for {
		again, settled := false, true
		for _, d := range m.o.Documents {
			state, err := m.followPartitions(ctx, d.Index)
			if err != nil && ctx.Err() == nil {
				// What is noted is as it was, so it comes again.
				m.o.Logger.Warn("an index does not follow the partitions of its tables yet, trying again", "index", d.Index.Name, "error", err)
			}
			again = again || state == followed
			settled = settled && state == asNoted
		}
		if settled {
			m.mu.Lock()
			m.looked = true
			m.mu.Unlock()
			m.wakeServe()
		}
		if again {
			continue // something may have happened meanwhile
		}
		select {
		case <-tick.C:
		case <-m.look:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hasLooked tells whether the indices have been as the partitions were once.
func (m *Manager) hasLooked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.looked
}

// How an index stands to the partitions of its tables.
type standing int

const (
	notNow   standing = iota // it is being filled, or it is not known
	asNoted                  // nothing has changed
	followed                 // it is as they were a moment ago
)

// followPartitions has an index in use be as the partitions of its tables are. A crash in
// the middle costs that it is done again.
func (m *Manager) followPartitions(ctx context.Context, ix *mapping.Index) (standing, error) {
	tables := m.o.Catalog.Tables()
	if !slices.ContainsFunc(ix.Tables(), func(name mapping.TableName) bool { return tables[name].Partitioned }) {
		return asNoted, nil
	}
	st := m.State(ix.Name)
	if settled, _ := m.isSettled(ix.Name); !settled || st.Building != "" {
		return notNow, nil // what is filled now has the rows that are there now
	}
	now, err := readPartitions(ctx, m.o.Syncer.DB(), ix, tables)
	if err != nil {
		return notNow, err
	}
	if now.String() == st.LivePartitions {
		return asNoted, nil
	}
	before := parsePartitions(st.LivePartitions)
	for _, name := range slices.Sorted(maps.Keys(now)) {
		gone, come := compare(before[name], now[name])
		if err := m.followLeaves(ctx, ix, tables, name, gone, come); err != nil {
			return notNow, fmt.Errorf("partitions of %s: %w", name, err)
		}
	}
	return m.notePartitions(ctx, st, now.String())
}

// notePartitions notes that the index in use is as the partitions are, if it is the same still.
func (m *Manager) notePartitions(ctx context.Context, st *State, now string) (standing, error) {
	noted := *st
	noted.LivePartitions = now
	if err := m.o.States.notePartitions(ctx, &noted); err != nil {
		if _, taken := errors.AsType[*TakenOverError](err); taken {
			return followed, nil // it was rebuilt meanwhile
		}
		return notNow, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if current := *m.states[st.Name]; current.Live == st.Live {
		current.LivePartitions = now
		m.states[st.Name] = &current
	}
	return followed, nil
}

// followLeaves has an index follow what became of the leaves of one table. Rows that came
// along are read again; of rows that are gone the documents are removed; where rows of the
// table are inside of other documents, nothing tells in which, and the index is rebuilt.
func (m *Manager) followLeaves(ctx context.Context, ix *mapping.Index, tables mapping.Tables, name string, gone bool, come []uint32) error {
	i := slices.IndexFunc(ix.Tables(), func(t mapping.TableName) bool { return t.String() == name })
	table := tables[ix.Tables()[i]]
	var brought []string // conditions that hold for the rows of leaves that brought some
	for _, leaf := range come {
		condition, err := m.brought(ctx, table, leaf)
		if err != nil {
			return err
		}
		if condition != "" {
			brought = append(brought, condition)
		}
	}
	if !gone && len(brought) == 0 {
		return nil
	}
	m.o.Logger.Info("partitions came or went", "index", ix.Name, "table", name, "attached", len(brought), "gone", gone)
	if included(ix, table.TableName()) {
		return m.ask(ctx, &Request{Kind: KindReindex, Index: ix.Name})
	}
	for _, condition := range brought {
		if err := m.ask(ctx, &Request{Kind: KindRefresh, Index: ix.Name, Source: name, Condition: condition}); err != nil {
			return err
		}
	}
	if !gone {
		return nil
	}
	// A refresh that read the rows before they were gone must not store them afterwards.
	open, err := m.o.Requests.Open(ctx)
	if err != nil {
		return err
	}
	for _, q := range open {
		if q.Index != ix.Name {
			continue
		}
		if _, err := m.await(ctx, q.ID); err != nil {
			return err
		}
	}
	v, err := Verify(ctx, ix, VerifyOptions{
		DB: m.o.Syncer.DB(), Client: m.o.Client, Schema: m.o.Schema, Slot: m.o.Slot, Tables: tables, Logger: m.o.Logger,
		Listed: true, Repair: true, Progress: noProgress{}, Found: func(Difference) error { return nil },
	})
	if err != nil {
		return err
	}
	m.o.Logger.Info("documents without a row are removed", "index", ix.Name, "documents", v.Repaired, "looked_at", v.Documents)
	if n := v.Differences() + v.Undecided; n > 0 {
		return fmt.Errorf("%d documents without a row could not be removed, or are being written", n)
	}
	return nil
}

// included tells whether rows of a table are inside of documents of other rows.
func included(ix *mapping.Index, table mapping.TableName) bool {
	return slices.ContainsFunc(ix.Sources, func(s *mapping.Source) bool {
		return slices.ContainsFunc(s.Paths(), func(p *mapping.Path) bool { return p.Table() == table })
	})
}

// attachedQuery gives the condition that holds for the rows of a leaf, NULL where it is none
// any more, and the age of the youngest transaction that attached it or what it is below.
const attachedQuery = `
WITH RECURSIVE up AS (
	SELECT inhparent, pg_catalog.age(xmin) AS age FROM pg_catalog.pg_inherits WHERE inhrelid = $1::int8::oid
	UNION ALL SELECT i.inhparent, pg_catalog.age(i.xmin) FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.inhparent)
SELECT pg_catalog.pg_get_partition_constraintdef($1::int8::oid), min(age) FROM up`

// brought returns the condition that holds for the rows of a leaf, if it has rows that were
// there before it was attached: those that came later came by the stream. "": it has none.
func (m *Manager) brought(ctx context.Context, table *mapping.Table, leaf uint32) (condition string, err error) {
	// Within a transaction ages are counted from the same time on.
	tx, err := m.o.Syncer.DB().BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
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

// ask has a request be done, and waits for it.
func (m *Manager) ask(ctx context.Context, q *Request) error {
	id, err := m.o.Requests.Add(ctx, q)
	if err != nil {
		return err
	}
	ended, err := m.await(ctx, id)
	if err == nil && ended.Phase != PhaseDone {
		err = fmt.Errorf("request %d has %s: %s", id, ended.Phase, ended.Message)
	}
	return err
}

// await waits until a request has ended.
func (m *Manager) await(ctx context.Context, id int64) (*Request, error) {
	tick := time.NewTicker(slotInterval)
	defer tick.Stop()
	for {
		now, err := m.o.Requests.Get(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case now == nil:
			return nil, fmt.Errorf("request %d is gone", id)
		case now.Ended():
			return now, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

type noProgress struct{}

func (noProgress) Begin(string, int64, int64) Bar { return noBar{} }
