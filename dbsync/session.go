package dbsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A setting is one that all our sessions have, whatever role, database and connection string
// say: the replication session, those of the pool, and those that look at the database before
// anything is made. docs/sessions.md says what each would break.
type setting struct {
	name, value string
	kind        settingKind
}

type settingKind byte

const (
	// reads: it changes what a read gives, or which text a value has. It is looked at again in the
	// transaction that reads documents.
	reads settingKind = iota
	// works: it changes whether a statement works, or how fast.
	works
	// some servers have it, by their version. One that does not refuses to be connected to
	// with it, so it is set afterwards.
	some
)

var settings = []setting{
	// How values are written.
	{"client_encoding", "UTF8", reads},
	{"TimeZone", "UTC", reads},
	{"DateStyle", "ISO, YMD", reads},
	{"IntervalStyle", "postgres", reads},
	{"extra_float_digits", "1", reads},
	{"bytea_output", "hex", reads},
	{"lc_monetary", "C", reads},
	{"xmlbinary", "base64", reads},
	{"xmloption", "content", reads},
	{"quote_all_identifiers", "off", reads},
	{"standard_conforming_strings", "on", reads},
	{"array_nulls", "on", reads},
	{"transform_null_equals", "off", reads},

	// What is read.
	{"search_path", `"$user", public`, reads},
	// A policy that hides rows from this role gives an error, not an empty table.
	{"row_security", "off", reads},
	// An index of type GIN would give as many rows as this, at random.
	{"gin_fuzzy_search_limit", "0", reads},
	// What the role may do is what the messages about it say.
	{"role", "none", reads},

	// What is a transaction.
	{"default_transaction_read_only", "off", works},
	{"default_transaction_isolation", "read committed", works},
	{"default_transaction_deferrable", "off", works},
	// Our own commits must not hang with a synchronous standby that does not answer:
	// watermarks are what finds out which commits do.
	{"synchronous_commit", "local", works},
	{"default_table_access_method", "heap", works}, // of the control schema, whose rows are updated

	// A role's own limits are meant for people and applications.
	{"statement_timeout", "0", works},
	{"lock_timeout", "0", works},
	{"idle_in_transaction_session_timeout", "0", works},
	{"idle_session_timeout", "0", works},
	{"transaction_timeout", "0", some}, // 17 and newer
	{"exit_on_error", "off", works},
	{"restrict_nonsystem_relation_kind", "", some}, // minor versions since August 2024

	// How it is found. To compile a statement takes longer than any of ours runs for: half a second and more
	// where the one that reads the catalog takes five milliseconds.
	{"jit", "off", works},
	{"plan_cache_mode", "auto", works},
	{"enable_seqscan", "on", works},
	{"enable_indexscan", "on", works},
	{"enable_indexonlyscan", "on", works},
	{"enable_bitmapscan", "on", works},
	{"enable_tidscan", "on", works},
	{"enable_sort", "on", works},
	{"enable_incremental_sort", "on", works},
	{"enable_nestloop", "on", works},
	{"enable_hashjoin", "on", works},
	{"enable_mergejoin", "on", works},
	{"enable_hashagg", "on", works},
	{"enable_material", "on", works},
	{"enable_memoize", "on", works},
	{"enable_partition_pruning", "on", works},

	// What the server tells: a warning that the publication is missing comes as a notice.
	{"client_min_messages", "notice", works},
	{"check_function_bodies", "on", works},
}

// connectTimeout bounds a connection attempt, and the first statement of a session.
const connectTimeout = 10 * time.Second

// SessionOptions say what sessions are for.
type SessionOptions struct {
	// Name is the application_name where the connection string has none (default "dbsync").
	Name string
	// StatementTimeout ends a statement that takes longer, 0: none does. Rounded to milliseconds.
	StatementTimeout time.Duration
}

// sessionConfig parses a connection string, adds the settings, and has each session show that it
// has them before it is used.
func sessionConfig(connStr string, o SessionOptions) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(connStr)
	if err != nil {
		return nil, fmt.Errorf("connection string of Postgres: %w", err)
	}
	wanted := sessionSettings(o)
	// Settings of the connection string that have our names are replaced whatever their case. Those in
	// its options count less than those beside them.
	maps.DeleteFunc(cfg.RuntimeParams, func(name, _ string) bool { return wanted.has(name) })
	for _, s := range wanted {
		if s.kind != some {
			cfg.RuntimeParams[s.name] = s.value
		}
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "dbsync"
		if o.Name != "" {
			cfg.RuntimeParams["application_name"] = o.Name
		}
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	probe := cfg.Config.Copy()
	cfg.DialFunc = dialWatched
	shared := new(sharedSessions)
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		if shared.lately() {
			return sharedProblem()
		}
		state, err := establish(ctx, conn, wanted)
		if err != nil {
			return err
		}
		state.shared = shared
		conn.CustomData()[sessionKey] = state
		watchConn(conn, state, probe)
		return nil
	}
	return cfg, nil
}

// settingList are settings in the order in which the server is asked for them.
type settingList []setting

func sessionSettings(o SessionOptions) settingList {
	list := settingList(append([]setting(nil), settings...))
	for i := range list {
		if list[i].name == "statement_timeout" && o.StatementTimeout > 0 {
			list[i].value = fmt.Sprint(o.StatementTimeout.Milliseconds())
		}
	}
	return list
}

// in returns the settings for a database of that encoding. One in SQL_ASCII says nothing of what its bytes mean,
// and converts none: asked for UTF8, it ends the stream at the first value that is not. So it
// gives them as they are, and what is not UTF-8 becomes U+FFFD in the document.
func (l settingList) in(encoding string) settingList {
	if encoding != "SQL_ASCII" {
		return l
	}
	list := append(settingList(nil), l...)
	for i := range list {
		if list[i].name == "client_encoding" {
			list[i] = setting{"client_encoding", "SQL_ASCII", some}
		}
	}
	return list
}

func (l settingList) has(name string) bool {
	for _, s := range l {
		if strings.EqualFold(s.name, name) {
			return true
		}
	}
	return false
}

// sessionKey is where a connection has its session's state, see pgconn.PgConn.CustomData.
const sessionKey = "dbsync.session"

// session is what a connection was when it was made.
type session struct {
	wanted  settingList
	backend string // the server's process: pid and when it began
	pid     uint32
	looked  time.Time // when it was last looked at; for who has the connection
	shared  *sharedSessions
}

// sharedSessions remembers when a connection was found to lead to another session of the server than
// before. New ones are of no use then: who connects is told for a minute.
type sharedSessions struct{ seen atomic.Int64 } // in nanoseconds since 1970

func (s *sharedSessions) lately() bool {
	return time.Since(time.Unix(0, s.seen.Load())) < time.Minute
}

func sharedProblem() *SetupError {
	return poolerProblem("two statements on one connection ran in two sessions of the server", nil)
}

// backendOf reads the process of the server that answers. Its pid alone may be another one's by now.
const backendOf = "(SELECT pg_catalog.concat(pid, ' ', backend_start) FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()))"

// columns is a select list that gives the process and the settings of a session, for differences.
func (l settingList) columns(only ...settingKind) string {
	var b strings.Builder
	b.WriteString(backendOf)
	for _, s := range l {
		if s.among(only) {
			b.WriteString(", pg_catalog.current_setting('" + s.name + "', true)")
		}
	}
	return b.String()
}

func (s setting) among(kinds []settingKind) bool {
	return len(kinds) == 0 || slices.Contains(kinds, s.kind)
}

// is reports whether the server's text is the value; nil: it has no such setting.
func (s setting) is(text []byte) bool {
	if text == nil {
		return s.kind == some
	}
	if s.name == "statement_timeout" { // 30000 comes back as 30s
		return s.value == "0" == (string(text) == "0")
	}
	return string(text) == s.value
}

// A wrongSetting is one that a session does not have as it should.
type wrongSetting struct {
	setting
	found string
}

// differences compares what columns gave, without the process.
func (l settingList) differences(row [][]byte, only ...settingKind) (wrong []wrongSetting) {
	for _, s := range l {
		if !s.among(only) {
			continue
		}
		if text := row[0]; !s.is(text) {
			wrong = append(wrong, wrongSetting{s, string(text)})
		}
		row = row[1:]
	}
	return wrong
}

// establish makes sure that a new session has the settings, and returns what it is. What a login
// trigger of the database has set is set again; what somebody between us and the server keeps from
// it, or takes from it later, is refused.
//
// The replication session takes no other protocol than the simple one.
func establish(ctx context.Context, conn *pgconn.PgConn, wanted settingList) (*session, error) {
	wanted = wanted.in(conn.ParameterStatus("server_encoding"))
	for attempt := 1; ; attempt++ {
		row, err := oneRow(ctx, conn, "SELECT pg_catalog.pg_backend_pid(), "+wanted.columns())
		if err != nil {
			return nil, fmt.Errorf("look at the settings of the session: %w", err)
		}
		s := &session{wanted: wanted, backend: string(row[1]), looked: time.Now()}
		if _, err := fmt.Sscan(string(row[0]), &s.pid); err != nil {
			return nil, fmt.Errorf("read the process of the session: %w", err)
		}
		wrong := wanted.differences(row[2:])
		if len(wrong) == 0 {
			return s, nil
		}
		for _, w := range wrong {
			if w.kind != some && s.pid != conn.PID() { // which the connection string has, and the server has not heard of
				return nil, poolerProblem(fmt.Sprintf("%s is %s in the session that Postgres has, not %s as was asked for", w.name, shown(w.found), shown(w.value)), nil)
			}
		}
		if attempt == 2 {
			return nil, &SetupError{Text: fmt.Sprintf("the session's %s is %s and cannot be set to %s", wrong[0].name, shown(wrong[0].found), shown(wrong[0].value)),
				Hint: "look for what sets it: a login trigger, SELECT evtname FROM pg_event_trigger WHERE evtevent = 'login'; or an extension"}
		}
		var set []string
		for _, w := range wrong {
			set = append(set, "pg_catalog.set_config('"+w.name+"', '"+w.value+"', false)")
		}
		if _, err := oneRow(ctx, conn, "SELECT "+strings.Join(set, ", ")); err != nil {
			return nil, fmt.Errorf("set the settings of the session: %w", err)
		}
	}
}

func shown(value string) string {
	if value == "" {
		return "empty"
	}
	return value
}

// oneRow executes a statement that gives one row.
func oneRow(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]byte, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return nil, errors.New("the server gave no row")
	}
	return results[0].Rows[0], nil
}

// A SessionError reports a session that has not the settings any more that it was made with: a
// function that ran in it has set something, say. It is not used again, and another one is made.
type SessionError struct{ Setting, Found string }

func (e *SessionError) Error() string {
	return fmt.Sprintf("the session's %s has become %s", e.Setting, shown(e.Found))
}

// sessionOf returns what a connection was when it was made; nil where it is none of ours.
func sessionOf(conn *pgconn.PgConn) *session {
	s, _ := conn.CustomData()[sessionKey].(*session)
	return s
}

// check compares what columns gave with what the session was.
func (s *session) check(row [][]byte, only ...settingKind) error {
	if len(row) == 0 || string(row[0]) != s.backend {
		s.shared.seen.Store(time.Now().UnixNano())
		return sharedProblem()
	}
	if wrong := s.wanted.differences(row[1:], only...); len(wrong) > 0 {
		return &SessionError{Setting: wrong[0].name, Found: wrong[0].found}
	}
	return nil
}

// reported are the settings that a server reports whenever they change, so that looking costs nothing.
var reported = []string{"client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings", "default_transaction_read_only"}

// lookInterval is how long a session is taken for what it was when it was last looked at. It
// takes the place of the ping that a connection gets which was not used for as long.
const lookInterval = time.Second

// checkAgain looks whether a connection of the pool still has its session, before it is used again.
func checkAgain(ctx context.Context, conn *pgconn.PgConn) error {
	s := sessionOf(conn)
	if s == nil {
		return nil
	}
	for _, w := range s.wanted {
		for _, name := range reported {
			if name == w.name && conn.ParameterStatus(name) != "" && conn.ParameterStatus(name) != w.value {
				return &SessionError{Setting: name, Found: conn.ParameterStatus(name)}
			}
		}
	}
	// Where somebody gives out process numbers in the server's stead it is looked at every time.
	if time.Since(s.looked) < lookInterval && s.pid == conn.PID() {
		return nil
	}
	row, err := oneRow(ctx, conn, "SELECT "+s.wanted.columns())
	if err != nil {
		return err
	}
	s.looked = time.Now()
	return s.check(row)
}

// poolerProblem says that something between us and the server does not pass on sessions as they are.
func poolerProblem(text string, err error) *SetupError {
	return &SetupError{Text: "what answers is not Postgres itself, but a connection pooler before it: " + text, Err: err,
		Hint: "name host and port of Postgres itself; logical replication, session settings and LISTEN do not go through PgBouncer, Pgpool-II, PgCat or their like"}
}

// SessionProblem returns why no session as ours can be had at all where err, of connecting, says
// so: a connection pooler is in between. nil: it says something else.
func SessionProblem(err error) *SetupError {
	if refused, ok := errors.AsType[*SetupError](err); ok {
		return refused
	}
	refused, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return nil
	// Postgres says 42704, unrecognized configuration parameter.
	case refused.Code == "08P01" && strings.Contains(refused.Message, "startup parameter"):
		return poolerProblem("it refuses what Postgres takes", refused)
	}
	return nil
}
