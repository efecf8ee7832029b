package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidemark/testenv"
)

// TestWhatRepeatsIsAnAlarm has a change in the log that Postgres cannot decode: every connection ends
// at it, and between two of them all looks well. /readyz says so all the time, and status does.
func TestWhatRepeatsIsAnAlarm(t *testing.T) {
	t.Parallel()
	s := newSetup(t, testenv.SharedSearch(t, testenv.Engines(t)[0]))
	s.db.Exec(t, `CREATE TYPE mood AS ENUM ('sad', 'happy')`, `CREATE TABLE a (id int PRIMARY KEY, v text, m mood)`, `INSERT INTO a VALUES (1, 'x', 'sad')`)
	s.index("a", "a", "")
	i := s.start(t, "run")
	i.awaitReady(t, http.StatusOK, "")
	s.db.Exec(t, `DELETE FROM pg_enum WHERE enumlabel = 'sad'`, `UPDATE a SET v = 'y'`)
	i.awaitReady(t, http.StatusServiceUnavailable, "invalid internal value for enum")

	url := "http://" + i.admin(t) + "/readyz"
	asked := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) { // several connections long
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		must(t, err)
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		resp.Body.Close()
		cancel()
		if asked++; resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "invalid internal value for enum") {
			t.Fatalf("answer %d is %d: %s", asked, resp.StatusCode, body)
		}
	}
	s.adminListen = i.admin(t)
	if code, out := s.statusText(t); code != 1 || !strings.Contains(out, "slot "+s.slot+": failed ") || !strings.Contains(out, "invalid internal value for enum") {
		t.Errorf("status ends with %d:\n%s", code, out)
	}
	i.stop(t)
}
