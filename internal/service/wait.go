package service

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/jackc/pglogrepl"

	"tidemark/internal/admin"
	"tidemark/reindex"
)

// Await answers the admin server when something is stored, see [admin.Waiter].
func (s *Service) Await(ctx context.Context, w admin.Wait) (pglogrepl.LSN, error) {
	wait := reindex.Wait{
		Position: func(ctx context.Context) error {
			if err := s.awaitPosition(ctx, w.LSN); err != nil {
				return err
			}
			return s.applied(ctx)
		},
		Schema: s.control,
	}
	if w.Searchable {
		wait.Client = s.found.Client
	}
	for _, name := range w.Indices {
		if !slices.Contains(s.indexNames(), name) {
			return 0, &admin.WaitError{Status: http.StatusNotFound, Err: &UnknownIndexError{Name: name}}
		}
		wait.Indices = append(wait.Indices, name)
	}
	if len(w.Indices) == 0 {
		wait.Indices = s.indexNames()
	}
	if status := s.syncer.Status(); !status.Connected {
		return 0, fmt.Errorf("not connected to slot %s: another instance may have it", s.config.Postgres.Slot)
	}
	if err := wait.Await(ctx); err != nil {
		return 0, err
	}
	return s.syncer.Position(), nil
}

func (s *Service) indexNames() (names []string) {
	for _, ix := range s.config.Indices {
		names = append(names, ix.Name)
	}
	return names
}

// awaitPosition waits until everything that was committed before a position is stored; 0: before now.
func (s *Service) awaitPosition(ctx context.Context, wanted pglogrepl.LSN) error {
	if wanted != 0 && s.syncer.Position() >= wanted {
		return nil
	}
	// The position follows what is published. A mark in the stream has it move past what is not, and at once
	// where the server would say by and by that there is nothing more. A second one has it past the first.
	for range 2 {
		if err := s.marks.await(ctx); err != nil {
			if ctx.Err() != nil {
				status := s.syncer.Status()
				err = fmt.Errorf("everything up to %s is stored, %d messages of the log are received and not stored", status.Position, status.Messages)
				if wanted != 0 {
					err = fmt.Errorf("%w; %s is waited for", err, wanted)
				}
			}
			return err
		}
		if s.syncer.Position() >= wanted {
			return nil
		}
	}
	return &admin.WaitError{Status: http.StatusConflict, Err: fmt.Errorf("the log has not come to %s: everything up to %s is stored, and nothing follows; hint: it is a position of another server, or of before this database was restored", wanted, s.syncer.Position())}
}

// marks are places in the stream that are waited for: who comes while one is under way waits for the next
// one, together with everybody else, so that however many wait, little is written for it.
type marks struct {
	asked chan struct{} // there is a next one; capacity 1

	mu   sync.Mutex
	next *sharedMark // that is not set yet; nil: nobody waits for one
}

// A sharedMark is one place in the stream.
type sharedMark struct {
	done chan struct{}
	err  error // valid when done is closed
}

func newMarks() *marks { return &marks{asked: make(chan struct{}, 1)} }

// await waits until everything that was committed before the call is stored.
func (m *marks) await(ctx context.Context) error {
	m.mu.Lock()
	if m.next == nil {
		m.next = &sharedMark{done: make(chan struct{})}
		m.asked <- struct{}{} // has room: it is taken before next is
	}
	mark := m.next
	m.mu.Unlock()
	select {
	case <-mark.done:
		return mark.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run sets one mark after the other until ctx is done. barrier is [dbsync.Syncer.Barrier].
func (m *marks) run(ctx context.Context, barrier func(context.Context) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.asked:
		}
		m.mu.Lock()
		mark := m.next
		m.next = nil // who comes from here on may have committed something since
		m.mu.Unlock()
		mark.err = barrier(ctx)
		close(mark.done)
	}
}
