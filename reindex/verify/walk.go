package verify

import (
	"context"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"tidemark/indexer"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/reindex/control"
)

// A Walk is a comparison that may take long, is in no hurry, and is gone on with by another
// process where this one has ended.
type Walk struct {
	Physical string       // the physical index that it is about
	At       control.Walk // how far it is

	// RowsPerSecond bounds how many rows and documents are looked at in a second; 0: no bound.
	RowsPerSecond int

	// Note is called again and again with how far the walk has come: what is before that was
	// compared, decided about and, with Repair, repaired. Its error ends Run.
	Note func(ctx context.Context, at control.Walk) error
}

const (
	// A walk is noted when so many rows and documents were looked at since it was noted last, or
	// after so long. That is also what is looked at again when the process ends in between. To note
	// it all suspects must be decided about, which means to wait for the slot.
	notedRows  = 10_000
	notedAfter = 10 * time.Second

	// walkPage is how many rows a walk reads at a time: one page is not to be felt.
	walkPage = 1000
)

// A pace bounds how fast rows and documents are looked at.
type pace struct{ *rate.Limiter }

// newPace returns the pace of reading rows that both bounds allow, in rows per second; 0: none.
func newPace(bounds ...int) pace {
	slowest := 0
	for _, n := range bounds {
		if n > 0 && (slowest == 0 || n < slowest) {
			slowest = n
		}
	}
	return pace{indexer.Limiter(slowest)}
}

// wait waits until n more may be looked at.
func (p pace) wait(ctx context.Context, n int) error {
	for n > 0 {
		some := n
		if p.Limit() != rate.Inf {
			some = min(n, p.Burst())
		}
		if err := p.WaitN(ctx, some); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// walkRate is the pace of a walk, 0 for a comparison that is none.
func (v *verifier) walkRate() int {
	if v.o.Walk == nil {
		return 0
	}
	return v.o.Walk.RowsPerSecond
}

// pagerOf returns what reads the rows of a source, from where the walk stands on.
func (v *verifier) pagerOf(s *source, number int) *indexer.Pager {
	p := indexer.NewPager(s.rows.RowPlan, nil)
	if v.o.Walk == nil {
		return p
	}
	if v.at.Source == number && slices.Equal(v.at.Key, p.Key) {
		p = indexer.NewPager(s.rows.RowPlan, v.at.Cursor)
	}
	p.MaxRows = min(p.MaxRows, walkPage)
	if perSecond := v.o.Walk.RowsPerSecond; perSecond > 0 {
		p.MaxRows = min(p.MaxRows, perSecond)
	}
	p.NextRows = min(p.NextRows, p.MaxRows)
	v.at.Source, v.at.Key, v.at.Cursor = number, p.Key, indexer.KeyTexts(p.Cursor)
	return p
}

// isNoteDue reports whether enough was looked at to note how far the walk is.
func (v *verifier) isNoteDue() bool {
	return v.o.Walk != nil && (v.at.Rows+v.at.Documents-v.noted.rows >= notedRows || time.Since(v.noted.at) >= notedAfter)
}

// note notes how far the walk is, after everything that is suspect was decided about. A crash
// before costs that what was looked at since the last note is looked at again.
func (v *verifier) note(ctx context.Context) error {
	if v.o.Walk == nil {
		return nil
	}
	if err := v.lookAgain(ctx); err != nil {
		return err
	}
	if err := v.o.Walk.Note(ctx, v.at); err != nil {
		return err
	}
	v.setNoted()
	return nil
}

func (v *verifier) setNoted() { v.noted.rows, v.noted.at = v.at.Rows+v.at.Documents, time.Now() }

// EstimateTotal estimates how many rows and documents a comparison of a physical index looks at;
// -1: that is not known.
func EstimateTotal(ctx context.Context, client *search.Client, ix *mapping.Index, tables catalog.Tables, physical string) int64 {
	total := mapping.EstimatedRows(ix, tables)
	n, err := client.Count(ctx, physical)
	if err != nil || total < 0 {
		return -1 // it is to be shown, and nothing else
	}
	return total + n
}
