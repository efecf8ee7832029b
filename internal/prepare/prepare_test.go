package prepare

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/mapping/catalog"
	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// config is a mapping file with one index of table a.
func config(t testing.TB, databaseURL, searchURL, index string) *mapping.Config {
	t.Helper()
	c, err := mapping.Parse("t.yaml", fmt.Appendf(nil, "postgres: {url: %q, slot: s}\nsearch: {urls: [%q]}\nindices: {%s: {table: a}}\n", databaseURL, searchURL, index),
		func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// closedPort is an address of this machine that nobody listens on.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestUnreachable has neither server: both are waited for at the same time, for no longer
// than is allowed, and both are reported.
func TestUnreachable(t *testing.T) {
	database, engine := closedPort(t), closedPort(t)
	var lines strings.Builder
	log := slog.New(slog.NewTextHandler(&lines, nil)) // a handler writes one line at a time
	start := time.Now()
	_, err := prepare(t.Context(), config(t, "postgres://u:Top5ecret@"+database+"/d?sslmode=disable", "http://"+engine, "a"), log, 2*time.Second)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	unreachable, ok := errors.AsType[*UnreachableError](err)
	if !ok || unreachable.Address != database || unreachable.Waited > 2*time.Second {
		t.Errorf("got %v", err)
	}
	if cluster, ok := errors.AsType[*search.ConnectError](err); !ok || cluster.Kind != search.Unreachable {
		t.Errorf("got %v", err)
	}
	if is := errors.As(err, new(mapping.Problems)); is {
		t.Errorf("a server that is away counts as a mistake in the file: %v", err)
	}
	for _, want := range []string{"Postgres does not answer yet", "search server does not answer yet"} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("the log does not say: %s", want)
		}
	}
	if text := err.Error() + lines.String(); strings.Contains(text, "Top5ecret") {
		t.Errorf("the password is shown:\n%s", text)
	}
}

// TestClusterHasTooMuchToDo has the cluster answer everything after the greeting with 429 for
// a while, which must not be the end of a start.
func TestClusterHasTooMuchToDo(t *testing.T) {
	engine := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d := testenv.NewDatabase(t)
	d.Exec(t, "CREATE TABLE a (id int PRIMARY KEY)")
	proxy := engine.NewProxy(t)
	busy := proxy.Inject(testenv.Answer(429, 3, func(r *testenv.Request) bool { return r.Path != "/" }))
	p, err := prepare(t.Context(), config(t, d.URL, proxy.URL, engine.NewPrefix(t)+"a"), logger(t), 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if busy.Hits() != 3 {
		t.Errorf("%d answers of 429, want 3", busy.Hits())
	}
	// It is no longer waited for than is allowed.
	proxy.Inject(testenv.Answer(429, 0, func(r *testenv.Request) bool { return r.Path != "/" }))
	_, err = prepare(t.Context(), config(t, d.URL, proxy.URL, engine.NewPrefix(t)+"a"), logger(t), time.Second)
	if server, ok := errors.AsType[*search.ServerError](err); !ok || server.Status != 429 || dbsync.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
}

// TestServersThatComeLate has Postgres answer only after a while.
func TestServersThatComeLate(t *testing.T) {
	server := testenv.StartPostgres(t, testenv.PostgresOptions{})
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d := server.NewDatabase(t)
	d.Exec(t, "create table a (id int primary key)")
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	missed := make(chan struct{}, 100)
	started := make(chan error, 1)
	go func() {
		<-missed
		started <- server.Start(t.Context())
	}()
	log := slog.New(&onWarning{Handler: logger(t).Handler(), c: missed})
	p, err := Prepare(t.Context(), config(t, d.URL, search.URL, search.NewPrefix(t)+"a"), log)
	if e := <-started; e != nil {
		t.Fatal(e)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Client.Product().Version == "" || p.Tables[catalog.TableName{Schema: "public", Name: "a"}] == nil || p.Database.ServerVersion < 150000 ||
		p.Database.System == "" || p.Database.WALEnd == 0 || p.Database.Slot.Exists || len(p.Database.Wrong) > 0 || len(p.Database.Steps) != 5 {
		t.Errorf("found %+v and %+v", p, p.Database)
	}
}

// TestEndWhileWaiting ends while both servers are waited for.
func TestEndWhileWaiting(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("asked to end")
	missed := make(chan struct{}, 100)
	go func() {
		<-missed
		<-missed
		cancel(why)
	}()
	log := slog.New(&onWarning{Handler: logger(t).Handler(), c: missed})
	_, err := Prepare(ctx, config(t, "postgres://"+closedPort(t)+"/d", "http://"+closedPort(t), "a"), log)
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestUnusableDescription(t *testing.T) {
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	for text, want := range map[string]string{
		"host=127.0.0.1 port=Top5ecret":                                        "t.yaml:1: postgres.url: not a description of a Postgres connection",
		"host=127.0.0.1 password='Top5ecret":                                   "t.yaml:1: postgres.url: not a description of a Postgres connection",
		"postgres://u:Top5ecret@h/d?connect_timeout=soon":                      "t.yaml:1: postgres.url: not a description of a Postgres connection",
		"postgres://u:Top5ecret@h/d?sslmode=verify-full&sslrootcert=/none.pem": "t.yaml:1: postgres.url: it asks for file /none.pem: no such file or directory",
	} {
		_, err := prepare(t.Context(), config(t, text, search.URL, "a"), logger(t), time.Second)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "Top5ecret") {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// TestPublicationOfAnotherMaker has one that would leave changes out.
func TestPublicationOfAnotherMaker(t *testing.T) {
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d := testenv.NewDatabase(t)
	d.Exec(t, "create table a (id int primary key, hidden bool)", "create table p (id int primary key) partition by hash (id)", "create table p0 partition of p for values with (modulus 1, remainder 0)",
		"create schema dbsync_ctrl", "create table dbsync_ctrl.dbsync_wmtable (slot text PRIMARY KEY, token text NOT NULL, at timestamptz NOT NULL DEFAULT now())",
		"create publication dbsync_mypub for table a where (id > 1), p, dbsync_ctrl.dbsync_wmtable with (publish = 'insert, update')")
	name := search.NewPrefix(t)
	c, err := mapping.Parse("t.yaml", fmt.Appendf(nil, "postgres: {url: %q, slot: %s}\nsearch: {urls: [%q]}\nindices: {%sa: {table: a}, %sp: {table: p}}\n", d.URL, d.Unique("s"), search.URL, name, name),
		func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	_, err = Prepare(t.Context(), c, logger(t))
	const want = `t.yaml:1: postgres: publication dbsync_mypub leaves out some kinds of change
    hint: ALTER PUBLICATION "dbsync_mypub" SET (publish = 'insert, update, delete, truncate');
t.yaml:1: postgres: publication dbsync_mypub gives changes of "public"."p" under the names of partitions
    hint: ALTER PUBLICATION "dbsync_mypub" SET (publish_via_partition_root = true);
t.yaml:1: postgres: publication dbsync_mypub has a row filter on "public"."a", so that some changes would be missing
    hint: ALTER PUBLICATION "dbsync_mypub" DROP TABLE ONLY "public"."a"; ALTER PUBLICATION "dbsync_mypub" ADD TABLE ONLY "public"."a";`
	problems, ok := errors.AsType[mapping.Problems](err)
	if !ok || err.Error() != want {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
	for _, p := range problems {
		d.Exec(t, p.Hint)
	}
	p, err := Prepare(t.Context(), c, logger(t))
	if err != nil {
		t.Fatalf("after the fixes: %v", err)
	}
	p.Close()
}

// TestSlotOfAnotherKind has the name of the slot taken by something else.
func TestSlotOfAnotherKind(t *testing.T) {
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d := testenv.NewDatabase(t)
	slot := d.Unique("s")
	d.Exec(t, "create table a (id int primary key)", "select pg_create_physical_replication_slot('"+slot+"')")
	t.Cleanup(func() {
		d.DB.ExecContext(context.WithoutCancel(t.Context()), "select pg_drop_replication_slot($1)", slot)
	})
	c := config(t, d.URL, search.URL, search.NewPrefix(t)+"a")
	c.Postgres.Slot = slot
	_, err := Prepare(t.Context(), c, logger(t))
	if err == nil || !strings.Contains(err.Error(), "postgres: slot "+slot+" is one of physical replication\n    hint: choose another slot name") {
		t.Errorf("got %v", err)
	}
}

// TestSyncerOptions holds the names of tables against what dbsync makes of them.
func TestSyncerOptions(t *testing.T) {
	d := testenv.NewDatabase(t)
	d.Exec(t, `create schema "Weird.""S"; create table "Weird.""S"."T.x" (id int primary key)`)
	c := config(t, d.URL, "http://127.0.0.1:9", "a")
	c.Postgres.Slot = d.Unique("s")
	name := catalog.TableName{Schema: `Weird."S`, Name: "T.x"}
	c.Indices[0].Sources[0].Table = name
	c.Indices = append(c.Indices, c.Indices[0]) // a table of two indices is published once
	s, err := dbsync.NewSyncerContext(t.Context(), SyncerOptions(c, catalog.Tables{name: {Schema: name.Schema, Name: name.Name}}, logger(t))...)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var tables int
	if err := d.DB.QueryRowContext(t.Context(), "select count(*) from pg_publication_tables where pubname = 'dbsync_mypub'").Scan(&tables); err != nil || tables != 2 {
		t.Errorf("%d tables are published, %v", tables, err)
	}
}

// onWarning tells of each warning.
type onWarning struct {
	slog.Handler
	c chan<- struct{}
}

func (h *onWarning) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		select {
		case h.c <- struct{}{}:
		default:
		}
	}
	return h.Handler.Handle(ctx, r)
}

// TestConditionsOfIncludes has Postgres refuse several conditions: all of them are reported
// at once, each at its key.
func TestConditionsOfIncludes(t *testing.T) {
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d := testenv.NewDatabase(t)
	d.Exec(t, "create table a (id int primary key)", "create table b (id int primary key, a_id int, n int)", "alter table b replica identity full")
	text := fmt.Sprintf(`postgres: {url: %q, slot: s}
search: {urls: [%q]}
indices:
  %s:
    table: a
    include:
      one: {table: b, on: {id: a_id}, aggregate: count, where: nothing > 1}
      two: {table: b, on: {id: a_id}, aggregate: count, where: n > $1}
      three: {table: b, on: {id: a_id}, aggregate: count, where: n > 1) or (true}
      four: {table: b, on: {id: a_id}, aggregate: count, where: n > 'x'}
`, d.URL, search.URL, search.NewPrefix(t)+"a")
	c, err := mapping.Parse("t.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	_, err = prepare(t.Context(), c, logger(t), time.Second)
	problems, ok := errors.AsType[mapping.Problems](err)
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Text[strings.Index(p.Text, "include."):]))
	}
	want := []string{
		`7 include.one.where: Postgres refuses it: column "nothing" does not exist`,
		`8 include.two.where: Postgres refuses it: it has parameters ($1), for which there are no values`,
		`10 include.four.where: Postgres refuses it: invalid input syntax for type integer: "x"`,
	}
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestAlteredMeanwhile has a migration end after the catalog was read and before Postgres plans the
// statements that were made by it.
func TestAlteredMeanwhile(t *testing.T) {
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d := testenv.NewDatabase(t)
	d.Exec(t, "create table a (id int primary key)", "create table b (id int primary key, a_id int, before int)", "alter table b replica identity full")
	c, err := mapping.Parse("t.yaml", fmt.Appendf(nil, "postgres: {url: %q, slot: s}\nsearch: {urls: [%q]}\nindices: {%s: {table: a, include: {bs: {table: b, on: {id: a_id}, many: object}}}}\n",
		d.URL, search.URL, search.NewPrefix(t)+"a"), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	tx, err := d.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() // committed by then
	if _, err := tx.ExecContext(t.Context(), "alter table b rename column before to after"); err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1)
	go func() {
		// The first that waits for the lock has read the catalog.
		for waits := false; !waits; {
			if err := d.DB.QueryRowContext(t.Context(), "select exists (select from pg_locks where not granted and relation = 'b'::regclass)").Scan(&waits); err != nil {
				committed <- err
				return
			}
		}
		committed <- tx.Commit()
	}()
	p, err := Prepare(t.Context(), c, logger(t))
	if e := <-committed; e != nil {
		t.Fatal(e)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Tables[catalog.TableName{Schema: "public", Name: "b"}].Column("after") == nil {
		t.Error("the tables are those from before the migration")
	}
}

// TestConnectionPooler has PgBouncer before the database: it is a mistake in the file, said at once and with
// its line.
func TestConnectionPooler(t *testing.T) {
	db := testenv.NewDatabase(t)
	for _, settings := range []map[string]string{{"pool_mode": "session"}, {"pool_mode": "transaction"}} {
		c := config(t, db.Postgres.NewPgBouncer(t, settings).URL(db.URL), "http://127.0.0.1:1", "a")
		start := time.Now()
		_, err := connectPostgres(t.Context(), c, logger(t), time.Minute)
		problems, ok := errors.AsType[mapping.Problems](err)
		if !ok || len(problems) != 1 || problems[0].Line != 1 || !strings.Contains(problems[0].Text, "pooler") || !strings.Contains(problems[0].Hint, "Postgres itself") {
			t.Errorf("%s: got %v", settings["pool_mode"], err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: it took %s to say so", settings["pool_mode"], took)
		}
	}
}
