package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// span is how long after the begin of a round its faults begin at the latest.
const span = 12 * time.Second

// A round is what happens until index and database are compared: faults by the clock, and
// changes of rows by several writers. It comes from the seed alone.
type round struct {
	number  int
	faults  []fault               // by when they begin
	writers [writers]transactions // each in a session of its own
}

// A fault is one that was drawn.
type fault struct {
	kind  *kind
	at    time.Duration // after the begin of the round
	lasts time.Duration // until it is lifted; 0: it has no end

	who    string // instance: first, second, or the one that is active or passive then
	side   string // of the instance's connections: postgres or search
	index  string // alias
	status int    // of HTTP
	times  int    // requests that are hit
	amount int    // as the kind says
	large  bool   // it waits for a large bulk request, and comes while that is on its way
	choice bool   // as the kind says
	text   string // as the kind says
}

func (f *fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%5.1fs %s", f.at.Seconds(), f.kind.name)
	if f.lasts > 0 {
		fmt.Fprintf(&b, " for %.1fs", f.lasts.Seconds())
	}
	for _, part := range []struct {
		name  string
		value any
		there bool
	}{
		{"", f.who, f.who != ""}, {"", f.side, f.side != ""}, {"index", f.index, f.index != ""}, {"status", f.status, f.status != 0},
		{"times", f.times, f.times != 0}, {"large", f.large, f.large}, {"amount", f.amount, f.amount != 0}, {"choice", f.choice, f.choice}, {"", f.text, f.text != ""},
	} {
		if part.there {
			b.WriteString(strings.TrimRight(" "+part.name, " "))
			fmt.Fprintf(&b, " %v", part.value)
		}
	}
	return b.String()
}

// drawRound draws round number of a seed, with faults of these kinds. Rounds do not depend on
// each other: a late one can be had without those before it.
func drawRound(seed uint64, number int, kinds []*kind) *round {
	r := &round{number: number}
	d := newDrawer(seed, number, 0)
	weights := 0
	for _, k := range kinds {
		weights += k.weight
	}
	heavy := false
	for range d.between(4, 9) {
		if weights == 0 {
			break
		}
		f := fault{kind: pickKind(kinds, d.IntN(weights)), at: d.time(0, span)}
		if f.kind.draw != nil {
			f.kind.draw(d, &f)
		}
		f.large = f.kind.amid && d.odds(2)
		if f.kind.heavy && heavy {
			continue // one of them takes the round as it is
		}
		heavy = heavy || f.kind.heavy
		r.faults = append(r.faults, f)
	}
	slices.SortStableFunc(r.faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	for w := range r.writers {
		r.writers[w] = drawTransactions(newDrawer(seed, number, w+1), w)
	}
	return r
}

// pickKind returns the kind whose share of all weights n falls into.
func pickKind(kinds []*kind, n int) *kind {
	for _, k := range kinds {
		if n < k.weight {
			return k
		}
		n -= k.weight
	}
	panic("more than the sum of all weights")
}

// lenient reports whether a difference may last for longer than writing takes: a catalog that
// was altered is looked at every ten seconds, and an index that was lost is filled again.
func (r *round) lenient() bool {
	return slices.ContainsFunc(r.faults, func(f fault) bool { return f.kind.lenient })
}

// A drawer draws from a seed.
type drawer struct{ *rand.Rand }

func newDrawer(seed uint64, round, stream int) *drawer {
	return &drawer{rand.New(rand.NewPCG(seed, uint64(round)<<8|uint64(stream)))}
}

// between returns one of least to most.
func (d *drawer) between(least, most int) int { return least + d.IntN(most-least+1) }

// time returns a time in steps of a tenth of a second.
func (d *drawer) time(least, most time.Duration) time.Duration {
	const step = 100 * time.Millisecond
	return least + time.Duration(d.Int64N(int64((most-least)/step)+1))*step
}

func (d *drawer) odds(of int) bool { return d.IntN(of) == 0 }

func one[T any](d *drawer, of ...T) T { return of[d.IntN(len(of))] }
