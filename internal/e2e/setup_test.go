package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tidemark/testenv"
)

// A setup is what one mapping file names: a database, a cluster, and indices.
type setup struct {
	db     *testenv.Database
	search *testenv.SearchServer

	postgresURL string // as the file has it: a proxy may stand in between
	searchURL   string
	adminListen string
	admin       string // more keys of admin, with a comma in front
	slot        string
	postgres    string // more keys of postgres, with a comma in front
	cluster     string // more keys of search, with a comma in front
	prefix      string // of the indices' names
	top         string // more lines of the file
	kafka       *workers
	indices     map[string]string
	options     map[string][]testenv.CheckOption
	tables      map[string]string
	text        string // of the file, in place of what the rest of this comes to
	file        string
}

// newSetup makes a database on the shared server and no index yet.
func newSetup(t testing.TB, search *testenv.SearchServer) *setup {
	t.Helper()
	return newSetupOn(t, testenv.SharedPostgres(t), search)
}

func newSetupOn(t testing.TB, postgres *testenv.Postgres, search *testenv.SearchServer) *setup {
	t.Helper()
	return newSetupFor(t, postgres.NewDatabase(t), search)
}

func newSetupFor(t testing.TB, db *testenv.Database, search *testenv.SearchServer) *setup {
	t.Helper()
	s := &setup{
		db: db, search: search, postgresURL: db.URL, searchURL: search.URL, adminListen: "127.0.0.1:0", slot: db.Unique("slot"), prefix: search.NewPrefix(t),
		indices: make(map[string]string), options: make(map[string][]testenv.CheckOption), tables: make(map[string]string),
		file: filepath.Join(t.TempDir(), "tidemark.yaml"),
	}
	if os.Getenv(allThroughKafka) != "" {
		s.throughKafka(t, 1)
	}
	return s
}

// index adds an index of a table to the file, or changes it. more is YAML of the index,
// in one line and with a comma in front: ", routing: r". The options are for the checker.
func (s *setup) index(name, table, more string, options ...testenv.CheckOption) {
	s.indices[name] = fmt.Sprintf("{table: %q%s}", table, more)
	s.tables[name] = table
	s.options[name] = options
}

// alias is the name that searchers use for an index.
func (s *setup) alias(name string) string { return s.prefix + name }

// write writes the file.
func (s *setup) write(t testing.TB) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "postgres: {url: %q, slot: %s%s}\nsearch: {urls: [%q]%s}\nadmin: {listen: %q%s}\n%s\n%sindices:\n", s.postgresURL, s.slot, s.postgres, s.searchURL, s.cluster, s.adminListen, s.admin, s.top, s.kafka.section())
	for _, name := range slices.Sorted(maps.Keys(s.indices)) {
		fmt.Fprintf(&b, "  %s: %s\n", s.alias(name), s.indices[name])
	}
	text := b.String()
	if s.text != "" {
		text = s.text
	}
	// A command that was just started may be reading it.
	must(t, os.WriteFile(s.file+".new", []byte(text), 0o600))
	must(t, os.Rename(s.file+".new", s.file))
}

// checkSynced compares every table with its index, when the indices are at rest. What was
// compared while a rebuild began is compared again.
func (s *setup) checkSynced(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.kafka.awaitApplied(t)
	for {
		before := s.awaitAtRest(ctx, t)
		err := s.equal(ctx)
		if err == nil {
			return
		}
		after, restless := s.atRest(ctx)
		if restless == nil && slices.Equal(before, after) || ctx.Err() != nil {
			t.Error(err)
			return
		}
		t.Logf("compared while an index was replaced, %v then %v (%v): %v", before, after, restless, err)
	}
}

// awaitAtRest waits until the indices are at rest, and returns the physical ones. It needs no
// instance that runs: one that has ended left them so.
func (s *setup) awaitAtRest(ctx context.Context, t testing.TB) (physical []string) {
	t.Helper()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		physical, err := s.atRest(ctx)
		if err == nil {
			return physical
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the indices are not at rest within %s: %v", patience, err)
		}
	}
}

// atRest returns the physical indices when none is being built, nothing is asked for that is
// not done, and none is left over from before. Its error says what is under way otherwise.
func (s *setup) atRest(ctx context.Context) (physical []string, err error) {
	if complete, err := s.complete(ctx); err != nil || !complete {
		return nil, cmp.Or(err, errors.New("an index is being built"))
	}
	var open int
	if err := s.db.DB.QueryRowContext(ctx, `SELECT count(*) FROM dbsync_ctrl.requests WHERE phase IN ('waiting', 'running')`).Scan(&open); err != nil {
		return nil, err
	}
	if open > 0 {
		return nil, fmt.Errorf("%d requests are not done", open)
	}
	if err := s.deferred(ctx); err != nil {
		return nil, err
	}
	all, err := s.search.Indices(ctx, s.prefix+"*")
	if err != nil {
		return nil, err
	}
	for _, ix := range all {
		physical = append(physical, ix.Name)
	}
	if len(all) != len(s.indices) {
		return nil, fmt.Errorf("%d physical indices for %d aliases: %v", len(all), len(s.indices), physical)
	}
	slices.Sort(physical)
	return physical, nil
}

// deferred returns an error while documents are to be stored again beside the stream.
func (s *setup) deferred(ctx context.Context) error {
	var left int
	// A control schema of before has no such table, and the query none of its rows.
	err := s.db.DB.QueryRowContext(ctx, `SELECT CASE WHEN to_regclass('dbsync_ctrl.fan_outs') IS NULL THEN 0
		ELSE (xpath('/row/n/text()', query_to_xml('SELECT count(*) AS n FROM dbsync_ctrl.fan_outs WHERE slot = ' || quote_literal($1::text), false, true, '')))[1]::text::int END`, s.slot).Scan(&left)
	if err == nil && left > 0 {
		err = fmt.Errorf("the documents of %d related rows are to be stored again", left)
	}
	return err
}

// checkIndices compares these indices with their tables.
func (s *setup) checkIndices(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		testenv.CheckSynced(t, s.db, s.search, s.alias(name), s.tables[name], s.options[name]...)
	}
}

// complete reports whether all indices are, by the control schema.
func (s *setup) complete(ctx context.Context) (bool, error) {
	conn, err := pgx.Connect(ctx, s.db.URL)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var names []string
	for name := range s.indices {
		names = append(names, s.alias(name))
	}
	var n int
	err = conn.QueryRow(ctx, `SELECT count(*) FROM dbsync_ctrl.indices WHERE name = ANY($1) AND live <> '' AND building = ''`, names).Scan(&n)
	return n == len(s.indices), err
}

// awaitComplete waits until every index is.
func (s *setup) awaitComplete(t testing.TB, i *instance) {
	t.Helper()
	i.poll(t, "the indices are complete", func(ctx context.Context) error {
		complete, err := s.complete(ctx)
		if err == nil && !complete {
			err = errors.New("not yet")
		}
		return err
	})
}

// awaitCaughtUp waits until everything that is committed now has been confirmed, and no documents
// are to be stored again: then it is stored.
func (s *setup) awaitCaughtUp(t testing.TB, i *instance) {
	t.Helper()
	s.awaitComplete(t, i)
	// An idle slot moves every twenty seconds, and at once behind a change that is published:
	// like the watermark of another instance.
	var target string
	must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT pg_current_wal_insert_lsn()::text`).Scan(&target))
	s.db.Exec(t, `SET synchronous_commit = local`,
		`INSERT INTO dbsync_ctrl.dbsync_wmtable (slot, token) VALUES ('e2e', '') ON CONFLICT (slot) DO UPDATE SET at = now()`)
	i.poll(t, "the slot has come to "+target, func(ctx context.Context) error {
		var confirmed string
		var there bool
		err := s.db.DB.QueryRowContext(ctx, `SELECT confirmed_flush_lsn::text, confirmed_flush_lsn >= $1::pg_lsn FROM pg_replication_slots WHERE slot_name = $2`, target, s.slot).Scan(&confirmed, &there)
		if err == nil && !there {
			err = fmt.Errorf("it is at %s", confirmed)
		}
		return err
	})
	i.poll(t, "documents are stored again", s.deferred)
	s.kafka.awaitApplied(t)
}

// pollInterval is how often is asked for what no event tells from outside.
const pollInterval = 50 * time.Millisecond

// poll asks until the answer is nil, and fails when the instance has ended or too much
// time has gone.
func (i *instance) poll(t testing.TB, what string, ask func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("waited for %s", patience))
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-i.ended:
			t.Fatalf("wait until %s: the instance has ended: %s", what, i.outcome())
		case <-ctx.Done():
			t.Fatalf("wait until %s: %v: %v", what, context.Cause(ctx), err)
		}
	}
}
