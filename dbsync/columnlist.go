package dbsync

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/dbsync/pgname"
)

// From Postgres 15 on a publication may name the columns of a table that it publishes. What it
// leaves out is not read from the row when the log is decoded, so a value there may be larger than
// a message can be.
//
// Such a list binds the table's owner. Postgres refuses to drop a column that is in one, or to
// change its type; and it refuses every UPDATE and DELETE while the replica identity has a column
// that is in none. So a list has the columns that slots name, and those of every unique index:
// what becomes the identity next is in it before. Where the identity is the whole row there is no list.
// https://www.postgresql.org/docs/current/logical-replication-col-lists.html

// firstColumnLists is the first version of the server that has column lists.
const firstColumnLists = 150000

// A neededTable is a table that a slot needs, as its user names it.
type neededTable struct {
	name    string   // quoted
	columns []string // as the catalog spells them; nil: all
}

// parseNeeded reads the name of a table, with a list of columns behind it or without one:
//
//	docs
//	public.docs (id, "Title")
//
// A name of a column without quotes is taken as it stands.
func parseNeeded(text string) (neededTable, error) {
	name, list, listed := cutList(strings.TrimSpace(text))
	quoted, err := quoteTable(strings.TrimSpace(name))
	if err != nil || !listed {
		return neededTable{name: quoted}, err
	}
	list, closed := strings.CutSuffix(list, ")")
	if !closed {
		return neededTable{}, fmt.Errorf("columns of table %s: want (column, …) and nothing behind it", name)
	}
	t := neededTable{name: quoted}
	for _, column := range splitList(list) {
		parts, err := pgname.Split(strings.TrimSpace(column))
		if err != nil {
			return neededTable{}, fmt.Errorf("columns of table %s: %w", name, err)
		}
		if len(parts) != 1 || parts[0].Name == "" || !parts[0].Quoted && strings.ContainsAny(parts[0].Name, `"()`) {
			return neededTable{}, fmt.Errorf("columns of table %s: %q is no name of a column", name, strings.TrimSpace(column))
		}
		t.columns = append(t.columns, parts[0].Name)
	}
	return t, nil
}

// cutList cuts text at the first parenthesis that is not within double quotes.
func cutList(text string) (before, after string, found bool) {
	quoted := false
	for i := range len(text) {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == '(' && !quoted:
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

// splitList splits text at the commas that are not within double quotes.
func splitList(text string) (parts []string) {
	quoted, start := false, 0
	for i := range len(text) {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ',' && !quoted:
			parts, start = append(parts, text[start:i]), i+1
		}
	}
	return append(parts, text[start:])
}

// A columnNeed is which columns of a table are needed. The zero value is none.
type columnNeed struct {
	all     bool
	numbers []int16 // pg_attribute.attnum, ascending
}

func (n *columnNeed) add(all bool, numbers ...int16) {
	n.all = n.all || all
	n.numbers = append(n.numbers, numbers...)
	slices.Sort(n.numbers)
	n.numbers = slices.Compact(n.numbers)
}

func (n *columnNeed) has(number int16) bool { return n.all || slices.Contains(n.numbers, number) }

// A publicationColumn is a column of a table that is in the publication.
type publicationColumn struct {
	number    int16
	name      string // quoted
	generated bool
	listable  bool // in a column list
}

// parseNumbers reads what Postgres wrote as numbers with blanks between them.
func parseNumbers(text string) (numbers []int16, err error) {
	for field := range strings.FieldsSeq(text) {
		n, err := strconv.ParseInt(field, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("numbers of columns %q: %w", text, err)
		}
		numbers = append(numbers, int16(n))
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), nil
}

// noteOf is how the slot table notes which columns of a table a slot needs, "" for all of them: the
// table's oid and the columns' numbers, which stay where one gets another name.
func noteOf(oid uint32, n columnNeed) string {
	if n.all {
		return ""
	}
	note := strconv.FormatUint(uint64(oid), 10)
	for _, number := range n.numbers {
		note += " " + strconv.Itoa(int(number))
	}
	return note
}

// noted returns what a note says of a table. Without one all columns are needed: earlier versions
// noted tables alone.
func notedNeed(notes []string, oid uint32) (n columnNeed, err error) {
	for _, note := range notes {
		table, numbers, _ := strings.Cut(note, " ")
		if table == strconv.FormatUint(uint64(oid), 10) {
			n.numbers, err = parseNumbers(numbers)
			return n, err
		}
	}
	return columnNeed{all: true}, nil
}

// wantedList returns the columns by which the publication has to have a table, ascending; nil for
// all of them, without a list. extra says whether columns that are published stay.
func (s *Syncer) wantedList(look *publicationLook, t *publicationTable, extra extras) []int16 {
	keep := extra != removeExtras && t.member != 0
	if s.serverVersion < firstColumnLists || look.unknown || t.need.all || t.unlistable || keep && t.list == nil {
		return nil
	}
	list := columnNeed{numbers: slices.Clone(t.need.numbers)}
	list.add(false, t.keys...)
	if keep {
		list.add(false, t.list...)
	}
	var wanted []int16
	listable := 0
	for _, c := range t.columns {
		if c.listable {
			listable++
			if list.has(c.number) {
				wanted = append(wanted, c.number)
			}
		}
	}
	if len(wanted) == listable {
		return nil
	}
	slices.Sort(wanted)
	return wanted
}

// columnList is a list as a statement has it behind the table; "" for none.
func (t *publicationTable) columnList(list []int16) string {
	if list == nil {
		return ""
	}
	var names []string
	for _, c := range t.columns {
		if slices.Contains(list, c.number) {
			names = append(names, c.name)
		}
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// memberTable says which rows of pg_publication_rel were made here, in the control schema. A list
// of columns is changed by taking the table out and putting it in, in one transaction, which makes
// another row: member. Each change of a row of the table is decoded either as before or as after,
// so none is missing, and since is the first row of which that is true. A row that is not here
// was made by somebody else, or needs no list.
const memberTable = "dbsync_memberships"

// noteMemberships notes the rows that a change has made, and forgets those that are gone.
func (s *Syncer) noteMemberships(ctx context.Context, tx pgx.Tx, publication uint32, c *publicationChange) error {
	var tables, since []uint32
	for _, m := range c.made {
		tables, since = append(tables, m.table), append(since, m.since)
	}
	if len(tables) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `INSERT INTO `+s.control(memberTable)+` AS m (member, since)
		SELECT r.oid, coalesce(nullif(k.since, 0::oid), r.oid) FROM ROWS FROM (pg_catalog.unnest($2::oid[]), pg_catalog.unnest($3::oid[])) k(rel, since)
		JOIN pg_catalog.pg_publication_rel r ON r.prpubid = $1 AND r.prrelid = k.rel
		ON CONFLICT (member) DO UPDATE SET since = excluded.since`, publication, tables, since)
	if err != nil {
		return fmt.Errorf("note how publication %s has its tables: %w", s.publication, err)
	}
	return s.forgetMemberships(ctx, tx)
}

// forgetMemberships deletes the notes of rows that are gone.
func (s *Syncer) forgetMemberships(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `DELETE FROM `+s.control(memberTable)+` m WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.oid = m.member)`); err != nil {
		return fmt.Errorf("forget how publication %s had its tables: %w", s.publication, err)
	}
	return nil
}

// relistTimeout is how long others may have to wait for a list to be changed: they queue behind who
// waits for a lock.
const relistTimeout = 200 * time.Millisecond

// lockRelisted locks the tables whose lists are to be changed against those who write to them, and
// marks those that others write to just now as busy.
//
// A transaction that has written to a table before its list is changed, and ends after it, may be
// decoded with either list: it depends on what the session has decoded before. Where a transaction is
// cut into groups depends on the size of its messages, and a replay has to cut alike. So no
// transaction may be under way there. Where the list has Postgres refuse the application's writes
// it is changed at once: nobody could have written a row twice since.
func (s *Syncer) lockRelisted(ctx context.Context, tx pgx.Tx, look *publicationLook, c *publicationChange) (busy bool, err error) {
	for i := range look.tables {
		t := &look.tables[i]
		outside := slices.ContainsFunc(t.keys, func(key int16) bool { return !slices.Contains(t.list, key) })
		if !slices.Contains(c.relisted, t.name) || t.list != nil && (t.unlistable || outside) {
			continue
		}
		if t.busy, err = s.lockTable(ctx, tx, t); err != nil {
			return busy, fmt.Errorf("lock table %s, to change which of its columns are published: %w", t.name, err)
		}
		if t.busy {
			s.log.Info("which columns of a table are published is changed when nobody writes to it", "table", t.name)
		}
		busy = busy || t.busy
	}
	return busy, nil
}

// lockTable locks a table, with its partitions, until tx ends. Others are busy with it if that takes
// too long.
func (s *Syncer) lockTable(ctx context.Context, tx pgx.Tx, t *publicationTable) (busy bool, err error) {
	target := "ONLY " + t.name
	if t.partitioned {
		target = t.name
	}
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
		var before string
		if err := tx.QueryRow(ctx, `SELECT pg_catalog.current_setting('lock_timeout')`).Scan(&before); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", relistTimeout.Milliseconds())); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE "+target+" IN SHARE MODE"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('lock_timeout', $1, true)`, before)
		return err
	})
	if sqlState(err) == "55P03" { // lock_not_available
		return true, nil
	}
	return false, err
}

// A madeMembership is a row of pg_publication_rel that a change makes.
type madeMembership struct {
	table uint32
	since uint32 // the row that it goes on from; 0: it is the first
}
