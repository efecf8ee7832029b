package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/reindex/control"
	"tidemark/reindex/verify"
)

// What somebody asks for at the status page: for [admin.Operator]. All of it can be asked for by the
// command as well; rebuilds go by the same requests in the control schema.

const (
	// deskPatience is how long somebody at the page waits for the outcome of what he asked for. What
	// takes longer goes on.
	deskPatience = 5 * time.Second

	// maxLetterRetries is how many retries of dead letters may wait for the one that is under way.
	maxLetterRetries = 16
)

// Reindex asks for a rebuild of an index beside the one in use.
func (s *Service) Reindex(ctx context.Context, index string) (string, error) {
	id, err := s.control.Requests().Add(ctx, &control.Request{Kind: control.KindReindex, Index: index})
	if err != nil {
		return "", err
	}
	s.o.Logger.Info("a rebuild is asked for at the status page", "index", index, "request", id)
	return fmt.Sprintf("The rebuild of %s is asked for, as request %d.", index, id), nil
}

// Cancel gives up the rebuild of an index that is under way, or was asked for.
func (s *Service) Cancel(ctx context.Context, index string) (string, error) {
	id, err := s.control.Requests().Add(ctx, &control.Request{Kind: control.KindCancel, Index: index})
	if err != nil {
		return "", err
	}
	s.o.Logger.Info("somebody at the status page gives a rebuild up", "index", index, "request", id)
	wait, cancel := context.WithTimeout(ctx, deskPatience)
	defer cancel()
	q, err := s.control.Requests().Await(wait, id, func(*control.Request) error { return nil })
	switch {
	case ctx.Err() == nil && wait.Err() != nil:
		return fmt.Sprintf("The rebuild of %s is given up as soon as that can be done.", index), nil
	case err != nil:
		return "", err
	case q.Phase != control.PhaseDone:
		return "", fmt.Errorf("the rebuild of %s cannot be given up: %s", index, q.Message)
	}
	return fmt.Sprintf("The rebuild of %s is given up; the index in use stays.", index), nil
}

// Verify has an index compared with its tables at once.
func (s *Service) Verify(_ context.Context, index string) (string, error) {
	if err := s.manager.Compare(index); err != nil {
		return "", err
	}
	s.o.Logger.Info("a comparison is asked for at the status page", "index", index)
	return fmt.Sprintf("%s is being compared with its tables.", index), nil
}

// A letterRetry is a retry of dead letters that somebody asks for.
type letterRetry struct {
	index   *mapping.Index
	rows    []int64 // of the letters; nil: all of the index
	outcome chan letterOutcome
}

type letterOutcome struct {
	*verify.Retried
	err error
}

// RetryLetters has the rows of dead letters read again, and their documents stored: of those with
// these numbers, or of all of the index where rows is nil.
func (s *Service) RetryLetters(ctx context.Context, index string, rows []int64) (string, error) {
	ix := s.indexNamed(index)
	if ix == nil {
		return "", &UnknownIndexError{Name: index}
	}
	r := &letterRetry{index: ix, rows: rows, outcome: make(chan letterOutcome, 1)}
	select {
	case s.retries <- r:
	default:
		return "", errors.New("too many retries of dead letters wait already; try again when they are done")
	}
	select {
	case o := <-r.outcome:
		return o.sentence(index)
	case <-time.After(deskPatience):
		return fmt.Sprintf("Dead letters of %s are retried; what came of it will be among the events.", index), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// sentence says what came of a retry.
func (o *letterOutcome) sentence(index string) (string, error) {
	switch {
	case o.err != nil:
		return "", o.err
	case o.Kept > 0:
		return "", fmt.Errorf("%d of %d dead letters of %s could not be retried: %s", o.Kept, o.Letters, index, dbsync.WithoutValues(o.Why))
	case o.Refused > 0:
		return "", fmt.Errorf("%d of %d documents of %s were refused again", o.Refused, o.Letters, index)
	}
	return fmt.Sprintf("Dead letters of %s retried: %d, all stored.", index, o.Letters), nil
}

// retryLetters does what was asked for of dead letters, one after the other, until ctx is done.
func (s *Service) retryLetters(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-s.retries:
			done, err := verify.RetryLetters(ctx, r.index, verify.RetryOptions{
				DB: s.syncer.DB(), SlotDB: s.syncer.SlotDB(), Schema: s.config.StateSchema(), Slot: s.config.Postgres.Slot, Tables: s.catalog.Tables(), Rows: r.rows,
			})
			s.census.again()
			if err != nil {
				s.o.Logger.Warn("dead letters could not be retried", "index", r.index.Name, "error", err)
			} else {
				s.o.Logger.Info("dead letters were retried", "index", r.index.Name, "letters", done.Letters, "gone", done.Gone, "refused_again", done.Refused, "kept", done.Kept)
			}
			r.outcome <- letterOutcome{done, err}
		}
	}
}

// DropLetters gives dead letters up: those with these numbers, or all of the index where rows is nil.
func (s *Service) DropLetters(ctx context.Context, index string, rows []int64) (string, error) {
	filter := control.LetterFilter{Indices: []string{}, Rows: rows}
	st := s.manager.State(index)
	if st == nil {
		return "", &UnknownIndexError{Name: index}
	}
	for _, physical := range []string{st.Live.Physical, st.Building.Physical} {
		if physical != "" {
			filter.Indices = append(filter.Indices, search.WriteAlias(index, physical))
		}
	}
	n, err := s.dead.Drop(ctx, filter)
	if err != nil {
		return "", err
	}
	s.o.Logger.Warn("dead letters were dropped at the status page", "index", index, "letters", n)
	if err := s.takeLetters(ctx); err != nil { // the page is to show it
		return "", err
	}
	return fmt.Sprintf("Dead letters of %s dropped: %d.", index, n), nil
}

// indexNamed returns the index of the mapping with this name, nil if there is none.
func (s *Service) indexNamed(name string) *mapping.Index {
	for _, ix := range s.config.Indices {
		if ix.Name == name {
			return ix
		}
	}
	return nil
}
