package admin

import (
	"encoding/json"
	"testing"
	"time"

	"tidemark/reindex/control"
)

func TestProofSummary(t *testing.T) {
	at := time.Date(2026, 11, 27, 2, 13, 59, 0, time.Local)
	last := func(w control.Walk) control.Walk {
		w.Number, w.BeganAt, w.FinishedAt = 1, at, at.Add(time.Hour)
		return w
	}
	doubt := control.Doubt{Since: at, Noted: at, Why: "its table has another file"}
	for _, test := range []struct {
		name  string
		proof Proof
		want  string
	}{
		{"nothing is known", Proof{}, "not compared with its tables yet"},
		{"just filled", Proof{FilledAt: at}, "filled 2026-11-27 02:13, not compared with its tables since"},
		{"equal", Proof{Proof: control.Proof{Last: last(control.Walk{Rows: 1, Documents: 1_234_567})}}, "equal to its tables as of 2026-11-27 02:13 (1 row and 1,234,567 documents compared, 0 differences)"},
		{"repaired", Proof{Proof: control.Proof{Last: last(control.Walk{Rows: 999, Documents: 1000, Found: 1000, Repaired: 1000})}}, "equal to its tables as of 2026-11-27 02:13 (999 rows and 1,000 documents compared, 1,000 differences, repaired)"},
		{"not all could be compared", Proof{Proof: control.Proof{Last: last(control.Walk{Undecided: 2})}}, "equal to its tables as of 2026-11-27 02:13 (0 rows and 0 documents compared, 0 differences; 2 documents changed at every look)"},
		{"different", Proof{Proof: control.Proof{Last: last(control.Walk{Rows: 9, Documents: 9, Found: 3, Repaired: 2})}}, "1 document differs from its tables as of 2026-11-27 02:13 (9 rows and 9 documents compared, 3 differences, 2 repaired)"},
		{"unproven", Proof{Proof: control.Proof{Unproven: doubt, Last: last(control.Walk{})}}, "unproven since 2026-11-27 02:13: its table has another file"},
		{"unproven, and being compared", Proof{Proof: control.Proof{Unproven: doubt, Walk: control.Walk{Number: 1, Rows: 20, Documents: 14, Total: 100, Found: 5}}}, "unproven since 2026-11-27 02:13: its table has another file; being compared, 34 %, 5 differences"},
		{"equal, and being compared", Proof{Proof: control.Proof{Last: last(control.Walk{}), Walk: control.Walk{Number: 2, Rows: 20, Total: -1, Found: 1, Repaired: 1}}}, "equal to its tables as of 2026-11-27 02:13 (0 rows and 0 documents compared, 0 differences); being compared, 1 difference, repaired"},
	} {
		if got := test.proof.Summary(); got != test.want {
			t.Errorf("%s: %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestProofPage(t *testing.T) {
	at := time.Date(2026, 11, 27, 2, 13, 0, 0, time.UTC)
	equal := control.Walk{Number: 1, BeganAt: at, FinishedAt: at.Add(time.Hour), Rows: 10, Documents: 11, Found: 2, Repaired: 2, Undecided: 1}
	left := equal
	left.Repaired = 1
	for _, test := range []struct {
		name  string
		proof Proof
		want  string
	}{
		{"nothing is known", Proof{}, `null`},
		{"just filled", Proof{FilledAt: at}, `{"filled_at":"2026-11-27T02:13:00Z"}`},
		{"equal, and being compared", Proof{Proof: control.Proof{Last: equal, Walk: control.Walk{Number: 2, BeganAt: at.Add(24 * time.Hour), Phase: control.WalkRows, Rows: 5, Total: 20}}},
			`{"equal_as_of":"2026-11-27T02:13:00Z","compared":{"began_at":"2026-11-27T02:13:00Z","finished_at":"2026-11-27T03:13:00Z","rows":10,"documents":11,"differences":2,"repaired":2,"undecided":1},` +
				`"comparing":{"began_at":"2026-11-28T02:13:00Z","phase":"rows","share":0.25,"rows":5,"documents":0,"differences":0,"repaired":0,"undecided":0}}`},
		{"different", Proof{Proof: control.Proof{Last: left}},
			`{"compared":{"began_at":"2026-11-27T02:13:00Z","finished_at":"2026-11-27T03:13:00Z","rows":10,"documents":11,"differences":2,"repaired":1,"undecided":1}}`},
		{"unproven", Proof{Proof: control.Proof{Unproven: control.Doubt{Since: at, Noted: at, Why: "why"}, Last: equal}},
			`{"unproven_since":"2026-11-27T02:13:00Z","unproven_why":"why","compared":{"began_at":"2026-11-27T02:13:00Z","finished_at":"2026-11-27T03:13:00Z","rows":10,"documents":11,"differences":2,"repaired":2,"undecided":1}}`},
	} {
		if got, err := json.Marshal(test.proof.Page()); err != nil || string(got) != test.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", test.name, err, got, test.want)
		}
	}
}
