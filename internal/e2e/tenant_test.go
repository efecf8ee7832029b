package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"tidemark/testenv"
)

// tenantDocuments makes the function that gives the documents of all schemas, whichever there are.
const tenantDocuments = `
	CREATE FUNCTION public.tenant_documents() RETURNS TABLE (id text, document json) LANGUAGE plpgsql AS $$
	DECLARE s text;
	BEGIN
		FOR s IN SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = 'orders' AND n.nspname LIKE 'tenant\_%' LOOP
			RETURN QUERY EXECUTE format('SELECT %L || ''-'' || o.id, json_build_object(''id'', o.id, ''name'', o.name, ''tenant'', %L, ''items'',
				(SELECT coalesce(json_agg(json_build_object(''id'', i.id, ''order_id'', i.order_id) ORDER BY i.id), ''[]'') FROM %I.items i WHERE i.order_id = o.id)) FROM %I.orders o', s, s, s, s);
		END LOOP;
	END $$`

// tenant returns the statements that make a schema with rows.
func tenant(name string, rows int) string {
	return fmt.Sprintf(`CREATE SCHEMA %[1]s; CREATE TABLE %[1]s.orders (id int PRIMARY KEY, name text); CREATE TABLE %[1]s.items (id int PRIMARY KEY, order_id int);
		ALTER TABLE %[1]s.items REPLICA IDENTITY FULL;
		INSERT INTO %[1]s.orders SELECT i, 'order ' || i FROM generate_series(1, %[2]d) i; INSERT INTO %[1]s.items SELECT i, i / 2 FROM generate_series(1, %[2]d) i`, name, rows)
}

// newTenants has one index for the orders of all schemas.
func newTenants(t *testing.T) *setup {
	s := newSetup(t, shared(t))
	s.db.Exec(t, tenantDocuments, tenant("tenant_a", 30), tenant("tenant_b", 20), tenant("other", 5))
	s.index("orders", "tenant_a.orders", "", testenv.WithQuery(`SELECT * FROM public.tenant_documents()`))
	s.indices["orders"] = `{table: "tenant_*.orders", id: "{schema}-{id}", fields: {tenant: {schema: true}}, include: {items: {table: "{schema}.items", on: {id: order_id}, many: object, order_by: id}}}`
	return s
}

// TestTenants has schemas come and go while an index of all of them is in use: it is never filled anew.
func TestTenants(t *testing.T) {
	t.Parallel()
	s := newTenants(t)
	s.write(t)
	if out, code := s.command(t, "check"); code != 0 || !strings.Contains(out, "tenant_b.orders") || strings.Contains(out, "other.orders") {
		t.Errorf("check: %d\n%s", code, out)
	}
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
	physical := s.physical(t, "orders")
	same := func(what string) {
		t.Helper()
		s.awaitEqual(t, i)
		if now := s.physical(t, "orders"); now != physical {
			t.Errorf("%s: the index was filled anew, %s is in use", what, now)
			physical = now
		}
	}
	s.db.Exec(t, `UPDATE tenant_a.orders SET name = 'changed' WHERE id < 5; DELETE FROM tenant_b.items WHERE id < 10; INSERT INTO tenant_b.orders VALUES (100, 'new')`)
	same("changes")
	s.db.Exec(t, tenant("tenant_c", 25))
	same("a schema came")
	s.db.Exec(t, `UPDATE tenant_c.orders SET name = 'changed' WHERE id < 5; DELETE FROM tenant_c.items WHERE id > 20; INSERT INTO tenant_a.items VALUES (1000, 7)`)
	same("changes of a schema that came")
	// One that is not complete holds up nobody, and is taken up when it is.
	s.db.Exec(t, tenant("tenant_d", 10)+`; ALTER TABLE tenant_d.orders DROP CONSTRAINT orders_pkey`, `DROP SCHEMA other CASCADE`)
	i.awaitReady(t, 503, "table tenant_d.orders is left out")
	s.db.Exec(t, `UPDATE tenant_a.orders SET name = 'meanwhile' WHERE id = 1`, `ALTER TABLE tenant_d.orders ADD PRIMARY KEY (id)`)
	same("a schema was completed")
	i.awaitReady(t, 200, "")
	// One goes with changes of it on their way, another one is made anew, and one gets another name.
	s.db.Exec(t, `UPDATE tenant_b.orders SET name = 'last'; UPDATE tenant_b.items SET order_id = 3`, `DROP SCHEMA tenant_b CASCADE`)
	same("a schema went")
	s.db.Exec(t, `BEGIN; DROP SCHEMA tenant_d CASCADE; `+tenant("tenant_d", 3)+`; COMMIT`)
	same("a schema was made anew")
	s.db.Exec(t, `ALTER SCHEMA tenant_c RENAME TO "tenant_c-2"`)
	s.options["orders"] = []testenv.CheckOption{testenv.WithQuery(`SELECT CASE WHEN id LIKE 'tenant\_c-2-%' THEN replace(id, 'c-2-', 'c~-2-') ELSE id END, document FROM public.tenant_documents()`)}
	same("a schema was renamed")
	i.stop(t)
	// What the stream has of a schema that is gone by now leads to nothing.
	s.db.Exec(t, tenant("tenant_e", 4), `UPDATE tenant_d.orders SET name = 'last'; UPDATE tenant_d.items SET order_id = 1; UPDATE tenant_a.orders SET name = 'after'`, `DROP SCHEMA tenant_d CASCADE`, `ALTER SCHEMA tenant_a RENAME TO tenant_z`)
	s.once(t)
	s.checkSynced(t)
	// The tables are the same, and so is what tells that their changes were followed.
	s.db.Exec(t, `ALTER SCHEMA tenant_z RENAME TO tenant_y`)
	s.once(t)
	s.checkSynced(t)
	if now := s.physical(t, "orders"); now != physical {
		t.Errorf("schemas came, went and were renamed while nothing ran: the index was filled anew, %s is in use", now)
	}
}

// TestTenantsByName has an index for each schema.
func TestTenantsByName(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, tenant("tenant_a", 30), tenant("tenant_b", 20))
	const documents = `SELECT id, json_build_object('id', id, 'name', name) FROM %s.orders`
	by := func(schema string) {
		s.index("o-"+schema, schema+".orders", "", testenv.WithQuery(fmt.Sprintf(documents, schema)))
	}
	by("tenant_a")
	by("tenant_b")
	s.text = fmt.Sprintf("postgres: {url: %q, slot: %s%s}\nsearch: {urls: [%q]}\nadmin: {listen: %q}\nindices:\n  orders: {name: %q, table: \"tenant_*.orders\", max_indices: 3}\n",
		s.postgresURL, s.slot, s.postgres, s.searchURL, s.adminListen, s.alias("o-{schema}"))
	i := s.start(t, "run")
	i.awaitReady(t, 200, "")
	s.awaitEqual(t, i)
	s.db.Exec(t, tenant("tenant_c", 25))
	by("tenant_c")
	s.awaitEqual(t, i)
	i.awaitReady(t, 200, "")
	s.db.Exec(t, tenant("tenant_0", 25)+`; UPDATE tenant_c.orders SET name = 'changed'`)
	i.awaitReady(t, 503, "raise max_indices")
	s.awaitEqual(t, i)
	if out, code := s.command(t, "reindex orders"); code != 0 {
		t.Errorf("reindex by the key: %d\n%s", code, out)
	}
	if out, code := s.command(t, "verify "+s.alias("o-tenant_b")); code != 0 {
		t.Errorf("verify by the name: %d\n%s", code, out)
	}
	// The index of a schema that went goes with it, and makes room for another one.
	s.db.Exec(t, `UPDATE tenant_b.orders SET name = 'last'`, `DROP SCHEMA tenant_b CASCADE`)
	gone := s.alias("o-tenant_b")
	delete(s.indices, "o-tenant_b")
	delete(s.tables, "o-tenant_b")
	delete(s.options, "o-tenant_b")
	by("tenant_0")
	s.awaitEqual(t, i)
	i.awaitReady(t, 200, "")
	if status, found, err := s.search.Do(t.Context(), http.MethodGet, "/_cat/indices/"+gone+"*?h=index", nil); err != nil || status != http.StatusOK || len(bytes.TrimSpace(found)) > 0 {
		t.Errorf("of the schema that went there is %d %s, %v", status, found, err)
	}
	i.stop(t)
}

// TestTenantsWhileFilling has a schema come while the index is filled for the first time, and somebody edit the file
// meanwhile: the filling comes to its end, and the file is read when it is asked for.
func TestTenantsWhileFilling(t *testing.T) {
	t.Parallel()
	s := newTenants(t)
	s.db.Exec(t, `INSERT INTO tenant_a.orders SELECT i, 'order ' || i FROM generate_series(31, 300) i`)
	s.indices["orders"] = strings.TrimSuffix(s.indices["orders"], "}") + ", reindex: {chunk: 10, max_rows_per_second: 20}}"
	i := s.start(t, "run")
	i.awaitLog(t, "made a physical index")
	s.db.Exec(t, tenant("tenant_c", 25))
	must(t, os.WriteFile(s.file, []byte("indices: {somebody: {is: editing"), 0o600))
	i.awaitLog(t, "the index has the documents of the tables that came")
	s.awaitEqual(t, i)
	if n := strings.Count(i.log(), "made a physical index"); n != 1 {
		t.Errorf("the index was filled from the start %d times", n)
	}
	if strings.Contains(i.log(), "not YAML") {
		t.Error("the file was read though nobody asked for it")
	}
	i.stop(t)
}
