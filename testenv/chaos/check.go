package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/testenv"
)

// pollInterval is how often is asked for what no event tells from outside.
const pollInterval = 250 * time.Millisecond

// nudgeInterval is how often a change is made that has an idle slot move.
const nudgeInterval = 5 * time.Second

// awaitEqual waits until everything that is committed is stored and no index is being built or
// compared, and compares indices and tables then. Nobody else changes rows meanwhile. Where it is
// strict they are equal as soon as that is so; otherwise within patience.
func (s *stage) awaitEqual(ctx context.Context, patience time.Duration, strict bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not within %s", patience))
	defer cancel()
	resume := s.watch.hold()
	defer resume()
	start := time.Now()
	last, told := "", "" // what keeps it from being equal
	var end string // of the log; everything that counts is before it
	var nudged time.Time
	for {
		var before []string
		var err error
		if time.Since(nudged) > nudgeInterval {
			if end, err = s.watch.endOfLog(ctx, end); err == nil {
				nudged = time.Now()
			}
		}
		if err == nil {
			before, err = s.atRest(ctx, end)
		}
		if err == nil {
			err = s.compare(ctx)
			after, restless := s.atRest(ctx, end)
			switch {
			case err == nil && restless == nil && slices.Equal(before, after):
				s.journal.say("equal, %.1fs later", time.Since(start).Seconds())
				return s.problems(ctx)
			case err == nil:
				err = restless
			case strict && restless == nil && slices.Equal(before, after) && differs(err):
				s.journal.wrong("index and table differ although all is stored: %v", err)
				return err
			}
		}
		if err != nil && ctx.Err() == nil {
			last = err.Error()
			if last != told && time.Since(start) > 10*time.Second {
				told = last
				s.journal.say("  waiting: %s", shorten(told))
			}
		}
		if pause(ctx, pollInterval) != nil {
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				s.journal.wrong("index and table do not become equal: %v: %s", cause, last)
			}
			return cmp.Or(err, ctx.Err())
		}
	}
}

// atRest returns the physical indices when the slot has come to the end of what is committed, none
// is being built, nothing that was asked for is undone, and none is unproven.
func (s *stage) atRest(ctx context.Context, end string) (physical []string, err error) {
	var confirmed string
	var there bool
	err = s.query(ctx, `SELECT coalesce(confirmed_flush_lsn::text, ''), coalesce(confirmed_flush_lsn >= $1::pg_lsn, false) FROM pg_replication_slots WHERE slot_name = $2`, []any{end, slot}, &confirmed, &there)
	if err != nil {
		return nil, fmt.Errorf("the slot: %w", err)
	}
	if !there {
		return nil, fmt.Errorf("the slot is at %s, not at %s", confirmed, end)
	}
	var names []string
	for _, ix := range indices {
		names = append(names, ix.name)
	}
	var complete, open int
	var unproven string
	err = s.query(ctx, `SELECT (SELECT count(*) FROM dbsync_ctrl.indices WHERE name = ANY($1) AND live <> '' AND building = ''),
		(SELECT count(*) FROM dbsync_ctrl.requests WHERE phase IN ('waiting', 'running')),
		coalesce((SELECT string_agg(p.index_name || ': ' || p.unproven_why, ', ') FROM dbsync_ctrl.proofs p JOIN dbsync_ctrl.indices i ON i.name = p.index_name
			WHERE p.unproven_since IS NOT NULL AND (p.physical = i.live OR p.unproven_noted >= i.started_at)), '')`, []any{names}, &complete, &open, &unproven)
	switch {
	case err != nil:
		return nil, err
	case complete < len(indices):
		return nil, fmt.Errorf("%d of %d indices are complete", complete, len(indices))
	case open > 0:
		return nil, fmt.Errorf("%d requests are not done", open)
	case unproven != "":
		return nil, fmt.Errorf("unproven: %s", unproven)
	}
	all, err := s.search.Indices(ctx, "*")
	if err != nil {
		return nil, err
	}
	for _, ix := range all {
		if !strings.HasPrefix(ix.Name, ".") {
			physical = append(physical, ix.Name)
		}
	}
	if len(physical) != len(indices) {
		return nil, fmt.Errorf("%d physical indices for %d: %v", len(physical), len(indices), physical)
	}
	return physical, nil
}

// A differenceError says that an index was compared with its table and differs.
type differenceError struct{ text string }

func (e *differenceError) Error() string { return e.text }

func differs(err error) bool {
	_, ok := errors.AsType[*differenceError](err)
	return ok
}

// compare compares every index with its table, document by document.
func (s *stage) compare(ctx context.Context) error {
	db := &testenv.Database{Name: database, URL: s.url, Postgres: s.postgres}
	var found []string
	for _, ix := range indices {
		options := ix.variants[s.mapping.variant[ix.name]].options
		if ix.name == "things" {
			added, err := s.addedColumns(ctx)
			if err != nil {
				return err
			}
			options = []testenv.CheckOption{testenv.WithAbsent(added...)}
		}
		report, err := testenv.NewChecker(db, s.search, ix.name, ix.table, options...).Check(ctx)
		if err != nil {
			return fmt.Errorf("compare %s: %w", ix.name, err)
		}
		if !report.Equal() {
			found = append(found, fmt.Sprintf("%s: %s", ix.name, report))
		}
	}
	if found != nil {
		return &differenceError{strings.Join(found, "\n")}
	}
	return nil
}

// addedColumns are those that things has got: documents that were stored before may lack them.
func (s *stage) addedColumns(ctx context.Context) (names []string, err error) {
	err = s.query(ctx, `SELECT coalesce(array_agg(attname::text), '{}') FROM pg_attribute WHERE attrelid = 'things'::regclass AND attname IN ('n1', 'n2', 'n3') AND NOT attisdropped`, nil, &names)
	return names, err
}

// problems says what is left of a round although everything is equal: dead letters, and
// differences that a comparison in the background has found, which were there before it.
func (s *stage) problems(ctx context.Context) error {
	var letters, found int
	var examples string
	err := s.query(ctx, `SELECT (SELECT count(*) FROM dbsync_ctrl.dead_letters), coalesce((SELECT sum(last_found) FROM dbsync_ctrl.proofs), 0)::int,
		coalesce((SELECT string_agg(t, '; ') FROM (SELECT index_name || ' ' || doc_id || ': ' || reason AS t FROM dbsync_ctrl.dead_letters LIMIT 3) l), '')`, nil, &letters, &found, &examples)
	if err != nil {
		return err
	}
	if letters > 0 {
		s.journal.say("  %d dead letters: %s", letters, examples)
	}
	if found > 0 {
		s.journal.say("  %d differences were found by comparisons in the background", found)
	}
	return nil
}
