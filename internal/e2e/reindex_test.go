package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sourcegraph/conc"
)

// paced does something once in every interval until ctx ends. What comes late is made up for,
// so that a slow machine does not thin out the load.
func paced(ctx context.Context, interval time.Duration, do func() error) error {
	for next := time.Now(); ; next = next.Add(interval) {
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return nil
		}
		if err := do(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// A searcher queries an alias and takes note of every answer that is none.
type searcher struct {
	answers atomic.Int64
	started time.Time
	wrong   atomic.Pointer[error]
	end     context.CancelFunc
	readers conc.WaitGroup
}

// searchers has an alias queried many times a second, by several readers. Each answer must
// have so many documents at least.
func (s *setup) searchers(t testing.TB, alias string, least int) *searcher {
	t.Helper()
	const readers, perSecond = 10, 50
	r := &searcher{started: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	r.end = cancel
	for range readers {
		r.readers.Go(func() {
			err := paced(ctx, time.Second*readers/perSecond, func() error {
				err := s.searchOnce(ctx, alias, least)
				if err == nil {
					r.answers.Add(1)
				}
				return err
			})
			if err != nil {
				r.wrong.CompareAndSwap(nil, &err)
			}
		})
	}
	t.Cleanup(func() { r.stop(t) })
	return r
}

// searchOnce asks for something that every state of the table has.
func (s *setup) searchOnce(ctx context.Context, alias string, least int) error {
	status, answer, err := s.search.Do(ctx, http.MethodPost, "/"+alias+"/_search", []byte(`{"size":1,"query":{"term":{"always":"here"}}}`))
	if err != nil {
		return err
	}
	var got struct {
		TimedOut bool `json:"timed_out"`
		Shards   struct{ Failed int }
		Hits     struct{ Total struct{ Value int } }
	}
	if err := json.Unmarshal(answer, &got); status != http.StatusOK || err != nil {
		return fmt.Errorf("search: %d %s %v", status, answer, err)
	}
	if got.TimedOut || got.Shards.Failed > 0 || got.Hits.Total.Value < least {
		return fmt.Errorf("search: %s", answer)
	}
	return nil
}

func (r *searcher) stop(t testing.TB) {
	t.Helper()
	r.end()
	r.readers.Wait()
	if wrong := r.wrong.Load(); wrong != nil {
		t.Errorf("a searcher noticed: %v", *wrong)
	}
}

// steady makes changes to so many rows until the returned function is called, which returns
// how many were made.
func (s *setup) steady(t testing.TB, rows int) (end func() int64) {
	t.Helper()
	const batch, perSecond = 10, 500
	ctx, cancel := context.WithCancel(t.Context())
	var made atomic.Int64
	done := make(chan error, 1)
	random := rand.New(rand.NewPCG(newSeed(t), 1))
	go func() {
		conn, err := pgx.Connect(ctx, s.db.URL)
		if err != nil {
			done <- err
			return
		}
		defer conn.Close(context.WithoutCancel(ctx))
		done <- paced(ctx, time.Second*batch/perSecond, func() error {
			var changes pgx.Batch
			for range batch {
				id := 1 + random.IntN(rows)
				switch random.IntN(10) {
				case 0:
					changes.Queue(`DELETE FROM items WHERE id = $1`, id)
				case 1, 2:
					changes.Queue(`INSERT INTO items VALUES ($1, 'here', 'new') ON CONFLICT (id) DO UPDATE SET v = 'again'`, id)
				case 3:
					changes.Queue(`UPDATE items SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT FROM items WHERE id = $2)`, id, 1+random.IntN(rows*5/4))
				default:
					changes.Queue(`UPDATE items SET v = 'v' || $2::int WHERE id = $1`, id, random.IntN(1000))
				}
			}
			if err := conn.SendBatch(ctx, &changes).Close(); err != nil {
				return err
			}
			made.Add(batch)
			return nil
		})
	}()
	ended := false
	end = func() int64 {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("changes: %v", err)
			}
		}
		return made.Load()
	}
	t.Cleanup(func() { end() })
	return end
}

// newItems has a table whose rows all have something to be found by.
func (s *setup) newItems(t testing.TB, rows int) {
	t.Helper()
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, always text NOT NULL, v text)`,
		fmt.Sprintf(`INSERT INTO items SELECT i, 'here', 'v' || i FROM generate_series(1, %d) i`, rows), `ANALYZE items`)
	s.index("items", "items", ", fields: {always: {type: keyword}}, reindex: {chunk: "+pick("200, max_rows_per_second: 5000", "5000")+"}")
}

// TestNobodyNotices rebuilds an index three times while searchers query it and its table
// changes; in one of them the instance is killed and started again at random moments.
func TestNobodyNotices(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	rows := pick(20_000, 1_000_000)
	s.newItems(t, rows)
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	first := s.physicalName(t, "items")
	// The server counts up to 10,000 hits. The changes leave two thirds of the rows.
	searchers := s.searchers(t, s.alias("items"), min(rows/2, 10_000))
	changes := s.steady(t, rows)
	random := rand.New(rand.NewPCG(newSeed(t), 2))
	rebuilt := func(asked *instance) {
		t.Helper()
		if code := asked.waitFor(t, pick(patience, 15*time.Minute)); code != 0 {
			t.Fatalf("exit code %d:\n%s", code, asked.tail(20))
		}
	}

	rebuilt(s.start(t, "reindex", s.alias("items")))
	second := s.physicalName(t, "items")

	asked := s.start(t, "reindex", s.alias("items"))
	kills, middle := 0, 0
	for ; kills < pick(4, 10); kills++ {
		asked.poll(t, "the rebuild is under way", func(ctx context.Context) error {
			if complete, err := s.complete(ctx); err != nil || !complete {
				return err
			}
			return errors.New("no index is being built")
		})
		time.Sleep(time.Duration(random.IntN(pick(300, 3000))) * time.Millisecond) // to a moment that nothing marks
		i.kill()
		if complete, err := s.complete(t.Context()); err == nil && !complete {
			middle++
		}
		i = s.start(t, "run")
	}
	if middle == 0 {
		t.Error("no kill came in the middle of the rebuild")
	}
	rebuilt(asked)
	third := s.physicalName(t, "items")

	rebuilt(s.start(t, "reindex", s.alias("items")))
	fourth := s.physicalName(t, "items")
	if !(first < second && second < third && third < fourth) {
		t.Errorf("the alias stood for %s, %s, %s, %s", first, second, third, fourth)
	}
	searchers.stop(t)
	took := time.Since(searchers.started)
	t.Logf("in %v %d answers, %d changes, killed %d times, %d of them in the middle", took.Round(time.Second), searchers.answers.Load(), changes(), kills, middle)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	var open int
	must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM dbsync_ctrl.requests WHERE phase <> 'done'`).Scan(&open))
	if open != 0 {
		t.Errorf("%d requests are not done", open)
	}
	i.stop(t)
}

// physicalName is the index behind an alias.
func (s *setup) physicalName(t testing.TB, name string) string {
	t.Helper()
	all, err := s.search.Indices(t.Context(), s.alias(name))
	must(t, err)
	if len(all) != 1 {
		t.Fatalf("alias %s stands for %v", name, all)
	}
	return all[0].Name
}

// status is what tidemark status prints.
func (s *setup) status(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary(t), "status", "-c", s.file).Output()
	if err != nil {
		t.Errorf("status: %v", err)
	}
	return string(out)
}

// TestProgress looks at a rebuild from outside: the admin server, status, also while no
// instance runs, and one who asked for it and leaves; then it is given up.
func TestProgress(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.newItems(t, 5000)
	s.once(t)
	s.index("items", "items", ", fields: {always: {type: keyword}}, reindex: {chunk: 50, max_rows_per_second: 100}")
	i := s.start(t, "run")
	i.awaitLog(t, "following the slot")
	asked := s.start(t, "reindex", s.alias("items"))
	var page struct {
		Indices []struct {
			State            string  `json:"state"`
			RowsDone         int64   `json:"rows_done"`
			RowsExpected     int64   `json:"rows_expected"`
			RowsPerSecond    float64 `json:"rows_per_second"`
			RemainingSeconds int64   `json:"remaining_seconds"`
		} `json:"indices"`
	}
	i.poll(t, "/status tells how far it is", func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.admin(t)+"/status", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err == nil {
			err = json.Unmarshal(body, &page)
		}
		if err != nil {
			return err
		}
		if ix := page.Indices[0]; ix.State != "rebuilding" || ix.RowsDone < 100 || ix.RowsExpected != 5000 || ix.RowsPerSecond <= 0 || ix.RowsPerSecond > 1000 || ix.RemainingSeconds <= 0 {
			return errors.New(string(body))
		}
		return nil
	})
	filled := regexp.MustCompile(s.alias("items") + `: backfill of \S+(, which the next instance goes on with)?: \d+ rows of about 5000 \(\d+ %\)(, \d+ rows/s, about \S+ left)?\n`)
	if told := filled.FindStringSubmatch(s.status(t)); told == nil || told[1] != "" || told[2] == "" {
		t.Errorf("status says %q of a backfill under way", told)
	}
	i.kill()
	// Postgres takes a moment to notice.
	asked.poll(t, "status says that nobody fills it", func(context.Context) error {
		if told := filled.FindStringSubmatch(s.status(t)); told == nil || told[1] == "" || told[2] != "" {
			return fmt.Errorf("status says %q", told)
		}
		return nil
	})
	i = s.start(t, "run")
	i.awaitLog(t, "following the slot")
	before := s.physicalName(t, "items")
	must(t, asked.cmd.Process.Signal(os.Interrupt))
	asked.fail(t, 1, "the running instance goes on with "+s.alias("items"), "reindex --cancel "+s.alias("items"))
	s.start(t, "reindex", s.alias("items"), "--cancel").succeed(t)
	if now := s.physicalName(t, "items"); now != before {
		t.Errorf("the rebuild was given up, and the alias stands for %s after %s", now, before)
	}
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	if log := i.log(); strings.Contains(log, `"level":"ERROR"`) {
		t.Errorf("the instance complains:\n%s", log)
	}
	i.stop(t)
}

// TestComparedAtRest has the tests' own comparison begin while a rebuild is asked for that takes
// its time: it waits until that is done.
func TestComparedAtRest(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.newItems(t, 3000)
	s.index("items", "items", ", fields: {always: {type: keyword}}, reindex: {chunk: 200, max_rows_per_second: 2000}")
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	before := s.physicalName(t, "items")
	s.start(t, "reindex", s.alias("items"), "--no-wait").succeed(t)
	s.checkSynced(t)
	if now := s.physicalName(t, "items"); now == before {
		t.Errorf("compared is %s, the rebuild was not waited for", now)
	}
	i.stop(t)
}
