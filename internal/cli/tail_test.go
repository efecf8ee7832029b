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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	type result struct {
		code       int
		out, wrong string
	}
	ended := make(chan result, 1)
	go func() {
		code, out, wrong := tidemarkUntil(ctx, "tail", "-c", f.path, "--count", "8", "--index", prefix+"things,"+prefix+"with,"+prefix+"big")
		ended <- result{code, out, wrong}
	}()
	if err := retry.Poll(ctx, func() (bool, error) { _, at := slots("tidemark_tail_%"); return at != "0/0", nil }); err != nil {
		t.Fatalf("no temporary slot: %v", err)
	}
	d.Exec(t, "insert into other values (1)", "insert into things values (2, 'b', 1, '<>')", "update things set v = 'c' where id = 1", "update things set id = 3 where id = 2",
		"update things set v = 'hidden' where id = 3", "update kinds set name = 'ONE'", "delete from things where id = 1", "begin; insert into kinds values (9, 'x'); truncate things; commit")
	r := <-ended
	if r.code != exitDone || r.wrong != "" {
		t.Fatalf("exit code %d, %s", r.code, r.wrong)
	}
	if names, _ := slots("tidemark_tail_%"); names != "" {
		t.Errorf("its slot is still there: %s", names)
	}
	if _, after := slots(f.slot); after != before {
		t.Errorf("the slot of the indices was at %s and is at %s", before, after)
	}
	var got strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(r.out, prefix, "")) {
		var c changeLine
		if err := json.Unmarshal([]byte(line), &c); err != nil || c.Xid == 0 || !regexp.MustCompile(`^[0-9A-F]+/[0-9A-F]+$`).MatchString(c.Position) {
			t.Fatalf("%v: %s", err, line)
		}
		fmt.Fprintf(&got, "%s %s:", c.Change, c.Table)
		for _, op := range c.Operations {
			fmt.Fprintf(&got, " %s", strings.TrimSpace(strings.Join([]string{op.Do, op.Index + "/" + op.ID, string(op.Document)}, " ")))
		}
		got.WriteByte('\n')
	}
	const want = `insert public.things: store things/2 {"id":2,"v":"b","n":null} reread with/2 store big/2 {"id":2,"big":"<>"}
update public.things: store things/1 {"id":1,"v":"c","n":null} reread with/1 reread big/1
update public.things: delete things/2 store things/3 {"id":3,"v":"b","n":null} delete with/2 reread with/3 delete big/2 store big/3 {"id":3,"big":"<>"}
update public.things: delete things/3 reread with/3 store big/3 {"id":3,"big":"<>"}
update public.kinds: related with/
delete public.things: delete things/1 delete with/1 delete big/1
insert public.kinds: related with/
truncate public.things: truncate things/ truncate with/ truncate big/
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
}
