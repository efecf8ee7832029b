package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

// demoVariable has this test binary be the demo.
const demoVariable = "TIDEMARK_DEMO_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(demoVariable) != "" {
		main()
		os.Exit(0)
	}
	testenv.Main(m)
}

// limit bounds what the demo does, on a busy machine and with downloads.
const limit = 5 * time.Minute

// A running is a demo that has come up.
type running struct {
	cmd    *exec.Cmd
	folder string // where it makes its temporary ones
	guide  string
	rest   chan string // closed at the end of its output
}

// startDemo starts a demo, and reads what it prints to the end of the guide.
func startDemo(t *testing.T, args ...string) *running {
	t.Helper()
	testenv.SkipShort(t)
	// Not the test's own: the servers' account must be able to reach it.
	folder, err := os.MkdirTemp("", "demo")
	if err == nil {
		err = os.Chmod(folder, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	r := &running{folder: folder, rest: make(chan string, 1024)}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	r.cmd = exec.CommandContext(ctx, os.Args[0], args...)
	r.cmd.Env = append(os.Environ(), demoVariable+"=1", "TMPDIR="+folder)
	from, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stderr = r.cmd.Stdout
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill() // it has ended, but after a failure
		for range r.rest {
		}
		_ = r.cmd.Wait()
	})
	up := make(chan string, 1)
	go func() {
		defer close(r.rest)
		defer close(up)
		var guide strings.Builder
		lines := bufio.NewScanner(from)
		for done := false; lines.Scan(); {
			if done {
				select {
				case r.rest <- lines.Text():
				default: // nobody is interested
				}
				continue
			}
			guide.WriteString(lines.Text() + "\n")
			if done = strings.HasPrefix(lines.Text(), "Ctrl-C"); done {
				up <- guide.String()
			}
		}
		if guide.Len() > 0 {
			select {
			case up <- guide.String():
			default:
			}
		}
	}()
	r.guide = <-up
	if strings.Contains(r.guide, "is missing:") && os.Getenv("TIDEMARK_TEST_REQUIRE") != "1" {
		t.Skip(r.guide)
	}
	if !strings.Contains(r.guide, "Ctrl-C") {
		t.Fatalf("the demo does not come up:\n%s", r.guide)
	}
	return r
}

// find returns what the guide has in place of the group of a pattern.
func (r *running) find(t *testing.T, pattern string) []string {
	t.Helper()
	m := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(r.guide)
	if m == nil {
		t.Fatalf("nothing like %s in:\n%s", pattern, r.guide)
	}
	return m[1:]
}

// curl does what the printed line does.
func curl(t *testing.T, where string) (int, string) {
	t.Helper()
	res, err := http.Get(where)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// psql executes the printed statement.
func (r *running) psql(t *testing.T) {
	t.Helper()
	m := r.find(t, `^    (?:psql|go run \./testenv/demo -url) '([^']+)' (?:-c|-sql) "([^"]+)"$`)
	conn, err := pgx.Connect(t.Context(), m[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tag, err := conn.Exec(t.Context(), m[1])
	if err != nil || tag.String() != "UPDATE 1" {
		t.Fatalf("%s: %s, %v", m[1], tag, err)
	}
}

func TestDemo(t *testing.T) {
	r := startDemo(t)
	search := r.find(t, `^    curl '([^']*_search[^']*)'$`)[0]
	status, text := curl(t, search)
	var found struct {
		Hits struct{ Hits []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(text), &found); err != nil || status != http.StatusOK || len(found.Hits.Hits) == 0 {
		t.Errorf("the search gives status %d, %v: %s", status, err, text)
	}
	for _, path := range []string{"readyz", "metrics"} {
		if status, text := curl(t, r.find(t, `^    curl (http\S+/`+path+`)$`)[0]); status != http.StatusOK {
			t.Errorf("%s gives status %d: %s", path, status, text)
		}
	}
	if status, text := curl(t, r.find(t, `^    (http\S+) is its status page`)[0]); status != http.StatusOK || !strings.Contains(text, "products") {
		t.Errorf("the status page gives status %d: %s", status, text)
	}
	mapping := r.find(t, `^  the mapping +(\S+)$`)[0]
	if _, err := os.Stat(mapping); err != nil {
		t.Error(err)
	}

	document := r.find(t, `^    curl '([^']*/_doc/[^']*)'$`)[0]
	if _, text := curl(t, document); strings.Contains(text, "Hello from Postgres") {
		t.Errorf("the document is changed before its row is: %s", text)
	}
	r.psql(t)
	eventually(t, "the changed row is in the index", func() bool {
		_, text := curl(t, document)
		return strings.Contains(text, "Hello from Postgres")
	})
	// The shop changes by itself as well: orders come in.
	u, err := url.Parse(search)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new order is in the index", func() bool {
		_, text := curl(t, u.Scheme+"://"+u.Host+"/orders/_search?q=id:>1500&size=1")
		return strings.Contains(text, `"_source"`)
	})

	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	var last string
	for line := range r.rest {
		last = line
	}
	if err := r.cmd.Wait(); err != nil || !strings.Contains(last, "nothing is left") {
		t.Errorf("it ends with %v, and says: %s", err, last)
	}
	if left, err := os.ReadDir(r.folder); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	r.nothingRuns(t)
}

func TestDemoLeavesNothingWhenKilled(t *testing.T) {
	r := startDemo(t)
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the folders are gone", func() bool {
		left, err := os.ReadDir(r.folder)
		return err == nil && len(left) == 0
	})
	r.nothingRuns(t)
}

func TestDemoEndsByItself(t *testing.T) {
	r := startDemo(t, "-for", "1s")
	for range r.rest {
	}
	if err := r.cmd.Wait(); err != nil {
		t.Error(err)
	}
	r.nothingRuns(t)
}

func TestDemoByKafka(t *testing.T) {
	r := startDemo(t, "-kafka")
	workers := regexp.MustCompile(`(?m)^    (http\S+) is the page of worker`).FindAllStringSubmatch(r.guide, -1)
	if len(workers) != workerCount {
		t.Fatalf("%d workers in:\n%s", len(workers), r.guide)
	}
	for _, m := range workers {
		for _, path := range []string{"", "/readyz", "/metrics"} {
			if status, text := curl(t, m[1]+path); status != http.StatusOK {
				t.Errorf("%s gives status %d: %s", m[1]+path, status, text)
			}
		}
	}
	// The documents are in all partitions, those of the worker that is killed as well.
	conn, err := pgx.Connect(t.Context(), r.find(t, `^  the database +(\S+)$`)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	search := r.find(t, `^    curl '([^']*)/products/_search`)[0]
	change := func(title string) {
		t.Helper()
		const rows = 100
		if _, err := conn.Exec(t.Context(), "update products set title = $1 where id <= $2", title, rows); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all documents have the title "+title, func() bool {
			_, text := curl(t, search+"/products/_search?size=0&q=title:"+title)
			var found struct {
				Hits struct{ Total struct{ Value int } }
			}
			if err := json.Unmarshal([]byte(text), &found); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			return found.Hits.Total.Value == rows
		})
	}
	change("twoworkers") // a word that no product of the shop has
	pid, err := strconv.Atoi(r.find(t, `^    kill -9 (\d+)$`)[0])
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
	change("oneworker")
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for line := range r.rest {
		said.WriteString(line + "\n")
	}
	if err := r.cmd.Wait(); err != nil || !strings.Contains(said.String(), "worker 1 has ended (signal: killed)") {
		t.Errorf("it ends with %v, and says:\n%s", err, said.String())
	}
	r.nothingRuns(t)
}

// nothingRuns fails if somebody listens where the demo did, or a process still has to do
// with its folders.
func (r *running) nothingRuns(t *testing.T) {
	t.Helper()
	for _, m := range regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(r.guide, -1) {
		eventually(t, "nobody listens at "+m, func() bool {
			conn, err := net.Dial("tcp", m)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
	}
	eventually(t, "no process of the demo is left", func() bool {
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range lines {
			if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), r.folder) {
				return false
			}
		}
		return true
	})
}

// eventually waits for what nothing tells of.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !is(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
