package search

import "math"

// A trial compares two numbers of requests at a time, by batches that are written with the one and
// the other in turn: whatever else makes the server faster or slower meanwhile concerns both. It
// ends as soon as the difference is clear beside how much the pairs differ among each other.
//
// One trial follows the other until no number nearby is better; then there are fewer and fewer of
// them, until the server's speed changes.
type trial struct {
	other int // what is tried; 0: no trial is under way

	pairs        int
	sum, squares float64 // of the pairs: log of how many times as fast the other number is
	spread       float64 // variance of pairs, of the trials before
	half         float64 // log of the rate of the first batch of a pair; of which there is one where halves is odd
	halves       int

	step  int // which number is tried next, see candidate
	wait  int // batches before that
	pause int // batches between two trials: none until all steps were in vain

	usual float64 // log of the rate without a trial
	seen  int     // how many batches that stands for, up to usually
	odd   int     // batches in a row that were much faster than that, or, negative, much slower
}

const (
	firstTrial = 24  // batches before the first trial: the server is cold, and a short run is not worth it
	firstPause = 16  // batches between two trials when none was won lately
	lastPause  = 256 // the same, after doubling; a trial in vain costs a batch or two
	minPairs   = 2
	maxPairs   = 16

	clearFrom    = 2.0  // standard errors: a difference is clear
	firstSpread  = 0.01 // variance of pairs: they differ by a tenth or so
	spreadWeight = 8    // pairs: how much the trials before count
	leastGain    = 0.05 // log of a gain that more requests have to bring: each costs the server something, such as writing its log to disk
	mostGain     = 1.0  // log; a pair that differs by more says no more than that

	usually = 16   // batches over which the usual rate is a mean
	oddFrom = 0.25 // log: the server is a quarter faster or slower
	oddFor  = 6    // batches in a row, and it is not by chance
)

func newTrial() trial { return trial{wait: firstTrial, spread: firstSpread} }

// steps are the numbers that are tried in turn: much more, much less, and if neither is better
// what is near.
const steps = 4

// candidate returns the number that a step leads to, 0 if it leads nowhere.
func candidate(step, now int) int {
	switch step {
	case 0:
		return 2 * now
	case 1:
		return now / 2
	case 2:
		return now + now/2
	default:
		return now - (now+2)/4
	}
}

// number returns by how many requests at a time the next batch is to be written, which is worth
// so many. now is the number in use.
func (t *trial) number(now, most, worth int) int {
	if t.other == 0 && t.wait == 0 {
		for range steps {
			if c := min(candidate(t.step, now), most, worth); c > 0 && c != now {
				t.other = c
				break
			}
			t.step = (t.step + 1) % steps
		}
		if t.other == 0 {
			t.wait = firstPause
		}
	}
	if t.isOther() && t.other <= worth {
		return t.other
	}
	return now
}

// isOther reports whether the other number is next: the pairs are now and other, other and now.
func (t *trial) isOther() bool {
	turn := t.halves % 4
	return t.other > 0 && (turn == 1 || turn == 2)
}

// measured takes the rate, in whatever unit, of a batch that was written by so many requests at a
// time, and returns the number to use from here on.
func (t *trial) measured(now, requests int, rate float64) int {
	rate = math.Log(rate)
	if requests == now {
		t.watch(rate)
	}
	if t.other == 0 {
		t.wait = max(0, t.wait-1)
		return now
	}
	if t.isOther() != (requests == t.other) {
		return now // too small a batch for the other number
	}
	if t.halves++; t.halves%2 == 1 {
		t.half = rate
		return now
	}
	gain := rate - t.half
	if requests == now {
		gain = -gain
	}
	gain = min(max(gain, -mostGain), mostGain)
	t.pairs++
	t.sum += gain
	t.squares += gain * gain
	if t.pairs < minPairs {
		return now
	}
	n := float64(t.pairs)
	mean := t.sum / n
	// A few pairs may be alike by chance, so those of the trials before count, too.
	spread := (spreadWeight*t.spread + max(0, t.squares-n*mean*mean)) / (spreadWeight + n - 1)
	unsure := clearFrom * math.Sqrt(spread/n)
	// Each request costs the server something, so that more of them have to bring more than chance.
	worth := 0.0
	if t.other > now {
		worth = leastGain
	}
	won, lost := mean-unsure > worth, mean+unsure < worth || t.pairs == maxPairs
	if won || lost {
		t.spread = spread
	}
	if won {
		now = t.other
		t.step %= 2 // on in this direction
		t.pause = 0
		t.end()
	} else if lost {
		t.lose()
	}
	return now
}

// lose ends a trial in vain.
func (t *trial) lose() {
	if t.step++; t.step == steps {
		t.step = 0
		t.pause = min(max(firstPause, 2*t.pause), lastPause)
	}
	t.end()
}

// end ends a trial.
func (t *trial) end() {
	t.other, t.pairs, t.sum, t.squares, t.halves = 0, 0, 0, 0, 0
	t.wait = t.pause
}

// watch has trials begin anew where the server's speed has changed.
func (t *trial) watch(rate float64) {
	switch off := rate - t.usual; {
	case t.seen < oddFor || math.Abs(off) < oddFrom:
		t.odd = 0
		t.seen = min(t.seen+1, usually)
		t.usual += off / float64(t.seen)
		return
	case off > 0:
		t.odd = max(t.odd, 0) + 1
	default:
		t.odd = min(t.odd, 0) - 1
	}
	if t.odd == oddFor || t.odd == -oddFor {
		t.usual, t.seen, t.odd = rate, 1, 0
		t.pause, t.step = 0, 0
		if t.other == 0 {
			t.wait = 0
		}
	}
}
