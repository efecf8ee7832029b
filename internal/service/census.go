package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"tidemark/indexer/search"
	"tidemark/internal/admin"
	"tidemark/reindex/control"
)

const (
	// censusInterval is how often is counted what the status needs and the stream does not say.
	censusInterval = 10 * time.Second

	// censusPatience is how long one of the two servers may take for it.
	censusPatience = 10 * time.Second

	// shownLetters is how many dead letters the status has one by one.
	shownLetters = 50
)

// A census is what was counted last of what others may change: dead letters, documents, rows. Where a server did not answer the last numbers stand. It is safe for concurrent use.
type census struct {
	recount chan struct{} // something was changed by us; capacity 1

	mu    sync.Mutex
	count map[string]int64 // of dead letters, by write alias
	first []admin.Letter
	docs  map[string]int64 // by physical index
	rows  map[string]int64 // by index; as the catalog estimates them
}

func newCensus() census { return census{recount: make(chan struct{}, 1)} }

// again has the census be taken at once.
func (c *census) again() {
	select {
	case c.recount <- struct{}{}:
	default:
	}
}

// letters returns the first dead letters. They are not to be changed.
func (c *census) letters() []admin.Letter {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

func (c *census) lettersOf(writeAlias string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[writeAlias]
}

// documents returns how many documents a physical index has, -1 if that is not known.
func (c *census) documents(physical string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, known := c.docs[physical]; known {
		return n
	}
	return -1
}

// rowsOf returns how many rows the tables of an index have, about; -1 if that is not known.
func (c *census) rowsOf(index string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, known := c.rows[index]; known {
		return n
	}
	return -1
}

// take takes the census until ctx is done. Either server may be away: its words are in the log
// already then.
func (s *Service) take(ctx context.Context) {
	ticker := time.NewTicker(censusInterval)
	defer ticker.Stop()
	for {
		if err := errors.Join(s.takeLetters(ctx), s.takeRows(ctx), s.takeDocuments(ctx)); err != nil && ctx.Err() == nil {
			s.o.Logger.Debug("not everything that the status has was counted", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.census.recount:
		}
	}
}

// physicals returns the physical indices that there are dead letters of, by write alias.
func (s *Service) physicals() map[string]admin.Letter {
	of := make(map[string]admin.Letter)
	for _, ix := range s.config.Indices {
		if st := s.manager.State(ix.Name); st != nil {
			for _, physical := range []string{st.Live.Physical, st.Building.Physical} {
				if physical != "" {
					of[search.WriteAlias(ix.Name, physical)] = admin.Letter{Index: ix.Name, Physical: physical}
				}
			}
		}
	}
	return of
}

// takeLetters counts the dead letters, and reads the first of them.
func (s *Service) takeLetters(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, censusPatience)
	defer cancel()
	filter := control.LetterFilter{Indices: []string{}}
	for alias := range s.physicals() {
		filter.Indices = append(filter.Indices, alias)
	}
	counts, err := s.dead.Counts(ctx, filter)
	if err != nil {
		return err
	}
	letters, err := s.DeadLetters(ctx, admin.LetterQuery{Limit: shownLetters})
	if err != nil {
		return err
	}
	s.census.mu.Lock()
	defer s.census.mu.Unlock()
	s.census.count, s.census.first = counts, letters
	return nil
}

// DeadLetters reads dead letters of the indices of the mapping: for [admin.LetterLister].
func (s *Service) DeadLetters(ctx context.Context, q admin.LetterQuery) ([]admin.Letter, error) {
	physicals := s.physicals()
	filter := control.LetterFilter{Indices: []string{}, After: q.After}
	for alias, of := range physicals {
		if q.Index == "" || of.Index == q.Index {
			filter.Indices = append(filter.Indices, alias)
		}
	}
	list, err := s.dead.List(ctx, filter, q.Limit, false)
	if err != nil {
		return nil, err
	}
	var letters []admin.Letter
	for i := range list {
		l, letter := &list[i], physicals[list[i].Index]
		letter.Row, letter.ID, letter.Routing, letter.Delete, letter.Position = l.Row, l.ID, l.Routing, l.Delete, l.Version.String()
		letter.Status, letter.Type, letter.Reason, letter.Attempts, letter.CreatedAt = l.Status, l.Type, l.Reason, l.Attempts, l.CreatedAt
		letters = append(letters, letter)
	}
	return letters, nil
}

// takeRows reads how many rows the catalog takes the tables to have: what autovacuum counted last.
func (s *Service) takeRows(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, censusPatience)
	defer cancel()
	rows := make(map[string]int64)
	for _, ix := range s.config.Indices {
		for _, source := range ix.Sources {
			// Rows are in the leaves of a partitioned table; what was never analyzed says -1.
			var n sql.NullInt64
			err := s.syncer.DB().QueryRowContext(ctx, `WITH RECURSIVE tree AS (
					SELECT c.oid, c.relkind, c.reltuples FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2
					UNION SELECT c.oid, c.relkind, c.reltuples FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid AND ($3 OR tree.relkind = 'p') JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid)
				SELECT sum(reltuples)::bigint FROM tree WHERE relkind <> 'p' AND reltuples >= 0`, source.Table.Schema, source.Table.Name, source.Children).Scan(&n)
			if err != nil {
				return fmt.Errorf("ask how many rows table %s has: %w", source.Table, err)
			}
			if n.Valid {
				rows[ix.Name] += n.Int64
			}
		}
	}
	s.census.mu.Lock()
	defer s.census.mu.Unlock()
	s.census.rows = rows
	return nil
}

// takeDocuments counts the documents of the indices in use.
func (s *Service) takeDocuments(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, censusPatience)
	defer cancel()
	counts := make(map[string]int64)
	var errs []error
	for _, ix := range s.config.Indices {
		st := s.manager.State(ix.Name)
		if st == nil || st.Live.Physical == "" {
			continue
		}
		n, err := s.found.Client.Count(ctx, st.Live.Physical)
		if err != nil {
			errs = append(errs, err)
			if n = s.census.documents(st.Live.Physical); n < 0 {
				continue
			}
		}
		counts[st.Live.Physical] = n
	}
	s.census.mu.Lock()
	defer s.census.mu.Unlock()
	s.census.docs = counts
	return errors.Join(errs...)
}
