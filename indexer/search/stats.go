package search

import (
	"sync/atomic"
	"time"
)

// Stats counts what a [Bulk] has done since it was made. Every field only grows. A
// document counts once, when its fate is known.
type Stats struct {
	Stored     atomic.Int64 // documents stored
	Deleted    atomic.Int64 // documents deleted, or found to be gone already
	Superseded atomic.Int64 // operations that found a newer version
	Refused    atomic.Int64 // operations refused for good and handed to OnRefused
	Dropped    atomic.Int64 // operations passed over, as their index is not there: see Missing of [BulkOptions]
	Retried    Retries      // operations sent again, each time they are
	Requests   atomic.Int64 // bulk requests sent, whatever came back
	Failed     atomic.Int64 // of these, the ones without a 2xx answer
	Rejected   atomic.Int64 // requests that were answered with 429, as a whole or for some of their operations
	Bytes      atomic.Int64 // bytes of their bodies as sent
	RawBytes   atomic.Int64 // bytes of their bodies before compression
}

// A Cause is why operations are sent again.
type Cause int

const (
	CauseRejected Cause = iota // the server has no room for them: 429
	CauseServer                // it says that it cannot at the moment: 5xx
	CauseNoAnswer              // the connection broke, or none came about
	CauseTimeout               // no answer came in time
	CauseHeld                  // an index that is missing or closed, refused credentials: until somebody does something
	CauseDivided               // the request was too large, or one of its documents is looked for that the server cannot read
	causes
)

// Causes are all there are.
func Causes() []Cause {
	all := make([]Cause, causes)
	for i := range all {
		all[i] = Cause(i)
	}
	return all
}

func (c Cause) String() string {
	return [causes]string{"rejected", "server_error", "no_answer", "timeout", "held_back", "divided"}[c]
}

// Retries count operations by cause.
type Retries [causes]atomic.Int64

// Of returns how many there were because of c.
func (r *Retries) Of(c Cause) int64 { return r[c].Load() }

// Sum returns how many there were.
func (r *Retries) Sum() (n int64) {
	for i := range r {
		n += r[i].Load()
	}
	return n
}

// A Request is one bulk request that has ended, for histograms and traces.
type Request struct {
	Began      time.Time
	Duration   time.Duration // from the first byte sent to the last one received
	Operations int
	Bytes      int // of the body as sent
	Status     int // of the answer as a whole, 0 when none came
}
