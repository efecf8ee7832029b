package retry

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// remindEvery is the least time between two log lines about the same reason.
const remindEvery = time.Minute

// An Alarm holds the reasons why writing is held back at this moment: an index that is
// gone or closed, refused credentials, a server that does not answer. Writers raise
// and release them, the status page and the health check read them.
//
// A reason is logged once when it comes up, then at most once a minute while it lasts,
// and once when it is gone. All methods are safe for concurrent use.
type Alarm struct {
	logger *slog.Logger

	mu      sync.Mutex
	reasons map[string]*reason
}

// A Reason is one thing that holds writing back.
type Reason struct {
	Key   string    // names the condition, for example "index products-20260131T120000Z is missing"
	Text  string    // what happened and its hint, in the words of the last attempt
	Since time.Time // when it came up
}

type reason struct {
	Reason
	holders int
	logged  time.Time
}

// NewAlarm returns an alarm with no reasons that logs to logger.
func NewAlarm(logger *slog.Logger) *Alarm {
	return &Alarm{logger: logger, reasons: make(map[string]*reason)}
}

// A Hold is one holder's part in a reason. Several holders may share a reason, which
// is gone when the last of them has let go: one request that goes through says
// nothing about another that still waits.
type Hold struct {
	alarm *Alarm
	key   string
	done  bool // guarded by alarm.mu
}

// Raise adds a holder to the reason named key, and the reason if it is new.
// The caller calls Release on the Hold when its work goes on.
func (a *Alarm) Raise(key, text string) *Hold {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.reasons[key]
	if !ok {
		r = &reason{Reason: Reason{Key: key, Since: time.Now()}}
		a.reasons[key] = r
	}
	r.holders++
	a.say(r, text)
	return &Hold{alarm: a, key: key}
}

// Keep returns the holder's part in the reason named key: a new one where hold is nil, as Raise
// does, and otherwise the same, after Again. It is for who meets one condition again and again.
func (a *Alarm) Keep(hold *Hold, key, text string) *Hold {
	if hold == nil {
		return a.Raise(key, text)
	}
	hold.Again(text)
	return hold
}

// Again reports that the reason still stands, with the text of the latest attempt.
func (h *Hold) Again(text string) {
	a := h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, ok := a.reasons[h.key]; ok && !h.done {
		a.say(r, text)
	}
}

// Release takes this holder off the reason. A second call does nothing, nor does one of nil.
func (h *Hold) Release() {
	if h == nil {
		return
	}
	a := h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	if h.done {
		return
	}
	h.done = true
	r := a.reasons[h.key]
	if r.holders--; r.holders > 0 {
		return
	}
	delete(a.reasons, h.key)
	a.logger.Info("writing goes on", "reason", r.Key, "held_back", time.Since(r.Since).Round(time.Millisecond))
}

// say keeps the text and logs it unless that was done within the last minute.
func (a *Alarm) say(r *reason, text string) {
	r.Text = text
	now := time.Now()
	if now.Sub(r.logged) < remindEvery {
		return
	}
	r.logged = now
	a.logger.Error("writing is held back", "reason", r.Key, "detail", text, "since", r.Since)
}

// Reasons returns what holds writing back now, the oldest first; none is good news.
func (a *Alarm) Reasons() []Reason {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]Reason, 0, len(a.reasons))
	for _, r := range a.reasons {
		list = append(list, r.Reason)
	}
	slices.SortFunc(list, func(x, y Reason) int {
		if c := x.Since.Compare(y.Since); c != 0 {
			return c
		}
		return strings.Compare(x.Key, y.Key)
	})
	return list
}
