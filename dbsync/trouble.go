package dbsync

import (
	"slices"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
)

// troubleAfter is how often something fails in a row before it is a trouble: what is over sooner
// is nobody's concern.
const troubleAfter = 5

// A Trouble is something that a Syncer has tried five times or more in a row, without coming
// further. It goes on trying; somebody should look. See [Status].
type Trouble struct {
	What  string    // that fails: "write a batch"
	Err   string    // of the last attempt, see [WithoutValues]
	Since time.Time // the first attempt
	Times int       // attempts in a row
}

// troubles are what fails at this moment, once or oftener.
type troubles struct {
	mu  sync.Mutex
	now map[*watched]struct{}
}

func newTroubles() *troubles { return &troubles{now: make(map[*watched]struct{})} }

// watched is something that may become a trouble. It has one owner.
type watched struct {
	of *troubles

	// The following is guarded by of.mu.
	trouble Trouble
	at      pglogrepl.LSN // the position when it failed last, for againAt
}

// watch begins to count the failures of something. The caller calls over in the end.
func (t *troubles) watch(what string) *watched {
	return &watched{of: t, trouble: Trouble{What: what}}
}

// again counts one more failure.
func (w *watched) again(err error) {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	if w.trouble.Times == 0 {
		w.trouble.Since = time.Now()
		w.of.now[w] = struct{}{}
	}
	w.trouble.Times++
	w.trouble.Err = WithoutValues(err)
}

// againAt counts a failure to come further than a position. What failed at an earlier one is over.
func (w *watched) againAt(position pglogrepl.LSN, err error) {
	w.of.mu.Lock()
	further := position > w.at
	w.of.mu.Unlock()
	if further {
		w.over()
	}
	w.again(err)
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	w.at = position
}

// over ends it, because it goes on or because nobody wants it any more. It may begin again.
func (w *watched) over() {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	delete(w.of.now, w)
	w.trouble = Trouble{What: w.trouble.What}
}

// times returns how often it has failed in a row.
func (w *watched) times() int {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	return w.trouble.Times
}

// list returns the troubles while everything is stored up to a position, the oldest first. Of what
// several do at a time, one stands for all.
func (t *troubles) list(position pglogrepl.LSN) []Trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []Trouble
	for w := range t.now {
		if w.trouble.Times >= troubleAfter && (w.at == 0 || w.at >= position) {
			list = append(list, w.trouble)
		}
	}
	slices.SortFunc(list, func(a, b Trouble) int { return a.Since.Compare(b.Since) })
	said := make(map[string]bool)
	return slices.DeleteFunc(list, func(of Trouble) bool {
		before := said[of.What]
		said[of.What] = true
		return before
	})
}
