package search

import (
	"time"

	"tidemark/mapping/limit"
)

// A pace is how much the server is given: how many requests at a time, and of how many bytes each.
// It is found out by the server's answers, between one and what the options allow:
//
//   - What is rejected (429), or not answered in time, halves the number of requests, see [window].
//   - What is too large (413), or not answered within a time that is near the limit, halves the bytes.
//   - Otherwise the number is the one by which batches are written fastest, see [trial].
//
// A pace waits for nothing and knows no clock; a [gate] holds requests to it.
type pace struct {
	requests, bytes window
	trial           trial

	writing int // batches under way
	begun   int // batches, ever
	trying  int // requests at a time of the batch under way, where it is one of a trial; else 0
}

// startRequests is how many requests go at a time before anything is known of the server.
const startRequests = 4

func newPace(requests, bytes int) pace {
	return pace{
		requests: window{now: min(requests, startRequests), least: 1, most: requests},
		bytes:    window{now: bytes, least: limit.MinBytes, most: bytes},
		trial:    newTrial(),
	}
}

// now returns how many requests may be under way.
func (p *pace) now() int {
	if p.trying > 0 {
		return p.trying
	}
	return p.requests.now
}

// A batch is one call of Write.
type batch struct {
	requests int // at a time, that it is cut for
	bytes    int // of one request
	worth    int // how many requests it could be cut into
	number   int
	alone    bool // no other batch was under way when it began
}

// begin begins a batch that could be cut into so many requests, each of which would be worth it.
func (p *pace) begin(worth int) batch {
	p.begun++
	p.writing++
	b := batch{requests: min(p.requests.now, worth), bytes: p.bytes.now, worth: worth, number: p.begun, alone: p.writing == 1}
	p.trying = 0
	if b.alone && p.enough(worth) && !p.requests.hasFallen() {
		b.requests = p.trial.number(b.requests, p.requests.most, worth)
		p.trying = b.requests
	}
	return b
}

// enough reports whether a batch that could be cut into so many requests says anything about their number.
func (p *pace) enough(worth int) bool { return 2*worth >= p.requests.now }

// end ends a batch. A batch that is stored without anything being sent twice says how fast the
// server is, if no other was under way at the same time and there was enough for all requests, or nearly.
func (p *pace) end(b batch, bytes int, took time.Duration, smooth bool) {
	p.writing--
	p.trying = 0
	switch {
	case !smooth || !b.alone || b.number != p.begun || !p.enough(b.worth) || bytes <= 0 || took <= 0:
	case p.requests.hasFallen():
		p.requests.take()
	default:
		used := min(p.requests.now, b.worth)
		if n := p.trial.measured(used, b.requests, float64(bytes)/took.Seconds()); n != used {
			p.requests.now = n
		}
	}
}

// A pass is what a request was let in by.
type pass struct{ requests, bytes int } // ages of the windows

func (p *pace) pass() pass { return pass{p.requests.age, p.bytes.age} }

// An answer is what came of a request, as far as it says how much the server takes.
type answer struct {
	operations, bytes int  // of the request
	rejected          bool // 429, for all of it or some of its operations
	tooLarge          bool // as a whole
	late              bool // no answer came in time
	slow              bool // it came late enough to fear for the next one
	stored            bool // all of it
}

// answered takes the answer to a request, and reports whether the server is given less at a time because
// of it.
func (p *pace) answered(by pass, a answer) (less bool) {
	if a.operations > 1 && by.bytes == p.bytes.age {
		switch {
		case a.tooLarge || a.late || a.slow:
			p.bytes.fall(a.bytes / 2)
		case a.stored && a.bytes >= p.bytes.now/2:
			p.bytes.take()
		}
	}
	if !a.rejected && !a.late || by.requests != p.requests.age {
		return a.rejected && by.requests < p.requests.age
	}
	if p.trying > p.requests.now {
		p.trying = 0
		p.requests.age++
		p.trial.lose()
		return true
	}
	p.trying = 0
	p.trial.end()
	return p.requests.fall(p.requests.now / 2)
}
