// Package e2e runs the command as its users do: a child process of its own, on real
// servers, with a mapping file; and compares tables with indices when it has caught up.
//
// TIDEMARK_E2E_LONG=1 has the loads larger and the repetitions more. Random tests
// print their seed; TIDEMARK_E2E_SEED repeats one.
package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"tidemark/testenv"
)

func TestMain(m *testing.M) {
	// The tests wait for servers, and for the next look at the catalog: more of them fit than there
	// are processors.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel != nil && parallel.Value.String() == parallel.DefValue {
		_ = parallel.Value.Set("6")
	}
	testenv.Main(m)
}

// The command is built once for all tests, with the race detector and without.
var (
	buildRaced = sync.OnceValues(func() (string, error) { return build("-race") })
	buildPlain = sync.OnceValues(func() (string, error) { return build() })
)

func build(flags ...string) (string, error) {
	folder, err := os.MkdirTemp("", "tidemark-e2e-")
	if err != nil {
		return "", err
	}
	testenv.AtEnd(func() error { return os.RemoveAll(folder) })
	path := filepath.Join(folder, "tidemark")
	args := append([]string{"build", "-o", path}, flags...)
	out, err := exec.Command("go", append(args, "tidemark")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// binary is the path of the command, with the race detector if the tests have it.
func binary(t testing.TB) string {
	t.Helper()
	if !raced {
		return plainBinary(t)
	}
	path, err := buildRaced()
	must(t, err)
	return path
}

// plainBinary is the path of the command without the race detector, which takes memory.
func plainBinary(t testing.TB) string {
	t.Helper()
	path, err := buildPlain()
	must(t, err)
	return path
}

// long reports whether the tests may take their time.
var long = os.Getenv("TIDEMARK_E2E_LONG") == "1"

// pick is n, or much where the tests may take their time.
func pick[N any](n, much N) N {
	if long {
		return much
	}
	return n
}

// newSeed is printed, so that the random choices of a test can be had again.
func newSeed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("TIDEMARK_E2E_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("TIDEMARK_E2E_SEED: %v", err)
		}
	}
	t.Logf("TIDEMARK_E2E_SEED=%d repeats these choices", seed)
	return seed
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// took logs how long something takes: defer took(t, "this")().
func took(t testing.TB, what string) func() {
	start := time.Now()
	return func() { t.Logf("%s took %s", what, time.Since(start).Round(time.Millisecond)) }
}

// eachEngine runs a test against the engines asked for.
func eachEngine(t *testing.T, test func(t *testing.T, e testenv.Engine)) {
	for _, e := range testenv.Engines(t) {
		t.Run(string(e), func(t *testing.T) { test(t, e) })
	}
}

// shared is the search server of tests that do not have to be run against every engine.
func shared(t testing.TB) *testenv.SearchServer {
	t.Helper()
	return testenv.SharedSearch(t, testenv.Engines(t)[0])
}
