package progress

import "time"

// rateWindow is how far back a rate looks.
const rateWindow = 30 * time.Second

// A rate remembers how many rows were counted when, over the last rateWindow and one before.
// Of one second there is one sample.
type rate struct{ samples []sample }

type sample struct {
	at   time.Time
	rows int64
}

func newRate(now time.Time) rate { return rate{[]sample{{at: now}}} }

func (r *rate) add(now time.Time, rows int64) {
	last := &r.samples[len(r.samples)-1]
	if len(r.samples) > 1 && now.Sub(last.at) < time.Second {
		last.rows += rows
		return
	}
	r.samples = append(r.samples, sample{now, last.rows + rows})
	for len(r.samples) > 2 && now.Sub(r.samples[1].at) >= rateWindow {
		r.samples = r.samples[1:]
	}
}

// perSecond is how many rows were counted in a second lately; 0 while that is not known. It
// falls while nothing is counted.
func (r *rate) perSecond(now time.Time) float64 {
	first, last := r.samples[0], r.samples[len(r.samples)-1]
	took := now.Sub(first.at).Seconds()
	if took <= 0 {
		return 0
	}
	return float64(last.rows-first.rows) / took
}
