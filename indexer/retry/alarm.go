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
	r, ok := a.reasons[key]
	if !ok {
		r = &reason{Reason: Reason{Key: key, Since: time.Now()}}
		a.reasons[key] = r
	}
	r.holders++
	news := r.take(text)
	a.mu.Unlock()
	a.say(news)
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
	var news *Reason
	a.mu.Lock()
	if r, ok := a.reasons[h.key]; ok && !h.done {
		news = r.take(text)
	}
	a.mu.Unlock()
	a.say(news)
}

// Release takes this holder off the reason. A second call does nothing, nor does one of nil.
func (h *Hold) Release() {
	if h == nil {
		return
	}
	if r := h.letGo(); r != nil {
		h.alarm.logger.Info("writing goes on", "reason", r.Key, "held_back", time.Since(r.Since).Round(time.Millisecond))
	}
}

// letGo takes the holder off, and returns the reason if nobody else has a part in it.
func (h *Hold) letGo() *reason {
	a := h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	if h.done {
		return nil
	}
	h.done = true
	r := a.reasons[h.key]
	if r.holders--; r.holders > 0 {
		return nil
	}
	delete(a.reasons, h.key)
	return r
}

// take keeps the text, and returns what is to be logged of it: nil where that was done within the last
// minute. The alarm's mu is held.
func (r *reason) take(text string) *Reason {
	r.Text = text
	now := time.Now()
	if now.Sub(r.logged) < remindEvery {
		return nil
	}
	r.logged = now
	said := r.Reason
	return &said
}

// say logs a reason; nil is none. mu is not held: a log that hangs must not keep the health check from
// saying so.
func (a *Alarm) say(r *Reason) {
	if r != nil {
		a.logger.Error("writing is held back", "reason", r.Key, "detail", r.Text, "since", r.Since)
	}
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
