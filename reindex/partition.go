package reindex

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// partitionInterval is how often partitions are looked at.
//
// The stream of a partitioned table has what is done to its rows, and to all of them by
// TRUNCATE. It has nothing of partitions that are attached, detached, dropped or truncated by
// themselves (https://www.postgresql.org/docs/current/sql-createpublication.html,
// publish_via_partition_root), and nothing else tells of them. So the catalog is asked.
const partitionInterval = 30 * time.Second

// maxPartitionFailures bounds how much longer than the interval is waited after an error:
// twice as long each time, half an hour at most.
const maxPartitionFailures = 6

// leafQuery gives the partitions of a table, and no row where there is no such table.
const leafQuery = `
SELECT p.relid::oid::int8, p.isleaf, coalesce(pg_catalog.pg_relation_filenode(p.relid), 0)::text || coalesce((
	WITH RECURSIVE up AS (
		SELECT inhparent, xmin::text AS attached FROM pg_catalog.pg_inherits WHERE inhrelid = p.relid
		UNION ALL SELECT i.inhparent, i.xmin::text FROM pg_catalog.pg_inherits i JOIN up ON i.inhrelid = up.inhparent)
	SELECT pg_catalog.string_agg(':' || attached, '') FROM up), '')
FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) p`

// readPartitions reads the partitions of those of an index's tables that have some.
func readPartitions(ctx context.Context, db *sql.DB, ix *mapping.Index, tables catalog.Tables) (all control.Partitions, err error) {
	all.Leaves = make(map[string]map[uint32]string)
	for _, t := range partitioned(ix, tables) {
		name := t.TableName().String()
		if all.Leaves[name], err = readLeaves(ctx, db, t); err != nil {
			return control.Partitions{}, fmt.Errorf("read the partitions of %s: %w", name, err)
		}
	}
	return all, nil
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

func readLeaves(ctx context.Context, db *sql.DB, t *catalog.Table) (map[uint32]string, error) {
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
		return nil, catalog.ErrNoTable
	}
	return leaves, nil
}

// compare returns what became of the leaves of a table. Of gone ones the rows, or some of
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
	interval := cmp.Or(m.o.PartitionInterval, partitionInterval)
	for failures := 0; ; {
		again, settled, failed := false, true, false
		for _, d := range m.o.Documents {
			state, err := m.followPartitions(ctx, d.Index)
			if err != nil && ctx.Err() == nil {
				// What is noted is as it was, so it comes again.
				m.o.Logger.Warn("an index does not follow the partitions of its tables yet, trying again", "index", d.Index.Name, "error", err)
				failed = true
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
		pause, look := interval, m.look
		if again {
			pause = 0 // something may have happened meanwhile
		}
		if !failed {
			failures = 0
		} else {
			failures = min(failures+1, maxPartitionFailures)
			pause, look = interval<<failures, nil // what is tried again pokes, too
		}
		select {
		case <-time.After(pause):
		case <-look:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hasLooked reports whether the indices have been as the partitions were once.
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
	parted := partitioned(ix, tables)
	if len(parted) == 0 {
		return asNoted, nil
	}
	st := m.State(ix.Name)
	if settled, _ := m.isSettled(ix.Name); !settled || st.Building.Physical != "" {
		return notNow, nil // what is filled now has the rows that are there now
	}
	now, err := readPartitions(ctx, m.o.Syncer.DB(), ix, tables)
	if err != nil {
		return notNow, err
	}
	text, err := now.Encode()
	if err != nil {
		return notNow, err
	}
	if text == st.Live.Partitions {
		return asNoted, nil
	}
	before, err := control.DecodePartitions(st.Live.Partitions)
	if err != nil {
		return notNow, err
	}
	list := before.Unlisted
	for _, t := range parted {
		name := t.TableName().String()
		gone, come := compare(before.Leaves[name], now.Leaves[name])
		list = list || gone
		if err := m.followLeaves(ctx, ix, t, gone, come); errors.Is(err, errRebuilt) {
			return followed, nil // it has other partitions noted now
		} else if err != nil {
			return notNow, fmt.Errorf("partitions of %s: %w", name, err)
		}
	}
	if list {
		if err := m.removeRowless(ctx, ix, tables); err != nil {
			return notNow, err
		}
	}
	return m.notePartitions(ctx, st, text)
}

// notePartitions notes that the index in use is as the partitions are, if it is the same still.
func (m *Manager) notePartitions(ctx context.Context, st *control.State, now string) (standing, error) {
	noted := *st
	noted.Live.Partitions = now
	if err := m.o.States.NotePartitions(ctx, &noted); err != nil {
		if _, taken := errors.AsType[*control.TakenOverError](err); taken {
			return followed, nil // it was rebuilt meanwhile
		}
		return notNow, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if current := *m.states[st.Name]; current.Live.Physical == st.Live.Physical {
		current.Live.Partitions = now
		m.states[st.Name] = &current
	}
	return followed, nil
}

// errRebuilt says that the index was rebuilt.
var errRebuilt = errors.New("the index was rebuilt")

// followLeaves has an index follow what became of the leaves of one table, but for documents
// whose rows are gone: rows that came along are read. Where rows of the table are inside of
// other documents, nothing tells in which, and the index is rebuilt.
func (m *Manager) followLeaves(ctx context.Context, ix *mapping.Index, table *catalog.Table, gone bool, come []uint32) error {
	if len(come) > 0 && m.o.Attached != nil {
		now, err := catalog.LoadTable(ctx, m.o.Syncer.DB(), table.Schema, table.Name)
		if err != nil {
			return err
		}
		m.o.Attached(now)
	}
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
	m.o.Logger.Info("partitions came or went", "index", ix.Name, "table", table.TableName().String(), "attached", len(brought), "gone", gone)
	if included(ix, table.TableName()) {
		if err := m.ask(ctx, &control.Request{Kind: control.KindReindex, Index: ix.Name}); err != nil {
			return err
		}
		return errRebuilt
	}
	for _, condition := range brought {
		if err := m.ask(ctx, &control.Request{Kind: control.KindRefresh, Index: ix.Name, Source: table.TableName().String(), Condition: condition}); err != nil {
			return err
		}
	}
	return nil
}

// removeRowless lists the documents of an index and removes those that have no row.
func (m *Manager) removeRowless(ctx context.Context, ix *mapping.Index, tables catalog.Tables) error {
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
	v, err := verify.Run(ctx, ix, verify.Options{
		DB: m.o.Syncer.DB(), Client: m.o.Client, Schema: m.o.Schema, Slot: m.o.Slot, Tables: tables, Logger: m.o.Logger,
		Listed: true, Repair: true, Progress: noProgress{}, Found: func(verify.Difference) error { return nil },
	})
	if err != nil {
		return err
	}
	m.o.Logger.Info("documents whose rows went with a partition are removed", "index", ix.Name, "documents", v.Repaired, "looked_at", v.Documents)
	if n := v.Differences() + v.Undecided; n > 0 {
		return fmt.Errorf("%d documents without a row could not be removed, or are being written", n)
	}
	return nil
}

// included reports whether rows of a table are inside of documents of other rows.
func included(ix *mapping.Index, table catalog.TableName) bool {
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
func (m *Manager) brought(ctx context.Context, table *catalog.Table, leaf uint32) (condition string, err error) {
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
func (m *Manager) ask(ctx context.Context, q *control.Request) error {
	id, err := m.o.Requests.Add(ctx, q)
	if err != nil {
		return err
	}
	ended, err := m.await(ctx, id)
	if err == nil && ended.Phase != control.PhaseDone {
		err = fmt.Errorf("request %d has %s: %s", id, ended.Phase, ended.Message)
	}
	return err
}

// await waits until a request has ended: it is this instance that does it.
func (m *Manager) await(ctx context.Context, id int64) (*control.Request, error) {
	return m.o.Requests.Await(ctx, id, func(*control.Request) error { return nil })
}

type noProgress struct{}

func (noProgress) Begin(string, int64, int64) verify.Bar { return noBar{} }
