package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

func planText(seed uint64, number int, kinds []*kind) string {
	var b bytes.Buffer
	printPlan(&b, drawRound(seed, number, kinds))
	return b.String()
}

// TestPlanOfASeed draws rounds twice, in another order: they are the same, and those of another
// seed or number are others.
func TestPlanOfASeed(t *testing.T) {
	all := kinds(true)
	first := make(map[int]string)
	for n := 1; n <= 20; n++ {
		first[n] = planText(7, n, all)
	}
	for n := 20; n >= 1; n-- {
		if got := planText(7, n, kinds(true)); got != first[n] {
			t.Errorf("round %d is another one the second time:\n%s\n%s", n, first[n], got)
		}
		if planText(8, n, all) == first[n] {
			t.Errorf("round %d is the same with another seed", n)
		}
	}
	_, one, _ := strings.Cut(first[1], "\n")
	_, two, _ := strings.Cut(first[2], "\n")
	if one == two {
		t.Error("two rounds are the same")
	}
}

// TestDrawnRounds looks at many rounds: every kind comes, its end is after its begin, and what
// takes a round as it is comes alone.
func TestDrawnRounds(t *testing.T) {
	all := kinds(true)
	drawn := make(map[string]int)
	altered := make(map[string]bool)
	for n := range 1000 {
		r := drawRound(3, n, all)
		heavy := 0
		for i := range r.faults {
			f := &r.faults[i]
			drawn[f.kind.name]++
			altered[f.text] = true
			if f.kind.heavy {
				heavy++
			}
			if f.at < 0 || f.at > span || (f.kind.end != nil) != (f.lasts > 0) {
				t.Errorf("round %d: %s: it begins or ends at no good time", n, f)
			}
		}
		if heavy > 1 {
			t.Errorf("round %d has %d heavy faults", n, heavy)
		}
		for w, all := range r.writers {
			if len(all) == 0 {
				t.Errorf("round %d: writer %d has nothing to do", n, w)
			}
		}
	}
	for _, k := range all {
		if drawn[k.name] == 0 {
			t.Errorf("%s is never drawn", k.name)
		}
	}
	for _, a := range alterations {
		if !altered[a.name] {
			t.Errorf("never drawn: %s", a.name)
		}
	}
}

func TestChooseKinds(t *testing.T) {
	for _, test := range []struct {
		only, without, want string // names, or what the error says
	}{
		{"kill,late", "", "kill,late"},
		{"late,kill,cut", "cut", "kill,late"},
		{"kill,thunder", "", `no fault "thunder"`},
		{"", "thunder", `no fault "thunder"`},
	} {
		found, err := options{faults: test.only, without: test.without}.chooseKinds()
		var names []string
		for _, k := range found {
			names = append(names, k.name)
		}
		if got := strings.Join(names, ","); err == nil && got != test.want || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("only %q without %q: %s, %v", test.only, test.without, got, err)
		}
	}
	found, err := options{without: "slot-dropped"}.chooseKinds()
	if err != nil || len(found) != len(kinds(false))-1 {
		t.Errorf("all but one are %d of %d, %v", len(found), len(kinds(false)), err)
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-seed", "18446744073709551615", "-minutes", "0.5", "-engine", "elasticsearch8", "-kafka", "-faults", "kill", "-round", "3"}, io.Discard)
	want := "make chaos SEED=18446744073709551615 MINUTES=0.5 ENGINE=elasticsearch8 ARGS='-kafka -faults kill -round 3'"
	if err != nil || o.length != 30*time.Second || o.repeat() != want {
		t.Errorf("%v, %s, %v", o.length, o.repeat(), err)
	}
	a, errA := parse([]string{"-seed", ""}, io.Discard)
	b, errB := parse(nil, io.Discard)
	if errA != nil || errB != nil || a.seed == b.seed {
		t.Errorf("without a seed: %d and %d (%v, %v)", a.seed, b.seed, errA, errB)
	}
	for _, args := range [][]string{{"-seed", "seven"}, {"-seed", "-1"}, {"-minutes", "0"}, {"-engine", "solr"}, {"-engine", "opensearch,elasticsearch7"}, {"-faults", "thunder"}, {"-round", "0"}, {"more"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// TestPlannedStatements makes changes of several rounds, with alterations in between: none is
// refused for a reason that the plan has not thought of.
func TestPlannedStatements(t *testing.T) {
	db := testenv.NewDatabase(t)
	db.Exec(t, schema...)
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	exec := func(statement string) error {
		_, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	made := 0
	for n := range 3 {
		r := drawRound(5, n, kinds(false))
		for w, all := range r.writers {
			writer := writer{url: db.URL}
			if err := writer.run(t.Context(), slices.Collect(withoutPauses(all))); err != nil {
				t.Fatalf("round %d, writer %d: %v", n, w, err)
			}
			made += writer.made
			if writer.skipped > len(all)/10 || writer.repeated > 0 {
				t.Errorf("round %d, writer %d: of %d transactions %d are left out, %d tried again", n, w, len(all), writer.skipped, writer.repeated)
			}
			for _, a := range alterations[w*5 : min(w*5+5, len(alterations))] {
				for _, statement := range []string{a.statement, a.after} {
					if err := exec(statement); err != nil {
						t.Errorf("%s: %v", a.name, err)
					}
				}
			}
		}
	}
	if made < 500 {
		t.Errorf("only %d transactions were made", made)
	}
	for _, table := range []string{"things", "events_1", "events_2", "lines", "events"} {
		if err := exec(fmt.Sprintf("SELECT FROM %s LIMIT 1", table)); err != nil {
			t.Errorf("after all: %v", err)
		}
	}
}

func withoutPauses(all transactions) func(func(transaction) bool) {
	return func(yield func(transaction) bool) {
		for _, t := range all {
			t.pause = 0
			if !yield(t) {
				return
			}
		}
	}
}
