package testenv

import (
	"strings"
	"testing"
	"time"
)

func TestDocuments(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		s := SharedSearch(t, e)
		index := s.NewPrefix(t) + "a"
		do(t, s, "PUT", "/"+index, `{"settings":{"number_of_shards":4},"aliases":{"`+index+`-B":{}}}`)
		if d := s.Documents(t, index); len(d) != 0 {
			t.Fatalf("an empty index holds %v", d)
		}
		do(t, s, "PUT", "/"+index+"/_doc/1?version=7&version_type=external_gte", `{"n":1}`)
		do(t, s, "PUT", "/"+index+"/_doc/2?routing=x", `{"n":1.50}`)
		d := s.Documents(t, index+"-B")
		if d["1"].Version != 7 || d["2"].Routing != "x" || string(d["2"].Source) != `{"n":1.50}` || len(d) != 2 {
			t.Errorf("documents are %+v", d)
		}
		indices, err := s.Indices(t.Context(), index+"-B")
		if err != nil || len(indices) != 1 || indices[0].Name != index || len(indices[0].Aliases) != 1 {
			t.Errorf("indices are %v, %v", indices, err)
		}
		// More than a page, and one _id in two shards.
		var bulk strings.Builder
		for range pageSize + 1 {
			bulk.WriteString(`{"index":{}}` + "\n{}\n")
		}
		for _, routing := range []string{"a", "b", "c", "d", "e"} {
			bulk.WriteString(`{"index":{"_id":"twice","routing":"` + routing + `"}}` + "\n{}\n")
		}
		do(t, s, "POST", "/"+index+"/_bulk", bulk.String())
		all, err := s.ReadDocuments(t.Context(), index)
		must(t, err)
		twice := 0
		for _, d := range all {
			if d.ID == "twice" {
				twice++
			}
		}
		if twice < 2 || len(all) != 2+pageSize+1+twice {
			t.Errorf("%d documents, one _id %d times", len(all), twice)
		}
	})
}

func TestPrefixTakesIndicesWithIt(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		s := SharedSearch(t, e)
		var prefix string
		t.Run("create", func(t *testing.T) {
			prefix = s.NewPrefix(t)
			do(t, s, "PUT", "/"+prefix+"a", `{}`)
			do(t, s, "PUT", "/"+prefix+"b", `{}`)
		})
		if left, err := s.Indices(t.Context(), prefix+"*"); err != nil || len(left) > 0 {
			t.Errorf("left are %v, %v", left, err)
		}
	})
}

func TestSearchKeepsData(t *testing.T) {
	eachEngine(t, func(t *testing.T, e Engine) {
		s := StartSearch(t, e, SearchOptions{Heap: "512m"})
		ctx := within(t, 2*time.Minute)
		do(t, s, "PUT", "/a/_doc/1", `{}`)
		must(t, s.Restart(ctx))
		do(t, s, "PUT", "/a/_doc/2", `{}`)
		must(t, s.Kill(ctx))
		if _, _, err := s.Do(ctx, "GET", "/", nil); err == nil {
			t.Error("a killed server answers")
		}
		must(t, s.Start(ctx))
		if d := s.Documents(t, "a"); len(d) != 2 {
			t.Errorf("documents are %v", d)
		}
	})
}

func TestParseEngines(t *testing.T) {
	for _, test := range []struct{ list, want string }{
		{"", "opensearch"},
		{"elasticsearch8, opensearch,elasticsearch8", "elasticsearch8 opensearch"},
		{"opensearch,all", "opensearch opensearch2 opensearch1 elasticsearch9 elasticsearch8 elasticsearch7"},
		{"solr", `no engine "solr", only ["opensearch" "opensearch2" "opensearch1" "elasticsearch9" "elasticsearch8" "elasticsearch7"]`},
	} {
		engines, err := ParseEngines(test.list)
		var names []string
		for _, e := range engines {
			names = append(names, string(e))
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%q gives %q, want %q", test.list, got, test.want)
		}
	}
}
