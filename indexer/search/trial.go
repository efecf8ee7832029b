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

	usual float64 // log of the rate of the number in use
	seen  int     // how many batches that stands for, up to usually; up to leastOf it is the fastest of them
	odd   float64 // by how much the last batches in a row were faster than that, or, negative, slower: the sum

	// The numbers in use when the speed changed last, and the time before that.
	changedAt, formerly int
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
	mostGain     = 0.3  // log; a pair that differs by more, and more than pairs do, says no more than that: one batch in twenty meets a merge, and takes several times as long

	usually = 16   // batches over which the usual rate is a mean
	leastOf = 3    // batches, before there is a usual rate
	oddFrom = 0.25 // log: a batch is a quarter faster or slower
	oddFor  = 6    // batches in a row that are just that odd, or fewer odder ones, and it is not by chance
	mostOdd = 2    // times oddFrom: a batch that is further off says no more than that
)

func newTrial() trial { return trial{spread: firstSpread, step: tryDouble, wait: firstTrial} }

// The steps are the numbers that are tried in turn: where the speed has changed what was in use
// before it changed the time before, for it may have changed back; then much more, much less, and
// if neither is better what is near.
const (
	tryFormer = iota
	tryDouble
	tryHalf
	tryMore
	tryLess
	steps
)

// candidate returns the number that the step leads to, 0 or now if it leads nowhere.
func (t *trial) candidate(now int) int {
	switch t.step {
	case tryFormer:
		return t.formerly
	case tryDouble:
		return 2 * now
	case tryHalf:
		return now / 2
	case tryMore:
		return now + now/2
	default:
		return now - (now+2)/4
	}
}

// number returns by how many requests at a time the next batch is to be written, which is worth
// so many. now is the number in use.
//
// While batches are odd, be it by chance, no other number has its turn: what is tried may be much
// slower, and a change of speed is noticed sooner without it.
func (t *trial) number(now, most, worth int) int {
	if t.other == 0 && t.wait == 0 {
		for range steps {
			if c := min(t.candidate(now), most, worth); c > 0 && c != now {
				t.other = c
				break
			}
			t.step = max(tryDouble, (t.step+1)%steps)
		}
		if t.other == 0 {
			t.wait, t.halves = firstPause, 0
		}
	}
	if t.isOther() && t.odd == 0 && t.other <= worth {
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
	inTurn := t.odd == 0
	if t.watch(rate, requests != now) {
		t.anew(now, rate)
		return now
	}
	if t.other == 0 {
		t.wait = max(0, t.wait-1)
		return now
	}
	if !inTurn || t.isOther() != (requests == t.other) {
		return now // or too small a batch for the other number
	}
	if t.halves++; t.halves%2 == 1 {
		t.half = rate
		return now
	}
	gain := rate - t.half
	if requests == now {
		gain = -gain
	}
	most := max(mostGain, clearFrom*math.Sqrt(t.spread))
	gain = min(max(gain, -most), most)
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
		t.step = tryDouble // on in this direction
		if t.other < now {
			t.step = tryHalf
		}
		now = t.other
		t.seen, t.odd = 0, 0 // another number has another rate
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
		t.step = tryDouble
		t.pause = min(max(firstPause, 2*t.pause), lastPause)
	}
	t.end()
}

// end ends a trial.
func (t *trial) end() {
	t.other, t.pairs, t.sum, t.squares, t.halves = 0, 0, 0, 0, 0
	t.wait = t.pause
}

// watch takes the rate of a batch by the number in use, or by the other one, and reports whether the
// server's speed has changed. The other one may well be faster; where it is much slower the number
// in use has to tell why.
func (t *trial) watch(rate float64, byOther bool) bool {
	off := rate - t.usual
	odd := max(oddFrom, math.Sqrt(t.spread)) // what differs by as much as pairs do anyway is not odd
	switch {
	case byOther && (t.seen < leastOf || off > -odd):
		return false
	case t.seen < leastOf: // the fastest of the first ones, as what makes one slow may be chance
		if t.seen == 0 || off > 0 {
			t.usual = rate
		}
		t.seen++
		return false
	case math.Abs(off) < odd:
		t.seen = min(t.seen+1, usually)
		t.usual += off / float64(t.seen)
		t.odd = 0
		return false
	case off*t.odd < 0:
		t.odd = 0
	}
	t.odd += min(max(off, -mostOdd*odd), mostOdd*odd)
	return math.Abs(t.odd) >= oddFor*odd
}

// anew has trials begin anew, at another speed: what was found before holds no longer. The batch
// that told is the first half of a pair.
func (t *trial) anew(now int, rate float64) {
	t.usual, t.seen, t.odd = rate, 1, 0
	t.pause, t.step = 0, tryFormer
	t.end()
	t.half, t.halves = rate, 1
	t.formerly, t.changedAt = t.changedAt, now
}
