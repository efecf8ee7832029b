package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
	"tidemark/internal/prepare"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
)

const (
	// resolveInterval is how often the database is asked which tables the patterns of the file stand for.
	resolveInterval = 10 * time.Second

	// maxResolvePause bounds how long is waited after tables were found that could not be taken up.
	maxResolvePause = 10 * time.Minute
)

// A tableWatch is what is known of the tables that the patterns of the file stand for.
type tableWatch struct {
	wake  chan struct{} // there may be others; capacity 1
	left  *retry.Hold   // the alarm while something is left out
	other *retry.Hold   // the alarm while others could not be taken up

	found map[mapping.ValueColumn][]mapping.Value // values of columns in names of indices, as they were found last
	asked time.Time                               // when they were looked for

	mu       sync.Mutex
	unplaced map[mapping.ValueColumn]bool // the stream has brought values of which there is no index
}

func newTableWatch() *tableWatch {
	return &tableWatch{wake: make(chan struct{}, 1), unplaced: make(map[mapping.ValueColumn]bool)}
}

// miss takes up that the stream has brought a value of which there is no index. It does not wait.
func (w *tableWatch) miss(of mapping.ValueColumn) {
	w.mu.Lock()
	before := w.unplaced[of]
	w.unplaced[of] = true
	w.mu.Unlock()
	if !before {
		w.look()
	}
}

// missed returns the columns that values were missed of, until forget.
func (w *tableWatch) missed() (columns []mapping.ValueColumn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.unplaced))
}

// again has columns be looked at again, after an error.
func (w *tableWatch) again(columns []mapping.ValueColumn, err error) error {
	for _, of := range columns {
		w.miss(of)
	}
	return err
}

func (w *tableWatch) forget(columns []mapping.ValueColumn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, of := range columns {
		delete(w.unplaced, of)
	}
}

// look has it be asked at once which tables there are. It does not wait.
func (w *tableWatch) look() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// watchTables looks again and again for tables that came into the place of a pattern, or went, until ctx is done.
// Where the file stands for other tables than those that are followed, the instance begins anew with them
// ([Options.Resolved]): the slot is let go for a moment, and nothing is lost. While it is still here after that, they
// could not be taken up, and it is asked for again after a pause that grows.
func (s *Service) watchTables(ctx context.Context) {
	if written := s.config.Written(); s.o.Resolved == nil || len(written.Patterns())+len(written.ValueColumns()) == 0 {
		return
	}
	w := s.tables
	w.found = s.config.Values()
	defer func() { w.left.Release(); w.other.Release() }()
	var pause time.Duration
	var next time.Time // when it is asked for others again
	for {
		others, err := s.resolve(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.other = s.alarm.Keep(w.other, "tables of patterns", "it cannot be told which tables there are: "+dbsync.WithoutValues(err))
		case !others:
			pause = 0
			w.other.Release()
			w.other = nil
		case time.Now().After(next):
			if pause > 0 {
				w.other = s.alarm.Keep(w.other, "tables of patterns", "the file stands for other tables by now, which cannot be taken up; hint: tidemark check says why")
			}
			pause = min(max(2*pause, resolveInterval), maxResolvePause)
			next = time.Now().Add(pause)
			s.o.Resolved()
		}
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-time.After(resolveInterval):
		}
	}
}

// resolve reports whether the patterns of the file stand for other tables than those that are followed. What is
// left out has an alarm.
func (s *Service) resolve(ctx context.Context) (others bool, err error) {
	known := make(map[catalog.TableName]bool)
	for _, name := range s.config.Tables() {
		known[name] = true
	}
	now, err := prepare.Resolve(ctx, s.syncer.DB(), s.config.Written(), known)
	if err == nil {
		now, err = s.resolveValues(ctx, now)
	}
	if err != nil {
		return false, err
	}
	w := s.tables
	if len(now.Left) == 0 {
		w.left.Release()
		w.left = nil
	} else {
		var texts []string
		for _, p := range now.Left {
			text := p.Text
			if p.Hint != "" {
				text += "; hint: " + p.Hint
			}
			texts = append(texts, text)
		}
		w.left = s.alarm.Keep(w.left, "tables left out", listed(texts))
	}
	return !now.SameTables(s.config) && !s.manager.Fills(), nil
}

// resolveValues puts values in the place of columns in names. The database is asked for those of columns alone of which the stream has brought
// one that there is no index of, or of whose table it brings nothing, and not more often than every resolveInterval: values that
// there are too many of come again and again.
func (s *Service) resolveValues(ctx context.Context, now *mapping.Config) (*mapping.Config, error) {
	w := s.tables
	known := maps.Clone(w.found)
	var missed []mapping.ValueColumn
	if time.Since(w.asked) >= resolveInterval {
		missed = w.missed()
		for _, of := range missed {
			delete(known, of)
		}
	}
	if len(missed) > 0 {
		w.asked = time.Now()
		w.forget(missed) // what comes from here on is missed anew
		// A commit is in the stream before others see what it did.
		if err := s.syncer.ReadVisible(ctx, s.syncer.Unseen(), nil, func(*pgconn.PgConn) error { return nil }); err != nil {
			return nil, w.again(missed, err)
		}
	}
	resolved, err := prepare.ResolveValues(ctx, s.syncer.DB(), now, known)
	if err != nil {
		return nil, w.again(missed, err)
	}
	maps.Copy(w.found, resolved.Values())
	return resolved, nil
}

// listed is texts in one line, bounded.
func listed(texts []string) string {
	const most = 5
	if n := len(texts); n > most {
		texts = append(texts[:most:most], fmt.Sprintf("and %d more", n-most))
	}
	return strings.Join(texts, "; ")
}
