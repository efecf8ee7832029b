package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidemark/testenv"
)

// TestProperty draws tables, a mapping, transactions, and moments at which the command is
// killed, and wants every index equal to the database in the end. A failure shows the whole
// case; its seed, or the file that rapid leaves, repeats it, but for what depends on time.
func TestProperty(t *testing.T) {
	t.Parallel()
	checkProperty(t, pick(6, 200), drawCase)
}

// TestPropertyAlter has migrations of every kind among them, between and inside of transactions,
// while the command runs and between its lives.
func TestPropertyAlter(t *testing.T) {
	t.Parallel()
	checkProperty(t, pick(3, 200), drawAlteredCase)
}

// TestPropertyKafka has operations go through Kafka, in cases of both kinds. The worker outlives the kills of
// the command.
func TestPropertyKafka(t *testing.T) {
	t.Parallel()
	testenv.SharedKafka(t)
	checkProperty(t, pick(2, 100), func(t *rapid.T) *propertyCase {
		drawn := drawCase
		if rapid.Bool().Draw(t, "altered") {
			drawn = drawAlteredCase
		}
		c := drawn(t)
		c.kafka = true
		return c
	})
}

// rapidFlags are one set for all tests of the process.
var rapidFlags sync.Mutex

func checkProperty(t *testing.T, checks int, drawn func(t *rapid.T) *propertyCase) {
	rapidFlags.Lock()
	defer rapidFlags.Unlock()
	setRapid(t, "checks", strconv.Itoa(checks))
	setRapid(t, "shrinktime", pick(30*time.Second, 5*time.Minute).String())
	setRapid(t, "seed", strconv.FormatUint(newSeed(t), 10))
	testenv.SharedPostgres(t)
	shared(t)
	binary(t)
	var total propertyCounts
	var failed string // the last one is the smallest
	t.Cleanup(func() {
		t.Log(total.String())
		if failed != "" {
			t.Log(failed)
		}
	})
	rapid.Check(t, func(r *rapid.T) {
		c := rapid.Custom(drawn).Draw(r, "case")
		b := runCase(t, c, &total)
		if b.failed {
			failed = "the smallest case that failed:\n" + c.String() + "\n" + strings.Join(b.output, "\n")
			r.Fatal("index and database are not equal, or the command ended; see below")
		}
	})
}

// givenFlags are those of the command line, before any was set here.
var givenFlags = sync.OnceValue(func() map[string]bool {
	given := make(map[string]bool)
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return given
})

// setRapid sets a flag of rapid, unless it was given.
func setRapid(t *testing.T, name, value string) {
	t.Helper()
	if name = "rapid." + name; !givenFlags()[name] {
		must(t, flag.Set(name, value))
	}
}

// A propertyCase is all that was drawn.
type propertyCase struct {
	tables  []*propertyTable
	indices []*propertyIndex
	initial []string
	rounds  []propertyRound
	last    []transaction
	altered bool // migrations are among the transactions
	kafka   bool // operations go through it, to one worker
}

// A propertyRound is one life of the command, up to its violent end.
type propertyRound struct {
	before, during []transaction
	calm           bool          // during begins when all indices are complete
	pause          time.Duration // after each transaction
	args           []string
	moment         string        // the text of a line of its log, "" none
	wait           time.Duration // after that
	fault          string
	cut            bool // its connections to Postgres are, halfway through the wait
}

var propertyFaults = map[string]func() *testenv.Fault{
	"answers of bulk requests are lost": func() *testenv.Fault { return testenv.LoseAnswer(2, testenv.Bulk) },
	"any answers are lost":              func() *testenv.Fault { return testenv.LoseAnswer(3, nil) },
	"bulk requests are refused by 429":  func() *testenv.Fault { return testenv.Answer(429, 2, testenv.Bulk) },
	"some items are refused by 503": func() *testenv.Fault {
		return testenv.AnswerItems(503, 3, func(i testenv.Item) bool { return len(i.ID)%2 == 0 })
	},
}

func drawCase(t *rapid.T) *propertyCase {
	d := draw{t}
	c := &propertyCase{tables: drawTables(d)}
	rows := 0
	if d.odds(3) {
		rows = d.int(100, 400) // a document may have so many rows of so many rows
	}
	for _, table := range c.tables {
		if n := d.int(0, 12); n > 0 {
			c.initial = append(c.initial, drawInsert(d, table, n))
		}
		if rows > 0 {
			if many := drawMany(d, table, rows); many != "" {
				c.initial = append(c.initial, many)
			}
		}
	}
	c.indices = drawIndices(d, c.tables, rows)
	for i := range d.int(1, 3) {
		r := propertyRound{args: []string{"run"}}
		r.moment = one(d, []string{"following the slot", "", "tidemark starts", "made a physical index", "stored a chunk", "index is complete"})
		if i > 0 {
			r.before = drawTransactions(d, c.tables, d.int(0, 20))
			if d.odds(3) {
				r.args = append(r.args, "--reindex", "all")
			}
		}
		r.calm = d.odds(2)
		r.during = drawTransactions(d, c.tables, d.int(1, 40))
		r.pause = time.Duration(d.int(0, 40)) * time.Millisecond
		r.wait = time.Duration(d.int(0, 900)) * time.Millisecond
		r.cut = d.odds(4)
		if d.odds(3) {
			var names []string
			for name := range propertyFaults {
				names = append(names, name)
			}
			slices.Sort(names)
			r.fault = one(d, names)
		}
		c.rounds = append(c.rounds, r)
	}
	c.last = drawTransactions(d, c.tables, d.int(1, 15))
	return c
}

// drawAlteredCase draws a case with migrations. What the mapping does not fit in the middle of comes
// only while an instance runs that all indices were complete in: none begins with that.
func drawAlteredCase(t *rapid.T) *propertyCase {
	c := drawCase(t)
	c.altered = true
	a := &alterer{draw: draw{t}, tables: c.tables}
	for i := range c.rounds {
		r := &c.rounds[i]
		if i > 0 {
			r.before = a.into(r.before, a.int(0, 4), false)
		}
		r.during = a.into(r.during, a.int(1, 6), r.calm)
	}
	c.last = a.into(c.last, a.int(1, 4), false)
	return c
}

func (c *propertyCase) statements() []string {
	all := []string{types}
	for _, t := range c.tables {
		all = append(all, t.statements()...)
	}
	for _, t := range c.tables {
		all = append(all, t.foreignKeys()...)
	}
	return all
}

// String returns the case as somebody would go through it by hand.
func (c *propertyCase) String() string {
	var b strings.Builder
	for _, s := range c.statements() {
		fmt.Fprintf(&b, "%s;\n", s)
	}
	if c.kafka {
		b.WriteString("-- operations go through Kafka, to one worker\n")
	}
	b.WriteString("SET session_replication_role = replica;\n")
	for _, s := range c.initial {
		fmt.Fprintf(&b, "%s;\n", s)
	}
	for _, ix := range c.indices {
		fmt.Fprintf(&b, "-- index %s: %s\n-- wants: %s\n", ix.name, ix.text(), ix.query)
	}
	write := func(all []transaction) {
		for _, t := range all {
			fmt.Fprintf(&b, "%s\n", t)
		}
	}
	for _, r := range c.rounds {
		write(r.before)
		moment := fmt.Sprintf("%q", r.moment)
		if r.calm {
			moment = "all indices are complete"
		}
		fmt.Fprintf(&b, "-- %s, killed %s after %s, %s between transactions, %s", strings.Join(r.args, " "), r.wait, moment, r.pause, r.fault)
		if r.cut {
			b.WriteString(", its connections to Postgres are cut halfway")
		}
		b.WriteString("\n")
		write(r.during)
	}
	b.WriteString("-- run\n")
	write(c.last)
	return b.String()
}

// GoString is what rapid prints with every attempt.
func (c *propertyCase) GoString() string {
	return fmt.Sprintf("%d tables, %d indices, %d rounds", len(c.tables), len(c.indices), len(c.rounds))
}

func (ix *propertyIndex) text() string {
	text, err := json.Marshal(ix.yaml)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// propertyCounts tells what was tried.
type propertyCounts struct {
	cases, tables, kills, backfilling, faults, cuts, committed, rolled, lost int
	altered                                                                  map[string]int
}

func (n *propertyCounts) String() (text string) {
	if n.altered != nil {
		defer func() { text += "; alterations: " + altered(n.altered) }()
	}
	return fmt.Sprintf("%d schemas of %d tables: %d transactions committed, %d rolled back, %d met another one; killed %d times, %d of them before all indices were complete; %d requests failed, connections cut %d times",
		n.cases, n.tables, n.committed, n.rolled, n.lost, n.kills, n.backfilling, n.faults, n.cuts)
}

// run goes through a case.
func (c *propertyCase) run(t testing.TB, total *propertyCounts) {
	total.cases++
	total.tables += len(c.tables)
	s := newSetup(t, shared(t))
	if c.kafka {
		s.throughKafka(t, 1)
	}
	s.db.Exec(t, c.statements()...)
	s.db.Exec(t, append([]string{"SET session_replication_role = replica"}, c.initial...)...)
	for _, ix := range c.indices {
		s.indices[ix.name], s.tables[ix.name] = ix.text(), ix.name
		s.options[ix.name] = []testenv.CheckOption{testenv.WithQuery(ix.query)}
		if ix.routed {
			s.options[ix.name] = append(s.options[ix.name], testenv.WithRouting("its own"))
		}
	}
	var proxy *testenv.SearchProxy
	if slices.ContainsFunc(c.rounds, func(r propertyRound) bool { return r.fault != "" }) {
		proxy = s.search.NewProxy(t)
		s.searchURL = proxy.URL
	}
	w := newPropertyWriter(t, s.db.URL)
	defer func() {
		total.committed, total.rolled, total.lost = total.committed+w.committed, total.rolled+w.rolled, total.lost+w.lost
		if c.altered && total.altered == nil {
			total.altered = make(map[string]int)
		}
		for kind, n := range w.altered {
			total.altered[kind] += n
		}
	}()
	for _, r := range c.rounds {
		w.pause = 0
		must(t, w.run(t.Context(), r.before))
		var fault *testenv.Fault
		if r.fault != "" {
			fault = proxy.Inject(propertyFaults[r.fault]())
		}
		i := s.start(t, r.args...)
		w.pause = r.pause
		if r.calm {
			s.awaitComplete(t, i)
		}
		written := make(chan error, 1)
		go func() { written <- w.run(t.Context(), r.during) }()
		if r.moment != "" && !r.calm {
			i.mayLog(t, r.moment, 3*time.Second)
		}
		wait := func(d time.Duration) {
			select {
			case <-time.After(d):
			case <-i.ended:
			}
		}
		wait(r.wait / 2)
		if r.cut {
			i.mayLog(t, "following the slot", 5*time.Second) // before that it may end
			w.cutOthers(t, s.db.DB)
			total.cuts++
		}
		wait(r.wait / 2)
		select {
		case <-i.ended:
			<-written
			t.Fatalf("it has ended by itself: %s:\n%s", i.outcome(), i.tail(60))
		default:
		}
		i.kill()
		total.kills++
		if complete, err := s.complete(t.Context()); err != nil || !complete {
			total.backfilling++
		}
		must(t, <-written)
		if fault != nil {
			total.faults += fault.Hits()
			fault.Lift()
		}
	}
	i := s.start(t, "run")
	w.pause = 0
	must(t, w.run(t.Context(), c.last))
	defer s.kafka.stop(t) // it has lived through all of that
	if c.altered {        // nothing tells when the last one is seen, but the documents
		i.awaitLog(t, "following the slot") // an orderly end begins with that
		s.awaitEqual(t, i)
		i.stop(t)
		s.once(t)
		s.checkSynced(t)
		return
	}
	s.awaitCaughtUp(t, i)
	if slices.ContainsFunc(c.tables, func(t *propertyTable) bool { return t.partitioned }) {
		i.stop(t)
		s.once(t) // which looks at them before it ends, an instance does every 30 s
		s.checkSynced(t)
		return
	}
	s.checkSynced(t)
	i.stop(t)
}

// A caseTB is the testing.TB of one case: what fails there does not fail the test yet, and
// what is to be cleaned up is when the case is at its end.
type caseTB struct {
	testing.TB

	mu       sync.Mutex
	failed   bool
	output   []string
	cleanups []func()
}

// runCase runs a case to its end.
func runCase(t testing.TB, c *propertyCase, total *propertyCounts) *caseTB {
	b := &caseTB{TB: t}
	var running sync.WaitGroup
	running.Go(func() {
		defer b.end()
		c.run(b, total)
	})
	running.Wait()
	return b
}

// end cleans up, latest first.
func (b *caseTB) end() {
	for len(b.cleanups) > 0 {
		last := b.cleanups[len(b.cleanups)-1]
		b.cleanups = b.cleanups[:len(b.cleanups)-1]
		last()
	}
}

func (b *caseTB) Cleanup(f func()) { b.cleanups = append(b.cleanups, f) }

func (b *caseTB) log(failed bool, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = b.failed || failed
	b.output = append(b.output, strings.TrimRight(text, "\n"))
}

func (b *caseTB) Failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

func (b *caseTB) Log(args ...any)                   { b.log(false, fmt.Sprintln(args...)) }
func (b *caseTB) Logf(format string, args ...any)   { b.log(false, fmt.Sprintf(format, args...)) }
func (b *caseTB) Error(args ...any)                 { b.log(true, fmt.Sprintln(args...)) }
func (b *caseTB) Errorf(format string, args ...any) { b.log(true, fmt.Sprintf(format, args...)) }
func (b *caseTB) Fail()                             { b.log(true, "") }
func (b *caseTB) FailNow()                          { b.Fail(); runtime.Goexit() }
func (b *caseTB) Fatal(args ...any)                 { b.Error(args...); runtime.Goexit() }
func (b *caseTB) Fatalf(format string, args ...any) { b.Errorf(format, args...); runtime.Goexit() }
