package testenv

import (
	"context"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

// within bounds what a test waits for.
func within(t testing.TB, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do sends a request whose answer must be a success.
func do(t testing.TB, s *SearchServer, method, path, body string) []byte {
	t.Helper()
	status, answer, err := s.Do(t.Context(), method, path, []byte(body))
	if err != nil || status/100 != 2 {
		t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
	}
	return answer
}

// eachEngine runs a test against the engines asked for.
func eachEngine(t *testing.T, test func(t *testing.T, e Engine)) {
	for _, e := range Engines(t) {
		t.Run(string(e), func(t *testing.T) { test(t, e) })
	}
}
