package admin

import (
	"time"

	"tidemark/reindex/control"
)

// A page is what /status answers. docs/reindex.md describes it, and what tidemark status --json
// prints beside it: what is the same in both has the same key.
type page struct {
	Version string      `json:"version"`
	Product string      `json:"product"`
	Failure string      `json:"failure"` // "" while the process can go on
	Slot    slotPage    `json:"slot"`
	Indices []IndexPage `json:"indices"`
	Alarms  []alarmPage `json:"alarms"`
	Bulk    bulkPage    `json:"bulk"`

	Problems []string `json:"problems"` // what waits for somebody, and holds nothing back
}

type slotPage struct {
	Name              string     `json:"name"`
	Connected         bool       `json:"connected"`
	ConfirmedPosition string     `json:"confirmed_position"`
	LagBytes          *int64     `json:"lag_bytes,omitempty"`
	NewestCommitAt    *time.Time `json:"newest_commit_at,omitempty"`
}

// An IndexPage is what is said of one index as JSON. The rows are those of the backfill under
// way, or of the last one.
type IndexPage struct {
	Index            string  `json:"index"` // the alias
	State            State   `json:"state"`
	Physical         string  `json:"physical,omitempty"`
	Building         string  `json:"building,omitempty"`
	DeadLetters      int64   `json:"dead_letters"`
	RowsDone         int64   `json:"rows_done"`
	RowsExpected     *int64  `json:"rows_expected,omitempty"`
	RowsPerSecond    float64 `json:"rows_per_second,omitempty"`
	RemainingSeconds *int64  `json:"remaining_seconds,omitempty"`

	Proof  *ProofPage  `json:"proof,omitempty"`
	FanOut *FanOutPage `json:"fan_out,omitempty"` // absent where nothing is to be stored again
}

// A FanOutPage is what has to be stored again of an index, since related rows have changed that are
// in very many documents.
type FanOutPage struct {
	RelatedRows     int64     `json:"related_rows"` // whose documents are not all stored
	Since           time.Time `json:"since"`
	DocumentsStored int64     `json:"documents_stored"` // by the passes under way
}

// NewFanOutPage returns what is said of s, nil where there is nothing.
func NewFanOutPage(s control.FanOutSum) *FanOutPage {
	if s.Related == 0 {
		return nil
	}
	return &FanOutPage{RelatedRows: s.Related, Since: s.Since.UTC(), DocumentsStored: s.Stored}
}

// Expect has the backfill under way go on at so many rows a second.
func (p *IndexPage) Expect(rowsPerSecond float64) {
	if rowsPerSecond <= 0 {
		return
	}
	p.RowsPerSecond = rowsPerSecond
	if p.RowsExpected != nil {
		seconds := int64(float64(max(0, *p.RowsExpected-p.RowsDone)) / rowsPerSecond)
		p.RemainingSeconds = &seconds
	}
}

// A bulkPage is how much the search server is given.
type bulkPage struct {
	Requests         int   `json:"requests"` // at a time, at the moment
	RequestBytes     int   `json:"request_bytes"`
	RejectedRequests int64 `json:"rejected_requests"` // since the start of the process
}

type alarmPage struct {
	Reason string    `json:"reason"`
	Text   string    `json:"text"`
	Since  time.Time `json:"since"`
}

func (s *Status) page() page {
	p := page{
		Version: s.Version, Product: s.Product, Failure: s.Failure,
		Slot:    slotPage{Name: s.Slot, Connected: s.Connected, ConfirmedPosition: s.Confirmed.String()},
		Indices: []IndexPage{}, Alarms: []alarmPage{}, Problems: []string{},
		Bulk: bulkPage{Requests: s.Bulk.RequestsAtATime, RequestBytes: s.Bulk.RequestBytes, RejectedRequests: s.Bulk.Rejected},
	}
	if lag, known := s.Lag(); known {
		p.Slot.LagBytes = &lag
	}
	if !s.NewestCommit.IsZero() {
		at := s.NewestCommit.UTC()
		p.Slot.NewestCommitAt = &at
	}
	for i := range s.Indices {
		p.Indices = append(p.Indices, s.Indices[i].page())
		if problem := s.Indices[i].Proof.Problem(); problem != "" {
			p.Problems = append(p.Problems, problem)
		}
	}
	for _, a := range s.Alarms {
		p.Alarms = append(p.Alarms, alarmPage{Reason: a.Key, Text: a.Text, Since: a.Since.UTC()})
	}
	return p
}

func (i *Index) page() IndexPage {
	p := IndexPage{Index: i.Name, State: i.State, Physical: i.Physical, Building: i.Building, DeadLetters: i.DeadLetters, RowsDone: i.RowsDone, Proof: i.Proof.Page(), FanOut: NewFanOutPage(i.FanOut)}
	if i.RowsExpected >= 0 {
		p.RowsExpected = &i.RowsExpected
	}
	if i.Building != "" {
		p.Expect(i.RowsPerSecond)
	}
	return p
}
