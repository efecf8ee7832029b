package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidemark/testenv"
)

// newRegions has the orders of each region in an index of its own, with rows of three regions, and their items included.
// more is YAML of the index.
func newRegions(t *testing.T, more string) *setup {
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE orders (id int PRIMARY KEY, region text, name text)`, `ALTER TABLE orders REPLICA IDENTITY FULL`,
		`CREATE TABLE items (id int PRIMARY KEY, order_id int)`, `ALTER TABLE items REPLICA IDENTITY FULL`,
		`INSERT INTO orders SELECT i, (ARRAY['eu', 'us', 'apac'])[i % 3 + 1], 'order ' || i FROM generate_series(1, 90) i`,
		`INSERT INTO items SELECT i, i FROM generate_series(1, 90) i`)
	for _, region := range []string{"eu", "us", "apac"} {
		s.region(region)
	}
	s.text = fmt.Sprintf("postgres: {url: %q, slot: %s}\nsearch: {urls: [%q]}\nadmin: {listen: %q}\nindices:\n  orders: {name: %q, table: public.orders, "+
		"include: {items: {table: items, on: {id: order_id}, many: object, order_by: id}}%s}\n",
		s.postgresURL, s.slot, s.searchURL, s.adminListen, s.alias("orders-{region}"), more)
	return s
}

// region has an index for one region be checked: of the rows with one of these spellings, its name if none is given.
func (s *setup) region(name string, spellings ...string) {
	if len(spellings) == 0 {
		spellings = []string{name}
	}
	s.index("orders-"+name, "public.orders", "", testenv.WithQuery(fmt.Sprintf(`SELECT id, json_build_object('id', id, 'region', region, 'name', name, 'items',
		(SELECT coalesce(json_agg(json_build_object('id', i.id, 'order_id', i.order_id) ORDER BY i.id), '[]') FROM items i WHERE i.order_id = o.id)) FROM orders o WHERE region IN ('%s')`,
		strings.Join(spellings, "', '"))))
}

// TestRegions has rows go from one index to another, and values come while the instance runs.
func TestRegions(t *testing.T) {
	t.Parallel()
	s := newRegions(t, "")
	s.write(t)
	if out, code := s.command(t, "check"); code != 0 || !strings.Contains(out, s.alias("orders-apac")) {
		t.Errorf("check: %d\n%s", code, out)
	}
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
	for _, change := range []string{
		`UPDATE orders SET region = 'us' WHERE id BETWEEN 1 AND 20`,
		`UPDATE orders SET region = 'eu', id = id + 1000 WHERE id BETWEEN 21 AND 30`,
		`UPDATE orders SET name = 'changed' WHERE id BETWEEN 31 AND 40`,
		`DELETE FROM orders WHERE id BETWEEN 41 AND 50`,
		`INSERT INTO orders VALUES (200, NULL, 'nowhere'), (201, '', 'nowhere'), (202, 'a/b', 'nowhere'), (203, 'us', 'new')`,
		`UPDATE orders SET region = NULL WHERE id = 51; UPDATE orders SET region = 'eu' WHERE id = 200; UPDATE orders SET region = 'no name' WHERE id = 52`,
		`UPDATE items SET order_id = order_id + 1 WHERE id BETWEEN 60 AND 70; DELETE FROM items WHERE id > 80`,
		`BEGIN; UPDATE orders SET region = 'eu' WHERE id = 60; UPDATE orders SET region = 'us' WHERE id = 60; UPDATE orders SET region = 'apac' WHERE id = 60; COMMIT`,
	} {
		s.db.Exec(t, change)
		s.awaitEqual(t, i)
	}
	s.region("mars")
	s.db.Exec(t, `INSERT INTO orders SELECT i, 'mars', 'new' FROM generate_series(300, 330) i; UPDATE orders SET region = 'mars' WHERE id = 60`)
	s.awaitEqual(t, i)
	s.db.Exec(t, `UPDATE orders SET region = 'eu' WHERE id BETWEEN 300 AND 305; DELETE FROM orders WHERE id = 310`)
	s.awaitEqual(t, i)
	// Another spelling is of the same index.
	s.region("mars", "mars", "Mars")
	s.db.Exec(t, `UPDATE orders SET region = 'Mars' WHERE id BETWEEN 320 AND 325`)
	s.awaitEqual(t, i)
	for _, name := range []string{"eu", "us", "apac", "mars"} {
		if out, code := s.command(t, "verify "+s.alias("orders-"+name)); code != 0 {
			t.Errorf("verify: %d\n%s", code, out)
		}
	}
	s.db.Exec(t, `TRUNCATE orders`)
	s.awaitEqual(t, i)
	s.db.Exec(t, `INSERT INTO orders VALUES (1, 'eu', 'again')`)
	s.awaitEqual(t, i)
	i.stop(t)
}

// TestRegionsWhileNothingRuns has the last row of a value go, and a value come, while no instance runs.
func TestRegionsWhileNothingRuns(t *testing.T) {
	t.Parallel()
	s := newRegions(t, "")
	s.write(t)
	s.once(t)
	s.checkSynced(t)
	s.db.Exec(t, `UPDATE orders SET region = 'eu' WHERE region = 'apac' AND id < 40`, `DELETE FROM orders WHERE region = 'apac'`, `INSERT INTO orders VALUES (500, 'venus', 'new')`)
	s.region("venus")
	s.once(t)
	s.checkSynced(t)
	// An index that nobody needs is forgotten, as docs/index-names.md says.
	physical := s.physical(t, "orders-apac")
	s.db.Exec(t, `DELETE FROM dbsync_ctrl.indices WHERE name = '`+s.alias("orders-apac")+`'`)
	delete(s.indices, "orders-apac")
	delete(s.tables, "orders-apac")
	delete(s.options, "orders-apac")
	if out, code := s.command(t, "check"); code != 0 || strings.Contains(out, s.alias("orders-apac")) {
		t.Errorf("check: %d\n%s", code, out)
	}
	s.once(t)
	s.delete(t, physical)
	s.checkSynced(t)
}

// TestRegionsOfNoRows has no row with a value at first.
func TestRegionsOfNoRows(t *testing.T) {
	t.Parallel()
	s := newRegions(t, "")
	s.db.Exec(t, `TRUNCATE orders; INSERT INTO orders VALUES (1, NULL, ''), (2, 'a b', '')`)
	s.write(t)
	if out, code := s.command(t, "check"); code != 2 || !strings.Contains(out, "no row of public.orders has a value in column region that names an index") {
		t.Errorf("check: %d\n%s", code, out)
	}
	s.db.Exec(t, `CREATE TABLE other (id int PRIMARY KEY)`)
	s.indices, s.tables, s.options = map[string]string{}, map[string]string{}, map[string][]testenv.CheckOption{}
	s.index("other", "other", "")
	s.text += "  " + s.alias("other") + ": {table: other}\n"
	i := s.start(t, "run")
	i.awaitReady(t, 503, "1 value of column region make no name")
	s.db.Exec(t, `INSERT INTO orders VALUES (3, 'eu', 'first'); UPDATE orders SET region = 'eu' WHERE id = 2`)
	s.region("eu")
	s.awaitEqual(t, i)
	i.awaitReady(t, 200, "")
	i.stop(t)
}

// TestRegionsBounded has more values than there may be indices.
func TestRegionsBounded(t *testing.T) {
	t.Parallel()
	s := newRegions(t, ", max_indices: 4")
	s.db.Exec(t, `CREATE INDEX ON orders (region)`)
	s.write(t)
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.db.Exec(t, `INSERT INTO orders VALUES (401, 'b', '')`)
	s.region("b")
	s.awaitEqual(t, i)
	i.awaitReady(t, 200, "")
	s.db.Exec(t, `INSERT INTO orders VALUES (402, 'a', ''), (403, 'c', '')`)
	i.awaitReady(t, 503, "2 values of column region are left out")
	s.db.Exec(t, `UPDATE orders SET name = 'meanwhile' WHERE id < 90; INSERT INTO orders SELECT i, 'd' || i, '' FROM generate_series(1000, 3000) i`)
	s.awaitEqual(t, i)
	if n := strings.Count(i.log(), "stand for other"); n > 1 {
		t.Errorf("the file was resolved again %d times", n)
	}
	i.stop(t)
}

// TestRegionsRebuilt has one of the indices filled anew while rows come to it and leave it.
func TestRegionsRebuilt(t *testing.T) {
	t.Parallel()
	s := newRegions(t, ", reindex: {chunk: 100}")
	s.db.Exec(t, `INSERT INTO orders SELECT i, (ARRAY['eu', 'us', 'apac'])[i % 3 + 1], 'order ' || i FROM generate_series(1000, 9000) i`)
	s.write(t)
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
	before := s.physical(t, "orders-eu")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		// Slower than it is followed, so that the reindex comes to its end.
		for n, tick := 0, time.NewTicker(20*time.Millisecond); ctx.Err() == nil; n++ {
			<-tick.C
			if _, err := s.db.DB.ExecContext(ctx, `UPDATE orders SET region = (ARRAY['eu', 'us', 'apac'])[$1 % 3 + 1], name = 'round ' || $1 WHERE id % 997 = $1 % 997`, n); err != nil && ctx.Err() == nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	if out, code := s.command(t, "reindex "+s.alias("orders-eu")); code != 0 {
		t.Errorf("reindex: %d\n%s", code, out)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if now := s.physical(t, "orders-eu"); now == before {
		t.Error("the index is the one before")
	}
	s.awaitEqual(t, i)
	i.stop(t)
}
