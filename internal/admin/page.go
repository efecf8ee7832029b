package admin

import "time"

// A page is what /status answers. docs/reindex.md describes it.
type page struct {
	Version string      `json:"version"`
	Product string      `json:"product"`
	Failure string      `json:"failure"` // "" while the process can go on
	Slot    slotPage    `json:"slot"`
	Indices []indexPage `json:"indices"`
	Alarms  []alarmPage `json:"alarms"`
}

type slotPage struct {
	Name         string     `json:"name"`
	Connected    bool       `json:"connected"`
	Confirmed    string     `json:"confirmed"`
	LagBytes     *int64     `json:"lag_bytes,omitempty"`
	NewestCommit *time.Time `json:"newest_commit,omitempty"`
}

type indexPage struct {
	Name          string  `json:"name"`
	State         State   `json:"state"`
	Physical      string  `json:"physical,omitempty"`
	Building      string  `json:"building,omitempty"`
	DeadLetters   int64   `json:"dead_letters"`
	RowsDone      int64   `json:"rows_done"`
	RowsTotal     *int64  `json:"rows_total,omitempty"`
	RowsPerSecond float64 `json:"rows_per_second,omitempty"`
	SecondsLeft   *int64  `json:"seconds_left,omitempty"`
}

type alarmPage struct {
	Reason string    `json:"reason"`
	Text   string    `json:"text"`
	Since  time.Time `json:"since"`
}

func (s *Status) page() page {
	p := page{
		Version: s.Version, Product: s.Product, Failure: s.Failure,
		Slot:    slotPage{Name: s.Slot, Connected: s.Connected, Confirmed: s.Confirmed.String()},
		Indices: []indexPage{}, Alarms: []alarmPage{},
	}
	if lag, known := s.Lag(); known {
		p.Slot.LagBytes = &lag
	}
	if !s.NewestCommit.IsZero() {
		at := s.NewestCommit.UTC()
		p.Slot.NewestCommit = &at
	}
	for _, ix := range s.Indices {
		i := indexPage{Name: ix.Name, State: ix.State, Physical: ix.Physical, Building: ix.Building, DeadLetters: ix.DeadLetters, RowsDone: ix.RowsDone, RowsPerSecond: ix.RowsPerSecond}
		if ix.RowsTotal >= 0 {
			i.RowsTotal = &ix.RowsTotal
		}
		if left, known := ix.Left(); known {
			seconds := int64(left.Seconds())
			i.SecondsLeft = &seconds
		}
		p.Indices = append(p.Indices, i)
	}
	for _, a := range s.Alarms {
		p.Alarms = append(p.Alarms, alarmPage{Reason: a.Key, Text: a.Text, Since: a.Since.UTC()})
	}
	return p
}
