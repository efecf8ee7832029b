package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"tidemark/testenv"
)

// hangup has the instance read its file again.
func (i *instance) hangup(t *testing.T) {
	t.Helper()
	must(t, i.cmd.Process.Signal(syscall.SIGHUP))
}

// TestReload edits the mapping file of a running instance: the indices that differ are
// rebuilt, others are not, and a file with mistakes changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text, n int)`, `INSERT INTO a SELECT i, 'v' || i, i FROM generate_series(1, 300) i`,
		`CREATE TABLE b (id int PRIMARY KEY, v text)`, `INSERT INTO b SELECT i, 'b' || i FROM generate_series(1, 300) i`)
	s.index("a", "a", "")
	s.index("b", "b", "")
	s.once(t)
	i := s.start(t, "run")
	i.awaitLog(t, "following the slot")

	good, err := os.ReadFile(s.file)
	must(t, err)
	must(t, os.WriteFile(s.file, []byte(strings.Replace(string(good), `{table: "a"}`, `{table: "a", fields: {v: {column: w}}}`, 1)), 0o600))
	i.hangup(t)
	i.awaitLog(t, "the running mapping stays in force")
	s.adminListen = "192.0.2.1:9630" // of no host, RFC 5737
	s.write(t)
	i.hangup(t)
	i.awaitLog(t, "admin.listen: cannot listen on 192.0.2.1:9630")
	s.adminListen = ":0"
	s.db.Exec(t, `UPDATE a SET v = 'after the mistake' WHERE id = 1`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)

	// The edited index has other documents, and a third one is new.
	s.index("a", "a", `, fields: [id, v], include: {b: {table: b, on: {id: id}, value: v}}`, testenv.WithQuery(
		`SELECT id, json_build_object('id', id, 'v', v, 'b', (SELECT v FROM b WHERE b.id = a.id)) FROM a`))
	s.index("c", "b", "")
	s.write(t)
	i.hangup(t)
	i.awaitLog(t, `"the index is new"`)
	s.db.Exec(t, `UPDATE a SET v = 'after the edit' WHERE id = 2`, `UPDATE b SET v = 'after the edit' WHERE id = 3`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	if log := i.log(); strings.Contains(log, fmt.Sprintf(`"made a physical index for a backfill","index":"%s"`, s.alias("b"))) {
		t.Errorf("an index that did not change is rebuilt:\n%s", log)
	}
	i.stop(t)

	const listens = `"admin server listens","address":"`
	if log := i.log(); strings.Count(log, listens) != 2 || strings.Count(log, listens+"127.0.0.1:") != 1 {
		t.Errorf("the edited address of the admin server is not taken up:\n%s", log)
	}
}
