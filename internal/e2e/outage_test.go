package e2e

import (
	"context"
	"net/http"
	"testing"
	"time"

	"tidemark/testenv"
)

// underLoad starts the command, makes the load of newLoadTables, and has something go
// wrong meanwhile. The command must live on, and tables and indices be equal afterwards.
func (s *setup) underLoad(t *testing.T, during func(i *instance)) {
	t.Helper()
	l := newLoad(t, s.db, s.newLoadTables(t, 5000)...)
	l.connections, l.pause = 2, 100*time.Millisecond
	i := s.start(t, "run")
	s.awaitComplete(t, i)
	end := l.begin(t)
	i.awaitReady(t, http.StatusOK, "")
	during(i)
	i.awaitReady(t, http.StatusOK, "")
	end()
	recovering := took(t, "to catch up")
	s.awaitCaughtUp(t, i)
	recovering()
	s.checkSynced(t)
	i.stop(t)
}

// lasts waits while something is as bad as it is.
func lasts(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

func TestSearchServerStopped(t *testing.T) {
	t.Parallel()
	search := testenv.StartSearch(t, testenv.Engines(t)[0], testenv.SearchOptions{Heap: "512m"})
	s := newSetup(t, search)
	s.underLoad(t, func(i *instance) {
		must(t, search.Stop(t.Context()))
		i.awaitReady(t, http.StatusServiceUnavailable, "search server")
		lasts(t, 10*time.Second)
		must(t, search.Start(t.Context()))
		i.awaitReady(t, http.StatusOK, "")
		must(t, search.Kill(t.Context()))
		i.awaitReady(t, http.StatusServiceUnavailable, "search server")
		must(t, search.Start(t.Context()))
	})
}

func TestPostgresStopped(t *testing.T) {
	t.Parallel()
	postgres := testenv.StartPostgres(t, testenv.PostgresOptions{})
	s := newSetupOn(t, postgres, shared(t))
	s.underLoad(t, func(i *instance) {
		must(t, postgres.Restart(t.Context()))
		i.awaitReady(t, http.StatusOK, "")
		must(t, postgres.Kill(t.Context()))
		i.awaitReady(t, http.StatusServiceUnavailable, "not connected to slot")
		lasts(t, 2*time.Second)
		must(t, postgres.Start(t.Context()))
		i.awaitReady(t, http.StatusOK, "")
		must(t, postgres.Stop(t.Context()))
		i.awaitReady(t, http.StatusServiceUnavailable, "not connected to slot")
		must(t, postgres.Start(t.Context()))
	})
}

// TestAnswersLost has every kind of failure that requests can meet, again and again.
func TestAnswersLost(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	proxy := s.search.NewProxy(t)
	s.searchURL = proxy.URL
	s.underLoad(t, func(i *instance) {
		third := func(item testenv.Item) bool { return len(item.ID)%3 == 0 }
		several := func(r *testenv.Request) bool { return r.IsBulk() && len(r.Items) > 1 }
		for _, f := range []struct {
			name  string
			times int
			fault func(times int) *testenv.Fault
		}{
			{"answers lost", 3, func(n int) *testenv.Fault { return testenv.LoseAnswer(n, testenv.Bulk) }},
			{"requests dropped", 3, func(n int) *testenv.Fault { return testenv.Drop(n, testenv.Bulk) }},
			{"items refused with 429", 3, func(n int) *testenv.Fault { return testenv.AnswerItems(http.StatusTooManyRequests, n, third) }},
			{"items refused with 503", 3, func(n int) *testenv.Fault { return testenv.AnswerItems(http.StatusServiceUnavailable, n, third) }},
			{"requests refused with 429", 3, func(n int) *testenv.Fault { return testenv.Answer(http.StatusTooManyRequests, n, testenv.Bulk) }},
			{"requests refused with 502", 3, func(n int) *testenv.Fault { return testenv.Answer(http.StatusBadGateway, n, testenv.Bulk) }},
			{"requests too large", 3, func(n int) *testenv.Fault { return testenv.Answer(http.StatusRequestEntityTooLarge, n, several) }},
			{"slow", 3, func(n int) *testenv.Fault { return testenv.Delay(300*time.Millisecond, n, testenv.Bulk) }},
		} {
			done := took(t, f.name)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if err := proxy.Inject(f.fault(f.times)).Await(ctx, f.times); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
			cancel()
			s.awaitCaughtUp(t, i) // the pause between two attempts begins anew
			done()
		}
		for range 3 {
			proxy.Cut()
			lasts(t, 200*time.Millisecond)
		}
		proxy.CutOff()
		i.awaitReady(t, http.StatusServiceUnavailable, "search server")
		proxy.Restore()
		i.awaitReady(t, http.StatusOK, "")
		proxy.Freeze()
		lasts(t, 3*time.Second)
		proxy.Thaw()
	})
}

// TestConnectionsToPostgresStranded has a firewall forget every connection: what is asked over them is never answered,
// and nobody ends them. The instance finds out by itself, goes on over new ones, and is equal.
func TestConnectionsToPostgresStranded(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text)`, `INSERT INTO a SELECT i, 'old' FROM generate_series(1, 100) i`)
	s.index("a", "a", "")
	proxy := s.db.Postgres.NewProxy(t)
	s.postgresURL = proxy.URL(s.db.URL)
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	proxy.Strand()
	// The server's end of the slot goes, as it does where wal_sender_timeout has it; nothing tells us.
	s.db.Exec(t, `SELECT pg_terminate_backend(active_pid, 30000) FROM pg_replication_slots WHERE slot_name = '`+s.slot+`'`, `UPDATE a SET v = 'new'`, `DELETE FROM a WHERE id > 90`)
	s.awaitCaughtUp(t, i)
	s.checkSynced(t)
	i.stop(t)
}

// TestConnectionsToPostgresCut has a network that breaks and hangs between the command
// and the database.
func TestConnectionsToPostgresCut(t *testing.T) {
	t.Parallel()
	s := newSetup(t, shared(t))
	proxy := s.db.Postgres.NewProxy(t)
	s.postgresURL = proxy.URL(s.db.URL)
	s.underLoad(t, func(i *instance) {
		for range 5 {
			attempts := proxy.Attempts()
			proxy.Cut()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			must(t, proxy.Await(ctx, func(p *testenv.TCPProxy) bool { return p.Attempts() > attempts }))
			cancel()
			i.awaitReady(t, http.StatusOK, "") // how short it was not ready nobody may have seen
		}
		proxy.CutOff()
		i.awaitReady(t, http.StatusServiceUnavailable, "not connected to slot")
		lasts(t, time.Second)
		proxy.Restore()
		i.awaitReady(t, http.StatusOK, "")
		proxy.Freeze()
		lasts(t, 3*time.Second)
		proxy.Thaw()
	})
}
