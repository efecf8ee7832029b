package e2e

import (
	"context"
	"fmt"
	"testing"

	"tidemark/testenv"
)

// Two instances with slots and control schemas of their own keep two clusters equal to the same tables,
// while rows change; one can be stopped, and its slot dropped, at any time.
func TestTwoClusters(t *testing.T) {
	t.Parallel()
	engines := testenv.Engines(t)
	if len(engines) < 2 {
		t.Skip("it needs two search servers")
	}
	old := newSetup(t, testenv.SharedSearch(t, engines[0]))
	next := newSetupFor(t, old.db, testenv.SharedSearch(t, engines[1]))
	next.slot, next.postgres = old.slot+"_new", ", control_schema: tidemark_new, publication: tidemark_new"
	old.db.Exec(t, `CREATE TABLE products (id int PRIMARY KEY, title text)`, `INSERT INTO products SELECT i, 'product ' || i FROM generate_series(1, 2000) i`)
	old.index("products", "products", ", reindex: {chunk: 500}")
	next.index("products", "products", ", reindex: {chunk: 500}")

	first := old.start(t, "run")
	old.awaitComplete(t, first)
	second := next.start(t, "run")
	for i := range 20 {
		old.db.Exec(t, fmt.Sprintf(`UPDATE products SET title = 'changed %d' WHERE id %% 20 = %d`, i, i), fmt.Sprintf(`DELETE FROM products WHERE id = %d`, 100+i),
			fmt.Sprintf(`INSERT INTO products VALUES (%d, 'new')`, 5000+i))
	}
	second.awaitReady(t, 200, "")
	checkBoth := func(instances ...*instance) {
		t.Helper()
		for i, s := range []*setup{old, next}[2-len(instances):] {
			// Both slots have the same log: what is behind a change that both publish is stored by either.
			instances[i].poll(t, "the index is equal to its table", func(ctx context.Context) error { return s.equal(ctx) })
		}
	}
	checkBoth(first, second)
	first.stop(t)
	old.db.Exec(t, fmt.Sprintf(`SELECT pg_drop_replication_slot('%s')`, old.slot), `UPDATE products SET title = 'moved' WHERE id < 100`)
	checkBoth(second)
	second.stop(t)
}
