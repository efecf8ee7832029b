package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/testenv"
)

// dumps is the folder with what earlier versions have left; its README describes it.
const dumps = "../../reindex/testdata/control"

// A dump is what an earlier version has left, killed in the middle of a rebuild, and what is
// expected of an upgrade from there.
type dump struct {
	number string

	// rebuilt are indices that were complete and are filled anew, and why: a version that noted too
	// little. No other one may be.
	rebuilt map[string]string

	// rebuild is what becomes of the rebuild of orders, which was under way.
	rebuild fate

	done int // steps of migrations that were done already

	requests bool // were there: one done, one running, a rebuild of events and a refresh waiting

	// letters are the rows of dead letters that stay. Those of a physical index that is dropped go
	// with it; of a document that is refused again there is a new one beside the old.
	letters []int

	// more is done between loading and starting. It has started an instance already if started.
	more    func(t *testing.T, s *setup)
	started bool
}

// steps is how many there are in all, of both parts of the control schema.
const steps = 14

// A fate of a rebuild that was under way.
type fate int

const (
	resumed fate = iota // it goes on behind the last row that was stored
	reread              // it goes on with the first row, into the same physical index
	anew                // another physical index is made
)

// Why an index that was complete is filled anew.
const (
	unknownGeneration = "the version noted no table with the generation: whether changes are missing cannot be told"
	unknownIndex      = "the version noted no indices"
	requested         = "a request asks for it"
)

var flatIndices = []string{"products", "categories", "events", "sales"}

// TestUpgrade starts this version on what each earlier one has left.
func TestUpgrade(t *testing.T) {
	all := func(why string, names ...string) map[string]string {
		m := make(map[string]string)
		for _, name := range names {
			m[name] = why
		}
		return m
	}
	for _, d := range []dump{
		{number: "01", rebuilt: all(unknownIndex, "products", "events", "orders"), rebuild: anew},
		{number: "02", rebuilt: all(unknownGeneration, append(flatIndices, "orders")...), rebuild: anew},
		// Up to 05 the cursor is in the order of the id, and not of the index that rows are read by.
		{number: "03", rebuild: reread, letters: []int{1, 3, 4}, more: notReadable},
		{number: "04", rebuild: reread, letters: []int{1, 3, 4}},
		{number: "05", rebuild: reread, letters: []int{1, 3, 4}},
		// 05 and 06 have the same columns, so that the cursor of 06 is given up, too.
		{number: "06", rebuild: reread, letters: []int{1, 3, 4}},
		{number: "07", requests: true},
		{number: "08", requests: true, more: killedInTheMiddle, started: true},
		{number: "09", requests: true, more: twoAtOnce, started: true},
		{number: "10", requests: true, more: dropPartition},
		{number: "11", requests: true, more: dropPartition},
		{number: "12", requests: true, more: onlyLookedAt},
		{number: "13", requests: true, done: 3},
		{number: "14", requests: true, done: 6},
	} {
		if d.requests {
			d.rebuilt = all(requested, "events")
			d.letters = []int{1, 3, 4}
		}
		t.Run(d.number, func(t *testing.T) {
			t.Parallel()
			d.test(t)
		})
	}
}

func (d *dump) test(t *testing.T) {
	s := d.load(t)
	before, last := d.states(t, s), 0
	must(t, s.db.DB.QueryRowContext(t.Context(), "SELECT max(id) FROM dbsync_ctrl.dead_letters").Scan(&last))
	stored := 0
	if d.rebuild == resumed {
		must(t, s.db.DB.QueryRowContext(t.Context(), "SELECT rows_done FROM dbsync_ctrl.indices WHERE building <> ''").Scan(&stored))
	}
	// What was committed while nothing ran comes as well.
	s.db.Exec(t, "UPDATE products SET title = 'later' WHERE id = 7", "DELETE FROM orders WHERE id = 40",
		"INSERT INTO events VALUES (100, '2025-06-01', 'new')", "UPDATE order_lines SET note = 'later' WHERE order_id IN (2, 39)")
	if d.more != nil {
		d.more(t, s)
	}

	i := s.once(t)
	if n := strings.Count(i.log(), `"msg":"migrated the control schema"`); !d.started && n != steps-d.done {
		t.Errorf("it has run %d steps, want %d", n, steps-d.done)
	}
	d.check(t, s, before)
	d.checkLetters(t, s, last)
	if want := fmt.Sprintf(`"rows":%d}`, stored); !d.started {
		d.checkGoesOn(t, i, want)
	}
	again := s.once(t)
	for _, text := range []string{"migrated the control schema", "made a physical index", "going on with the backfill"} {
		if strings.Contains(again.log(), text) {
			t.Errorf("the second start says %q", text)
		}
	}
	d.checkIndices(t, s)
	if d.number == "12" {
		refusesNewer(t, s)
	}
}

// check looks at what the first start has made of the dump.
func (d *dump) check(t *testing.T, s *setup, before map[string]state) {
	t.Helper()
	d.checkIndices(t, s)
	for name, now := range d.states(t, s) {
		was, why := before[name], d.rebuilt[name]
		switch {
		case now.building != "" || now.live == "":
			t.Errorf("index %s is not complete", name)
		case was.building != "" && d.rebuild != anew:
			if now.live != was.building {
				t.Errorf("the rebuild of %s was begun anew: %s, and not %s, is in use", name, now.live, was.building)
			}
		case why != "" && now.live == was.live:
			t.Errorf("index %s was not filled anew, although %s", name, why)
		case why == "" && now.live != was.live:
			t.Errorf("index %s was filled anew, as %s; it was complete as %s", name, now.live, was.live)
		}
	}
	if d.requests {
		var done string
		must(t, s.db.DB.QueryRowContext(t.Context(), "SELECT string_agg(id || ' ' || phase, ', ' ORDER BY id) FROM dbsync_ctrl.requests WHERE id <= 4").Scan(&done))
		if done != "1 done, 2 done, 3 done, 4 done" {
			t.Errorf("of the requests %s", done)
		}
	}
}

// checkLetters looks at what became of the dead letters, of which the last was in that row.
func (d *dump) checkLetters(t *testing.T, s *setup, last int) {
	t.Helper()
	var left []int
	must(t, s.db.DB.QueryRowContext(t.Context(), "SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM dbsync_ctrl.dead_letters WHERE id <= $1", last).Scan(pgtype.NewMap().SQLScanner(&left)))
	if !slices.Equal(left, d.letters) {
		t.Errorf("of the dead letters %v are left, want %v", left, d.letters)
	}
	now := d.states(t, s)
	for name, ids := range d.refused() {
		var refused []string
		must(t, s.db.DB.QueryRowContext(t.Context(), "SELECT coalesce(array_agg(DISTINCT doc_id ORDER BY doc_id), '{}') FROM dbsync_ctrl.dead_letters WHERE lower(index_name) = $1", now[name].live).Scan(pgtype.NewMap().SQLScanner(&refused)))
		if !slices.Equal(refused, ids) {
			t.Errorf("of %s there are dead letters of %q, want %q", name, refused, ids)
		}
	}
	var others int
	must(t, s.db.DB.QueryRowContext(t.Context(), "SELECT count(*) FROM dbsync_ctrl.dead_letters WHERE lower(index_name) NOT IN (SELECT live FROM dbsync_ctrl.indices)").Scan(&others))
	if others > 0 {
		t.Errorf("there are %d dead letters of indices that are gone", others)
	}
}

// checkGoesOn looks at what an instance says of the rebuild.
func (d *dump) checkGoesOn(t *testing.T, i *instance, want string) {
	t.Helper()
	said := ""
	for line := range strings.Lines(i.log()) {
		if strings.Contains(line, "going on with the backfill of an index") {
			said += line
		}
	}
	if (said == "") != (d.rebuild == anew) || said != "" && !strings.Contains(said, want) {
		t.Errorf("of the rebuild it says %q, want one line with %s", said, want)
	}
}

// A state is what the control schema has of an index.
type state struct{ live, building string }

// states reads them, by the names in the mapping file without the number of the dump.
func (d *dump) states(t *testing.T, s *setup) map[string]state {
	t.Helper()
	states := make(map[string]state)
	var there bool
	must(t, s.db.DB.QueryRowContext(t.Context(), "SELECT to_regclass('dbsync_ctrl.indices') IS NOT NULL").Scan(&there))
	if !there {
		return states
	}
	rows, err := s.db.DB.QueryContext(t.Context(), "SELECT name, live, building FROM dbsync_ctrl.indices")
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		var st state
		must(t, rows.Scan(&name, &st.live, &st.building))
		states[strings.TrimPrefix(name, s.prefix)] = st
	}
	must(t, rows.Err())
	return states
}

// refused are the documents that are refused in each index.
func (d *dump) refused() map[string][]string {
	line := "line-2-3"
	if d.flat() {
		line = "2|3"
	}
	if d.dropsPartition() { // the row is gone
		return map[string][]string{"products": {"3", "4"}}
	}
	return map[string][]string{"products": {"3", "4"}, "orders": {line}}
}

func (d *dump) flat() bool           { return d.number >= "02" && d.number <= "04" }
func (d *dump) dropsPartition() bool { return d.number == "10" || d.number == "11" }

// checkIndices compares every index with its table, and looks whether others are left.
func (d *dump) checkIndices(t *testing.T, s *setup) {
	t.Helper()
	for name, options := range map[string][]testenv.CheckOption{
		"products": {testenv.WithRefused("3", "4"), testenv.WithQuery(`SELECT p.id, json_build_object('id', p.id, 'title', title, 'price_cents', price_cents,
			'category_id', category_id, 'sku', sku, 'category', json_build_object('name', c.name)) FROM products p JOIN categories c ON c.id = category_id`)},
		"events": nil,
		"orders": {testenv.WithRefused("line-2-3"), testenv.WithQuery(`SELECT 'order-' || id, row_to_json(o) FROM orders o
			UNION ALL SELECT 'line-' || line || '-' || order_id, row_to_json(l) FROM order_lines l`)},
		"categories": nil,
		"sales":      nil,
	} {
		table := name
		switch {
		case !d.flat() && (name == "categories" || name == "sales"):
			continue
		case d.flat() && name == "products":
			options = []testenv.CheckOption{testenv.WithRefused("3", "4")}
		case d.flat() && name == "orders":
			table, options = "order_lines", []testenv.CheckOption{testenv.WithRefused("2|3"), testenv.WithID("line", "order_id")}
		case name == "sales":
			table = "orders"
		}
		testenv.CheckSynced(t, s.db, s.search, s.alias(name), table, options...)
	}
	indices, err := s.search.Indices(t.Context(), s.prefix+"*")
	must(t, err)
	want := 3
	if d.flat() {
		want = 5
	}
	if len(indices) != want {
		t.Errorf("there are the indices %v", indices)
	}
}

// load makes a database, a slot and indices as the dump has them.
func (d *dump) load(t *testing.T) *setup {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dumps, name))
		must(t, err)
		return string(text)
	}
	db, search := testenv.NewDatabase(t), shared(t)
	s := &setup{db: db, search: search, postgresURL: db.URL, searchURL: search.URL, slot: "control_g" + d.number, prefix: "g" + d.number + "-",
		file: filepath.Join(t.TempDir(), "tidemark.yaml")}
	file := "mapping.yaml"
	if d.flat() {
		file = "flat.yaml"
	}
	s.indices = map[string]string{"products": "", "events": "", "orders": ""} // by the file
	s.text = strings.NewReplacer("gNN", "g"+d.number, "${DATABASE_URL}", fmt.Sprintf("%q", db.URL), "${SEARCH_URL}", search.URL).Replace(read(file))
	must(t, search.DeleteIndices(t.Context(), s.prefix+"*"))
	t.Cleanup(func() {
		if err := search.DeleteIndices(context.WithoutCancel(t.Context()), s.prefix+"*"); err != nil {
			t.Error(err)
		}
	})

	// One by one, so that rows are younger than the partitions that they are in: rows that came with
	// a partition are all read again, whatever a cursor says.
	db.Exec(t, append(strings.SplitAfter(read("tables.sql"), ";\n"), read("publication.sql"))...)
	var names []string
	var version int64
	must(t, db.DB.QueryRowContext(t.Context(), `SELECT lsn - '0/0' FROM pg_create_logical_replication_slot($1, 'pgoutput')`, s.slot).Scan(&version))
	rows, err := db.DB.QueryContext(t.Context(), `
		SELECT '{{system}}', system_identifier::text FROM pg_control_system()
		UNION ALL SELECT '{{confirmed}}', confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1
		UNION ALL SELECT '{{user}}', current_user
		UNION ALL SELECT '{{publication}}', oid::text FROM pg_publication
		UNION ALL SELECT '{{oid ' || relname || '}}', oid::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
		UNION ALL SELECT '{{member ' || relname || '}}', r.oid::text FROM pg_publication_rel r JOIN pg_class c ON c.oid = prrelid
		UNION ALL SELECT '{{leaf ' || relname || '}}', pg_relation_filenode(c.oid) || ':' || i.xmin FROM pg_class c JOIN pg_inherits i ON inhrelid = c.oid`, s.slot)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var name, value string
		must(t, rows.Scan(&name, &value))
		names = append(names, name, value)
	}
	must(t, rows.Err())
	text := strings.NewReplacer(names...).Replace(read(d.number + ".sql"))
	if left := regexp.MustCompile(`{{[a-z][^}]*}}`).FindString(text); left != "" {
		t.Fatalf("nothing is known of %s", left)
	}
	db.Exec(t, text)
	d.sortGenerations(t, s)

	var indices map[string]map[string]json.RawMessage
	must(t, json.Unmarshal([]byte(read(d.number+".indices.json")), &indices))
	for _, index := range slices.Sorted(maps.Keys(indices)) {
		var documents map[string]json.RawMessage
		must(t, json.Unmarshal(indices[index]["documents"], &documents))
		delete(indices[index], "documents")
		body, err := json.Marshal(indices[index])
		must(t, err)
		d.put(t, s, http.MethodPut, "/"+index, body)
		var bulk bytes.Buffer
		for id, document := range documents {
			id, err := json.Marshal(id)
			must(t, err)
			fmt.Fprintf(&bulk, `{"index":{"_id":%s,"version":%d,"version_type":"external"}}`+"\n", id, version)
			must(t, json.Compact(&bulk, document))
			bulk.WriteByte('\n')
		}
		d.put(t, s, http.MethodPost, "/"+url.PathEscape(index)+"/_bulk?refresh=true", bulk.Bytes())
	}
	return s
}

// sortGenerations brings the parts of a generation into the order in which the program looks for
// them: oids have not all as many digits as those of the dump.
func (d *dump) sortGenerations(t *testing.T, s *setup) {
	t.Helper()
	if d.number == "01" {
		return
	}
	s.db.Exec(t, `UPDATE dbsync_ctrl.indices SET generation = (SELECT string_agg(part, ' ' ORDER BY part COLLATE "C") FROM unnest(string_to_array(generation, ' ')) part)`)
}

func (d *dump) put(t *testing.T, s *setup, method, path string, body []byte) {
	t.Helper()
	status, answer, err := s.search.Do(t.Context(), method, path, body)
	must(t, err)
	if status >= 300 || bytes.Contains(answer, []byte(`"errors":true`)) {
		t.Fatalf("%s %s: %d %.500s", method, path, status, answer)
	}
}

// dropPartition drops a partition of which documents are in both indices of orders, while
// nothing runs: what was noted of partitions is all that says that they have no rows any more.
func dropPartition(t *testing.T, s *setup) {
	t.Helper()
	s.db.Exec(t, "DROP TABLE order_lines_1")
}

// contents is all that the control schema holds.
func contents(t *testing.T, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) (text string) {
	t.Helper()
	must(t, db.QueryRowContext(t.Context(), `SELECT string_agg(c.relname || ' ' || (
			SELECT string_agg(concat(a.attname, ' ', format_type(a.atttypid, a.atttypmod), ' ', a.attnotnull), ', ' ORDER BY a.attnum)
			FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
			|| ' ' || query_to_xml(format('SELECT * FROM %I.%I t ORDER BY t::text', n.nspname, c.relname), true, true, '')::text, E'\n' ORDER BY c.relname)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'dbsync_ctrl' AND c.relkind = 'r' AND c.relname <> 'dbsync_wmtable'`).Scan(&text))
	return text
}

// killedInTheMiddle kills an instance in its second step: what the first has changed must be as
// it was before.
func killedInTheMiddle(t *testing.T, s *setup) {
	t.Helper()
	const lock = 4711
	s.db.Exec(t, fmt.Sprintf(`CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(%d); RETURN NEW; END'`, lock),
		"CREATE TRIGGER hold BEFORE UPDATE ON dbsync_ctrl.indices FOR EACH ROW WHEN (NEW.live_mapping <> OLD.live_mapping OR NEW.live_tables <> OLD.live_tables) EXECUTE FUNCTION public.hold()")
	conn, err := pgx.Connect(t.Context(), s.db.URL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock($1)", lock)
	must(t, err)
	waiting := func(ctx context.Context) (n int, err error) {
		err = s.db.DB.QueryRowContext(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted", lock).Scan(&n)
		return n, err
	}

	// The part of the library is complete before the slot is taken, and the first step of the other
	// one waits for this transaction.
	tx, err := s.db.DB.BeginTx(t.Context(), nil)
	must(t, err)
	defer tx.Rollback()
	_, err = tx.ExecContext(t.Context(), "LOCK TABLE dbsync_ctrl.indices IN ACCESS SHARE MODE")
	must(t, err)
	i := s.start(t, "run")
	i.awaitLog(t, "following the slot")
	before := contents(t, tx)
	must(t, tx.Commit())
	i.poll(t, "it is in the middle of its steps", func(ctx context.Context) error {
		n, err := waiting(ctx)
		if err == nil && n == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	i.kill()
	_, err = conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted", lock)
	must(t, err)
	for n := 1; n > 0; {
		n, err = waiting(t.Context())
		must(t, err)
	}
	if now := contents(t, s.db.DB); !sameButTimes(now, before) {
		t.Errorf("the schema was left as\n%s\nbefore it was\n%s", now, before)
	}
	s.db.Exec(t, "DROP FUNCTION public.hold() CASCADE")
}

// sameButTimes compares contents, but for when the slot was confirmed last.
func sameButTimes(a, b string) bool {
	confirmed := regexp.MustCompile(`<confirmed(_at)?>[^<]*<`)
	return confirmed.ReplaceAllString(a, "") == confirmed.ReplaceAllString(b, "")
}

// twoAtOnce starts two instances at the same moment. One has the slot and migrates; the other
// takes over when that is killed, and has nothing to migrate.
func twoAtOnce(t *testing.T, s *setup) {
	t.Helper()
	s.write(t)
	a, b := s.start(t, "run"), s.start(t, "run")
	first, second := a, b
	a.poll(t, "one of them has migrated", func(context.Context) error {
		switch {
		case strings.Contains(a.log(), `"part":"tidemark"`):
		case strings.Contains(b.log(), `"part":"tidemark"`):
			first, second = b, a
		default:
			return errors.New("not yet")
		}
		return nil
	})
	second.awaitLog(t, "the slot is in use by another process")
	first.kill()
	second.awaitLog(t, "the slot is free, taking over")
	s.awaitCaughtUp(t, second)
	second.stop(t)
	if n := strings.Count(first.log()+second.log(), `"msg":"migrated the control schema"`); n != steps {
		t.Errorf("both together have run %d steps, want %d", n, steps)
	}
}

// onlyLookedAt has commands look at a control schema that has to be migrated.
func onlyLookedAt(t *testing.T, s *setup) {
	t.Helper()
	s.write(t)
	before := contents(t, s.db.DB)
	for _, test := range []struct {
		args string
		code int
		says []string
	}{
		{"check", 0, []string{"run will migrate control schema dbsync_ctrl to version 1 of its part dbsync: ", "to version 1 of its part tidemark: ",
			"to version 2 of its part tidemark: ", "run goes on with the backfill of g12-orders-20261127t124120z", "run keeps g12-products-20261127t124111z equal"}},
		{"status", 0, []string{"the control schema is of an earlier version", "g12-orders: backfill of g12-orders-20261127t124120z, which the next instance goes on with", "reindex"}},
		{"dead-letters list", 0, []string{"line-2-3", "400 mapper_parsing_exception"}},
		{"reindex g12-products --no-wait", 1, []string{"the control schema is of an earlier version", "hint: start tidemark run of this version"}},
		{"reindex g12-orders --cancel", 1, []string{"the control schema is of an earlier version"}},
		{"verify g12-products", 1, []string{"the control schema is of an earlier version"}},
		{"dead-letters retry g12-products", 1, []string{"the control schema is of an earlier version"}},
	} {
		out, code := s.command(t, test.args)
		if code != test.code {
			t.Errorf("%s ends with %d:\n%s", test.args, code, out)
		}
		for _, text := range test.says {
			if !strings.Contains(out, text) {
				t.Errorf("%s does not say %q:\n%s", test.args, text, out)
			}
		}
	}
	if now := contents(t, s.db.DB); now != before {
		t.Errorf("something has changed the control schema to\n%s\nfrom\n%s", now, before)
	}
}

// notReadable has commands look at tables that can not be read before they are migrated.
func notReadable(t *testing.T, s *setup) {
	t.Helper()
	s.write(t)
	before := contents(t, s.db.DB)
	for _, test := range []struct {
		args string
		says []string
	}{
		{"check", []string{"run will migrate control schema dbsync_ctrl to version 1 of its part dbsync: ", "to version 2 of its part tidemark: ",
			"index g03-orders from table public.order_lines", "run migrates the control schema, where an early version has noted"}},
		{"status", []string{"the control schema is of an earlier version", "hint: tidemark check says"}},
		{"dead-letters list", []string{"2|3", "400 mapper_parsing_exception"}},
	} {
		out, code := s.command(t, test.args)
		if code != 0 {
			t.Errorf("%s ends with %d:\n%s", test.args, code, out)
		}
		for _, text := range test.says {
			if !strings.Contains(out, text) {
				t.Errorf("%s does not say %q:\n%s", test.args, text, out)
			}
		}
	}
	if now := contents(t, s.db.DB); now != before {
		t.Errorf("something has changed the control schema to\n%s\nfrom\n%s", now, before)
	}
}

// command runs a command to its end, and returns all of its output, and its exit code.
func (s *setup) command(t *testing.T, args string) (out string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary(t), append(strings.Fields(args), "-c", s.file)...)
	text, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// refusesNewer has a later version change the control schema: everything refuses it.
func refusesNewer(t *testing.T, s *setup) {
	t.Helper()
	for _, part := range []string{"dbsync", "tidemark"} {
		s.db.Exec(t, "UPDATE dbsync_ctrl.schema_version SET version = version + 1 WHERE part = '"+part+"'")
		before := contents(t, s.db.DB)
		commands := []string{"run --once", "check", "status", "reindex g12-products", "verify g12-products"}
		if part == "tidemark" {
			commands = append(commands, "dead-letters drop all") // which reads nothing else
		}
		for _, args := range commands {
			out, code := s.command(t, args)
			if want := "control schema dbsync_ctrl was changed by a later version: its part " + part; code != 2 || !strings.Contains(out, want) || !strings.Contains(out, "hint: start the version that changed it") {
				t.Errorf("%s ends with %d, want 2, and says %s", args, code, out)
			}
		}
		if now := contents(t, s.db.DB); now != before {
			t.Errorf("something has changed the control schema to\n%s\nfrom\n%s", now, before)
		}
		s.db.Exec(t, "UPDATE dbsync_ctrl.schema_version SET version = version - 1 WHERE part = '"+part+"'")
	}
}

// TestGoingBack goes back to an older version as docs/runbook.md has it: the newer one's teardown leaves the
// indices, and the older one fills its own beside them, without --adopt, while searchers notice nothing. A
// copy of the control schema from before the upgrade is no way back.
func TestGoingBack(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	rows := 2000
	s.newItems(t, rows)
	s.once(t)
	before := s.physicalName(t, "items")
	s.db.Exec(t, "CREATE TABLE copied AS SELECT * FROM dbsync_ctrl.dbsync_slots")
	s.db.Exec(t, "UPDATE items SET v = 'newer' WHERE id = 1")
	s.once(t) // the newer version

	// The older one, by a control schema that is newer than what it knows.
	s.db.Exec(t, "UPDATE dbsync_ctrl.schema_version SET version = version + 1")
	if out, code := s.command(t, "run --once"); code != 2 || !strings.Contains(out, "was changed by a later version") {
		t.Errorf("an older version ends with %d, and says %s", code, out)
	}
	s.db.Exec(t, "UPDATE dbsync_ctrl.schema_version SET version = version - 1")

	s.db.Exec(t, "CREATE TABLE newest AS SELECT * FROM dbsync_ctrl.dbsync_slots", "DELETE FROM dbsync_ctrl.dbsync_slots", "INSERT INTO dbsync_ctrl.dbsync_slots SELECT * FROM copied")
	if out, code := s.command(t, "run --once"); code != 1 || !strings.Contains(out, "where this client never was") {
		t.Errorf("with an earlier copy of the control schema it ends with %d, and says %s", code, out)
	}
	s.db.Exec(t, "DELETE FROM dbsync_ctrl.dbsync_slots", "INSERT INTO dbsync_ctrl.dbsync_slots SELECT * FROM newest", "DROP TABLE copied, newest")

	searchers := s.searchers(t, s.alias("items"), rows-1)
	if out, code := s.command(t, "teardown --yes"); code != 0 {
		t.Fatalf("teardown ends with %d, and says %s", code, out)
	}
	if now := s.physicalName(t, "items"); now != before {
		t.Errorf("after teardown the alias stands for %s, and not for %s", now, before)
	}
	s.db.Exec(t, "UPDATE items SET v = 'while none runs' WHERE id = 2", "DELETE FROM items WHERE id = 3")
	out, code := s.command(t, "check")
	if want := "run makes an index and fills it: the index is new"; code != 0 || !strings.Contains(out, want) {
		t.Errorf("check ends with %d, and says %s", code, out)
	}
	s.once(t)
	searchers.stop(t)
	if now := s.physicalName(t, "items"); now == before {
		t.Errorf("the alias still stands for %s", now)
	}
	s.checkIndices(t)
}
