package search

import (
	"errors"
	"math"
	"testing"

	"github.com/jackc/pglogrepl"
	"pgregory.net/rapid"

	"tidemark/dbsync"
)

func TestVersion(t *testing.T) {
	const base = 0x1000
	for name, test := range map[string]struct {
		op   dbsync.Operation
		want int64
	}{
		"the first of the index":      {dbsync.Operation{Version: base, Base: base}, 1<<14 | 1},
		"its deletion":                {dbsync.Operation{Version: base, Base: base, Kind: dbsync.Delete}, 1 << 14},
		"what is refused":             {dbsync.Operation{Version: base, Base: base, Kind: dbsync.Refused}, 1 << 14},
		"the next group":              {dbsync.Operation{Version: base, Base: base, Group: 1}, 1<<14 | 1<<1 | 1},
		"the last group":              {dbsync.Operation{Version: base, Base: base, Group: MaxGroup}, 1<<15 - 1},
		"one after the last":          {dbsync.Operation{Version: base, Base: base, Group: MaxGroup + 1}, 1<<15 - 1},
		"the next commit":             {dbsync.Operation{Version: base + 40, Base: base}, 2<<14 | 1},
		"before the index":            {dbsync.Operation{Version: base - 8, Base: base}, 0},
		"a deletion before the index": {dbsync.Operation{Version: base - 8, Base: base, Kind: dbsync.Delete}, 0},
		"the last commit":             {dbsync.Operation{Version: base + MaxSpan - 1, Base: base, Group: MaxGroup}, math.MaxInt64},
		"the end of the log":          {dbsync.Operation{Version: math.MaxUint64 - 7, Base: math.MaxUint64 - 39}, 2<<14 | 1},
	} {
		if got, err := Version(&test.op); got != test.want || err != nil {
			t.Errorf("%s: %#x, %v, want %#x", name, got, err, test.want)
		}
	}
	for _, op := range []dbsync.Operation{{Index: "x", Version: base + MaxSpan, Base: base}, {Index: "x", Version: math.MaxUint64}} {
		_, err := Version(&op)
		if beyond, ok := errors.AsType[*VersionError](err); !ok || beyond.Index != "x" || !dbsync.IsPermanent(err) {
			t.Errorf("beyond the end: %v", err)
		}
	}
}

// drawOperation draws an operation that has a version of its own.
func drawOperation(t *rapid.T, base pglogrepl.LSN) dbsync.Operation {
	return dbsync.Operation{
		Version: base + pglogrepl.LSN(rapid.Uint64Max(MaxSpan/8-1).Draw(t, "commit"))*8,
		Group:   rapid.Uint32Max(MaxGroup).Draw(t, "group"),
		Kind:    rapid.SampledFrom([]dbsync.Kind{dbsync.Store, dbsync.Delete}).Draw(t, "kind"),
		Base:    base,
	}
}

// Versions are ordered as commits are, of one commit as groups are, of one group the storing after
// the deletion. They say where their commit is, and that of an early program is below all of them.
func TestVersionOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := pglogrepl.LSN(rapid.Uint64Max(1<<60).Draw(t, "base")) &^ 7
		a, b := drawOperation(t, base), drawOperation(t, base)
		if rapid.Bool().Draw(t, "of one commit") {
			b.Version = a.Version
		} else if b.Version > a.Version && b.Version-a.Version < 40 || a.Version > b.Version && a.Version-b.Version < 40 {
			t.Skip("there are no such commits")
		}
		va, errA := Version(&a)
		vb, errB := Version(&b)
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		older := a.OlderThan(&b) || !b.OlderThan(&a) && a.Kind == dbsync.Delete && b.Kind == dbsync.Store
		if older != (va < vb) {
			t.Errorf("%+v has %d, %+v has %d", a, va, b, vb)
		}
		if at := Position(va, base); at > a.Version || a.Version-at >= commitStep {
			t.Errorf("the commit at %s is found at %s", a.Version, at)
		}
		if base == 0 && va <= int64(a.Version) {
			t.Errorf("%d is not above the position %d", va, uint64(a.Version))
		}
	})
}

// A removal is above the document that was seen, and below all that may be stored after it.
func TestRemovalOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := pglogrepl.LSN(rapid.Uint64Max(1<<60).Draw(t, "base")) &^ 7
		seen := Stored{ID: "1", Routing: "r", Version: rapid.Int64Range(0, math.MaxInt64>>1).Draw(t, "version")}
		op := RemovalOf("x", seen, base)
		got, err := Version(&op)
		if err != nil {
			t.Fatal(err)
		}
		next := (got | 1) // what is stored by the same group
		if got <= seen.Version || next <= got || op.Kind != dbsync.Delete || op.Index != "x" || op.ID != "1" || op.Routing != "r" {
			t.Errorf("of %d: %+v, which is %d", seen.Version, op, got)
		}
		if seen.Version >= 1<<14 && got > seen.Version+2 {
			t.Errorf("of %d: %d, which other writes may be below", seen.Version, got)
		}
	})
}
