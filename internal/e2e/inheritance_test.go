package e2e

import (
	"context"
	"strings"
	"testing"

	"tidemark/testenv"
)

// payments has a table with two children: one with its columns in another order and one more.
const payments = `
	CREATE TABLE shop (id int PRIMARY KEY, name text); INSERT INTO shop VALUES (1, 'one'), (2, 'two'), (3, 'three');
	CREATE TABLE payment (id int PRIMARY KEY, shop int, amount numeric);
	CREATE TABLE payment_a (PRIMARY KEY (id)) INHERITS (payment);
	CREATE TABLE payment_b (more text, amount numeric, shop int, id int PRIMARY KEY); ALTER TABLE payment_b INHERIT payment;
	INSERT INTO payment SELECT i, i % 3 + 1, i FROM generate_series(1, 20) i;
	INSERT INTO payment_a SELECT i, i % 3 + 1, i FROM generate_series(101, 120) i;
	INSERT INTO payment_b SELECT 'more', i, i % 3 + 1, i FROM generate_series(201, 220) i`

// paymentRows and shopRows give the documents.
const (
	paymentRows = `SELECT id, json_build_object('id', id, 'shop', shop, 'amount', amount) FROM payment`
	shopRows    = `SELECT id, json_build_object('id', id, 'name', name, 'sum', (SELECT sum(amount) FROM payment p WHERE p.shop = s.id), 'last', (SELECT id FROM payment p WHERE p.shop = s.id ORDER BY id DESC LIMIT 1)) FROM shop s`
)

// TestInheritance follows a table with its children, as documents and inside of others: what the
// stream tells, and what it does not, while the command runs and between runs.
func TestInheritance(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, payments, `ALTER TABLE payment REPLICA IDENTITY FULL`, `ALTER TABLE payment_a REPLICA IDENTITY FULL`, `ALTER TABLE payment_b REPLICA IDENTITY FULL`)
	s.index("payment", "payment", "", testenv.WithQuery(paymentRows))
	s.indices["payment"] = `{table: {name: payment, children: true}}`
	s.index("shop", "shop", `, include: {sum: {table: {name: payment, children: true}, on: {id: shop}, aggregate: sum, column: amount}, last: {table: {name: payment, children: true}, on: {id: shop}, many: object, order_by: id desc, limit: 1}}`,
		testenv.WithQuery(strings.Replace(shopRows, `(SELECT id FROM payment p WHERE p.shop = s.id ORDER BY id DESC LIMIT 1)`,
			`(SELECT json_agg(json_build_object('id', p.id, 'shop', p.shop, 'amount', p.amount)) FROM (SELECT * FROM payment p WHERE p.shop = s.id ORDER BY id DESC LIMIT 1) p)`, 1)))
	s.write(t)
	if out, code := s.command(t, "check"); code != 0 || !strings.Contains(out, "from table public.payment and its 2 children") {
		t.Errorf("check: %d\n%s", code, out)
	}
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
	changes := []string{
		`UPDATE payment SET amount = amount + 1000 WHERE id IN (3, 103, 203); DELETE FROM payment WHERE id IN (4, 104, 204); UPDATE payment SET id = id + 500 WHERE id IN (5, 105, 205)`,
		`BEGIN; INSERT INTO payment_a SELECT * FROM ONLY payment WHERE id < 10; DELETE FROM ONLY payment WHERE id < 10; COMMIT`,
		`TRUNCATE payment_a`,
		`CREATE TABLE payment_c (PRIMARY KEY (id)) INHERITS (payment); ALTER TABLE payment_c REPLICA IDENTITY FULL; INSERT INTO payment_c VALUES (401, 1, 7), (402, 2, 8)`,
		`UPDATE payment_c SET amount = 70 WHERE id = 401; DELETE FROM payment_c WHERE id = 402; INSERT INTO payment_c VALUES (403, 3, 9)`,
		`ALTER TABLE payment_b NO INHERIT payment`,
		`ALTER TABLE payment_b INHERIT payment`,
		`DROP TABLE payment_c`,
	}
	for _, change := range changes {
		s.db.Exec(t, change)
		s.awaitEqual(t, i)
	}
	i.stop(t)
	s.db.Exec(t, `CREATE TABLE payment_d (PRIMARY KEY (id)) INHERITS (payment); ALTER TABLE payment_d REPLICA IDENTITY FULL; INSERT INTO payment_d VALUES (601, 1, 7)`, `TRUNCATE payment_b`)
	s.once(t)
	s.checkSynced(t)
}

// TestInheritanceWithoutKey gives children no key: the command does not begin then; one that comes
// while it runs is not published, so that nobody's update is refused, until it has one.
func TestInheritanceWithoutKey(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, payments, `ALTER TABLE payment_a DROP CONSTRAINT payment_a_pkey`)
	s.index("payment", "payment", "", testenv.WithQuery(paymentRows))
	s.indices["payment"] = `{table: {name: payment, children: true}}`
	i := s.start(t, "run")
	i.fail(t, 2, `ALTER TABLE "public"."payment_a" REPLICA IDENTITY FULL;`)
	s.fix(t, i)
	i = s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.db.Exec(t, `CREATE TABLE payment_c () INHERITS (payment)`, `INSERT INTO payment_c VALUES (401, 1, 7), (402, 2, 8)`)
	i.awaitReady(t, 503, `public.payment_c`)
	s.db.Exec(t, `UPDATE payment_c SET amount = 70 WHERE id = 401`, `DELETE FROM payment_c WHERE id = 402`, `UPDATE payment_a SET amount = 1 WHERE id = 103`)
	s.db.Exec(t, `ALTER TABLE payment_c ADD PRIMARY KEY (id)`)
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
	s.db.Exec(t, `UPDATE payment SET amount = 71 WHERE id = 401`)
	s.awaitEqual(t, i)
	// One that loses its key leaves the publication.
	s.db.Exec(t, `ALTER TABLE payment_c DROP CONSTRAINT payment_c_pkey`)
	i.poll(t, "an update is not refused", func(ctx context.Context) error {
		_, err := s.db.DB.ExecContext(ctx, `UPDATE payment_c SET amount = 72`)
		return err
	})
}

// TestInheritanceNotAskedFor maps a table alone: its children are not followed, nothing is asked
// of them, and check says so.
func TestInheritanceNotAskedFor(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, payments, `ALTER TABLE payment_a DROP CONSTRAINT payment_a_pkey`)
	s.index("payment", "payment", "", testenv.WithQuery(strings.Replace(paymentRows, "FROM payment", "FROM ONLY payment", 1)))
	s.write(t)
	if out, code := s.command(t, "check"); code != 0 || !strings.Contains(out, "table public.payment has 2 children by inheritance, whose rows are not followed; hint: table: {name: public.payment, children: true}") {
		t.Errorf("check: %d\n%s", code, out)
	}
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.db.Exec(t, `UPDATE payment SET amount = amount + 1`, `TRUNCATE payment_b`, `DELETE FROM payment_a`, `CREATE TABLE payment_c () INHERITS (payment)`, `INSERT INTO payment_c VALUES (401, 1, 7)`, `UPDATE payment SET amount = amount + 1`)
	s.awaitEqual(t, i)
	i.stop(t)
	// With its children it is another index.
	s.db.Exec(t, `ALTER TABLE payment_a ADD PRIMARY KEY (id)`, `ALTER TABLE payment_c ADD PRIMARY KEY (id)`)
	s.index("payment", "payment", "", testenv.WithQuery(paymentRows))
	s.indices["payment"] = `{table: {name: payment, children: true}}`
	s.once(t)
	s.checkSynced(t)
}
