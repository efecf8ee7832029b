package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"tidemark/testenv"
)

// TestRounds has a round of what is mild, after which index and table are equal; and then a
// document that is not its row's, which is found.
func TestRounds(t *testing.T) {
	t.Parallel()
	o := options{seed: 11, faults: "kill,terminate,walsender,cut,slow,lost,refused,items-refused,reindex"}
	tryRounds(t, o, "kill for")
}

// TestRoundsThroughKafka is the same by way of Kafka, whose broker and workers are hit.
func TestRoundsThroughKafka(t *testing.T) {
	t.Parallel()
	o := options{seed: 17, kafka: true, faults: "kill,lost,refused,reindex,broker-killed,broker-paused,worker-killed,worker-paused,worker-leaves,worker-joins,worker-cut"}
	tryRounds(t, o, "kill for", "broker-killed for", "broker-paused for", "worker-joins for")
}

// tryRounds has a round of what the options say, among it some faults, and then one of nothing but a document that is not its row's.
func tryRounds(t *testing.T, o options, faults ...string) {
	t.Helper()
	testenv.SkipShort(t)
	folder, err := os.MkdirTemp("", "tidemark-chaos-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var out bytes.Buffer
	failed := false
	j := newJournal(&out, func() { failed = true })
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(out.String())
		}
	})
	o.length, o.engine, o.first, o.patience = time.Nanosecond, testenv.Engines(t)[0], 1, 4*time.Minute
	s, err := open(ctx, o, folder, j)
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	kinds, err := o.chooseKinds()
	if err != nil {
		t.Fatal(err)
	}
	rounds, err := s.run(ctx, o, kinds)
	if err != nil || rounds != 1 || failed {
		t.Fatalf("%d rounds: %v, %q", rounds, err, j.failures())
	}
	if s.watch.checked == 0 || s.watch.seen == 0 {
		t.Errorf("%d markers and %d versions were looked at", s.watch.checked, s.watch.seen)
	}
	text := out.String()
	for _, want := range append(faults, "round 1: ", "transactions were made", "equal, ") {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}

	err = s.withInstances(ctx, func(ctx context.Context) error {
		if err := s.awaitEqual(ctx, o.patience, true); err != nil {
			return err
		}
		if err := s.call(ctx, http.MethodPut, "/events/_doc/stray", `{"id":-1}`); err != nil {
			return err
		}
		return s.awaitEqual(ctx, o.patience, true)
	})
	if found := j.failures(); err == nil || len(found) != 1 || !strings.Contains(found[0], `"stray"`) {
		t.Errorf("a stray document: %v, %q", err, found)
	}
}
