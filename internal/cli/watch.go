package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/internal/progress"
	"tidemark/reindex/control"
)

const (
	// watchInterval is how often is asked how far a request is.
	watchInterval = 300 * time.Millisecond

	// idlePatience is how long a request may wait before it is said that nobody takes it up.
	idlePatience = 20 * time.Second
)

// A leftError says that work goes on that was not waited for to its end.
type leftError struct{ indices []string }

func (e *leftError) Error() string {
	names := strings.Join(e.indices, " ")
	return fmt.Sprintf("not waited for any longer: the running instance goes on with %s\n    tidemark status shows how far it is; tidemark reindex --cancel %s gives a rebuild up", names, names)
}

// A requestError is what became of a request that was not done.
type requestError struct{ *control.Request }

func (e *requestError) Error() string {
	if e.Phase == control.PhaseCancelled {
		return fmt.Sprintf("index %s: the %s was cancelled", e.Index, noun(e.Kind))
	}
	return fmt.Sprintf("index %s: the %s failed: %s", e.Index, noun(e.Kind), e.Message)
}

func noun(kind control.Kind) string {
	switch kind {
	case control.KindReindex:
		return "rebuild"
	case control.KindCancel:
		return "cancelling"
	}
	return string(kind)
}

// A watched request is one with what is shown of it.
type watched struct {
	*control.Request
	bar  *progress.Bar
	rows int64 // that the bar has counted
}

// watch shows how far requests are until all have ended. Its error names those that were
// not done.
func (a *asker) watch(ctx context.Context, wanted []*control.Request) error {
	var open []*watched
	for _, q := range wanted {
		open = append(open, &watched{Request: q})
	}
	defer func() {
		for _, w := range open {
			w.stop()
		}
	}()
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	start, said := time.Now(), false
	var silent time.Time // since when the database does not answer; zero: it does
	var failed []error
	for {
		for _, w := range slices.Clone(open) {
			err := a.look(ctx, w)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				if silent.IsZero() {
					silent = time.Now()
					a.log.Warn("cannot see how far it is, trying again", "error", err)
				}
				if time.Since(silent) > askPatience {
					return err
				}
			case w.Ended():
				silent = time.Time{}
				open = slices.DeleteFunc(open, func(other *watched) bool { return other == w })
				w.end()
				if err := a.ended(ctx, w.Request); err != nil {
					failed = append(failed, err)
				}
			default:
				silent = time.Time{}
			}
		}
		if len(open) == 0 {
			return errors.Join(failed...)
		}
		waiting := slices.ContainsFunc(open, func(w *watched) bool { return w.Phase == control.PhaseWaiting || w.Phase == "" })
		if !said && waiting && time.Since(start) > idlePatience {
			if running, err := a.isFollowed(ctx); err == nil && !running {
				said = true
				a.log.Warn("no instance follows the slot any more, the next one takes up what was asked for", "slot", a.slot)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			left := &leftError{}
			for _, w := range open {
				left.indices = append(left.indices, w.Index)
			}
			return left
		}
	}
}

// look reads how far a request is, and shows it.
func (a *asker) look(ctx context.Context, w *watched) error {
	now, err := a.requests.Get(ctx, w.ID)
	if err != nil {
		return err
	}
	if now == nil {
		return fmt.Errorf("index %s: request %d is gone from the control schema", w.Index, w.ID)
	}
	w.Request = now
	if now.Phase != control.PhaseRunning {
		return nil
	}
	done, total := now.Rows, int64(-1)
	if now.Kind == control.KindReindex {
		st, err := a.states.Read(ctx, now.Index)
		if err != nil {
			return err
		}
		if st == nil || st.Building.Physical == "" || st.StartedAt.Before(now.CreatedAt) {
			return nil
		}
		done, total = st.Done, st.Total
	}
	if w.bar == nil {
		w.bar, w.rows = a.display.Index(now.Index, done, total), done
	}
	w.bar.Add(max(0, done-w.rows))
	w.rows = max(w.rows, done)
	return nil
}

func (w *watched) end() {
	if w.bar == nil {
		return
	}
	if w.Phase == control.PhaseDone {
		w.bar.Done()
	} else {
		w.bar.Stop()
	}
}

func (w *watched) stop() {
	if w.bar != nil {
		w.bar.Stop()
	}
}

// ended says what became of a request.
func (a *asker) ended(ctx context.Context, q *control.Request) error {
	if q.Phase != control.PhaseDone {
		return &requestError{q}
	}
	return a.report(ctx, q)
}
