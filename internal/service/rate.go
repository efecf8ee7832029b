package service

import (
	"sync"
	"time"
)

// rateWindow is how far back the rate of a filling looks.
const rateWindow = 30 * time.Second

// rates are how fast the indices are filled that are being filled.
type rates struct {
	mu  sync.Mutex
	now func() time.Time
	of  map[string]*rate
}

// A rate remembers how many rows were stored when, over the last rateWindow and one before.
type rate struct{ samples []sample }

type sample struct {
	at   time.Time
	rows int64
}

func newRates() *rates { return &rates{now: time.Now, of: make(map[string]*rate)} }

// begin is called when the filling of an index begins or goes on.
func (r *rates) begin(index string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of[index] = &rate{samples: []sample{{r.now(), 0}}}
}

// add counts rows that are stored. Of one second there is one sample.
func (r *rates) add(index string, rows int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.of[index]
	if f == nil {
		return
	}
	now, last := r.now(), &f.samples[len(f.samples)-1]
	if len(f.samples) > 1 && now.Sub(last.at) < time.Second {
		last.rows += rows
		return
	}
	f.samples = append(f.samples, sample{now, last.rows + rows})
	for len(f.samples) > 2 && now.Sub(f.samples[1].at) >= rateWindow {
		f.samples = f.samples[1:]
	}
}

// end is called when the filling has ended, in whatever way.
func (r *rates) end(index string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, index)
}

// perSecond is how many rows of an index were stored in a second lately; 0 while that is
// not known. It falls while nothing is stored.
func (r *rates) perSecond(index string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.of[index]
	if f == nil {
		return 0
	}
	first, last := f.samples[0], f.samples[len(f.samples)-1]
	took := r.now().Sub(first.at).Seconds()
	if took <= 0 {
		return 0
	}
	return float64(last.rows-first.rows) / took
}
