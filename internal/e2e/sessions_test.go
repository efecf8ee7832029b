package e2e

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"tidemark/testenv"
)

// hostile are settings that a role or a database may have for its people and applications, and that
// break or change what the command does unless it has others.
var hostile = map[string]string{
	"client_encoding": "LATIN1", "TimeZone": "Asia/Tokyo", "DateStyle": "German, DMY", "IntervalStyle": "iso_8601", "extra_float_digits": "-15",
	"bytea_output": "escape", "lc_monetary": "POSIX", "xmlbinary": "hex", "quote_all_identifiers": "on", "standard_conforming_strings": "off",
	"array_nulls": "off", "transform_null_equals": "on", "search_path": "pg_catalog", "row_security": "on", "gin_fuzzy_search_limit": "1", "role": "pg_monitor",
	"default_transaction_read_only": "on", "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
	"statement_timeout": "20ms", "lock_timeout": "1ms", "idle_in_transaction_session_timeout": "1ms", "idle_session_timeout": "20ms", "transaction_timeout": "50ms",
	"exit_on_error": "on", "restrict_nonsystem_relation_kind": "view",
	"jit": "on", "plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_indexscan": "off", "enable_bitmapscan": "off", "enable_sort": "off",
	"enable_nestloop": "off", "enable_hashjoin": "off", "enable_hashagg": "off", "client_min_messages": "error", "check_function_bodies": "off",
}

// newTyped has rows whose values are written as a session's settings have it, of tables whose names are not of
// ASCII alone.
func newTyped(t *testing.T, db *testenv.Database, search *testenv.SearchServer) *setup {
	t.Helper()
	s := newSetupFor(t, db, search)
	s.db.Exec(t, `CREATE EXTENSION IF NOT EXISTS citext`, `CREATE TYPE mood AS ENUM ('gut', 'schön')`,
		`CREATE TABLE "Prénom" (key citext PRIMARY KEY, cash money, at timestamptz, day date, took interval, n float8, raw bytea, mood mood, list text[], doc xml, "größe" int, big text)`,
		`CREATE TABLE "Wörter" (id int PRIMARY KEY, key citext, word text)`, `CREATE INDEX ON "Wörter" (key)`, `ALTER TABLE "Wörter" REPLICA IDENTITY FULL`,
		typedRows(1, 200), `INSERT INTO "Wörter" SELECT i, 'k' || i % 200, 'Wort é ' || i FROM generate_series(1, 300) i`)
	s.index("typed", `public."Prénom"`, ", fields: {cash: {as: number}}", testenv.WithQuery(`SELECT key::text, to_jsonb(p) - 'cash' - 'at' - 'raw' - 'took' || jsonb_build_object(
		'cash', cash::numeric, 'at', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'raw', encode(raw, 'base64'), 'took', took::text) FROM "Prénom" p`))
	s.index("words", `public."Wörter"`, `, include: {one: {table: 'public."Prénom"', on: {key: key}, fields: [day, took, n, raw, mood]}}`, testenv.WithQuery(
		`SELECT w.id::text, json_build_object('id', w.id, 'key', w.key, 'word', w.word, 'one', (SELECT json_build_object('day', p.day, 'took', p.took::text, 'n', p.n, 'raw', replace(encode(p.raw, 'base64'), E'\n', ''), 'mood', p.mood)
			FROM "Prénom" p WHERE p.key = w.key)) FROM "Wörter" w`))
	return s
}

// typedRows inserts rows from one number to another. The large value is read again where it has not changed.
func typedRows(from, to int) string {
	return fmt.Sprintf(`INSERT INTO "Prénom" SELECT 'k' || i, (i + 0.34)::numeric::money, timestamptz '2026-02-03 04:05:06.789+00' + i * interval '1 hour', date '2026-02-03' + i,
		i * interval '1 day 02:03:04.5', i + 1.0 / 3, decode(lpad(to_hex(i), 8, '0'), 'hex'), 'schön', ARRAY['é', NULL, 'x'], '<é/>', i, %s FROM generate_series(%d, %d) i`, large("i::text"), from, to)
}

// changeAll makes changes of every kind, among them rows that have to be read again.
func (s *setup) changeAll(t *testing.T) {
	t.Helper()
	s.db.Exec(t, `UPDATE "Prénom" SET cash = cash + 1::money, n = n + 0.1 WHERE "größe" % 3 = 0`, `DELETE FROM "Prénom" WHERE "größe" % 50 = 7`,
		`BEGIN; `+typedRows(1001, 1500)+`; COMMIT`, `UPDATE "Prénom" SET key = 'neu ' || key WHERE "größe" % 40 = 3`, `UPDATE "Wörter" SET word = 'é' WHERE id % 9 = 2`)
}

// TestSessionSettings has the whole of the work done while role and connection string ask for other
// settings: the index is equal all the same.
func TestSessionSettings(t *testing.T) {
	t.Parallel()
	together := slices.Sorted(maps.Keys(hostile))
	for _, test := range []struct {
		name string
		set  []string
		how  string // role, role in database, URL
	}{
		{"all of a role", together, "role"},
		{"all of a role in the database", together, "database"},
		{"all by the URL", together, "URL"},
		{"", []string{"default_transaction_read_only"}, "role"},
		{"", []string{"transaction_timeout"}, "role"},
		{"", []string{"lc_monetary"}, "role"},
		{"", []string{"client_encoding"}, "role"},
		{"", []string{"idle_session_timeout", "idle_in_transaction_session_timeout"}, "role"},
		{"", []string{"statement_timeout"}, "role"},
		{"", []string{"lock_timeout"}, "role"},
		{"", []string{"search_path"}, "role"},
		{"", []string{"role"}, "role"},
		{"", []string{"standard_conforming_strings"}, "role"},
		{"", []string{"default_transaction_isolation", "default_transaction_deferrable"}, "role"},
	} {
		name := test.name
		if name == "" {
			name = test.set[0]
		}
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := newTyped(t, testenv.NewDatabase(t), shared(t))
			role := s.db.Unique("role")
			s.db.Exec(t, "CREATE ROLE "+role+" SUPERUSER LOGIN")
			t.Cleanup(func() { s.dropRole(t, role) })
			u, err := url.Parse(s.db.URL)
			must(t, err)
			u.User = url.User(role)
			query := u.Query()
			var options []string
			for _, setting := range test.set {
				other := hostile[setting]
				if setting == "lc_monetary" {
					other = s.monetary(t)
				}
				var known bool
				must(t, s.db.DB.QueryRowContext(t.Context(), `SELECT current_setting($1, true) IS NOT NULL`, setting).Scan(&known))
				switch {
				case !known && len(test.set) == 1:
					t.Skipf("the server has no %s; one of TIDEMARK_TEST_POSTGRES_VERSION=17 has", setting)
				case !known:
				case test.how == "role":
					s.db.Exec(t, fmt.Sprintf("ALTER ROLE %s SET %s = '%s'", role, setting, other))
				case test.how == "database":
					s.db.Exec(t, fmt.Sprintf("ALTER ROLE %s IN DATABASE %s SET %s = '%s'", role, s.db.Name, setting, other))
				case setting != "role": // which cannot be in there
					options = append(options, "-c "+setting+"="+strings.ReplaceAll(other, " ", `\ `))
				}
			}
			if options != nil {
				query.Set("options", strings.Join(options, " "))
			}
			u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
			s.postgresURL = u.String()

			i := s.start(t, "run")
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			s.changeAll(t)
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			if len(test.set) > 2 { // the other commands have the same sessions
				s.start(t, "check").succeed(t)
				s.start(t, "verify", s.alias("typed")).succeed(t)
				s.start(t, "reindex", s.alias("typed")).succeed(t)
				s.awaitCaughtUp(t, i)
				s.checkSynced(t)
			}
			i.stop(t)
		})
	}
}

// monetary is a locale of the server's whose money has another number of digits after the point, if it has one.
func (s *setup) monetary(t *testing.T) string {
	for _, locale := range []string{"ja_JP.utf8", "ja_JP.UTF-8", "ko_KR.utf8"} {
		if _, err := s.db.DB.ExecContext(t.Context(), `SELECT set_config('lc_monetary', $1, true)`, locale); err == nil {
			return locale
		}
	}
	t.Log("the server has no locale whose money has no digits after the point")
	return hostile["lc_monetary"]
}

func (s *setup) dropRole(t *testing.T, role string) {
	if _, err := s.db.DB.Exec("DROP OWNED BY " + role + " CASCADE"); err != nil {
		t.Errorf("drop what the role owns: %v", err)
	}
	if _, err := s.db.DB.Exec("DROP ROLE " + role); err != nil {
		t.Errorf("drop the role: %v", err)
	}
}

// TestDatabaseEncoding has a database that is not in UTF8, whose names and values come in UTF8 all the same.
func TestDatabaseEncoding(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			s := newTyped(t, testenv.SharedPostgres(t).NewEncodedDatabase(t, encoding), shared(t))
			s.postgresURL = strings.Replace(s.db.URL, "&client_encoding=UTF8", "", 1) // the database's own then
			i := s.start(t, "run")
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			s.changeAll(t)
			s.awaitCaughtUp(t, i)
			s.checkSynced(t)
			s.start(t, "check").succeed(t)
			i.stop(t)
		})
	}
}

// TestBytesOfNoEncoding has values that are not UTF-8 in a database that does not say what its bytes mean: nothing
// stops at them, by the table, by the stream, and where a row is read again.
func TestBytesOfNoEncoding(t *testing.T) {
	t.Parallel()
	s := newSetupFor(t, testenv.SharedPostgres(t).NewEncodedDatabase(t, "SQL_ASCII"), shared(t))
	s.postgresURL = strings.Replace(s.db.URL, "&client_encoding=UTF8", "", 1)
	s.db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text, big text)`, `INSERT INTO a SELECT i, E'filled \xe9', `+large("i::text")+` FROM generate_series(1, 3) i`)
	s.index("a", "a", "")
	i := s.start(t, "run")
	s.awaitCaughtUp(t, i)
	s.db.Exec(t, `UPDATE a SET v = E'again \xe9' WHERE id = 2`, `INSERT INTO a VALUES (4, E'streamed \xe9', '')`, `INSERT INTO a VALUES (5, 'é', '')`)
	s.awaitCaughtUp(t, i)
	for id, want := range map[string]string{"1": "filled \uFFFD", "2": "again \uFFFD", "4": "streamed \uFFFD", "5": "é"} {
		if got := s.source(t, "a", id); !strings.Contains(got, want) {
			t.Errorf("document %s is %.80s, want %q in it", id, got, want)
		}
	}
	i.stop(t)
}
