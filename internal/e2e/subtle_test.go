package e2e

import (
	"strings"
	"testing"

	"tidemark/testenv"
)

// hinted returns the statements of the hints in what check said.
func hinted(said string) (statements []string) {
	for line := range strings.Lines(said) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "hint: ")
		if strings.HasPrefix(line, "ALTER TABLE") || strings.HasPrefix(line, "CREATE UNIQUE INDEX") {
			statements = append(statements, line)
		}
	}
	return statements
}

// TestVirtualColumns follows tables with virtual generated columns. What check asks for never has
// Postgres refuse a change of theirs.
func TestVirtualColumns(t *testing.T) {
	t.Parallel()
	s := newSetupOn(t, testenv.StartPostgres(t, testenv.PostgresOptions{Version: "18"}), shared(t))
	s.db.Exec(t, `
		CREATE TABLE product (id int PRIMARY KEY, price int, twice int GENERATED ALWAYS AS (price * 2) VIRTUAL);
		ALTER TABLE product REPLICA IDENTITY FULL;
		CREATE TABLE item (id int PRIMARY KEY, product int, qty int, price int, total int GENERATED ALWAYS AS (qty * price) VIRTUAL);
		INSERT INTO product SELECT i, i FROM generate_series(1, 10) i;
		INSERT INTO item SELECT i, i % 10 + 1, i, i FROM generate_series(1, 50) i`)
	s.index("product", "product", `, include: {totals: {table: item, on: {id: product}, value: total, order_by: total}, most: {table: item, on: {id: product}, aggregate: max, column: total}}`, testenv.WithQuery(`
		SELECT id, json_build_object('id', id, 'price', price, 'twice', twice, 'totals', coalesce((SELECT json_agg(total ORDER BY total, i.id) FROM item i WHERE i.product = p.id), '[]'),
			'most', (SELECT max(total) FROM item i WHERE i.product = p.id)) FROM product p`))

	check := s.start(t, "check")
	if code := check.wait(t); code != 2 {
		t.Fatalf("check ends with %d:\n%s", code, check.log())
	}
	said := check.log()
	for _, want := range []string{
		"table public.product has the virtual generated column twice and REPLICA IDENTITY FULL: Postgres refuses its updates and deletes while it is published",
		"the replica identity of table public.item does not hold product",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("check does not say %q:\n%s", want, said)
		}
	}
	statements := hinted(said)
	if len(statements) != 4 {
		t.Errorf("the hints are %q", statements)
	}
	for _, statement := range statements {
		s.db.Exec(t, statement)
	}

	i := s.start(t, "run")
	s.awaitComplete(t, i)
	s.db.Exec(t, `UPDATE item SET qty = qty + 1 WHERE id < 20`, `UPDATE item SET product = product % 10 + 1 WHERE id BETWEEN 20 AND 30`, `DELETE FROM item WHERE id > 45`,
		`UPDATE product SET price = -price WHERE id < 5`, `DELETE FROM product WHERE id = 9`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// TestGeneratedColumnsOfRelatedRows changes what generated columns of related rows are made of.
func TestGeneratedColumnsOfRelatedRows(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"15", "18"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newSetupOn(t, testenv.StartPostgres(t, testenv.PostgresOptions{Version: version}), shared(t))
			s.db.Exec(t, `
				CREATE TABLE team (id int PRIMARY KEY);
				CREATE TABLE person (id int PRIMARY KEY, team int, first text, last text, full_name text GENERATED ALWAYS AS (first || ' ' || last) STORED);
				INSERT INTO team SELECT generate_series(1, 10); INSERT INTO person SELECT i, i % 10 + 1, 'f' || i, 'l' || i FROM generate_series(1, 50) i`)
			s.index("team", "team", `, include: {names: {table: person, on: {id: team}, value: full_name, order_by: full_name}}`, testenv.WithQuery(
				`SELECT id, json_build_object('id', id, 'names', coalesce((SELECT json_agg(full_name ORDER BY full_name COLLATE "C") FROM person p WHERE p.team = t.id), '[]')) FROM team t`))
			check := s.start(t, "check")
			check.wait(t)
			for _, statement := range hinted(check.log()) {
				s.db.Exec(t, statement)
			}
			i := s.start(t, "run")
			s.awaitComplete(t, i)
			s.db.Exec(t, `UPDATE person SET last = 'x' || last`, `UPDATE person SET first = 'a' WHERE id = 7`, `DELETE FROM person WHERE id = 8`)
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			i.stop(t)
		})
	}
}

// TestListMovesUp has a key handed on by every row of a list to the next one.
func TestListMovesUp(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		s := newSetup(t, testenv.SharedSearch(t, e))
		s.db.Exec(t, `CREATE TABLE list (pos int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text); ALTER TABLE list REPLICA IDENTITY FULL; INSERT INTO list SELECT i, 'v' || i FROM generate_series(1, 5) i`)
		s.index("list", "list", "")
		i := s.start(t, "run")
		s.awaitCaughtUp(t, i)
		for _, change := range []string{`UPDATE list SET pos = pos + 1`, `UPDATE list SET pos = 8 - pos`,
			`BEGIN; DELETE FROM list WHERE pos = 3; UPDATE list SET pos = 3 WHERE pos = 2; COMMIT`, `BEGIN; UPDATE list SET pos = 4 WHERE pos = 3; DELETE FROM list WHERE pos = 4 AND v <> 'v5'; COMMIT`} {
			s.db.Exec(t, change)
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
		}
		i.stop(t)
	})
}

// TestTypeThatRefusesOldValues gives a linking column a type that does not take what is in the log.
func TestTypeThatRefusesOldValues(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `
		CREATE TABLE place (id int PRIMARY KEY, code text); CREATE TABLE q (id int PRIMARY KEY, code text, v text);
		ALTER TABLE q REPLICA IDENTITY FULL;
		INSERT INTO place SELECT i, CASE i % 5 WHEN 0 THEN 'n/a' ELSE i::text END FROM generate_series(1, 20) i; INSERT INTO q SELECT id, code, 'v' || id FROM place`)
	s.index("place", "place", `, include: {vs: {table: q, on: {code: code}, value: v, order_by: id}}`, testenv.WithQuery(
		`SELECT id, json_build_object('id', id, 'code', code, 'vs', coalesce((SELECT json_agg(v ORDER BY q.id) FROM q WHERE q.code = p.code), '[]')) FROM place p`))
	s.once(t)
	s.checkSynced(t)
	s.db.Exec(t, `BEGIN; UPDATE q SET code = NULL, v = 'none' WHERE code = 'n/a'; UPDATE place SET code = NULL WHERE code = 'n/a'; ALTER TABLE q ALTER code TYPE int USING code::int;
		ALTER TABLE place ALTER code TYPE int USING code::int; UPDATE q SET v = v || '!' WHERE id = 1; COMMIT`)
	s.once(t)
	s.checkSynced(t)
}
