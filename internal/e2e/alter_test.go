package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"tidemark/testenv"
)

// alterations are what is done to a table while it has an index, each with a change of a
// row after it.
var alterations = []struct {
	name    string
	alter   string
	after   string
	rebuild bool // all documents differ
	options []testenv.CheckOption
}{
	{name: "add column", alter: `ALTER TABLE a ADD COLUMN x int`, after: `UPDATE a SET x = 5 WHERE id = 1`, options: []testenv.CheckOption{testenv.WithAbsent("x")}},
	{name: "add column with default", alter: `ALTER TABLE a ADD COLUMN x int NOT NULL DEFAULT 7`, rebuild: true},
	{name: "add column with default in one transaction with a change", alter: `BEGIN; UPDATE a SET v = 'before' WHERE id = 2; ALTER TABLE a ADD COLUMN x text DEFAULT 'x'; UPDATE a SET x = 'y' WHERE id = 3; COMMIT`, rebuild: true},
	{name: "drop column", alter: `ALTER TABLE a DROP COLUMN n`, rebuild: true},
	{name: "rename column", alter: `ALTER TABLE a RENAME COLUMN n TO m`, rebuild: true},
	{name: "type of a column", alter: `ALTER TABLE a ALTER COLUMN n TYPE text USING 'no number ' || n`, rebuild: true},
	{name: "type of the key", alter: `ALTER TABLE a ALTER COLUMN id TYPE text`, after: `UPDATE a SET v = 'after' WHERE id = '1'`, rebuild: true},
	{name: "add generated column", alter: `ALTER TABLE a ADD COLUMN g text GENERATED ALWAYS AS (upper(v)) STORED`, rebuild: true},
	{name: "column of a related table", alter: `ALTER TABLE b RENAME COLUMN note TO remark`, after: `UPDATE b SET remark = 'after' WHERE id = 1`, rebuild: true},
	{name: "default and not null alone", alter: `ALTER TABLE a ALTER COLUMN n SET DEFAULT 3, ALTER COLUMN v SET NOT NULL`, after: `INSERT INTO a (id, v) VALUES (1000, 'new')`},
	{name: "truncate", alter: `TRUNCATE a, b`, after: `INSERT INTO a VALUES (1, 'new', 1)`},
	{name: "truncate a related table", alter: `TRUNCATE b`},
}

// newAltered has an index of a table by itself, and one whose documents have rows of
// another table.
func newAltered(t *testing.T, options ...testenv.CheckOption) *setup {
	t.Helper()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text, n int)`, `INSERT INTO a SELECT i, 'v' || i, i FROM generate_series(1, 500) i`,
		`CREATE TABLE b (id int PRIMARY KEY, a_id int, note text)`, `ALTER TABLE b REPLICA IDENTITY FULL`, `CREATE INDEX ON b (a_id)`,
		`INSERT INTO b SELECT i, (i + 1) / 2, 'note ' || i FROM generate_series(1, 1000) i`)
	s.index("a", "a", "", options...)
	s.index("c", "a", `, fields: [id, v], include: {bs: {table: b, on: {id: a_id}, many: object}}`, testenv.WithQuery(
		`SELECT id, json_build_object('id', id, 'v', v, 'bs', coalesce((SELECT json_agg(to_json(b) ORDER BY b.id) FROM b WHERE b.a_id::text = a.id::text), '[]')) FROM a`))
	return s
}

// without takes the index with related rows out where an alteration leaves it no way to find
// them: an integer and a text cannot be compared.
func (s *setup) without(alteration string) {
	if alteration == "type of the key" {
		delete(s.indices, "c")
	}
}

// TestAlterWhileRunning alters tables while the command runs. Documents of all rows follow
// without its being started anew.
func TestAlterWhileRunning(t *testing.T) {
	t.Parallel()
	for _, test := range alterations {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			s := newAltered(t, test.options...)
			s.without(test.name)
			s.once(t)
			i := s.start(t, "run")
			i.awaitLog(t, "following the slot")
			// The table has been described once when it is altered.
			s.db.Exec(t, `UPDATE a SET v = 'first' WHERE id = 7`)
			s.awaitCaughtUp(t, i)
			s.db.Exec(t, test.alter, after(test.after))
			if test.rebuild {
				i.awaitLog(t, "index is complete")
			} else if test.options != nil {
				i.awaitLog(t, "the index has the fields of new columns")
			}
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			i.stop(t)
			// The next start finds everything as it has to be.
			if log := s.once(t).log(); strings.Contains(log, "made a physical index") {
				t.Errorf("the next start fills an index anew:\n%s", log)
			}
			s.checkSynced(t)
		})
	}
}

// after is the change that has the stream describe the table again.
func after(change string) string {
	if change == "" {
		return `UPDATE a SET v = 'after' WHERE id = 1`
	}
	return change
}

// TestAlterBetweenRuns alters tables while the command does not run.
func TestAlterBetweenRuns(t *testing.T) {
	t.Parallel()
	for _, test := range alterations {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			s := newAltered(t, test.options...)
			s.without(test.name)
			s.once(t)
			s.db.Exec(t, `UPDATE a SET v = 'first' WHERE id = 7`)
			s.db.Exec(t, test.alter, after(test.after))
			s.once(t)
			s.checkSynced(t)
		})
	}
}

// TestTableGone renames and drops tables that an index has rows of inside its documents. The index
// waits, and the others go on; without the table no process begins.
func TestTableGone(t *testing.T) {
	t.Parallel()
	for _, away := range []string{`ALTER TABLE b RENAME TO z; UPDATE z SET note = 'away' WHERE id = 1`, `DROP TABLE b`} {
		t.Run(strings.Fields(away)[0], func(t *testing.T) {
			t.Parallel()
			s := newAltered(t)
			i := s.start(t, "run")
			i.awaitReady(t, 200, "")
			s.awaitCaughtUp(t, i)
			s.db.Exec(t, away, `UPDATE a SET v = 'after' WHERE id = 1`)
			i.awaitReady(t, 503, "table public.b is")
			s.awaitEqual(t, i, "a")
			s.db.Exec(t, `UPDATE a SET v = 'and after' WHERE id = 2`)
			s.awaitEqual(t, i, "a")
			i.stop(t)
			s.start(t, "run").fail(t, 2, "no table public.b")
			if strings.HasPrefix(away, "ALTER") {
				s.db.Exec(t, `ALTER TABLE z RENAME TO b`)
			} else {
				delete(s.indices, "c")
			}
			s.once(t)
			s.checkIndices(t, slices.Collect(maps.Keys(s.indices))...)
		})
	}
}
