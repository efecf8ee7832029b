package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/dbsync"
	"tidemark/testenv"
)

// beside returns another file for the same database, control schema and publication, with a slot
// of its own and no index yet.
func (s *setup) beside(t testing.TB, slot string) *setup {
	t.Helper()
	other := *s
	other.slot, other.prefix, other.file = s.db.Unique(slot), s.search.NewPrefix(t), filepath.Join(t.TempDir(), "tidemark.yaml")
	other.indices, other.tables, other.options = make(map[string]string), make(map[string]string), make(map[string][]testenv.CheckOption)
	return &other
}

// TestPublicationOfTwo has two instances, each with a table of its own, and one publication: both
// stay in sync through starts and ends of the other.
func TestPublicationOfTwo(t *testing.T) {
	t.Parallel()
	first := newSetup(t, shared(t))
	first.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a SELECT i, 'a' || i FROM generate_series(1, 200) i`,
		`CREATE TABLE b (id int PRIMARY KEY, v text)`, `INSERT INTO b SELECT i, 'b' || i FROM generate_series(1, 200) i`)
	first.index("a", "a", "")
	second := first.beside(t, "second")
	second.index("b", "b", "")
	change := func(v string) {
		t.Helper()
		first.db.Exec(t, `UPDATE a SET v = '`+v+`' WHERE id % 2 = 0; INSERT INTO a SELECT max(id) + 1, '`+v+`' FROM a; DELETE FROM a WHERE id = (SELECT min(id) FROM a)`,
			`UPDATE b SET v = '`+v+`' WHERE id % 2 = 0; INSERT INTO b SELECT max(id) + 1, '`+v+`' FROM b; DELETE FROM b WHERE id = (SELECT min(id) FROM b)`)
	}
	inSync := func(s *setup, i *instance) {
		t.Helper()
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
	}

	one := first.start(t, "run")
	first.awaitComplete(t, one)
	two := second.start(t, "run")
	second.awaitComplete(t, two)
	change("both run")
	inSync(first, one)
	inSync(second, two)

	two.stop(t)
	change("one runs")
	inSync(first, one)
	two = second.start(t, "run")
	two.awaitLog(t, "following the slot")
	change("it is back")
	inSync(first, one)
	inSync(second, two)

	one.stop(t)
	change("the other runs")
	one = first.start(t, "run")
	one.awaitLog(t, "following the slot")
	inSync(first, one)
	inSync(second, two)

	// None of that looked like a loss, after which all is filled anew.
	for _, log := range []string{one.log(), two.log()} {
		for line := range strings.Lines(log) {
			var said struct{ Msg string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "made a physical index for a backfill" {
				t.Error("an index was filled anew")
			}
		}
	}

	two.stop(t)
	must(t, dbsync.Teardown(t.Context(), dbsync.WithPGConnStr(second.postgresURL), dbsync.WithReplicationSlot(second.slot)))
	change("the other is gone")
	inSync(first, one)
	var published string
	must(t, first.db.DB.QueryRowContext(t.Context(), `SELECT string_agg(prrelid::regclass::text, ' ' ORDER BY 1) FROM pg_publication_rel`).Scan(&published))
	if published != "a dbsync_ctrl.dbsync_wmtable" {
		t.Errorf("published are %s", published)
	}
}

// TestPublicationLeavesChildrenAlone maps a table from which another one inherits that has no key.
// The application's updates of that one are never refused because of it.
func TestPublicationLeavesChildrenAlone(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE base (id int PRIMARY KEY, v text)`, `CREATE TABLE child () INHERITS (base)`,
		`INSERT INTO base SELECT i, 'base' FROM generate_series(1, 100) i`, `INSERT INTO child SELECT i, 'child' FROM generate_series(1001, 1100) i`)
	s.index("base", "base", "")
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	s.db.Exec(t, `UPDATE child SET v = 'changed'`, `DELETE FROM child WHERE id > 1050`, `UPDATE base SET v = 'changed' WHERE id % 2 = 0`)
	s.awaitCaughtUp(t, i)
	i.stop(t)

	// An earlier version has published it with the table: it is taken out at the start.
	s.db.Exec(t, `ALTER PUBLICATION dbsync_mypub ADD TABLE child`)
	if _, err := s.db.DB.ExecContext(t.Context(), `UPDATE child SET v = 'refused'`); err == nil {
		t.Fatal("an update of a published table without a key is not refused")
	}
	i = s.start(t, "run")
	i.awaitLog(t, "following the slot")
	s.db.Exec(t, `UPDATE child SET v = 'changed again'`)
	s.awaitCaughtUp(t, i)
}

// TestPublicationIsPutBack alters the publication while an instance runs: it is put right, and what
// was missed meanwhile is caught up.
func TestPublicationIsPutBack(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]string{
		"a-table":        `ALTER PUBLICATION dbsync_mypub DROP TABLE a`,
		"the-watermarks": `ALTER PUBLICATION dbsync_mypub DROP TABLE dbsync_ctrl.dbsync_wmtable`,
		"kinds":          `ALTER PUBLICATION dbsync_mypub SET (publish = 'update')`,
		"a-row-filter":   `ALTER PUBLICATION dbsync_mypub DROP TABLE a; ALTER PUBLICATION dbsync_mypub ADD TABLE a WHERE (id < 0)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t, shared(t))
			s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a SELECT i, 'a' || i FROM generate_series(1, 200) i`)
			s.index("a", "a", "")
			i := s.start(t, "run")
			s.awaitComplete(t, i)
			s.db.Exec(t, `UPDATE a SET v = 'before' WHERE id = 1`)
			s.awaitCaughtUp(t, i)
			s.db.Exec(t, alter, `INSERT INTO a VALUES (1000, 'missed')`, `DELETE FROM a WHERE id = 7`)
			i.awaitLog(t, "changed publication")
			s.db.Exec(t, `INSERT INTO a VALUES (1001, 'after')`, `UPDATE a SET v = 'after' WHERE id = 2`)
			i.poll(t, "the index is as the table", func(ctx context.Context) error { return s.equal(ctx) })
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
		})
	}
}

// listed returns the columns that the publication names of a table, "all" where it names none.
func (s *setup) listed(ctx context.Context, table string) (columns string, err error) {
	err = s.db.DB.QueryRowContext(ctx, `SELECT coalesce((SELECT string_agg(a.attname, ' ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)), 'all')
		FROM pg_publication_rel r WHERE r.prrelid = $1::regclass`, table).Scan(&columns)
	return columns, err
}

func (s *setup) awaitListed(t testing.TB, i *instance, table, want string) {
	t.Helper()
	i.poll(t, "the columns "+want+" are published", func(ctx context.Context) error {
		if columns, err := s.listed(ctx, table); err != nil || columns != want {
			return fmt.Errorf("it is %s, %v", columns, err)
		}
		return nil
	})
}

// TestUnusedColumnOfAnySize has a value in a column that no document uses, and that as text is larger
// than a message of Postgres can be: the stream goes on.
func TestUnusedColumnOfAnySize(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.needVersion(t, 15)
	s.db.Exec(t, `CREATE TABLE docs (id int PRIMARY KEY, title varchar(100), note text, file bytea)`,
		`INSERT INTO docs SELECT i, 'title ' || i, 'note', 'file' FROM generate_series(1, 200) i`,
		`CREATE TABLE other (id int PRIMARY KEY, doc_id int, v text, junk text)`, `INSERT INTO other SELECT i, i, 'v', 'junk' FROM generate_series(1, 200) i`)
	s.index("docs", "docs", `, fields: [id, title]`, testenv.WithQuery(`SELECT id, json_build_object('id', id, 'title', title) FROM docs`))
	s.index("other", "other", `, fields: [id], include: {doc: {table: docs, on: {doc_id: id}, value: title}}`,
		testenv.WithQuery(`SELECT id, json_build_object('id', id, 'doc', (SELECT title FROM docs d WHERE d.id = doc_id)) FROM other`))
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	s.awaitListed(t, i, "docs", "id title")
	s.awaitListed(t, i, "other", "all") // nothing in it can be too large
	s.db.Exec(t, `INSERT INTO docs (id, title, file) VALUES (1001, 'large', convert_to(repeat('x', 540000000), 'UTF8'))`,
		`UPDATE docs SET title = 'later' WHERE id = 1001 OR id % 2 = 0`, `DELETE FROM docs WHERE id = 7`, `UPDATE other SET doc_id = 1001 WHERE id = 3`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	docs := s.physicalName(t, "docs")

	// What is written before the mapping is edited does not have the columns that it takes then.
	s.db.Exec(t, `UPDATE docs SET file = 'small' WHERE id = 1001`)
	i.stop(t)
	s.db.Exec(t, `UPDATE docs SET title = 'while nobody listens', file = 'other' WHERE id % 3 = 0`, `INSERT INTO docs VALUES (2001, 'new', 'n', 'new')`)
	s.index("docs", "docs", `, fields: [id, title, file]`, testenv.WithQuery(`SELECT id, json_build_object('id', id, 'title', title, 'file', encode(file, 'base64')) FROM docs`))
	i = s.start(t, "run")
	i.awaitLog(t, "following the slot")
	s.awaitListed(t, i, "docs", "all")
	s.db.Exec(t, `UPDATE docs SET file = 'after' WHERE id % 5 = 0`)
	s.awaitComplete(t, i)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	if s.physicalName(t, "docs") == docs {
		t.Error("the edited index is not rebuilt")
	}
	docs = s.physicalName(t, "docs")
	other := s.physicalName(t, "other")

	// Back again: the columns go out when the documents in use are not made of them any more.
	s.index("docs", "docs", `, fields: [id, title]`, testenv.WithQuery(`SELECT id, json_build_object('id', id, 'title', title) FROM docs`))
	s.write(t)
	i.hangup(t)
	s.awaitListed(t, i, "docs", "id title")
	s.db.Exec(t, `UPDATE docs SET title = 'back' WHERE id % 7 = 0`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	if s.physicalName(t, "docs") == docs {
		t.Error("the edited index is not rebuilt")
	}
	docs = s.physicalName(t, "docs")

	// A list keeps columns from being altered. As docs/publication.md says it is taken away and put
	// back without a rebuild.
	const alter = `ALTER TABLE docs ALTER COLUMN title TYPE varchar(200)`
	if _, err := s.db.DB.ExecContext(t.Context(), alter); err == nil {
		t.Error("Postgres changes the type of a column that the publication names")
	}
	lists := func(policy, docs, other string) {
		t.Helper()
		s.postgres = ", publish_columns: " + policy
		s.write(t)
		i.hangup(t)
		s.awaitListed(t, i, "docs", docs)
		s.awaitListed(t, i, "other", other)
		s.db.Exec(t, `UPDATE docs SET title = 'with `+policy+`' WHERE id % 3 = 0`, `UPDATE other SET junk = 'x', doc_id = 2001 WHERE id = 5`)
		s.awaitCaughtUp(t, i)
		s.checkSynced(t)
	}
	lists("used", "id title", "id doc_id")
	lists("all", "all", "all")
	if s.physicalName(t, "docs") != docs || s.physicalName(t, "other") != other {
		t.Error("an index is rebuilt because the publication names other columns of its tables")
	}
	if strings.Contains(i.log(), "unproven") {
		t.Error("an index is compared because the publication names other columns of its tables")
	}
	s.db.Exec(t, alter, `UPDATE docs SET title = 'altered' WHERE id % 2 = 1`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
}
