package reindex

import (
	"cmp"
	"context"
	"fmt"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/indexer/search"
	"tidemark/reindex/control"
)

// A Wait is for what was committed to be in some indices. It is the same for whoever waits: the instance
// that follows the slot, or another process that sees what it has noted.
type Wait struct {
	// Position waits until everything up to the position that is meant is stored. When its context ends
	// before, its error says how far that is.
	Position func(ctx context.Context) error

	Indices []string // names of the mapping
	Schema  *control.Schema

	// Client, if given, has what is stored be visible to searches, too.
	Client *search.Client
}

// A NotYetError says what was missing when ctx ended.
type NotYetError struct {
	Missing string
	Err     error // why ctx ended
}

func (e *NotYetError) Error() string { return "not yet: " + e.Missing }
func (e *NotYetError) Unwrap() error { return e.Err }

// Await waits until everything is stored in all of the indices: by the stream, and, of documents that
// so many related rows are in that the stream does not wait for them, beside it. An index that is being filled
// for the first time, or misses changes, is waited for. When ctx ends before, the error is a [*NotYetError].
func (w *Wait) Await(ctx context.Context) error {
	if err := w.Position(ctx); err != nil {
		return notYet(ctx, err, err.Error())
	}
	for _, name := range w.Indices {
		if err := w.awaitIndex(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// awaitIndex waits for what the stream does not wait for.
func (w *Wait) awaitIndex(ctx context.Context, name string) error {
	for {
		live, err := w.awaitLive(ctx, name)
		if err != nil {
			return err
		}
		if err := w.awaitFanOuts(ctx, name, live); err != nil {
			return err
		}
		if w.Client != nil {
			// By the name that searchers use. A search server may be busy, or away for a moment.
			var err error
			ended := retry.Poll(ctx, func() (bool, error) {
				if err = w.Client.Refresh(ctx, name); err != nil && !dbsync.IsPermanent(err) {
					return false, nil
				}
				return true, err
			})
			if ended != nil {
				return notYet(ctx, ended, fmt.Sprintf("index %s: it is stored, but searches may not see it: %v", name, err))
			}
		}
		// An alias that was moved meanwhile stands for documents that are waited for as well.
		now, err := w.awaitLive(ctx, name)
		if err != nil || now == live {
			return err
		}
	}
}

// awaitLive waits until an index is complete, and returns the physical one.
func (w *Wait) awaitLive(ctx context.Context, name string) (physical string, err error) {
	missing := "what is known of it could not be read"
	err = retry.Poll(ctx, func() (bool, error) {
		st, err := w.Schema.States().Read(ctx, name)
		switch {
		case err != nil:
			return false, err
		case st == nil || st.Live.Physical == "":
			missing = "it is being filled for the first time"
			return false, nil
		case st.Incomplete():
			missing = "it misses changes until another physical index is filled"
			return false, nil
		}
		physical = st.Live.Physical
		return true, nil
	})
	return physical, notYet(ctx, err, fmt.Sprintf("index %s: %s", name, missing))
}

// awaitFanOuts waits until what was asked for by now of a physical index is stored again.
func (w *Wait) awaitFanOuts(ctx context.Context, name, physical string) error {
	newest, err := w.Schema.FanOuts().Newest(ctx, physical)
	if err != nil || newest == 0 {
		return notYet(ctx, err, fmt.Sprintf("index %s: what is stored beside the stream is not known", name))
	}
	var left int64
	err = retry.Poll(ctx, func() (bool, error) {
		left, _, err = w.Schema.FanOuts().Left(ctx, physical, newest)
		return left == 0, err
	})
	return notYet(ctx, err, fmt.Sprintf("index %s: the documents of %d related rows that changed are not all stored again", name, left))
}

// notYet returns err, as what was missing where it is the end of ctx.
func notYet(ctx context.Context, err error, missing string) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return &NotYetError{Missing: missing, Err: cmp.Or(context.Cause(ctx), err)}
}
