package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidemark/indexer/retry"
	"tidemark/testenv"
)

// TestTail shows what changes do to documents, by a slot of its own that is gone at the end; the slot of the
// indices stays where it is.
func TestTail(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table kinds (id int primary key, name text)", "create table things (id int primary key, v text, kind int, big text)", "alter table things alter column big set storage external",
		"create table other (id int primary key)", "insert into kinds values (1, 'one')", "insert into things values (1, 'a', 1, repeat('x', 3000))")
	prefix := search.NewPrefix(t)
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), fmt.Sprintf("  %[1]sthings: {table: things, where: v != \"hidden\", fields: [id, v, n], mappings: {dynamic: false}}\n  %[1]swith: {table: things, include: {kind: {table: kinds, on: {kind: id}, value: name}}}\n  %[1]sbig: {table: things, fields: [id, big]}\n  %[1]sother: {table: other}\n", prefix))
	code, _, wrong := tidemark(t, "tail", "-c", f.path)
	if code != exitConfig || !strings.Contains(wrong, "no column n") && !strings.Contains(wrong, ".n") {
		t.Errorf("a column that is not there: %d %s", code, wrong)
	}
	d.Exec(t, "alter table things add column n int")
	if code, _, wrong := tidemark(t, "tail", "-c", f.path); code != exitFailed || !strings.Contains(wrong, "there is no publication dbsync_mypub yet") {
		t.Errorf("before the first run: %d %s", code, wrong)
	}
	d.Exec(t, "create index on things (kind)")
	says(t, exitDone, []string{"run", "--once", "-c", f.path})
	slots := func(like string) (names, at string) {
		t.Helper()
		if err := d.DB.QueryRowContext(t.Context(), `SELECT coalesce(string_agg(slot_name, ','), ''), coalesce(max(confirmed_flush_lsn), '0/0')::text FROM pg_replication_slots
			WHERE slot_name LIKE $1 AND database = current_database()`, like).Scan(&names, &at); err != nil {
			t.Fatal(err)
		}
		return names, at
	}
	_, before := slots(f.slot)
	got := tailed(t, d, f, prefix, []string{"--count", "8", "--index", prefix + "things," + prefix + "with," + prefix + "big"},
		"insert into other values (1)", "insert into things values (2, 'b', 1, '<>')", "update things set v = 'c' where id = 1", "update things set id = 3 where id = 2",
		"update things set v = 'hidden' where id = 3", "update kinds set name = 'ONE'", "delete from things where id = 1", "begin; insert into kinds values (9, 'x'); truncate things; commit")
	if names, _ := slots("tidemark_tail_%"); names != "" {
		t.Errorf("its slot is still there: %s", names)
	}
	if _, after := slots(f.slot); after != before {
		t.Errorf("the slot of the indices was at %s and is at %s", before, after)
	}
	const want = `insert public.things: store things/2 {"id":2,"v":"b","n":null} reread with/2 [2] store big/2 {"id":2,"big":"<>"}
update public.things: store things/1 {"id":1,"v":"c","n":null} reread with/1 [1] reread big/1 [1]
update public.things: delete things/2 store things/3 {"id":3,"v":"b","n":null} delete with/2 reread with/3 [3] delete big/2 store big/3 {"id":3,"big":"<>"}
update public.things: delete things/3 reread with/3 [3] store big/3 {"id":3,"big":"<>"}
update public.kinds: related with/ [1]
delete public.things: delete things/1 delete with/1 delete big/1
insert public.kinds: related with/ [9]
truncate public.things: truncate things/ truncate with/ truncate big/
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// tailed runs the command until it has shown what statements do, and returns a line for each change. The statements
// are run when its slot is there, and the control schema's tables are the same afterwards.
func tailed(t *testing.T, d *testenv.Database, f *file, prefix string, args []string, statements ...string) string {
	t.Helper()
	written := func() (is string) {
		t.Helper()
		if err := d.DB.QueryRowContext(t.Context(), `SELECT coalesce(string_agg(xmin || ' ' || ctid, ',' ORDER BY ctid), '') FROM dbsync_ctrl.dbsync_wmtable`).Scan(&is); err != nil {
			t.Fatal(err)
		}
		return is
	}
	before := written()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	type result struct {
		code       int
		out, wrong string
	}
	ended := make(chan result, 1)
	go func() {
		code, out, wrong := tidemarkUntil(ctx, append([]string{"tail", "-c", f.path}, args...)...)
		ended <- result{code, out, wrong}
	}()
	err := retry.Poll(ctx, func() (there bool, err error) {
		err = d.DB.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name LIKE 'tidemark_tail_%' AND database = current_database() AND confirmed_flush_lsn IS NOT NULL)`).Scan(&there)
		return there, err
	})
	if err != nil {
		t.Fatalf("no temporary slot: %v", err)
	}
	d.Exec(t, statements...)
	r := <-ended
	if r.code != exitDone || r.wrong != "" {
		t.Fatalf("exit code %d, %s", r.code, r.wrong)
	}
	if now := written(); now != before {
		t.Errorf("watermarks were %s and are %s", before, now)
	}
	var got strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(r.out, prefix, "")) {
		var c changeLine
		if err := json.Unmarshal([]byte(line), &c); err != nil || c.Xid == 0 || !regexp.MustCompile(`^[0-9A-F]+/[0-9A-F]+$`).MatchString(c.Position) {
			t.Fatalf("%v: %s", err, line)
		}
		fmt.Fprintf(&got, "%s %s:", c.Change, c.Table)
		for _, op := range c.Operations {
			said := op.Do + " " + op.Index + "/" + op.ID
			if len(op.Key) > 0 {
				var key []string
				for _, v := range op.Key {
					key = append(key, *v)
				}
				said += fmt.Sprint(" ", key)
			}
			fmt.Fprintf(&got, " %s", strings.TrimSpace(strings.Join([]string{said, string(op.Document), op.Error}, " ")))
		}
		got.WriteByte('\n')
	}
	return got.String()
}

// TestTailAsTheStream has changes of which a plan of the row alone does not tell what they do: rows of tables that
// inherit, values that are not sent again, related rows that are moved or changed where no document shows it, keys
// that several rows may share for a while, documents that cannot be made.
func TestTailAsTheStream(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table parents (id int primary key, v text)", "create table children (primary key (id)) inherits (parents)", "alter table children replica identity full",
		"create table kinds (id int primary key, name text, note text)", "alter table kinds replica identity full",
		"create table things (id int primary key, kind int, big text)", "create index on things (kind)", "alter table things alter column big set storage external", "alter table things replica identity full",
		"create table queue (place int primary key deferrable, v text)",
		"insert into kinds values (1, 'one', ''), (2, 'two', '')", "insert into things values (1, 1, repeat('x', 3000))", "insert into queue values (1, 'a'), (2, 'b')")
	prefix := search.NewPrefix(t)
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), fmt.Sprintf(`  %[1]sparents: {table: {name: parents, children: true}}
  %[1]swith: {table: things, fields: [id], include: {kind: {table: kinds, on: {kind: id}, value: name}}}
  %[1]sbig: {table: things, fields: {big: {expr: len(big)}, "*": false}}
  %[1]squeue: {table: queue, id: [place], fields: {n: {expr: int(v)}, "*": false}}
`, prefix))
	// Nothing is altered meanwhile: what is wrong with one table is said at once.
	if code, _, wrong := tidemark(t, "run", "--once", "-c", f.path); code != exitConfig || !strings.Contains(wrong, "queue has no replica identity") || strings.Contains(wrong, "looking again") {
		t.Errorf("a table without replica identity: %d %s", code, wrong)
	}
	d.Exec(t, "alter table queue replica identity full")
	says(t, exitDone, []string{"run", "--once", "-c", f.path})
	got := tailed(t, d, f, prefix, []string{"--count", "8"},
		"insert into children values (7, 'a')",
		"update children set id = 8",
		"update things set kind = 2",                 // big is not sent again, and is in the old row
		"update kinds set note = 'x' where id = 1",   // which no document shows
		"update kinds set name = 'TWO' where id = 2", // one does
		"update kinds set id = 3 where id = 2",
		"insert into queue values (3, 'no number')",
		"update queue set place = 4 where place = 1")
	const want = `insert public.children: store parents/7 {"id":7,"v":"a"}
update public.children: reread parents/7 [7] store parents/8 {"id":8,"v":"a"}
update public.things: reread with/1 [1] store big/1 {"big":3000}
update public.kinds:
update public.kinds: related with/ [2]
update public.kinds: related with/ [2] related with/ [3]
insert public.queue: refused queue/3  the expression cannot be evaluated for a row (character 1)
update public.queue: reread queue/1 [1] refused queue/4  the expression cannot be evaluated for a row (character 1)
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
