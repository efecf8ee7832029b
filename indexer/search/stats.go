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
	Retried    atomic.Int64 // operations sent again, each time they are
	Requests   atomic.Int64 // bulk requests sent, whatever came back
	Failed     atomic.Int64 // of these, the ones without a 2xx answer
	Rejected   atomic.Int64 // requests that were answered with 429, as a whole or for some of their operations
	Bytes      atomic.Int64 // bytes of their bodies as sent
	RawBytes   atomic.Int64 // bytes of their bodies before compression
}

// A Request is one bulk request that has ended, for histograms.
type Request struct {
	Duration   time.Duration // from the first byte sent to the last one received
	Operations int
	Bytes      int // of the body as sent
	Status     int // of the answer as a whole, 0 when none came
}
