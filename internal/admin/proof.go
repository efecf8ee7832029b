package admin

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidemark/reindex/control"
)

// A Proof is what is known of an index's being equal to its tables.
type Proof struct {
	control.Proof
	FilledAt time.Time // when the physical index in use was complete; zero: not known

	// Found and Repaired are how many differences this process has found, and of these repaired.
	Found, Repaired int64
}

// A ProofPage is what is said of a Proof as JSON.
type ProofPage struct {
	EqualAsOf     *time.Time `json:"equal_as_of,omitempty"` // when the last comparison began, if it left no difference
	UnprovenSince *time.Time `json:"unproven_since,omitempty"`
	UnprovenWhy   string     `json:"unproven_why,omitempty"`
	FilledAt      *time.Time `json:"filled_at,omitempty"`
	Compared      *WalkPage  `json:"compared,omitempty"`  // the last comparison that came to its end
	Comparing     *WalkPage  `json:"comparing,omitempty"` // the one under way
}

// A WalkPage is what is said of one comparison.
type WalkPage struct {
	BeganAt     time.Time  `json:"began_at"`
	FinishedAt  *time.Time `json:"finished_at,omitempty"`
	Phase       string     `json:"phase,omitempty"` // rows, then documents
	Share       *float64   `json:"share,omitempty"` // looked at, from 0 to 1
	Rows        int64      `json:"rows"`
	Documents   int64      `json:"documents"`
	Differences int64      `json:"differences"`
	Repaired    int64      `json:"repaired"`
	Undecided   int64      `json:"undecided"`
}

// Page returns what is said of it as JSON, nil if nothing is known.
func (p *Proof) Page() *ProofPage {
	page := &ProofPage{UnprovenWhy: p.Unproven.Why, FilledAt: known(p.FilledAt), UnprovenSince: known(p.Unproven.Since),
		Compared: walkPage(&p.Last), Comparing: walkPage(&p.Walk)}
	if p.isEqual() {
		page.EqualAsOf = known(p.Last.BeganAt)
	}
	if *page == (ProofPage{}) {
		return nil
	}
	return page
}

func known(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC()
	return &at
}

func walkPage(w *control.Walk) *WalkPage {
	if w.Number == 0 {
		return nil
	}
	p := &WalkPage{BeganAt: w.BeganAt.UTC(), FinishedAt: known(w.FinishedAt), Phase: string(w.Phase), Rows: w.Rows, Documents: w.Documents,
		Differences: w.Found, Repaired: w.Repaired, Undecided: w.Undecided}
	if share := w.Share(); share >= 0 && w.UnderWay() {
		p.Share = &share
	}
	return p
}

// isEqual reports whether the last comparison has left no difference, and nothing happened since
// that asks for another one.
func (p *Proof) isEqual() bool {
	return !p.IsUnproven() && p.Last.Number > 0 && p.Last.Left() == 0
}

// Problem says which differences the last comparison has left, "" if none.
func (p *Proof) Problem() string {
	if p.Last.Left() == 0 {
		return ""
	}
	return fmt.Sprintf("index %s: %s from its tables as of %s; hint: tidemark verify %s says which, and with --repair repairs what can be",
		p.Index, counted(p.Last.Left(), "document differs", "documents differ"), clock(p.Last.BeganAt), p.Index)
}

// Summary says in one line when the index was compared with its tables; times are local.
func (p *Proof) Summary() string {
	var b strings.Builder
	l, w := &p.Last, &p.Walk
	switch {
	case p.IsUnproven():
		fmt.Fprintf(&b, "unproven since %s: %s", clock(p.Unproven.Since), p.Unproven.Why)
	case l.Number == 0 && p.FilledAt.IsZero():
		b.WriteString("not compared with its tables yet")
	case l.Number == 0:
		fmt.Fprintf(&b, "filled %s, not compared with its tables since", clock(p.FilledAt))
	case l.Left() > 0:
		fmt.Fprintf(&b, "%s from its tables as of %s (%s)", counted(l.Left(), "document differs", "documents differ"), clock(l.BeganAt), compared(l))
	default:
		fmt.Fprintf(&b, "equal to its tables as of %s (%s)", clock(l.BeganAt), compared(l))
	}
	if w.UnderWay() {
		b.WriteString("; being compared, ")
		if share := w.Share(); share >= 0 {
			fmt.Fprintf(&b, "%.0f %%, ", share*100)
		}
		b.WriteString(differences(w))
	}
	return b.String()
}

// compared says what a comparison has looked at, and what it has found.
func compared(w *control.Walk) string {
	text := fmt.Sprintf("%s and %s compared, %s", counted(w.Rows, "row", "rows"), counted(w.Documents, "document", "documents"), differences(w))
	if w.Undecided > 0 {
		text += fmt.Sprintf("; %s at every look", counted(w.Undecided, "document changed", "documents changed"))
	}
	return text
}

func differences(w *control.Walk) string {
	text := counted(w.Found, "difference", "differences")
	switch {
	case w.Repaired > 0 && w.Left() == 0:
		text += ", repaired"
	case w.Repaired > 0:
		text += ", " + grouped(w.Repaired) + " repaired"
	}
	return text
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// grouped writes a number with commas: 1,000,000.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
