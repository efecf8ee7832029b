package search_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/dbsync"
	"tidemark/indexer/search"
	"tidemark/indexer/search/searchtest"
	"tidemark/testenv"
)

func TestOwnerIs(t *testing.T) {
	one := searchtest.Owner
	renamed := one
	renamed.Database = "app2"
	if !one.Is(renamed) {
		t.Error("a database that was renamed is another owner")
	}
	for name, change := range map[string]func(*search.Owner){
		"another system":          func(o *search.Owner) { o.System = "7" },
		"a database made anew":    func(o *search.Owner) { o.Oid++ },
		"another control schema":  func(o *search.Owner) { o.Schema = "other" },
		"another slot":            func(o *search.Owner) { o.Slot = "other" },
		"what cannot be read, 00": func(o *search.Owner) { *o = search.Owner{} },
	} {
		other := one
		if change(&other); one.Is(other) || other.Is(one) {
			t.Errorf("%s is the same owner", name)
		}
	}
}

func TestStamped(t *testing.T) {
	stamp := search.Stamp{Owner: searchtest.Owner, Fingerprint: "f", Mark: search.Mark{Number: 3, Token: "t"}}
	for name, test := range map[string]struct{ body, want string }{
		"nothing":         {``, `{"mappings":{"_meta":{"tidemark":S}}}`},
		"beside others":   {`{"settings":{"a":1},"mappings":{"dynamic":false,"_meta":{"team":"x","n":1.0}}}`, `{"settings":{"a":1},"mappings":{"dynamic":false,"_meta":{"team":"x","n":1.0,"tidemark":S}}}`},
		"in the place of": {`{"mappings":{"_meta":{"tidemark":{"version":9}}}}`, `{"mappings":{"_meta":{"tidemark":S}}}`},
	} {
		got, err := search.Stamped([]byte(test.body), stamp)
		want := strings.ReplaceAll(test.want, "S", `{"version":1,"system":"7312000000000000001","database":"app","database_oid":16384,"schema":"dbsync_ctrl","slot":"dbsync_replslot","fingerprint":"f","mark":{"number":3,"token":"t"}}`)
		var a, b any
		if err != nil || json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	if _, err := search.Stamped([]byte(`{"mappings":{"_meta":[]}}`), stamp); err == nil {
		t.Error("a _meta that is no object was taken")
	}
}

// newOwned makes a physical index with the stamp of an owner.
func newOwned(t *testing.T, c *search.Client, alias string, at time.Time, owner search.Owner, body string) (physical string) {
	t.Helper()
	physical, writeAlias := search.PhysicalName(alias, at)
	stamped, err := search.Stamped([]byte(body), search.Stamp{Owner: owner, Mark: search.Mark{Number: 1, Token: "t"}})
	if err == nil {
		err = c.CreateIndex(searchtest.Within(t, time.Minute), physical, writeAlias, stamped)
	}
	if err != nil {
		t.Fatal(err)
	}
	return physical
}

var someTime = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// What is somebody else's is neither moved nor dropped, whatever it is called, and named in the error.
func TestOtherOwner(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		c := searchtest.Connect(t, s.URL)
		adopting := searchtest.ConnectWith(t, search.Options{URLs: []string{s.URL}, Adopt: true})
		alias := s.NewPrefix(t) + "products"
		us, them := searchtest.Owner, searchtest.Owner
		them.Database, them.Oid = "production", 777
		theirs := newOwned(t, c, alias, someTime, them, "")
		refused := func(what string, err error) {
			t.Helper()
			other, ok := errors.AsType[*search.OwnerError](err)
			if !ok || !dbsync.IsPermanent(err) || !strings.Contains(err.Error(), "database production") || !strings.Contains(err.Error(), "--adopt") || !slices.Equal(other.Indices, []string{theirs}) {
				t.Errorf("%s: %v", what, err)
			}
		}
		standing := func() *search.Standing {
			t.Helper()
			st, err := c.Standing(ctx, alias)
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
		unstamped := func(*search.IndexInfo) bool { return false }

		refused("while the other one is being filled", standing().CheckOwner(us, unstamped))
		if err := standing().CheckOwner(them, unstamped); err != nil {
			t.Errorf("their own: %v", err)
		}
		stamped, err := search.Stamped(nil, search.Stamp{Owner: us})
		if err != nil {
			t.Fatal(err)
		}
		refused("made in the same second", c.CreateIndex(ctx, theirs, search.WriteAlias(alias, theirs), stamped))
		if _, err := c.MoveAlias(ctx, alias, theirs, them); err != nil {
			t.Fatal(err)
		}
		ours := newOwned(t, c, alias, someTime.Add(time.Second), us, "")
		refused("behind the alias", standing().CheckOwner(us, unstamped))
		_, err = c.MoveAlias(ctx, alias, ours, us)
		refused("move", err)
		refused("drop", c.DropIndex(ctx, theirs, us))
		refused("drop with --adopt", adopting.DropIndex(ctx, theirs, us))
		_, err = adopting.MoveAlias(ctx, alias, theirs, us)
		refused("move to what is theirs, with --adopt", err)

		if old, err := adopting.MoveAlias(ctx, alias, ours, us); err != nil || !slices.Equal(old, []string{theirs}) {
			t.Errorf("move with --adopt: %v, %v", old, err)
		}
		if err := standing().CheckOwner(us, unstamped); err != nil {
			t.Errorf("after it was taken over: %v", err)
		}
		if st := standing(); st.Get(theirs) == nil {
			t.Error("their index is gone")
		}

		// An index without any stamp is somebody else's, unless it is known by other means.
		if err := c.PutMapping(ctx, ours, []byte(`{"_meta":{}}`)); err != nil {
			t.Fatal(err)
		}
		var other *search.OwnerError
		if err := standing().CheckOwner(us, unstamped); !errors.As(err, &other) || other.Owner != nil || !strings.Contains(err.Error(), "which somebody else made") {
			t.Errorf("without a stamp: %v", err)
		}
		if err := standing().CheckOwner(us, func(i *search.IndexInfo) bool { return i.Name == ours }); err != nil {
			t.Errorf("known without a stamp: %v", err)
		}
	})
}

// A data stream has the name, or an alias stands for one: it can be no alias of ours, and that is
// said before anything is filled.
func TestDataStream(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		if !s.Engine.IsOpenSearch() {
			t.Skip("the server is built without data streams")
		}
		ctx := searchtest.Within(t, time.Minute)
		adopting := searchtest.ConnectWith(t, search.Options{URLs: []string{s.URL}, Adopt: true})
		alias := s.NewPrefix(t) + "products"
		request := func(method, path, body string) {
			t.Helper()
			if status, answer, err := s.Do(ctx, method, path, []byte(body)); err != nil || status/100 != 2 {
				t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
			}
		}
		request(http.MethodPut, "/_index_template/"+alias, `{"index_patterns":["`+alias+`"],"data_stream":{},"priority":500}`)
		request(http.MethodPut, "/_data_stream/"+alias, `{}`)
		defer request(http.MethodDelete, "/_index_template/"+alias, ``)
		defer request(http.MethodDelete, "/_data_stream/"+alias, ``)
		st, err := adopting.Standing(ctx, alias)
		if err != nil {
			t.Fatal(err)
		}
		var taken *search.NameTakenError
		if err := st.CheckName(true); !errors.As(err, &taken) || !taken.DataStream || strings.Contains(err.Error(), "--adopt") {
			t.Errorf("a data stream has the name: %v", err)
		}
		ours := newOwned(t, adopting, alias, someTime, searchtest.Owner, "")
		if _, err := adopting.MoveAlias(ctx, alias, ours, searchtest.Owner); !errors.As(err, &taken) {
			t.Errorf("MoveAlias: %v", err)
		}
	})
}

// An answer that does not say that the search server has done it is repeated: a proxy's page, JSON of
// something else, an acknowledgement that did not come in time.
func TestUnacknowledged(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		proxy := s.NewProxy(t)
		c := searchtest.Connect(t, proxy.URL)
		alias := s.NewPrefix(t) + "products"
		old := newOwned(t, c, alias, someTime, searchtest.Owner, "")
		if _, err := c.MoveAlias(ctx, alias, old, searchtest.Owner); err != nil {
			t.Fatal(err)
		}
		next := newOwned(t, c, alias, someTime.Add(time.Second), searchtest.Owner, "")
		third, thirdWrite := search.PhysicalName(alias, someTime.Add(2*time.Second))
		changes := func(r *testenv.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }
		for _, text := range []string{"<html>Welcome</html>", `{}`, `[]`, `"fine"`, `{"acknowledged":false,"shards_acknowledged":false}`, `{"acknowledged":"yes"}`, ``} {
			for what, change := range map[string]func() error{
				"MoveAlias":   func() error { _, err := c.MoveAlias(ctx, alias, next, searchtest.Owner); return err },
				"CreateIndex": func() error { return c.CreateIndex(ctx, third, thirdWrite, nil) },
				"DropIndex":   func() error { return c.DropIndex(ctx, old, searchtest.Owner) },
				"PutSettings": func() error { return c.PutSettings(ctx, old, map[string]any{"index.refresh_interval": "7s"}) },
				"PutMapping":  func() error { return c.PutMapping(ctx, old, []byte(`{"properties":{"x":{"type":"long"}}}`)) },
				"PutStamp":    func() error { return c.PutStamp(ctx, old, search.Stamp{Owner: searchtest.Owner}) },
				"Refresh":     func() error { return c.Refresh(ctx, old) },
			} {
				page := proxy.Inject(testenv.Page(text, 1, changes))
				err := change()
				page.Lift()
				if err == nil || dbsync.IsPermanent(err) {
					t.Errorf("%s is answered %q: %v", what, text, err)
				}
			}
		}
		if of, err := c.AliasTargets(ctx, alias); err != nil || !slices.Equal(of, []string{old}) {
			t.Errorf("the alias stands for %v, %v", of, err)
		}
		if _, err := c.MoveAlias(ctx, alias, next, searchtest.Owner); err != nil {
			t.Error(err)
		}
	})
}

// A move that was acknowledged and is not there did not happen.
func TestMoveIsReadBack(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		proxy := s.NewProxy(t)
		c := searchtest.Connect(t, proxy.URL)
		alias := s.NewPrefix(t) + "products"
		ours := newOwned(t, c, alias, someTime, searchtest.Owner, "")
		proxy.Inject(testenv.Page(`{"acknowledged":true}`, 1, func(r *testenv.Request) bool { return r.Method == http.MethodPost }))
		if old, err := c.MoveAlias(ctx, alias, ours, searchtest.Owner); err == nil || dbsync.IsPermanent(err) {
			t.Errorf("an answer that is a lie: %v, %v", old, err)
		}

		// Somebody else moves it between the look and the move: it is theirs.
		them := searchtest.Owner
		them.Slot = "theirs"
		theirs := newOwned(t, c, alias, someTime.Add(time.Second), them, "")
		hold := proxy.Inject(testenv.Hold(1, func(r *testenv.Request) bool { return r.Method == http.MethodPost && r.Path == "/_aliases" }))
		moved := make(chan error, 1)
		go func() { _, err := c.MoveAlias(ctx, alias, ours, searchtest.Owner); moved <- err }()
		if err := hold.Await(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := searchtest.Connect(t, s.URL).MoveAlias(ctx, alias, theirs, them); err != nil {
			t.Fatal(err)
		}
		hold.Lift()
		if err := <-moved; !errors.As(err, new(*search.OwnerError)) {
			t.Errorf("both moved it: %v", err)
		}
		if of, err := c.AliasTargets(ctx, alias); err != nil || !slices.Equal(of, []string{theirs}) {
			t.Errorf("the alias stands for %v, %v", of, err)
		}
	})
}

// What somebody has set at aliases stays when the index behind them is another one.
func TestAliasesMove(t *testing.T) {
	searchtest.EachEngine(t, func(t *testing.T, s *testenv.SearchServer) {
		ctx := searchtest.Within(t, time.Minute)
		c := searchtest.Connect(t, s.URL)
		alias := s.NewPrefix(t) + "products"
		first := newOwned(t, c, alias, someTime, searchtest.Owner, searchtest.ProductMapping)
		if _, err := c.MoveAlias(ctx, alias, first, searchtest.Owner); err != nil {
			t.Fatal(err)
		}
		act := func(actions string) {
			t.Helper()
			if status, answer, err := s.Do(ctx, http.MethodPost, "/_aliases", []byte(`{"actions":[`+strings.NewReplacer("FIRST", first, "ALIAS", alias).Replace(actions)+`]}`)); err != nil || status != http.StatusOK {
				t.Fatalf("%d %s %v", status, answer, err)
			}
		}
		act(`{"add":{"index":"FIRST","alias":"ALIAS","filter":{"term":{"active":true}},"search_routing":"a,b","is_hidden":true}},
			{"add":{"index":"FIRST","alias":"ALIAS-eu","filter":{"term":{"tenant_id":7}},"routing":"eu"}},
			{"add":{"index":"FIRST","alias":"ALIAS-plain"}}`)
		before, err := c.GetIndex(ctx, first)
		if err != nil {
			t.Fatal(err)
		}
		second := newOwned(t, c, alias, someTime.Add(time.Second), searchtest.Owner, searchtest.ProductMapping)
		if _, err := c.MoveAlias(ctx, alias, second, searchtest.Owner); err != nil {
			t.Fatal(err)
		}
		all, err := c.GetIndices(ctx, first, second)
		if err != nil {
			t.Fatal(err)
		}
		want := before.Aliases
		delete(want, search.WriteAlias(alias, first))
		got := all[second].Aliases
		delete(got, search.WriteAlias(alias, second))
		if len(want) != 3 || !reflect.DeepEqual(got, want) {
			t.Errorf("the new index has the aliases %v, the one before had %v", got, want)
		}
		if left := all[first].Aliases; len(left) != 1 {
			t.Errorf("the index before still has %v", left)
		}

		check := func() error {
			t.Helper()
			st, err := c.Standing(ctx, alias)
			if err != nil {
				t.Fatal(err)
			}
			return st.CheckAliases(searchtest.Owner)
		}
		if err := check(); err != nil {
			t.Error(err)
		}
		first = second
		act(`{"add":{"index":"FIRST","alias":"ALIAS-writers","is_write_index":true}}`)
		var wrong *search.AliasError
		if err := check(); !errors.As(err, &wrong) || wrong.Alias != alias+"-writers" || !dbsync.IsPermanent(err) {
			t.Errorf("somebody else writes by an alias: %v", err)
		}
		act(`{"remove":{"index":"FIRST","alias":"ALIAS-writers"}},{"add":{"index":"FIRST","alias":"` + search.WriteAlias(alias, second) + `","index_routing":"x","is_write_index":true}}`)
		if err := check(); !errors.As(err, &wrong) || wrong.Alias != search.WriteAlias(alias, second) {
			t.Errorf("the write alias has a routing: %v", err)
		}
	})
}
