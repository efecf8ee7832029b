package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

// A proof is what the control schema has of an index's being equal to its tables.
type proof struct {
	Walk, Rows, Documents                                int64 // of the walk under way; 0: none
	Last, LastRows, LastDocuments, LastFound, LastRepair int64 // of the last one that came to its end
	Unproven                                             string
}

func (s *setup) proof(ctx context.Context, name string) (p proof, err error) {
	err = s.db.DB.QueryRowContext(ctx, `SELECT CASE WHEN walk_began_at IS NULL THEN 0 ELSE walk_number END, walk_rows, walk_documents,
		last_number, last_rows, last_documents, last_found, last_repaired, unproven_why FROM dbsync_ctrl.proofs WHERE index_name = $1`, s.alias(name)).
		Scan(&p.Walk, &p.Rows, &p.Documents, &p.Last, &p.LastRows, &p.LastDocuments, &p.LastFound, &p.LastRepair, &p.Unproven)
	return p, err
}

// awaitProof waits until what is proven of an index is as it should be.
func (s *setup) awaitProof(t testing.TB, i *instance, name, what string, is func(proof) bool) (p proof) {
	t.Helper()
	i.poll(t, what, func(ctx context.Context) (err error) {
		if p, err = s.proof(ctx, name); err == nil && !is(p) {
			err = fmt.Errorf("it is %+v", p)
		}
		return err
	})
	return p
}

// statusText runs the command, and returns what it prints.
func (s *setup) statusText(t testing.TB, args ...string) (code int, out string) {
	t.Helper()
	s.write(t)
	c := exec.Command(binary(t), append([]string{"status", "-c", s.file}, args...)...)
	var text, said bytes.Buffer
	c.Stdout, c.Stderr = &text, &said
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), text.String() + said.String()
}

// metric returns the value of a metric of an index, -1 if it has none.
func (s *setup) metric(ctx context.Context, t testing.TB, i *instance, metric, name string) (float64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.admin(t)+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, fmt.Sprintf("tidemark_index_%s{index=%q} ", metric, s.alias(name))); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return -1, nil
}

// TestProofRepairs has a running instance find what somebody has done to the documents, in all
// kinds of indices and while rows change, and repair it; nobody asks for that.
func TestProofRepairs(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		s := newCatalog(t, testenv.SharedSearch(t, e), 200)
		long := strings.Repeat("long ", 200)
		s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, shop int NOT NULL DEFAULT 1, title text)`, `ALTER TABLE items REPLICA IDENTITY FULL`,
			`INSERT INTO items SELECT i, i % 50, 'item ' || i FROM generate_series(1, 3000) i`,
			`INSERT INTO items SELECT -i, i % 50, 'item ' || -i FROM generate_series(1, 10) i`,
			`CREATE TABLE word (word text PRIMARY KEY)`, `INSERT INTO word SELECT '`+long+`' || i FROM generate_series(1, 30) i`)
		s.index("items", "items", `, routing: shop, settings: {number_of_shards: 3}`, testenv.WithRouting("shop"))
		s.index("word", "word", "")
		s.top = "verify: {every: 2s, rows_per_second: 100000}"
		i := s.start(t, "run")
		s.awaitCaughtUp(t, i)
		for name := range s.indices {
			s.awaitProof(t, i, name, name+" is compared", func(p proof) bool { return p.Last > 0 })
			if n, err := s.metric(t.Context(), t, i, "differences_found_total", name); err != nil || n != 0 {
				t.Errorf("%g differences of %s are found where none are: %v", n, name, err)
			}
		}
		l := newLoad(t, s.db, "items")
		l.connections, l.statements, l.pause = 1, 6, 20*time.Millisecond
		end := l.begin(t)
		defer func() {
			if t.Failed() {
				for line := range strings.Lines(i.log()) {
					if strings.Contains(line, "a document differs") {
						t.Log(strings.TrimSpace(line))
					}
				}
			}
		}()
		s.plant(t, "items", removal("-1", "1"), document("-2", "2", `{"id":-2,"shop":2,"title":"other"}`), document("-1000", "7", `{}`), document("no-key", "7", `{}`))
		s.plant(t, "media", removal("film:1:", ""), document("book-3", "", `{"kind":"book","title":"book 3","shelf":"another place"}`), document("nothing-7", "", `{}`))
		s.plant(t, "shelf", document("2", "", `{"id":2}`))
		s.plant(t, "word", document("~sha256-"+strings.Repeat("0", 64), "", `{}`))
		for name, want := range map[string]float64{"items": 4, "media": 3, "shelf": 1, "word": 1} {
			for _, metric := range []string{"differences_found_total", "differences_repaired_total"} {
				i.poll(t, fmt.Sprintf("%g are in %s of %s", want, metric, name), func(ctx context.Context) error {
					n, err := s.metric(ctx, t, i, metric, name)
					if err == nil && n != want {
						err = fmt.Errorf("%g are", n)
					}
					return err
				})
			}
		}
		end()
		s.awaitCaughtUp(t, i)
		s.checkIndices(t, "items", "media", "shelf", "word")
		i.stop(t)
	})
}

// TestProofReports has what differs be said and counted, and left as it is, until the file says
// otherwise.
func TestProofReports(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, title text)`, `INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 1000) i`)
	s.index("items", "items", "")
	s.top = "verify: {every: 2s, on_difference: report}"
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	var lines []string
	for n := range 30 {
		lines = append(lines, document(strconv.Itoa(n+1), "", `{"title":"other"}`))
	}
	before := s.awaitProof(t, i, "items", "the index is compared", func(p proof) bool { return p.Last > 0 })
	if code, text := s.statusText(t); code != 0 || !strings.HasPrefix(text, s.alias("items")+": equal to its tables as of ") || !strings.Contains(text, "(1,000 rows and 1,000 documents compared, 0 differences)") {
		t.Errorf("exit code %d; status says\n%s", code, text)
	}
	s.plant(t, "items", lines...)
	p := s.awaitProof(t, i, "items", "the differences are found", func(p proof) bool { return p.Last > before.Last+1 && p.LastFound > 0 })
	if p.LastFound != 30 || p.LastRepair != 0 {
		t.Errorf("%+v", p)
	}
	if n := strings.Count(i.log(), `"msg":"a document differs from its row"`); n == 0 || n > 20*int(p.Last) {
		t.Errorf("%d lines of differences in the log of %d comparisons", n, p.Last)
	}
	if line := i.awaitLog(t, "a document differs from its row"); !strings.Contains(line, `"id":"`) || !strings.Contains(line, `"path":"id"`) {
		t.Errorf("it says %s", line)
	}
	code, text := s.statusText(t)
	if code != 1 || !strings.HasPrefix(text, s.alias("items")+": 30 documents differ from its tables as of ") || !strings.Contains(text, "problem: index "+s.alias("items")+": 30 documents differ from its tables") {
		t.Errorf("exit code %d; status says\n%s", code, text)
	}
	var report struct {
		Indices []struct {
			Proof struct {
				EqualAsOf string `json:"equal_as_of"`
				Compared  struct{ Rows, Documents, Differences, Repaired int64 }
			}
		}
	}
	if _, text := s.statusText(t, "--json"); json.Unmarshal([]byte(text[:strings.LastIndex(text, "}")+1]), &report) != nil || len(report.Indices) != 1 || report.Indices[0].Proof.EqualAsOf != "" || report.Indices[0].Proof.Compared.Differences != 30 {
		t.Errorf("status --json says\n%s", text)
	}
	i.awaitReady(t, http.StatusOK, "")
	i.stop(t)

	s.top = "verify: {every: 2s}"
	i = s.start(t, "run")
	s.awaitProof(t, i, "items", "the differences are repaired", func(p proof) bool { return p.LastRepair == 30 })
	s.awaitProof(t, i, "items", "there are none any more", func(p proof) bool { return p.LastFound == 0 })
	s.checkIndices(t, "items")
	i.stop(t)
}

// TestProofKilled kills the instance in the middle of a comparison, among the rows and among the
// documents. The next one goes on there: nothing is compared twice that was noted.
func TestProofKilled(t *testing.T) {
	t.Parallel()
	const rows = 60_000
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, title text)`, fmt.Sprintf(`INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, %d) i`, rows))
	s.index("items", "items", "")
	s.once(t)
	s.plant(t, "items", removal("10", ""), removal(strconv.Itoa(rows-10), ""), document("-1", "", "{}"))
	s.top = "verify: {every: 1s, rows_per_second: 10000}"
	i := s.start(t, "run")
	s.awaitProof(t, i, "items", "rows are compared", func(p proof) bool { return p.Walk == 1 && p.Rows >= 20_000 })
	i.kill()
	p, err := s.proof(t.Context(), "items")
	must(t, err)
	s.top = "verify: {every: 1h, rows_per_second: 10000}"
	i = s.start(t, "run")
	if line := i.awaitLog(t, "an index is compared with its tables"); !strings.Contains(line, "from where that ended") || !strings.Contains(line, fmt.Sprintf(`"walk":1,"phase":"rows","rows":%d`, p.Rows)) {
		t.Errorf("%+v was noted, it goes on with %s", p, line)
	}
	s.awaitProof(t, i, "items", "documents are listed", func(p proof) bool { return p.Documents >= 10_000 && p.Documents < rows })
	i.kill()
	i = s.start(t, "run")
	p = s.awaitProof(t, i, "items", "the comparison ends", func(p proof) bool { return p.Last > 0 })
	// The row with the id 10 was found and repaired by the first instance, and its document is new:
	// it is above the numbers that are listed or among them.
	if p.Last != 1 || p.LastRows != rows || p.LastDocuments < rows-2 || p.LastDocuments > rows+1 || p.LastFound != 3 || p.LastRepair != 3 {
		t.Errorf("%+v", p)
	}
	s.checkIndices(t, "items")
	i.stop(t)
}

// TestUnprovenOnce has run --once compare an index that is unproven before it leaves, and no other.
func TestUnprovenOnce(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.once(t)
	s.db.Exec(t, fmt.Sprintf(`INSERT INTO dbsync_ctrl.proofs (index_name, unproven_since, unproven_noted, unproven_why) VALUES ('%s', clock_timestamp(), clock_timestamp(), 'its table has another file')`, s.alias("a")))
	if code, text := s.statusText(t); code != 0 || !strings.HasPrefix(text, s.alias("a")+": unproven since ") || !strings.Contains(text, ": its table has another file\n"+s.alias("b")+": filled ") {
		t.Errorf("exit code %d; status says\n%s", code, text)
	}
	s.plant(t, "a", removal("7", ""))
	s.once(t)
	s.checkSynced(t)
	if p, err := s.proof(t.Context(), "a"); err != nil || p.Unproven != "" || p.LastRepair != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if code, text := s.statusText(t); code != 0 || !strings.HasPrefix(text, s.alias("a")+": equal to its tables as of ") || !strings.Contains(text, "1 difference, repaired)\n"+s.alias("b")+": filled ") {
		t.Errorf("exit code %d; status says\n%s", code, text)
	}
}

// TestUnprovenIsNotReady has /readyz wait for an index that is unproven, where the file says so.
func TestUnprovenIsNotReady(t *testing.T) {
	t.Parallel()
	s := newSmall(t)
	s.once(t)
	s.db.Exec(t, fmt.Sprintf(`INSERT INTO dbsync_ctrl.proofs (index_name, unproven_since, unproven_noted, unproven_why) VALUES ('%s', clock_timestamp(), clock_timestamp(), 'its table has another file')`, s.alias("a")))
	s.top = "verify: {rows_per_second: 1}" // takes a quarter of an hour
	i := s.start(t, "run")
	i.awaitReady(t, http.StatusOK, "")
	i.stop(t)
	s.top = "verify: {rows_per_second: 1, ready_while_unproven: false}"
	i = s.start(t, "run")
	i.awaitReady(t, http.StatusServiceUnavailable, "index "+s.alias("a")+" is unproven since ")
	i.stop(t)
	s.top = "verify: {rows_per_second: 100000, ready_while_unproven: false}"
	i = s.start(t, "run")
	i.awaitReady(t, http.StatusOK, "")
	i.stop(t)
}

// changes updates rows, so many in a second and none whose id can be divided by 1000, until ctx is
// done. It returns how many there were.
func changes(ctx context.Context, url string, rows, perSecond int) (n int, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const each = 10 // in a transaction
	tick := time.NewTicker(time.Second * each / time.Duration(perSecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n, nil
		}
		ids := make([]int, each)
		for i := range ids {
			for ids[i]%1000 == 0 {
				ids[i] = 1 + rand.IntN(rows)
			}
		}
		tag, err := conn.Exec(ctx, `UPDATE items SET price = price + 1, updated_at = now() WHERE id = ANY ($1)`, ids)
		if err != nil && ctx.Err() == nil {
			return n, err
		}
		n += int(tag.RowsAffected())
	}
}

// cpu is the processor time that the instance has taken.
func (i *instance) cpu(t testing.TB) time.Duration {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", i.cmd.Process.Pid))
	must(t, err)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime, of 1/100 s
		n, err := strconv.ParseInt(field, 10, 64)
		must(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// TestProofUnderLoad plants differences in a large index while rows change, at the default pace
// where tests may take their time: all are found and repaired by the comparison that is under way
// or the next, although the instance is killed in the middle. It says what that costs.
func TestProofUnderLoad(t *testing.T) {
	rows, perSecond := pick(50_000, 1_000_000), pick(20_000, 2000)
	planted := rows / 1000
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, sku text, title text, description text, price numeric(10,2), stock int, active boolean, updated_at timestamptz NOT NULL DEFAULT now())`,
		fmt.Sprintf(`INSERT INTO items SELECT i, md5(i::text), 'item ' || i, repeat(md5((i * 7)::text) || ' ', 8), i %% 90000 / 7.0, i %% 1000, i %% 2 = 0 FROM generate_series(1, %d) i`, rows), `ANALYZE items`)
	s.index("items", "items", ", fields: {description: {type: text}}")
	s.top = fmt.Sprintf("verify: {every: 1h, rows_per_second: %d}", perSecond)
	once := s.startBinary(t, plainBinary(t), "run", "--once")
	if code := once.waitFor(t, 10*time.Minute); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, once.tail(20))
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	made := 0
	go func() {
		var err error
		made, err = changes(ctx, s.db.URL, rows, 500)
		done <- err
	}()
	i := s.startBinary(t, plainBinary(t), "run")
	s.awaitCaughtUp(t, i)
	const alone = 20 * time.Second // what following the changes costs, to be taken off
	before := i.cpu(t)
	time.Sleep(alone) // a span of time is what is measured
	following := float64(i.cpu(t)-before) / float64(alone)
	t.Logf("to follow 500 changes a second takes %.1f %% of a core", following*100)

	var lines []string
	for n := 1; n <= planted; n++ {
		switch id := strconv.Itoa(n * 1000); n % 3 {
		case 0:
			lines = append(lines, removal(id, ""))
		case 1:
			lines = append(lines, document(id, "", `{"id":`+id+`,"title":"old"}`))
		default:
			lines = append(lines, document("-"+id, "", `{"id":-`+id+`}`))
		}
	}
	s.plant(t, "items", lines...)
	start := time.Now()
	i.kill() // the next one begins at once, as the index is unproven
	s.db.Exec(t, fmt.Sprintf(`INSERT INTO dbsync_ctrl.proofs (index_name, unproven_since, unproven_noted, unproven_why) VALUES ('%s', clock_timestamp(), clock_timestamp(), 'the test says so')`, s.alias("items")))
	var cpu, ran time.Duration
	end := func(is func(p proof) bool) (p proof) {
		t.Helper()
		i = s.startBinary(t, plainBinary(t), "run")
		i.awaitLog(t, "an index is compared with its tables")
		began, used := time.Now(), i.cpu(t)
		limit := time.Now().Add(time.Hour)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			<-tick.C
			var err error
			if p, err = s.proof(t.Context(), "items"); err == nil && is(p) {
				break
			}
			select {
			case <-i.ended:
				t.Fatalf("the instance has ended: %s\n%s", i.outcome(), i.tail(20))
			default:
			}
			if time.Now().After(limit) {
				t.Fatalf("not within an hour: %+v, %v", p, err)
			}
		}
		cpu += i.cpu(t) - used
		ran += time.Since(began)
		return p
	}
	killed := end(func(p proof) bool { return p.Rows >= int64(rows)/2 })
	i.kill()
	t.Logf("killed after %s with %+v", time.Since(start).Round(time.Second), killed)
	p := end(func(p proof) bool { return p.Last > 0 })
	took := time.Since(start)
	stop()
	must(t, <-done)
	if p.Last != 1 || p.LastRows != int64(rows) || p.LastFound != int64(planted) || p.LastRepair != int64(planted) {
		t.Errorf("%+v, want %d differences", p, planted)
	}
	walk := cpu - time.Duration(following*float64(ran))
	looked := float64(p.LastRows + p.LastDocuments)
	t.Logf("%d rows and %d documents compared, %d differences repaired, in %s, while %d changes were made; processor time %s, of it for the changes %s: %.2f s for 100,000 rows with their documents, %.3f %% of a core at once a day",
		p.LastRows, p.LastDocuments, p.LastRepair, took.Round(time.Second), made, cpu, (cpu - walk).Round(10*time.Millisecond), walk.Seconds()/looked*2*100_000, walk.Seconds()/86400*100)
	s.awaitCaughtUp(t, i)
	s.checkIndices(t, "items")
	i.stop(t)
}
