package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

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
	var end string       // of the log; everything that counts is before it
	var nudged time.Time
	compared := false
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
		// What is stored is equal, whether or not it is compared in the background: that it is
		// repaired by that is no excuse.
		_, unproven := errors.AsType[*unprovenError](err)
		if err == nil || strict && unproven && !compared {
			compared = true
			err = s.compare(ctx)
			after, restless := s.atRest(ctx, end)
			if _, unproven = errors.AsType[*unprovenError](restless); unproven && err != nil {
				restless = nil
			}
			switch {
			case err == nil && restless == nil && slices.Equal(before, after):
				s.journal.say("equal, %.1fs later", time.Since(start).Seconds())
				return nil
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

// atRest returns the physical indices, with no error when the slot has come to the end of what is
// committed, workers have applied what went through Kafka, none is being built, nothing that was asked for is undone, and none is unproven.
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
	if err := s.kafka.atRest(ctx); err != nil {
		return nil, err
	}
	var names []string
	for _, ix := range indices {
		names = append(names, ix.name)
	}
	var complete, open, deferred int
	var unproven string
	err = s.query(ctx, `SELECT (SELECT count(*) FROM dbsync_ctrl.indices WHERE name = ANY($1) AND live <> '' AND building = ''),
		(SELECT count(*) FROM dbsync_ctrl.requests WHERE phase IN ('waiting', 'running')), (SELECT count(*) FROM dbsync_ctrl.fan_outs),
		coalesce((SELECT string_agg(p.index_name || ': ' || p.unproven_why, ', ') FROM dbsync_ctrl.proofs p JOIN dbsync_ctrl.indices i ON i.name = p.index_name
			WHERE p.unproven_since IS NOT NULL AND (p.physical = i.live OR p.unproven_noted >= i.started_at)), '')`, []any{names}, &complete, &open, &deferred, &unproven)
	switch {
	case err != nil:
		return nil, err
	case complete < len(indices):
		return nil, fmt.Errorf("%d of %d indices are complete", complete, len(indices))
	case open > 0:
		return nil, fmt.Errorf("%d requests are not done", open)
	case deferred > 0:
		return nil, fmt.Errorf("the documents of %d related rows are to be stored again", deferred)
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
	if unproven != "" {
		return physical, &unprovenError{unproven}
	}
	return physical, nil
}

// An unprovenError says that an index is being compared with its table in the background.
type unprovenError struct{ why string }

func (e *unprovenError) Error() string { return "unproven: " + e.why }

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

// A comparison is the last one in the background of an index.
type comparison struct {
	Index, Physical string
	Number          int64
	Found           int64 // differences
}

func (s *stage) comparisons(ctx context.Context) (all []comparison, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT index_name, physical, last_number, last_found FROM dbsync_ctrl.proofs`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[comparison])
}

// problems says what is left of a round although everything is equal: dead letters, and
// differences that comparisons in the background have found since, which was before it became so.
// Where it is strict none may have been there.
func (s *stage) problems(ctx context.Context, before []comparison, strict bool) error {
	var letters int
	var examples string
	err := s.query(ctx, `SELECT (SELECT count(*) FROM dbsync_ctrl.dead_letters),
		coalesce((SELECT string_agg(t, '; ') FROM (SELECT index_name || ' ' || doc_id || ': ' || reason AS t FROM dbsync_ctrl.dead_letters LIMIT 3) l), '')`, nil, &letters, &examples)
	if err != nil {
		return err
	}
	say := s.journal.say
	if strict {
		say = s.journal.wrong
	}
	if letters > 0 {
		say("%d dead letters: %s", letters, examples)
	}
	after, err := s.comparisons(ctx)
	if err != nil {
		return err
	}
	for _, c := range after {
		if c.Found > 0 && !slices.Contains(before, c) {
			say("a comparison in the background has found %d differences of %s, in %s", c.Found, c.Index, c.Physical)
		}
	}
	return nil
}
