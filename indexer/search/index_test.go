package search_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

func TestPhysicalName(t *testing.T) {
	at := time.Date(2026, 1, 31, 13, 0, 0, 999, time.FixedZone("", 3600))
	physical, alias := search.PhysicalName("products", at)
	if physical != "products-20260131t120000z" || alias != "products-20260131T120000Z" {
		t.Errorf("%s, %s", physical, alias)
	}
	for name, want := range map[string]bool{
		physical: true, alias: false, "products": false, "products-": false, "products-2": false,
		"products-old-20260131t120000z": false, "orders-20260131t120000z": false, "products-20261331t120000z": false,
	} {
		if _, got := search.PhysicalTime("products", name); got != want {
			t.Errorf("PhysicalTime(%s) is %t", name, got)
		}
	}
}

func TestIndexLife(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		c := searchtest.Connect(t, s.URL)
		alias := s.NewPrefix(t) + "products"
		at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
		first, firstWrite := search.PhysicalName(alias, at)
		second, secondWrite := search.PhysicalName(alias, at.Add(time.Second))
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}

		if exists, err := c.IndexExists(ctx, first, firstWrite); err != nil || exists {
			t.Fatalf("exists before it is created: %t, %v", exists, err)
		}
		if _, err := c.GetIndex(ctx, first); !errors.Is(err, search.ErrNoIndex) {
			t.Fatalf("GetIndex: %v", err)
		}
		body := []byte(`{"settings":{"number_of_replicas":0},"mappings":{"_meta":{"fingerprint":"abc"},"properties":{"id":{"type":"long"}}},"aliases":{"` + alias + `-also":{}}}`)
		check(c.CreateIndex(ctx, first, firstWrite, body))
		check(c.CreateIndex(ctx, first, firstWrite, body)) // as after a lost answer
		if err := c.CreateIndex(ctx, first, secondWrite, body); err == nil || !strings.Contains(err.Error(), "without the alias") {
			t.Errorf("CreateIndex under another write alias: %v", err)
		}
		if err := c.CreateIndex(ctx, second, secondWrite, []byte(`{"mappings":{"properties":{"id":{"type":"nonsense"}}}}`)); !dbsync.IsPermanent(err) {
			t.Errorf("CreateIndex with a bad mapping: %v", err)
		}
		info, err := c.GetIndex(ctx, first)
		check(err)
		if !info.HasAlias(firstWrite) || !info.HasAlias(alias+"-also") || string(info.Meta) != `{"fingerprint":"abc"}` || info.Stamp != nil {
			t.Errorf("GetIndex: %+v with %s", info, info.Meta)
		}
		if _, err := c.GetIndex(ctx, firstWrite); !errors.Is(err, search.ErrNoIndex) {
			t.Errorf("GetIndex of an alias: %v", err)
		}
		check(c.CreateIndex(ctx, second, secondWrite, nil))
		if exists, err := c.IndexExists(ctx, second, secondWrite); err != nil || !exists {
			t.Errorf("IndexExists: %t, %v", exists, err)
		}
		if exists, err := c.IndexExists(ctx, second, firstWrite); err != nil || exists {
			t.Errorf("IndexExists with another write alias: %t, %v", exists, err)
		}
		physical := func(alias string) (names []string) {
			t.Helper()
			standing, err := c.Standing(ctx, alias)
			check(err)
			for _, i := range standing.Physical() {
				names = append(names, i.Name)
			}
			return names
		}
		if names := physical(alias); !slices.Equal(names, []string{first, second}) {
			t.Errorf("physical indices: %v", names)
		}
		if names := physical(alias + "-none"); len(names) != 0 {
			t.Errorf("physical indices of nothing: %v", names)
		}
		stamp := search.Stamp{Owner: searchtest.Owner, Fingerprint: "f", Mark: search.Mark{Number: 1, Token: "t"}}
		check(c.PutStamp(ctx, first, stamp))
		check(c.PutStamp(ctx, second, stamp))

		for _, step := range []struct {
			to  string
			old []string
		}{{first, nil}, {first, nil}, {second, []string{first}}, {second, nil}} {
			old, err := c.MoveAlias(ctx, alias, step.to, searchtest.Owner)
			if err != nil || !slices.Equal(old, step.old) {
				t.Errorf("MoveAlias to %s: %v, %v; want %v", step.to, old, err, step.old)
			}
			if targets, err := c.AliasTargets(ctx, alias); err != nil || !slices.Equal(targets, []string{step.to}) {
				t.Errorf("AliasTargets: %v, %v", targets, err)
			}
		}
		if targets, err := c.AliasTargets(ctx, alias+"-none"); err != nil || len(targets) != 0 {
			t.Errorf("AliasTargets of nothing: %v, %v", targets, err)
		}
		if _, err := c.MoveAlias(ctx, alias, first+"-none", searchtest.Owner); !dbsync.IsPermanent(err) {
			t.Errorf("MoveAlias to nothing: %v", err)
		}
		taken, isTaken := errors.AsType[*search.NameTakenError](func() error { _, err := c.MoveAlias(ctx, first, second, searchtest.Owner); return err }())
		if !isTaken || taken.Name != first {
			t.Errorf("MoveAlias under the name of an index: %v", taken)
		}

		w := searchtest.NewWriter(t, c, search.BulkOptions{})
		check(w.Write(ctx, []dbsync.Operation{searchtest.Store(secondWrite, "1", 1, `{"id":1}`), searchtest.Store(secondWrite, "2", 1, `{"id":2}`)}))
		check(c.Refresh(ctx, second))
		if n, err := c.Count(ctx, alias); err != nil || n != 2 {
			t.Errorf("Count: %d, %v", n, err)
		}
		check(c.PutSettings(ctx, second, map[string]any{"index.refresh_interval": "-1", "index.number_of_replicas": 0}))
		check(c.PutSettings(ctx, second, map[string]any{"index.refresh_interval": nil}))
		check(c.PutMapping(ctx, second, []byte(`{"properties":{"new":{"type":"keyword"}}}`)))
		if info, err := c.GetIndex(ctx, second); err != nil || info.Stamp == nil || info.Stamp.Mark != stamp.Mark {
			t.Errorf("after new fields: %+v, %v", info, err)
		}
		check(c.PutMapping(ctx, second, []byte(`{"_meta":{"fingerprint":"def"}}`)))
		if info, err := c.GetIndex(ctx, second); err != nil || string(info.Meta) != `{"fingerprint":"def"}` || info.Stamp != nil {
			t.Errorf("GetIndex: %+v, %v", info, err)
		}
		stamp.Mark.Number++
		check(c.PutStamp(ctx, second, stamp))
		if info, err := c.GetIndex(ctx, second); err != nil || !strings.Contains(string(info.Meta), `"fingerprint":"def"`) || !info.IsOf(searchtest.Owner) || info.Stamp.Mark != stamp.Mark {
			t.Errorf("a stamp beside what else is in _meta: %+v with %s, %v", info, info.Meta, err)
		}

		for _, name := range []string{"", "_all", "*", alias + "*", first + "," + second} {
			if err := c.DropIndex(ctx, name, searchtest.Owner); err == nil {
				t.Errorf("DropIndex(%q) was tried", name)
			}
		}
		check(c.DropIndex(ctx, alias, searchtest.Owner)) // there is no index of that name
		check(c.DropIndex(ctx, first, searchtest.Owner))
		check(c.DropIndex(ctx, first, searchtest.Owner))
		if names := physical(alias); !slices.Equal(names, []string{second}) {
			t.Errorf("physical indices: %v", names)
		}
	})
}

// A creation whose answer was lost, or that had no effect, is repeated.
func TestCreateIndexSurvives(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		create := func(r *testenv.Request) bool { return r.Method == "PUT" }
		for name, fault := range map[string]*testenv.Fault{"no effect": testenv.Drop(1, create), "answer lost": testenv.LoseAnswer(1, create)} {
			t.Run(name, func(t *testing.T) {
				ctx := searchtest.Within(t, time.Minute)
				proxy := s.NewProxy(t)
				proxy.Inject(fault)
				c := searchtest.Connect(t, proxy.URL)
				physical, writeAlias := search.PhysicalName(s.NewPrefix(t), time.Now())
				err := c.CreateIndex(ctx, physical, writeAlias, []byte(searchtest.ProductMapping))
				if _, lost := errors.AsType[*search.LostError](err); !lost || dbsync.IsPermanent(err) {
					t.Fatalf("CreateIndex: %v", err)
				}
				if err := c.CreateIndex(ctx, physical, writeAlias, []byte(searchtest.ProductMapping)); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
}
