package dbsync_test

import (
	"testing"
)

func TestGetMessages(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, table(0))
	s := newSyncer(t, db, "t")
	get := func(n int, consume bool) string {
		t.Helper()
		msgs, err := s.GetMessages(n, consume, nil)
		if err != nil {
			t.Fatal(err)
		}
		kinds := ""
		for _, m := range msgs {
			kinds += string(m.Data[:1])
		}
		return kinds
	}
	want := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got messages %q, want %q", got, want)
		}
	}
	want(get(10, false), "")
	db.Exec(t, "INSERT INTO t VALUES (1), (2)")
	want(get(100, false), "BRIIC")
	want(get(3, false), "BRI")
	want(get(100, false), "BRIIC")
	before := s.Position()
	if err := s.Forward(3); err != nil {
		t.Fatal(err)
	}
	want(get(100, false), "IC")
	if s.Position() != before {
		t.Error("the position moved inside a transaction")
	}
	want(get(100, true), "IC")
	if s.Position() <= before {
		t.Error("the position did not move at the end of the transaction")
	}
	want(get(100, false), "")
	if err := s.Forward(1); err == nil {
		t.Error("Forward beyond what was read gave no error")
	}
	db.Exec(t, "DELETE FROM t")
	want(get(100, true), "BDDC")

	// A new process starts where the last one ended.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "INSERT INTO t VALUES (3)")
	s.open(t)
	want(get(100, false), "BRIC")
}
