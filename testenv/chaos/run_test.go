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

// TestRounds has two rounds of what is mild, after which index and table are equal; and then a
// document that is not its row's, which is found.
func TestRounds(t *testing.T) {
	t.Parallel()
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
	o := options{seed: 11, length: time.Nanosecond, engine: testenv.Engines(t)[0], first: 1, patience: 4 * time.Minute}
	s, err := open(ctx, o, folder, j)
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	o.faults = "kill,terminate,walsender,cut,slow,lost,refused,items-refused,reindex"
	mild, err := o.chooseKinds()
	if err != nil {
		t.Fatal(err)
	}
	rounds, err := s.run(ctx, o, mild)
	if err != nil || rounds != 1 || failed {
		t.Fatalf("%d rounds: %v, %q", rounds, err, j.failures())
	}
	if s.watch.checked == 0 || s.watch.seen == 0 {
		t.Errorf("%d markers and %d versions were looked at", s.watch.checked, s.watch.seen)
	}
	text := out.String()
	for _, want := range []string{"round 1: ", "transactions were made", "equal, "} {
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
