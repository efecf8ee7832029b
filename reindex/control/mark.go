package control

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/indexer/search"
)

// A Marking is what the control schema knows of one physical index besides its [Version]: what makes
// sure that the index in the cluster and this schema still belong together.
//
// A mark is renewed in three steps: the next one is noted here, is put into the index, and is noted
// here as the one there is. After a crash in between the index has one of the two.
type Marking struct {
	Physical string

	// Incarnation is that of the index, see [search.IndexInfo]; "" until it was looked at.
	Incarnation string

	// Mark is the one in the index. Number 0 is none yet: a version that kept no marks has made the
	// index.
	Mark search.Mark

	// Next is the token of the mark that is being put into the index, with the next number; "" if
	// none is.
	Next string

	At time.Time // when it was renewed last
}

// next returns the mark that is being put into the index.
func (m *Marking) next() search.Mark { return search.Mark{Number: m.Mark.Number + 1, Token: m.Next} }

// Renewed returns the marking with which a renewal begins, and the mark that the index is to have.
// i is the index as it is: where an earlier renewal came as far as that, its mark is the one to go on
// from.
func (m Marking) Renewed(i *search.IndexInfo) (Marking, search.Mark) {
	if m.Next != "" && i.Stamp != nil && i.Stamp.Mark == m.next() {
		m.Mark = m.next()
	}
	m.Next = rand.Text()
	return m, m.next()
}

// Drift says how an index and the control schema have moved apart.
type Drift int

const (
	Together Drift = iota // they have not

	// Unmarked: the index is the same, and somebody has taken its mark away.
	Unmarked

	// IndexBack: the index is another one than it was: it was restored from a snapshot, or made again.
	IndexBack

	// SchemaBack: the index has a mark that this schema never noted: the schema was set back, with
	// the database most likely, or is a copy.
	SchemaBack
)

// Drift compares the marking with the index as the cluster has it.
func (m *Marking) Drift(i *search.IndexInfo) Drift {
	if m.Mark.Number == 0 && i.Stamp == nil {
		return Together // of an earlier version, and not stamped yet
	}
	switch {
	case m.Incarnation != "" && m.Incarnation != i.Incarnation:
		return IndexBack
	case i.Stamp == nil && m.Incarnation == i.Incarnation:
		return Unmarked
	case i.Stamp == nil:
		return IndexBack
	}
	switch has := i.Stamp.Mark; {
	case has == m.Mark, m.Next != "" && has == m.next():
		return Together
	case has.Number < m.Mark.Number:
		return IndexBack
	}
	return SchemaBack
}

// Markings is the table of markings.
type Markings struct {
	schema *Schema
	table  string
}

// Markings returns the markings in a control schema.
func (s *Schema) Markings() *Markings {
	return &Markings{schema: s, table: s.table("physical_indices")}
}

// Read returns the markings of an index's physical indices, by name.
func (m *Markings) Read(ctx context.Context, index string) (map[string]Marking, error) {
	what := "read the marks of index " + index
	rows, err := m.schema.db.QueryContext(ctx, `SELECT physical, incarnation, mark_number, mark, next_mark, marked_at FROM `+m.table+` WHERE index_name = $1`, index)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer rows.Close()
	found := make(map[string]Marking)
	for rows.Next() {
		var k Marking
		if err := rows.Scan(&k.Physical, &k.Incarnation, &k.Mark.Number, &k.Mark.Token, &k.Next, &k.At); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		found[k.Physical] = k
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return found, nil
}

// Add notes a physical index that is about to be made, with the mark that it is made with, and
// returns its marking.
func (m *Markings) Add(ctx context.Context, index, physical string) (Marking, error) {
	k := Marking{Physical: physical, Mark: search.Mark{Number: 1, Token: rand.Text()}}
	err := m.schema.query(ctx, func(row pgx.Row) error { return row.Scan(&k.At) }, `INSERT INTO `+m.table+` AS p (physical, index_name, mark_number, mark) VALUES ($1, $2, 1, $3)
		ON CONFLICT (physical) DO UPDATE SET index_name = excluded.index_name, incarnation = '', mark_number = 1, mark = excluded.mark, next_mark = '', marked_at = now()
		RETURNING marked_at`, physical, index, k.Mark.Token)
	if err != nil {
		return Marking{}, fmt.Errorf("note a mark of %s: %w", physical, err)
	}
	return k, nil
}

// Note notes what a marking is now. was is what this process has noted or read last: if another one
// has noted something since, it is a *[TakenOverError].
func (m *Markings) Note(ctx context.Context, index string, was, now Marking) error {
	n, err := m.schema.exec(ctx, `UPDATE `+m.table+` SET incarnation = $4, mark_number = $5, mark = $6, next_mark = $7, marked_at = now()
		WHERE physical = $1 AND mark_number = $2 AND mark = $3`,
		was.Physical, was.Mark.Number, was.Mark.Token, now.Incarnation, now.Mark.Number, now.Mark.Token, now.Next)
	if err != nil {
		return fmt.Errorf("note a mark of %s: %w", was.Physical, err)
	}
	if n != 1 {
		return &TakenOverError{Index: index, Building: was.Physical}
	}
	return nil
}

// Forget forgets a physical index that is gone.
func (m *Markings) Forget(ctx context.Context, physical string) error {
	if _, err := m.schema.exec(ctx, `DELETE FROM `+m.table+` WHERE physical = $1`, physical); err != nil {
		return fmt.Errorf("forget the mark of %s: %w", physical, err)
	}
	return nil
}

// ReadOwner returns who keeps indices by a slot and a control schema of the database. system is the
// identifier of its database system.
func ReadOwner(ctx context.Context, db *sql.DB, system, schema, slot string) (search.Owner, error) {
	o := search.Owner{System: system, Schema: schema, Slot: slot}
	var oid int64
	err := db.QueryRowContext(ctx, `SELECT datname, oid::bigint FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()`).Scan(&o.Database, &oid)
	if err != nil {
		return search.Owner{}, fmt.Errorf("read the identity of the database: %w", err)
	}
	o.Oid = uint32(oid)
	return o, nil
}
