package topic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// memberLease is how long an answer of Kafka counts that says that this worker is a member of the
	// group. It is much shorter than the session timeout, after which others have its partitions, and
	// one question in that time costs nothing.
	memberLease = time.Second

	// memberQuestion bounds how long is waited for the answer.
	memberQuestion = 3 * time.Second
)

// A NotMemberError reports that it is not known to be this worker that has its partitions: others may
// have them, and may have written what is newer.
type NotMemberError struct {
	Group string
	Err   error // why it is not known; nil: Kafka says that it is no member
}

func (e *NotMemberError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("it is not known whether this worker is still a member of group %s: %v", e.Group, e.Err)
	}
	return fmt.Sprintf("this worker is no member of group %s any more", e.Group)
}

func (e *NotMemberError) Unwrap() error { return e.Err }

// An AgedError reports that records were read too long ago to be written now: they are read again.
type AgedError struct{ Polled time.Time }

func (e *AgedError) Error() string {
	return fmt.Sprintf("the records were read at %s, and are read again before they are written", e.Polled.Format(time.RFC3339))
}

// within reports whether less than d has passed since t. A process may be stopped for any time between
// two instructions, and so may the machine that it runs on: then one clock goes on, or only the other.
func within(t time.Time, d time.Duration) bool {
	now := time.Now()
	for _, since := range []time.Duration{now.Sub(t), now.Round(0).Sub(t.Round(0))} {
		if since < 0 || since >= d {
			return false
		}
	}
	return true
}

// A membership is when Kafka was asked last who the members of the group are, and named this worker.
type membership struct {
	asked   atomic.Pointer[time.Time]
	renewal sync.Mutex
}

func (m *membership) holds() bool {
	asked := m.asked.Load()
	return asked != nil && within(*asked, memberLease)
}

// Holds returns nil if this worker was a member of the group at a moment within the last second, and
// what it writes was read less than MaxAge ago. Its errors are [*NotMemberError], which passes when the
// worker is a member again, and [*AgedError].
//
// It is for [search.Client.Fenced]: a process may be stopped anywhere, for as long as the group needs to
// give its partitions to others. Versions alone do not keep a late write from doing harm: a search
// server forgets after a while which versions its deleted documents had.
func (w *Worker) Holds(ctx context.Context) error {
	if polled := w.polled.Load(); polled != nil && !within(*polled, w.o.MaxAge) {
		return &AgedError{*polled}
	}
	return w.isMember(ctx)
}

// isMember returns nil if this worker was a member of the group at a moment within the last second.
func (w *Worker) isMember(ctx context.Context) error {
	if w.member.holds() {
		return nil
	}
	w.member.renewal.Lock()
	defer w.member.renewal.Unlock()
	if w.member.holds() {
		return nil
	}
	return w.ask(ctx)
}

// errNoSession is between two sessions with the group, and before the first.
var errNoSession = errors.New("it has not joined yet")

// ask asks Kafka whether this worker is a member.
func (w *Worker) ask(ctx context.Context) error {
	s := w.session.Load()
	if s == nil {
		return &NotMemberError{Group: w.o.Group, Err: errNoSession}
	}
	id, _ := s.reader.kafka.GroupMetadata()
	if id == "" {
		return &NotMemberError{Group: w.o.Group, Err: errNoSession}
	}
	limited, cancel := context.WithTimeout(ctx, memberQuestion)
	defer cancel()
	asked := time.Now()
	described, err := w.client.admin.DescribeGroups(limited, w.o.Group)
	w.client.seekCoordinator(ctx, asked, err)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		return &NotMemberError{Group: w.o.Group, Err: w.client.why(err)}
	}
	for _, m := range described[w.o.Group].Members {
		if m.MemberID == id {
			w.member.asked.Store(&asked)
			return nil
		}
	}
	return &NotMemberError{Group: w.o.Group}
}
