package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// print runs the command with the setup's file to its end, and returns what it printed.
func (s *setup) print(t testing.TB, args ...string) (code int, out, wrong string) {
	t.Helper()
	s.write(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), append(args, "-c", s.file)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// waitAnswer asks the instance to wait.
func (i *instance) waitAnswer(t testing.TB, query string) (status int, body string) {
	t.Helper()
	resp, err := http.Get("http://" + i.admin(t) + "/wait" + query)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(text)
}

// found counts the documents that a search finds.
func (s *setup) found(t testing.TB, name, query string) int {
	t.Helper()
	resp, err := http.Get(s.searchURL + "/" + s.alias(name) + "/_count?q=" + query)
	must(t, err)
	defer resp.Body.Close()
	var answer struct{ Count int }
	must(t, json.NewDecoder(resp.Body).Decode(&answer))
	return answer.Count
}

// TestWait writes and waits for that, by the instance and by the command: then searches find it.
func TestWait(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE notes (id int PRIMARY KEY, v text)`, `CREATE TABLE other (id int PRIMARY KEY)`)
	s.index("notes", "notes", `, settings: {index.refresh_interval: "-1"}`) // nothing is seen but what is asked for
	i := s.start(t, "run")
	if code, out, wrong := s.print(t, "wait", "--timeout", "1m"); code != 0 || !strings.Contains(out, "/") {
		t.Fatalf("wait for the first filling: %d %s %s", code, out, wrong)
	}
	conn, err := pgx.Connect(t.Context(), s.db.URL)
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	write := func(statement string) (lsn string) {
		t.Helper()
		_, err := conn.Exec(t.Context(), statement)
		must(t, err)
		must(t, conn.QueryRow(t.Context(), `SELECT pg_current_wal_insert_lsn()::text`).Scan(&lsn))
		return lsn
	}
	for n := 1; n <= 5; n++ {
		lsn := write(fmt.Sprintf(`INSERT INTO notes VALUES (%d, 'own%d')`, n, n))
		if status, body := i.waitAnswer(t, "?searchable=true&timeout=1m&lsn="+lsn); status != 200 {
			t.Fatalf("/wait: %d %s", status, body)
		}
		if got := s.found(t, "notes", fmt.Sprintf("v:own%d", n)); got != 1 {
			t.Errorf("searches find %d documents of what was waited for", got)
		}
	}
	write(`UPDATE notes SET v = 'command'`)
	if code, out, wrong := s.print(t, "wait", "--searchable", "--timeout", "1m", "--index", s.alias("notes")); code != 0 {
		t.Fatalf("wait: %d %s %s", code, out, wrong)
	}
	if got := s.found(t, "notes", "v:command"); got != 5 {
		t.Errorf("searches find %d documents of what was waited for", got)
	}

	// A log that grows by what concerns nobody here, and a position of which nothing more is in the log.
	for range 3 {
		lsn := write(`INSERT INTO other SELECT coalesce(max(id), 0) + 1 FROM other`)
		start := time.Now()
		if status, body := i.waitAnswer(t, "?timeout=1m&lsn="+lsn); status != 200 {
			t.Fatalf("/wait for what is not published: %d %s", status, body)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("/wait for what is not published took %s", took)
		}
	}
	if status, body := i.waitAnswer(t, "?lsn=FFFFFFFF/0"); status != 409 || !strings.Contains(body, "the log has not come to FFFFFFFF/0") {
		t.Errorf("/wait for a position of another server: %d %s", status, body)
	}
	if status, body := i.waitAnswer(t, "?index=nothing"); status != 404 || !strings.Contains(body, "there is no index nothing") {
		t.Errorf("/wait for an index that is not there: %d %s", status, body)
	}
	if code, _, wrong := s.print(t, "wait", "--lsn", "FFFFFFFF/0"); code != 1 || !strings.Contains(wrong, "the log has not come to FFFFFFFF/0") {
		t.Errorf("wait for a position of another server: %d %s", code, wrong)
	}

	i.stop(t)
	lsn := write(`INSERT INTO notes VALUES (100, 'nobody')`)
	code, _, wrong := s.print(t, "wait", "--timeout", "300ms", "--lsn", lsn)
	if code != 1 || !strings.Contains(wrong, "not yet: slot "+s.slot+" is at ") || !strings.Contains(wrong, "no instance follows it") {
		t.Errorf("wait where nobody follows the slot: %d %s", code, wrong)
	}
}

// TestWaitFanOut waits for documents that are stored again beside the stream: as long as some are not, what
// was committed is not stored, in their index.
func TestWaitFanOut(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.newFanOut(t, 5000, "")
	s.db.Exec(t, `CREATE TABLE notes (id int PRIMARY KEY)`)
	s.index("notes", "notes", "")
	i := s.start(t, "run")
	if code, _, wrong := s.print(t, "wait", "--timeout", "1m"); code != 0 {
		t.Fatalf("wait for the first filling: %d %s", code, wrong)
	}
	// A fan-out of which the instance does not know, so that nothing works it off.
	var physical string
	must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT live FROM dbsync_ctrl.indices WHERE name = $1`, s.alias("things")).Scan(&physical))
	s.db.Exec(t, fmt.Sprintf(`INSERT INTO dbsync_ctrl.fan_outs (slot, hash, index_name, physical, source, path, key) VALUES ('%s', '\x01', '%s', '%s', 'public.things ', 'kind', '{1}')`,
		s.slot, s.alias("things"), physical))
	missing := "index " + s.alias("things") + ": the documents of 1 related rows that changed are not all stored again"
	if status, body := i.waitAnswer(t, "?timeout=500ms"); status != 504 || !strings.Contains(body, missing) {
		t.Errorf("/wait: %d %s", status, body)
	}
	if status, body := i.waitAnswer(t, "?timeout=1m&index="+s.alias("notes")); status != 200 {
		t.Errorf("/wait for another index: %d %s", status, body)
	}
	if code, _, wrong := s.print(t, "wait", "--timeout", "3s"); code != 1 || !strings.Contains(wrong, missing) {
		t.Errorf("wait: %d %s", code, wrong)
	}
	s.db.Exec(t, `DELETE FROM dbsync_ctrl.fan_outs`)

	for n := range 3 {
		s.db.Exec(t, fmt.Sprintf(`UPDATE kinds SET name = 'name%d'`, n))
		if status, body := i.waitAnswer(t, "?timeout=1m&searchable=true"); status != 200 {
			t.Fatalf("/wait: %d %s", status, body)
		}
		if got := s.found(t, "things", fmt.Sprintf("kind:name%d", n)); got != 5000 {
			t.Errorf("searches find %d documents of what was waited for", got)
		}
	}
	i.stop(t)
}
