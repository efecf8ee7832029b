package control

import (
	"errors"
	"testing"
	"time"

	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
)

func TestDrift(t *testing.T) {
	mark := func(n int64, token string) search.Mark { return search.Mark{Number: n, Token: token} }
	index := func(incarnation string, m search.Mark) *search.IndexInfo {
		return &search.IndexInfo{Incarnation: incarnation, Stamp: &search.Stamp{Mark: m}}
	}
	noted := Marking{Incarnation: "u", Mark: mark(7, "seven")}
	renewing := noted
	renewing.Next = "eight"
	fresh := Marking{Mark: mark(1, "one")} // made, and not looked at yet
	for name, test := range map[string]struct {
		noted Marking
		index *search.IndexInfo
		want  Drift
	}{
		"as it was left":                               {noted, index("u", mark(7, "seven")), Together},
		"before the next mark came to the index":       {renewing, index("u", mark(7, "seven")), Together},
		"after it came there":                          {renewing, index("u", mark(8, "eight")), Together},
		"just made":                                    {fresh, index("u", mark(1, "one")), Together},
		"of a version without marks":                   {Marking{}, &search.IndexInfo{Incarnation: "u"}, Together},
		"the first mark came to one of these":          {Marking{Next: "one"}, index("u", mark(1, "one")), Together},
		"_meta was replaced":                           {noted, &search.IndexInfo{Incarnation: "u"}, Unmarked},
		"deleted and restored":                         {noted, index("v", mark(7, "seven")), IndexBack},
		"closed and restored":                          {noted, index("u/h", mark(7, "seven")), IndexBack},
		"restored without a mark":                      {noted, &search.IndexInfo{Incarnation: "u/h"}, IndexBack},
		"the cluster was set back":                     {noted, index("u", mark(5, "five")), IndexBack},
		"the database was set back":                    {noted, index("u", mark(9, "nine")), SchemaBack},
		"the database was set back by one":             {noted, index("u", mark(8, "eight")), SchemaBack},
		"set back, and went on from there":             {noted, index("u", mark(7, "another seven")), SchemaBack},
		"set back while the next mark was being noted": {renewing, index("u", mark(8, "another eight")), SchemaBack},
		"set back to before the index had a mark":      {Marking{}, index("u", mark(3, "three")), SchemaBack},
	} {
		if got := test.noted.Drift(test.index); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

// A mark is noted on this side before and after it is put into the index, and another process that
// has noted one since is noticed.
func TestMarkings(t *testing.T) {
	ctx := searchtest.Within(t, time.Minute)
	db := newMigrated(t)
	m := Open(db.DB, "ctrl", "slot").Markings()
	made, err := m.Add(ctx, "t", "t-1")
	if err != nil || made.Mark.Number != 1 || made.Mark.Token == "" {
		t.Fatalf("%+v, %v", made, err)
	}
	i := &search.IndexInfo{Incarnation: "u", Stamp: &search.Stamp{Mark: made.Mark}}
	begun, next := made.Renewed(i)
	if err := m.Note(ctx, "t", made, begun); err != nil || next.Number != 2 || begun.Mark != made.Mark {
		t.Fatalf("%+v, %+v, %v", begun, next, err)
	}
	// The process ends when the mark is in the index, and the next one goes on from there.
	i.Stamp.Mark = next
	all, err := m.Read(ctx, "t")
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	found := all["t-1"]
	if found.Drift(i) != Together {
		t.Errorf("%+v and %+v", found, i.Stamp)
	}
	settled, last := found.Renewed(i)
	if settled.Mark != next || last.Number != 3 {
		t.Errorf("after a crash it goes on with %+v, %+v", settled, last)
	}
	if err := m.Note(ctx, "t", found, settled); err != nil {
		t.Error(err)
	}
	if err := m.Note(ctx, "t", made, begun); !errors.As(err, new(*TakenOverError)) {
		t.Errorf("a process that knows an older mark: %v", err)
	}
	if err := m.Forget(ctx, "t-1"); err != nil {
		t.Error(err)
	}
	if all, err := m.Read(ctx, "t"); err != nil || len(all) != 0 {
		t.Errorf("when it is forgotten: %v, %v", all, err)
	}
}
