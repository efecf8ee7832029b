package service_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/internal/prepare"
	"tidemark/internal/progress"
	"tidemark/internal/service"
	"tidemark/mapping"
	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// A fixture is a database with one table, a cluster, and the mapping of them.
type fixture struct {
	db     *testenv.Database
	search *testenv.SearchServer
	alias  string
	yaml   string
	log    *slog.Logger
}

func newFixture(t *testing.T, e testenv.Engine, top, fields string) *fixture {
	t.Helper()
	f := &fixture{db: testenv.NewDatabase(t), search: testenv.SharedSearch(t, e)}
	f.alias = f.search.NewPrefix(t) + "t"
	f.db.Exec(t, "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric)", "INSERT INTO t SELECT i, i, i * 1.50 FROM generate_series(1, 3000) i")
	f.yaml = fmt.Sprintf("postgres: {url: %q, slot: %s}\nsearch: {urls: [%q]}\nadmin: {listen: \"127.0.0.1:0\"}\n%s\nindices:\n  %s: {table: t, fields: {%s}}\n",
		f.db.URL, f.db.Unique("slot"), f.search.URL, top, f.alias, fields)
	f.log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	return f
}

func (f *fixture) run(ctx context.Context, t *testing.T, o service.Options) error {
	t.Helper()
	c, err := mapping.Parse("t.yaml", []byte(f.yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		return err
	}
	p, err := prepare.Prepare(ctx, c, f.log)
	if err != nil {
		return err
	}
	defer p.Close()
	o.Logger, o.Display = f.log, progress.New(t.Output(), false, f.log)
	return service.Run(ctx, c, p, o)
}

func (f *fixture) once(t *testing.T, o service.Options) {
	t.Helper()
	o.Once = true
	if err := f.run(t.Context(), t, o); err != nil {
		t.Fatal(err)
	}
	testenv.CheckSynced(t, f.db, f.search, f.alias, "t")
}

func (f *fixture) physical(t *testing.T) string {
	t.Helper()
	all, err := f.search.Indices(t.Context(), f.alias)
	if err != nil || len(all) != 1 {
		t.Fatalf("the alias stands for %v: %v", all, err)
	}
	return all[0].Name
}

func TestOnce(t *testing.T) {
	for _, e := range testenv.Engines(t) {
		t.Run(string(e), func(t *testing.T) {
			f := newFixture(t, e, "", "")
			f.once(t, service.Options{})
			first := f.physical(t)
			f.db.Exec(t, "UPDATE t SET v = 'x' WHERE id % 10 = 0", "DELETE FROM t WHERE id > 2900", "UPDATE t SET id = -id WHERE id < 100")
			f.once(t, service.Options{})
			f.db.Exec(t, "TRUNCATE t", "INSERT INTO t VALUES (1, 'one', 'NaN')")
			f.once(t, service.Options{})
			if now := f.physical(t); now != first {
				t.Errorf("%s was rebuilt", now)
			}
			for _, names := range [][]string{{"all"}, {f.alias}} {
				before := f.physical(t)
				f.once(t, service.Options{Reindex: names})
				if f.physical(t) == before {
					t.Errorf("it was not rebuilt although %v was asked for", names)
				}
			}
		})
	}
}

func TestUnknownIndex(t *testing.T) {
	f := newFixture(t, testenv.Engines(t)[0], "", "")
	err := f.run(t.Context(), t, service.Options{Reindex: []string{f.alias, "other"}})
	var unknown *service.UnknownIndexError
	if !errors.As(err, &unknown) || unknown.Name != "other" {
		t.Errorf("error is %v", err)
	}
	f.noSlot(t)
}

// noSlot makes sure that nothing was made in the database.
func (f *fixture) noSlot(t *testing.T) {
	t.Helper()
	var slots, schemas int
	err := f.db.DB.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()), (SELECT count(*) FROM pg_namespace WHERE nspname = 'dbsync_ctrl')").Scan(&slots, &schemas)
	if err != nil || slots+schemas > 0 {
		t.Errorf("%d slots and %d control schemas were made for what makes no sense, %v", slots, schemas, err)
	}
}

// TestRefusedOptions has options that the parts refuse, which is found out before anything is
// made.
func TestRefusedOptions(t *testing.T) {
	f := newFixture(t, testenv.Engines(t)[0], "", "")
	f.yaml = strings.Replace(f.yaml, "search: {", "search: {bulk: {bytes: 100MiB}, ", 1)
	if err := f.run(t.Context(), t, service.Options{}); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("error is %v", err)
	}
	f.noSlot(t)
}

// TestRunUntilDone ends it in order while it follows the slot, and lets that go.
func TestRunUntilDone(t *testing.T) {
	f := newFixture(t, testenv.Engines(t)[0], "", "")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.run(ctx, t, service.Options{}) }()
	f.await(t, done, "SELECT count(*) = 1 FROM dbsync_ctrl.indices WHERE building = '' AND live <> ''")
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("asked to end it returns %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
	f.once(t, service.Options{})
}

// await asks the database until it says true.
func (f *fixture) await(t *testing.T, done chan error, question string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		var yes bool
		err := f.db.DB.QueryRowContext(t.Context(), question).Scan(&yes)
		if err == nil && yes {
			return
		}
		select {
		case err := <-done:
			t.Fatalf("it ended: %v", err)
		case <-deadline:
			t.Fatalf("%s: %v, %v", question, yes, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestRefused has one document refused, which is kept or ends the run.
func TestRefused(t *testing.T) {
	const fields = "v: {type: integer}"
	t.Run("dead_letter", func(t *testing.T) {
		f := newFixture(t, testenv.Engines(t)[0], "", fields)
		f.db.Exec(t, "UPDATE t SET v = 'no number' WHERE id = 77")
		if err := f.run(t.Context(), t, service.Options{Once: true}); err != nil {
			t.Fatal(err)
		}
		testenv.CheckSynced(t, f.db, f.search, f.alias, "t", testenv.WithRefused("77"))
		var id string
		if err := f.db.DB.QueryRowContext(t.Context(), "SELECT doc_id FROM dbsync_ctrl.dead_letters").Scan(&id); err != nil || id != "77" {
			t.Errorf("kept is %q, %v", id, err)
		}
	})
	t.Run("stop", func(t *testing.T) {
		f := newFixture(t, testenv.Engines(t)[0], "on_error: stop", fields)
		f.db.Exec(t, "UPDATE t SET v = 'no number' WHERE id = 77")
		err := f.run(t.Context(), t, service.Options{Once: true})
		var permanent *dbsync.PermanentError
		if !errors.As(err, &permanent) || !strings.Contains(err.Error(), "77") || !strings.Contains(err.Error(), f.alias) {
			t.Errorf("error is %v", err)
		}
	})
}
