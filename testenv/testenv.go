// Package testenv gives tests, the demo and the benchmarks real Postgres, real
// search servers and a real Kafka, and has them fail on demand.
//
// Where a server comes from, in this order:
//
//  1. Environment variables that name a running one: TIDEMARK_TEST_POSTGRES_URL
//     (a superuser's), TIDEMARK_TEST_OPENSEARCH_URL, TIDEMARK_TEST_ELASTICSEARCH8_URL
//     and so on, see [Engine.URLVariable], and TIDEMARK_TEST_KAFKA_BROKERS.
//  2. Docker, where an engine answers and has or gets the image;
//     TIDEMARK_TEST_DOCKER=0 passes it over.
//  3. Processes on this machine: Postgres as it is installed, else from a Maven
//     artifact; search servers and Kafka from Maven artifacts, run by a Java development
//     kit (OpenSearch 3 and Elasticsearch 9 need version 21). Downloads go to TIDEMARK_CACHE
//     (default: a folder in the user's cache), once for all processes.
//
// [NewDatabase], [SharedSearch] and [SharedKafka] share one server among the tests of a
// process, [StartPostgres], [StartSearch] and [StartKafka] give one to stop, kill and
// configure. Several may run at a time; all listen on free ports of 127.0.0.1.
//
// No server outlives the process that started it, not even one that is killed,
// and temporary folders go with it (see supervisor.go). As root servers run as
// the user nobody.
//
// TIDEMARK_TEST_ENGINES names the engines that suites run against, or all (default:
// opensearch). TIDEMARK_TEST_REQUIRE=1 makes a test fail instead of being
// skipped where a prerequisite is absent. With go test -short no server is started
// and no test may use one: they are skipped, whatever else is set.
package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// bootLimit bounds the start of a server including its download.
const bootLimit = 10 * time.Minute

// A MissingError names a prerequisite that this machine lacks.
type MissingError struct {
	What string // is missing
	Hint string // what to do about it
}

func (e *MissingError) Error() string { return fmt.Sprintf("%s is missing: %s", e.What, e.Hint) }

// SkipShort skips a test that takes servers where the tests are run by go test -short.
// What gives a test a server calls it; a test that comes by one otherwise does so itself.
func SkipShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes servers, which -short leaves out")
	}
}

// skipOrFail ends the test for an error of a start: it is skipped only for want
// of a prerequisite.
func skipOrFail(t testing.TB, err error) {
	t.Helper()
	var missing *MissingError
	if errors.As(err, &missing) && os.Getenv("TIDEMARK_TEST_REQUIRE") != "1" {
		t.Skip(err)
	}
	t.Fatal(err)
}

// Lacks ends a test for want of something that this machine lacks: it is skipped, or fails with
// TIDEMARK_TEST_REQUIRE=1.
func Lacks(t testing.TB, what, hint string) {
	t.Helper()
	skipOrFail(t, &MissingError{What: what, Hint: hint})
}

// Main runs the tests of a package, ends the servers they shared, and fails if
// goroutines are left over then. Use it as the whole of TestMain.
//
// Without it the shared servers end just the same, a moment after the process.
func Main(m *testing.M, leaks ...goleak.Option) {
	code := m.Run()
	if err := CloseShared(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv: end shared servers:", err)
		code = max(code, 1)
	}
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(leaks...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// A sharedServer is started by whoever first asks for it.
type sharedServer[S interface{ Close() error }] struct {
	mu     sync.Mutex
	server S
	is     bool
	err    error
}

func (s *sharedServer[S]) get(start func(ctx context.Context) (S, error)) (S, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.is && s.err == nil {
		// Not the asking test's context: the server outlives that test.
		ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
		defer cancel()
		s.server, s.err = start(ctx)
		s.is = s.err == nil
	}
	return s.server, s.err
}

func (s *sharedServer[S]) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.is {
		return nil
	}
	s.is = false
	return s.server.Close()
}

var (
	sharedPostgres sharedServer[*Postgres]
	sharedKafka    sharedServer[*Kafka]
	sharedSearch   = map[Engine]*sharedServer[*SearchServer]{
		OpenSearch3: {}, OpenSearch2: {}, OpenSearch1: {}, Elasticsearch9: {}, Elasticsearch8: {}, Elasticsearch7: {},
	}
)

var (
	laterMu sync.Mutex
	later   []func() error
)

// AtEnd has f called when the tests of this process are over: what they share and
// is no server goes then.
func AtEnd(f func() error) {
	laterMu.Lock()
	defer laterMu.Unlock()
	later = append(later, f)
}

// CloseShared ends the shared servers of this process, and does what AtEnd was told;
// [Main] calls it.
func CloseShared() error {
	errs := []error{sharedPostgres.close(), sharedKafka.close()}
	laterMu.Lock()
	defer laterMu.Unlock()
	for _, f := range later {
		errs = append(errs, f())
	}
	later = nil
	for _, s := range sharedSearch {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}
