package admin

import (
	"sync"
	"time"
)

const (
	// historyInterval is how often is looked at how much was written, and historyLooks how many
	// such looks are remembered: those of 15 minutes.
	historyInterval = 5 * time.Second
	historyLooks    = 180
)

// A history remembers how much was written of each index in the last 15 minutes. It is safe for
// concurrent use.
type history struct {
	mu   sync.Mutex
	last map[string]*written
}

// written is how much was written of one index.
type written struct {
	at    time.Time
	total int64     // at the last look
	rates []float64 // a second, between two looks; historyLooks at most
}

// note takes down how much has been written by now.
func (h *history) note(now time.Time, indices []Index) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.last
	h.last = make(map[string]*written, len(indices))
	for _, ix := range indices {
		total := ix.Changes + ix.Filled
		w := before[ix.Name]
		if w == nil {
			h.last[ix.Name] = &written{at: now, total: total}
			continue
		}
		h.last[ix.Name] = w
		took := now.Sub(w.at).Seconds()
		if took <= 0 {
			continue
		}
		w.rates = append(w.rates, float64(max(0, total-w.total))/took)
		w.rates = w.rates[max(0, len(w.rates)-historyLooks):]
		w.at, w.total = now, total
	}
}

// of returns how much was written of an index, nil if it is not known.
func (h *history) of(index string) *RatePage {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.last[index]
	if w == nil {
		return nil
	}
	return &RatePage{Seconds: int(historyInterval / time.Second), PerSecond: append([]float64{}, w.rates...)}
}
