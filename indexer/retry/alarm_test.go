package retry

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestAlarm(t *testing.T) {
	var log bytes.Buffer
	a := NewAlarm(slog.New(slog.NewTextHandler(&log, nil)))
	first := a.Raise("index p is closed", "first")
	second := a.Raise("index p is closed", "second")
	other := a.Raise("search server refuses the credentials", "401")
	second.Again("third")

	reasons := a.Reasons()
	if len(reasons) != 2 || reasons[0].Key != "index p is closed" || reasons[0].Text != "third" || reasons[0].Since.IsZero() {
		t.Errorf("reasons %+v", reasons)
	}
	first.Release()
	first.Release()
	first.Again("no longer ours")
	if r := a.Reasons(); len(r) != 2 || r[0].Text != "third" {
		t.Errorf("after one of two holders has let go: %+v", r)
	}
	second.Release()
	other.Release()
	if r := a.Reasons(); len(r) != 0 {
		t.Errorf("after all have let go: %+v", r)
	}
	// Said once, not with every attempt; and once that it is over.
	if n := strings.Count(log.String(), `msg="writing is held back"`); n != 2 {
		t.Errorf("%d lines that writing is held back, want 2:\n%s", n, log.String())
	}
	if n := strings.Count(log.String(), `msg="writing goes on"`); n != 2 {
		t.Errorf("%d lines that writing goes on, want 2:\n%s", n, log.String())
	}
}
