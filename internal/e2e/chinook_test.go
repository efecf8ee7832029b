package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tidemark/testenv"
)

// chinookFile is the Chinook sample database, beside the tree.
const chinookFile = "../../../shared/data/chinook.sql"

var chinookTables = []string{"album", "artist", "customer", "employee", "genre", "invoice", "invoice_line", "media_type", "playlist", "playlist_track", "track"}

// newChinook loads the sample database and has an index for every table.
func newChinook(t testing.TB, search *testenv.SearchServer) *setup {
	t.Helper()
	return newChinookOn(t, testenv.SharedPostgres(t), search)
}

func newChinookOn(t testing.TB, postgres *testenv.Postgres, search *testenv.SearchServer) *setup {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(chinookFile))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the Chinook sample database is not at %s", chinookFile)
	}
	must(t, err)
	s := newSetupOn(t, postgres, search)
	s.db.Exec(t, string(text))
	for _, table := range chinookTables {
		s.index(table, table, "")
	}
	return s
}

// TestChinook fills the indices of a database that was there before, follows a random
// load, and stops and goes on in order.
func TestChinook(t *testing.T) {
	eachEngine(t, func(t *testing.T, e testenv.Engine) {
		s := newChinook(t, testenv.SharedSearch(t, e))
		binary(t) // it is not the build that is timed
		first := took(t, "the first run")
		s.once(t)
		first()
		s.checkSynced(t)

		i := s.start(t, "run")
		i.awaitLog(t, "following the slot")
		l := newLoad(t, s.db, chinookTables...)
		l.transactions = pick(500, 20_000)
		loading := took(t, "the load")
		must(t, l.run(t.Context()))
		loading()
		t.Log(l)
		catching := took(t, "to catch up")
		s.awaitCaughtUp(t, i)
		catching()
		s.checkSynced(t)
		i.stop(t)

		start := time.Now()
		s.once(t)
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("with nothing to do --once took %s", d)
		} else {
			t.Logf("with nothing to do --once took %s", d.Round(time.Millisecond))
		}
		s.checkSynced(t)
	})
}
