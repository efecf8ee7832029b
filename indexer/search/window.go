package search

// A window is a bound that follows what the server takes, as TCP's does: it falls to a part where
// the server refuses, at once, and rises step by step while the server takes what it is given. It
// does not rise above where it was before it fell.
type window struct {
	now, least, most int

	before   int // where it was before it fell; 0: it has not fallen, or has come back
	low      int // where it was before it rose last
	taken    int // in a row, since it fell or rose
	patience int // how many have to be taken before it rises
	age      int // counts falls, so that what was sent before one does not have it fall again
}

const (
	firstPatience = 8  // doubled each time that it falls again before it has come back
	lastPatience  = 32 // a rise that is refused costs little, and one that never comes may cost much
	risen         = 2  // so many taken since it rose, and the rise is no cause of what is refused
)

// fall has the window fall to the bound, and reports whether it did. Where the last rise was too
// much it goes back to what was taken before.
func (w *window) fall(to int) bool {
	if w.low > 0 && w.taken < risen {
		to = max(to, w.low)
	}
	to = max(to, w.least)
	w.taken = 0
	if to >= w.now {
		return false
	}
	if w.before == 0 {
		w.before, w.patience = w.now, firstPatience
	} else {
		w.patience = min(2*w.patience, lastPatience)
	}
	w.now, w.low = to, 0
	w.age++
	return true
}

// take notes that what the bound allows was taken once more.
func (w *window) take() {
	if w.taken++; w.before == 0 || w.taken < w.patience {
		return
	}
	w.low, w.taken = w.now, 0
	if w.now = min(w.now+max(1, w.now/4), w.before); w.now == w.before {
		w.before = 0
	}
}

// hasFallen reports whether the window is below where it was before the server refused something.
func (w *window) hasFallen() bool { return w.before > 0 }
