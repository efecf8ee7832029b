package search

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"unicode/utf8"

	"tidemark/dbsync"
)

// A part is what one request carries.
type part struct {
	ops   []dbsync.Operation
	bytes int    // about, before compression
	index string // that all of ops go to; "" where they go to several
}

// partOf returns a part of ops, one or more: of what was left of another one, to be sent again.
func partOf(ops []dbsync.Operation) part {
	p := part{ops: ops, index: ops[0].Index}
	for i := range ops {
		p.bytes += size(&ops[i])
		if ops[i].Index != p.index {
			p.index = ""
		}
	}
	return p
}

// A survey is what one look through the operations of a Write came to. Parts are cut by it, so
// that the operations are not looked at again before they are encoded.
type survey struct {
	ops     []dbsync.Operation // that can be sent
	places  []place            // of ops, one each
	bytes   int                // of all of ops
	refused []Refused          // that cannot
}

// A place is what one operation means for a request that has it.
type place struct {
	bytes int  // see size
	turn  bool // it goes to another index than the one before it
}

// look looks through ops, which stay as they are: the batch may come again.
func (s *survey) look(ops []dbsync.Operation) error {
	s.ops = ops
	s.places = slices.Grow(s.places, len(ops))
	index := ""
	for i := range ops {
		op := &ops[i]
		if !op.Kind.Ready() {
			return fmt.Errorf("write document %s/%s: its kind is %s, which is not for the search server", op.Index, op.ID, op.Kind)
		}
		if _, err := Version(op); err != nil {
			return err
		}
		if why := Unsendable(op); why != nil {
			if s.refused == nil {
				s.ops = append(make([]dbsync.Operation, 0, len(ops)-1), ops[:i]...)
			}
			s.refused = append(s.refused, Refused{*op, why})
			continue
		}
		if s.refused != nil {
			s.ops = append(s.ops, *op)
		}
		n := size(op)
		s.bytes += n
		s.places = append(s.places, place{n, op.Index != index})
		index = op.Index
	}
	return nil
}

// A request is worth its own overhead, for the sake of concurrency, from so many operations or bytes
// on.
const (
	minOperations = 500
	minBytes      = 512 << 10
)

// worth returns into how many requests the operations can be cut that are worth it, at least 1.
func (s *survey) worth() int {
	return max(1, min(len(s.ops), max(len(s.ops)/minOperations, s.bytes/minBytes)))
}

// split cuts the operations into what is sent in one request each: of so many bytes and
// documents at most, and from a certain size on in equal shares for so many requests at a time.
func (s *survey) split(requests, most, documents int) []part {
	count := len(s.ops)
	if count == 0 {
		return nil
	}
	n := max(ceil(count, documents), ceil(s.bytes, most))
	if shares := min(requests, s.worth()); n < shares {
		n = shares
	} else if rounds := ceil(n, requests) * requests; n > 1 && rounds <= s.worth() {
		n = rounds // the last round is as full as the others
	}
	target := ceil(s.bytes, n)
	parts := make([]part, 0, n+1)
	start, bytes, mixed := 0, 0, false
	cut := func(end int) {
		p := part{ops: s.ops[start:end], bytes: bytes}
		if !mixed {
			p.index = s.ops[start].Index
		}
		parts = append(parts, p)
		start, bytes, mixed = end, 0, false
	}
	for i, p := range s.places {
		if i > start && (bytes+p.bytes > most || i-start >= documents || bytes >= target) {
			cut(i)
		}
		bytes += p.bytes
		mixed = mixed || p.turn && i > start
	}
	cut(count)
	return parts
}

func ceil(a, b int) int { return (a + b - 1) / b }

// actionOverhead is about what an action line takes beside index, id and routing.
const actionOverhead = 80

// size is about how many bytes op takes in a request, before compression.
func size(op *dbsync.Operation) int {
	return actionOverhead + len(op.Index) + len(op.ID) + len(op.Routing) + len(op.Body)
}

// unmade begins the reason of a document that cannot be made.
const unmade = "the document cannot be made: "

// Unsendable returns why no request may have op, nil if one may.
func Unsendable(op *dbsync.Operation) *DocError {
	why := unsendable(op)
	if why == "" {
		return nil
	}
	return &DocError{Index: op.Index, ID: op.ID, Status: http.StatusBadRequest, Type: "not_sent", Reason: why, Err: op.Err}
}

// unsendable says why op must not be put into a request, "" if it may. A server that
// meets one of these refuses the whole request, some with a 500 that looks like
// trouble of its own; a line break in a document would even begin another action.
func unsendable(op *dbsync.Operation) string {
	switch {
	case op.Kind == dbsync.Refused:
		return unmade + op.Err.Error()
	case op.ID == "":
		return "the id is empty"
	case len(op.ID) > maxID:
		return fmt.Sprintf("the id has %d bytes, and an id has no more than %d", len(op.ID), maxID)
	case !utf8.ValidString(op.ID):
		return "the id is not valid UTF-8"
	case !utf8.ValidString(op.Routing):
		return "the routing is not valid UTF-8"
	case op.Kind == dbsync.Store && len(op.Body) == 0:
		return "the document is empty"
	case bytes.IndexByte(op.Body, '\n') >= 0:
		return "the document is not on one line"
	}
	return ""
}

// maxID is the length of an _id in bytes that servers accept.
const maxID = 512
