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
	Topics  []topicPage `json:"topics,omitempty"` // absent where operations go to the cluster

	Problems []string `json:"problems"` // what waits for somebody, and holds nothing back

	DeadLetters []LetterPage `json:"dead_letters"` // the first of them
	Events      []Event      `json:"events"`       // the newest first
}

// A LetterPage is what is said of a dead letter as JSON, by the keys of tidemark dead-letters list
// --json.
type LetterPage struct {
	Row       int64     `json:"row"`
	Index     string    `json:"index"`
	Physical  string    `json:"physical"`
	ID        string    `json:"id"`
	Routing   string    `json:"routing,omitempty"`
	Operation string    `json:"operation"` // index or delete
	Version   string    `json:"version"`   // the position in the log
	Status    int       `json:"status"`
	Type      string    `json:"type"`
	Reason    string    `json:"reason"`
	Attempts  int       `json:"attempts"`
	CreatedAt time.Time `json:"created_at"`
}

func (l *Letter) page() LetterPage {
	p := LetterPage{Row: l.Row, Index: l.Index, Physical: l.Physical, ID: l.ID, Routing: l.Routing, Operation: "index", Version: l.Position,
		Status: l.Status, Type: l.Type, Reason: l.Reason, Attempts: l.Attempts, CreatedAt: l.CreatedAt.UTC()}
	if l.Delete {
		p.Operation = "delete"
	}
	return p
}

type slotPage struct {
	Name              string     `json:"name"`
	Connected         bool       `json:"connected"`
	ConfirmedPosition string     `json:"confirmed_position"`
	LagBytes          *int64     `json:"lag_bytes,omitempty"`
	LagSeconds        *float64   `json:"lag_seconds,omitempty"` // for how long what is not stored has been in the log
	NewestCommitAt    *time.Time `json:"newest_commit_at,omitempty"`
	WALStatus         string     `json:"wal_status,omitempty"`     // as Postgres has it
	WALKeptBytes      *int64     `json:"wal_kept_bytes,omitempty"` // of the log, for the slot
	WALLeftBytes      *int64     `json:"wal_left_bytes,omitempty"` // until the server gives the slot up; absent where it never does
}

// An IndexPage is what is said of one index as JSON. The rows are those of the backfill under
// way, or of the last one.
type IndexPage struct {
	Index            string  `json:"index"` // the alias
	State            State   `json:"state"`
	Physical         string  `json:"physical,omitempty"`
	Building         string  `json:"building,omitempty"`
	Documents        *int64  `json:"documents,omitempty"` // that searchers see
	Rows             *int64  `json:"rows,omitempty"`      // of its tables, as the catalog estimates them
	DeadLetters      int64   `json:"dead_letters"`
	RowsDone         int64   `json:"rows_done"`
	RowsExpected     *int64  `json:"rows_expected,omitempty"`
	RowsPerSecond    float64 `json:"rows_per_second,omitempty"`
	RemainingSeconds *int64  `json:"remaining_seconds,omitempty"`

	Proof  *ProofPage  `json:"proof,omitempty"`
	FanOut *FanOutPage `json:"fan_out,omitempty"` // absent where nothing is to be stored again

	Rate      *RatePage `json:"rate,omitempty"`       // of a running instance
	LastError *Event    `json:"last_error,omitempty"` // the last warning or error that names the index
}

// A RatePage is how much was written of an index lately: changes that the stream has brought, and rows
// of backfills.
type RatePage struct {
	Seconds   int       `json:"seconds"`    // that each value is the mean of
	PerSecond []float64 `json:"per_second"` // the oldest first
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

// A topicPage is what is said of the topic that operations go through.
type topicPage struct {
	Name    string `json:"name"`
	Group   string `json:"group"`
	Cluster string `json:"cluster,omitempty"` // absent: the first
	Lag     *int64 `json:"lag,omitempty"`     // operations that are not applied
	Workers int    `json:"workers"`

	Problems []string `json:"problems,omitempty"` // of a cluster beside the first, which hold up no other
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

// page returns what is said of a status as JSON. What it does not know itself, events and rates, is
// added by the server.
func (s *Status) page() page {
	p := page{
		Version: s.Version, Product: s.Product, Failure: s.Failure,
		Slot:    slotPage{Name: s.Slot, Connected: s.Connected, ConfirmedPosition: s.Confirmed.String()},
		Indices: []IndexPage{}, Alarms: []alarmPage{}, Problems: []string{}, DeadLetters: []LetterPage{}, Events: []Event{},
		Bulk: bulkPage{Requests: s.Bulk.RequestsAtATime, RequestBytes: s.Bulk.RequestBytes, RejectedRequests: s.Bulk.Rejected},
	}
	if lag, known := s.Lag(); known {
		p.Slot.LagBytes = &lag
	}
	for _, t := range s.Topics {
		p.Topics = append(p.Topics, topicPage{Name: t.Name, Group: t.Group, Cluster: t.Cluster, Lag: unlessNegative(t.Lag), Workers: t.Workers, Problems: t.Problems})
	}
	if s.Behind >= 0 {
		behind := s.Behind.Seconds()
		p.Slot.LagSeconds = &behind
	}
	if !s.WAL.At.IsZero() {
		p.Slot.WALStatus, p.Slot.WALKeptBytes, p.Slot.WALLeftBytes = s.WAL.Status, &s.WAL.Kept, unlessNegative(s.WAL.Left)
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
	for i := range s.Letters {
		p.DeadLetters = append(p.DeadLetters, s.Letters[i].page())
	}
	alarms := s.Alarms
	if s.Hang != nil {
		alarms = append([]Alarm{*s.Hang}, alarms...)
	}
	for _, a := range alarms {
		p.Alarms = append(p.Alarms, alarmPage{Reason: a.Key, Text: a.Text, Since: a.Since.UTC()})
	}
	return p
}

func (i *Index) page() IndexPage {
	p := IndexPage{Index: i.Name, State: i.State, Physical: i.Physical, Building: i.Building, Documents: unlessNegative(i.Documents), Rows: unlessNegative(i.Rows), DeadLetters: i.DeadLetters, RowsDone: i.RowsDone, Proof: i.Proof.Page(), FanOut: NewFanOutPage(i.FanOut)}
	if i.RowsExpected >= 0 {
		p.RowsExpected = &i.RowsExpected
	}
	if i.Building != "" {
		p.Expect(i.RowsPerSecond)
	}
	return p
}

// unlessNegative returns nil for what is not known.
func unlessNegative(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}
