package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/testenv"
)

// verified is what verify --json printed.
type verified struct {
	code    int
	found   map[string]string // kind, path and "repaired" by index and id, with the routing after a /
	results map[string]map[string]any
	said    string // on the standard error
}

// verify runs the command, with a limit to its time.
func (s *setup) verify(t testing.TB, args ...string) *verified {
	t.Helper()
	defer took(t, "verify "+strings.Join(args, " "))()
	s.write(t)
	c := exec.Command(binary(t), append([]string{"verify", "--json", "-c", s.file, "--log-level", "warn"}, args...)...)
	c.Env = append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	must(t, c.Start())
	timer := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	err := c.Wait()
	if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	v := &verified{code: c.ProcessState.ExitCode(), said: said.String(), found: make(map[string]string), results: make(map[string]map[string]any)}
	for line := range strings.Lines(out.String()) {
		var l struct {
			Difference *struct {
				Index, ID, Routing, Kind, Path string
				Repaired                       bool
			}
			Result map[string]any
		}
		must(t, json.Unmarshal([]byte(line), &l))
		if l.Result != nil {
			v.results[strings.TrimPrefix(l.Result["index"].(string), s.prefix)] = l.Result
			continue
		}
		d := l.Difference
		at := strings.TrimPrefix(d.Index, s.prefix) + " " + d.ID
		if d.Routing != "" {
			at += "/" + d.Routing
		}
		what := d.Kind
		if d.Path != "" {
			what += " " + d.Path
		}
		if d.Repaired {
			what += " repaired"
		}
		if other, twice := v.found[at]; twice {
			t.Errorf("document %q is reported twice: %s, %s", at, other, what)
		}
		v.found[at] = what
	}
	return v
}

// check compares what was found with what is there to be found.
func (v *verified) check(t testing.TB, want map[string]string) {
	t.Helper()
	code := 0
	for _, what := range want {
		if !strings.HasSuffix(what, " repaired") {
			code = 1
		}
	}
	if v.code != code {
		t.Errorf("exit code %d, want %d; it says\n%s", v.code, code, v.said)
	}
	if diff := cmp.Diff(want, v.found); diff != "" {
		t.Errorf("differences (-want +got):\n%s\n%s", diff, v.said)
	}
}

// plant writes to an index what Tidemark would not: lines of a bulk request.
func (s *setup) plant(t testing.TB, index string, lines ...string) {
	t.Helper()
	status, answer, err := s.search.Do(t.Context(), http.MethodPost, "/"+url.PathEscape(s.alias(index))+"/_bulk", []byte(strings.Join(lines, "\n")+"\n"))
	must(t, err)
	if status != http.StatusOK || strings.Contains(string(answer), `"errors":true`) {
		t.Fatalf("plant: %d %s", status, answer)
	}
}

// document is a line that stores a document and the document; removal one that removes it.
func document(id, routing, source string) string { return action("index", id, routing) + "\n" + source }

func removal(id, routing string) string { return action("delete", id, routing) }

func action(name, id, routing string) string {
	line, _ := json.Marshal(map[string]any{name: map[string]string{"_id": id, "routing": routing}}) // strings only
	return string(line)
}

// TestVerifyUnderLoad plants a thousand differences of all kinds while rows change: they are
// found, and nothing else; and fixed.
func TestVerifyUnderLoad(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		s := newSetup(t, testenv.SharedSearch(t, e))
		s.db.Exec(t, `CREATE TABLE items (id int PRIMARY KEY, shop int NOT NULL DEFAULT 1, title text, price numeric(10,2), note text, hidden boolean NOT NULL DEFAULT false)`,
			`ALTER TABLE items REPLICA IDENTITY FULL`,
			fmt.Sprintf(`INSERT INTO items SELECT i, i %% 50, 'item ' || i, i / 7.0, repeat('x', i %% 100), i %% 9 = 0 FROM generate_series(1, %d) i`, pick(5000, 100_000)))
		s.index("items", "items", `, routing: shop, where: not hidden, settings: {number_of_shards: 3}, reindex: {chunk: 700}`, testenv.WithQuery(
			`SELECT id, shop, json_build_object('id', id, 'shop', shop, 'title', title, 'price', price, 'note', note, 'hidden', hidden) FROM items WHERE NOT hidden`),
			testenv.WithRouting("shop"))
		i := s.start(t, "run")
		s.awaitCaughtUp(t, i)
		l := newLoad(t, s.db, "items")
		l.connections, l.statements, l.pause = 2, 6, 20*time.Millisecond
		// Rows that the load does not touch: it chooses from 1 on.
		s.db.Exec(t, `INSERT INTO items SELECT -i, i % 50, 'item ' || -i, i / 100.0, NULL, false FROM generate_series(1, 1500) i`,
			`INSERT INTO items SELECT -i, 7, 'hidden', 1, NULL, true FROM generate_series(2001, 2010) i`)
		s.awaitCaughtUp(t, i)
		defer l.begin(t)()

		want := make(map[string]string)
		var lines []string
		for n := 1; n <= 1000; n++ {
			id, shop := fmt.Sprint(-n), fmt.Sprint(n%50)
			price := fmt.Sprintf("%d.%02d", n/100, n%100)
			at := "items " + id + "/" + shop
			switch n % 5 {
			case 0:
				lines = append(lines, removal(id, shop))
				want[at] = "missing"
			case 1:
				at = fmt.Sprintf("items %d/%s", -n-5000, shop)
				lines = append(lines, document(fmt.Sprint(-n-5000), shop, `{"id":1}`))
				want[at] = "extra"
			case 2: // one that was true once
				lines = append(lines, document(id, shop, fmt.Sprintf(`{"id":%s,"shop":%s,"title":"old","price":%s,"note":null,"hidden":false}`, id, shop, price)))
				want[at] = "differs title"
			case 3: // the same number, but not as the database writes it
				lines = append(lines, document(id, shop, fmt.Sprintf(`{"id":%s,"shop":%s,"title":"item %s","price":%s0,"note":null,"hidden":false}`, id, shop, id, price)))
				want[at] = "differs price"
			case 4: // in another order and without a field that is null: no difference
				lines = append(lines, document(id, shop, fmt.Sprintf(`{"hidden":false, "title":"item %s","price":%s,"id":%s,"shop":%s}`, id, price, id, shop)))
			}
		}
		for n := 1001; len(want) < 1000; n++ {
			lines = append(lines, removal(fmt.Sprint(-n), fmt.Sprint(n%50)))
			want[fmt.Sprintf("items %d/%d", -n, n%50)] = "missing"
		}
		// Rows that are no documents, and a document with a routing of its own.
		lines = append(lines, document("-2001", "7", `{}`), document("-1500", "elsewhere", `{}`))
		want["items -2001/7"] = "extra"
		s.plant(t, "items", lines...)
		var at string
		if same := s.shardOf(t, "items", "elsewhere") == s.shardOf(t, "items", "0"); same {
			at, want["items -1500/0"] = "items -1500/0", "differs _routing"
		} else {
			at, want["items -1500/elsewhere"] = "items -1500/elsewhere", "extra"
		}
		t.Log("with another routing: ", at, want[at])

		v := s.verify(t, s.alias("items"))
		v.check(t, want)
		t.Log(v.results)
		for id := range want {
			want[id] += " repaired"
		}
		s.verify(t, "--repair", s.alias("items")).check(t, want)
		s.verify(t, s.alias("items")).check(t, map[string]string{})
		i.stop(t)
	})
}

// shardOf returns which shard a routing leads to.
func (s *setup) shardOf(t testing.TB, index, routing string) int {
	t.Helper()
	_, answer, err := s.search.Do(t.Context(), http.MethodGet, "/"+url.PathEscape(s.alias(index))+"/_search_shards?routing="+url.QueryEscape(routing), nil)
	must(t, err)
	var shards struct{ Shards [][]struct{ Shard int } }
	must(t, json.Unmarshal(answer, &shards))
	return shards.Shards[0][0].Shard
}

// TestVerify plants one difference after the other, in documents of several tables with
// related rows in them, with keys of all kinds; without an instance that runs.
func TestVerify(t *testing.T) {
	t.Parallel()
	s := newCatalog(t, shared(t), 300)
	long := strings.Repeat("long ", 200)
	s.db.Exec(t, `CREATE TABLE word (word text, n int, PRIMARY KEY (word, n))`, `INSERT INTO word VALUES ('a|b', 1), ('~N', 2), ('', 3), ('漢字', 4)`,
		`INSERT INTO word SELECT '`+long+`' || i, i FROM generate_series(10, 30) i`,
		`CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0)`, `CREATE TABLE pair (id even PRIMARY KEY, at date)`, `INSERT INTO pair SELECT 2 * i, '2026-01-01' FROM generate_series(1, 100) i`)
	s.index("word", "word", "")
	s.index("pair", "pair", "", testenv.WithAbsent("at"))

	// Before there is anything to verify.
	if v := s.verify(t, s.alias("pair")); v.code != 1 || !strings.Contains(v.said, "needs a backfill first") {
		t.Errorf("exit code %d, it says %s", v.code, v.said)
	}
	if v := s.verify(t, "nothing"); v.code != 2 {
		t.Errorf("exit code %d, it says %s", v.code, v.said)
	}
	s.once(t)
	s.db.Exec(t, `UPDATE shelf SET place = 'moved' WHERE id = 3`, `DELETE FROM book WHERE id = 9`, `INSERT INTO pair VALUES (1000, NULL)`)
	v := s.verify(t, "all") // follows the slot by itself
	v.check(t, map[string]string{})
	if len(v.results) != len(s.indices) {
		t.Errorf("results %v", v.results)
	}

	hashed := s.search.Documents(t, s.alias("word"))
	hashes := slices.Sorted(maps.Keys(hashed))
	hashes = slices.DeleteFunc(hashes, func(id string) bool { return !strings.HasPrefix(id, "~sha256-") })
	if len(hashes) != 21 {
		t.Fatalf("%d hashed ids", len(hashes))
	}
	zeros := "~sha256-" + strings.Repeat("0", 64)
	s.plant(t, "word", removal("a~|b|1", ""), document("~N|2", "", `{}`), document("a|b|1", "", `{}`), document(zeros, "", `{}`),
		removal(hashes[3], ""), document(hashes[5], "", `{"word":"other","n":1}`), document("|x", "", `{}`))
	s.plant(t, "pair", document("007", "", `{}`), document("abc", "", `{}`), document("3", "", `{}`), document("99999999999", "", `{}`), document("7\x01", "", `{}`), document(" 2", "", `{}`),
		document("2", "", `{"id":2,"at":"2026-01-02"}`), document("1000", "", `{"id":1000}`), removal("4", ""))
	s.plant(t, "media", document("nothing-7", "", `{}`), document("book-7x", "", `{}`), document("film:5000:", "", `{}`), removal("film:1:", ""), removal("issue-{x}-2", ""),
		document("book-3", "", `{"kind":"book","title":"book 3","shelf":"place 3"}`))
	s.plant(t, "shelf", document("1", "", `{"id":1,"place":"place 1","books":["book 1"]}`), document("2", "", `{"id":2}`))
	want := map[string]string{
		"word a~|b|1": "missing", "word ~N|2": "extra", "word a|b|1": "extra", "word |x": "extra",
		"word " + zeros: "extra", "word " + hashes[3]: "missing", "word " + hashes[5]: "differs n",
		"pair 007": "extra", "pair abc": "extra", "pair 3": "extra", "pair 99999999999": "extra", "pair 7\x01": "extra", "pair  2": "extra",
		"pair 2": "differs at", "pair 4": "missing", // and 1000 lacks a field that is null
		"media nothing-7": "extra", "media book-7x": "extra", "media film:5000:": "extra", "media film:1:": "missing", "media issue-{x}-2": "missing", "media book-3": "differs shelf",
		"shelf 1": "differs books", "shelf 2": "differs books",
	}
	s.verify(t, "all").check(t, want)

	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	for id := range want {
		want[id] += " repaired"
	}
	s.verify(t, "all", "--repair").check(t, want)
	s.checkIndices(t, "media", "book", "shelf", "pair")

	// What a sample finds is there; what is not there it does not find.
	s.plant(t, "media", removal("film:1:", ""))
	v = s.verify(t, s.alias("media"), "--sample", "30%")
	if rows, documents := v.results["media"]["rows"].(float64), v.results["media"]["documents"].(float64); rows < 180 || rows > 360 || documents < 180 || documents > 360 {
		t.Errorf("a sample of %g rows and %g documents of about 900", rows, documents)
	}
	if delete(v.found, "media film:1:"); len(v.found) > 0 {
		t.Errorf("a sample finds %v", v.found)
	}
	i.stop(t)
}

// TestVerifyUnmade verifies indices with rows of which no document can be made, among others
// that differ; and indices that do not keep the whole document.
func TestVerifyUnmade(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, n int, v text, price numeric(10,2) DEFAULT 2.50)`, `INSERT INTO a SELECT i, i % 400, 'v' FROM generate_series(1, 1000) i`,
		`CREATE TABLE b (id int PRIMARY KEY, a_id int, n int)`, `ALTER TABLE b REPLICA IDENTITY FULL`, `CREATE INDEX ON b (a_id)`, `INSERT INTO b SELECT i, i, i % 400 FROM generate_series(1, 1000) i`,
		`CREATE TABLE part (region text, id int, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region)`,
		`CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a')`, `CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b')`,
		`INSERT INTO part SELECT CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END, i, 'v' FROM generate_series(1, 100) i`)
	s.index("value", "a", `, fields: {m: {expr: 100 % n}}`)
	s.index("where", "a", `, where: 100 % n < 101, mappings: {_source: {excludes: [v]}}`)
	s.index("related", "a", `, include: {bs: {table: b, on: {id: a_id}, aggregate: count, where: 10 / n >= 0}}`)
	s.index("part", "part", `, mappings: {_source: {enabled: false}}`)
	s.once(t)
	s.plant(t, "value", removal("7", ""), document("5", "", `{"id":5,"n":5,"v":"planted","price":2.50,"m":0}`), document("400", "", `{}`))
	s.plant(t, "where", document("7", "", `{"id":7,"n":8,"v":"not kept","price":2.50}`))
	s.plant(t, "related", document("9", "", `{"id":9,"n":9,"v":"v","price":2.50,"bs":2}`))
	s.plant(t, "part", removal("a|2", ""), document("b|2", "", `{}`), document("b|3", "", `{}`))
	want := map[string]string{
		"value 7": "missing", "value 5": "differs v", "value 400": "unmade", "value 800": "unmade",
		"where 7": "differs n", "where 400": "unmade", "where 800": "unmade",
		"related 9": "differs bs", "related 400": "unmade", "related 800": "unmade",
		"part a|2": "missing", "part b|2": "extra", // what is in b|3 cannot be seen
	}
	s.verify(t, "all").check(t, want)
	i := s.start(t, "run")
	for id, what := range want {
		if what != "unmade" {
			want[id] += " repaired"
		}
	}
	s.verify(t, "--repair", "all").check(t, want)
	i.stop(t)
}

// TestVerifyWhileACommitHangs verifies while a change is in the log, and stored, that nobody
// else sees yet: the document is not said to differ from its row.
func TestVerifyWhileACommitHangs(t *testing.T) {
	t.Parallel()
	s := newHangingSetup(t)
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a SELECT i, 'old' FROM generate_series(1, 100) i`)
	s.index("a", "a", "")
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.primed(t, i)
	h := s.hang(t, `UPDATE a SET v = 'hung' WHERE id = 2; DELETE FROM a WHERE id = 3; INSERT INTO a VALUES (1000, 'hung')`)
	s.plant(t, "a", removal("50", ""))
	v := s.verify(t, s.alias("a"))
	h.hangs(t)
	v.check(t, map[string]string{})
	if n := v.results["a"]["undecided"]; n != 4.0 || !strings.Contains(v.said, "a synchronous standby holds up") {
		t.Errorf("%v undecided; it says %s", n, v.said)
	}
	h.release(t)
	s.verify(t, s.alias("a")).check(t, map[string]string{"a 50": "missing"})
	i.stop(t)
}
