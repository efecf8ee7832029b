package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"tidemark/testenv"
)

// TestCheckJSON has what check finds for programs: what run would do, and what has to be fixed.
func TestCheckJSON(t *testing.T) {
	d := testenv.NewDatabase(t)
	search := testenv.SharedSearch(t, testenv.Engines(t)[0])
	d.Exec(t, "create table a (id int primary key, v text)", "insert into a values (1)", "analyze a", "create table heap (v text)")
	index := search.NewPrefix(t) + "a"
	f := newFile(t, d.URL, search.URL, d.Unique("slot"), "  "+index+": {table: a, routing: id}\n")
	read := func(code int) (r checkReport) {
		t.Helper()
		got, out, wrong := tidemark(t, "check", "--json", "-c", f.path)
		if err := json.Unmarshal([]byte(out), &r); err != nil || got != code || (wrong == "") != (code == exitDone) {
			t.Fatalf("exit code %d, want %d; %v\n%s%s", got, code, err, out, wrong)
		}
		return r
	}
	r := read(exitDone)
	if !r.Works || len(r.Problems)+len(r.Errors) > 0 || r.Postgres == nil || r.Postgres.Database != d.Name || r.Postgres.Slot != f.slot || r.Postgres.Exists || len(r.Postgres.Steps) < 4 || r.Search.Product == "" {
		t.Errorf("before the first run: %+v", r)
	}
	if len(r.Indices) != 1 || r.Indices[0].Index != index || r.Indices[0].Fill == "" || !strings.HasPrefix(r.Indices[0].Run, "makes an index") {
		t.Fatalf("before the first run: %+v", r.Indices)
	}
	if s := r.Indices[0].Tables[0]; s.Table != "public.a" || s.Rows == nil || *s.Rows != 1 || s.ID != "id" || s.Routing != "id" || len(s.Fields) != 2 || s.Fields[0] != (fieldLine{"id", "integer", "id", "integer"}) {
		t.Errorf("its table: %+v", s)
	}
	says(t, exitDone, []string{"run", "--once", "-c", f.path})
	if r = read(exitDone); !r.Postgres.Exists || r.Postgres.Position == "" || len(r.Postgres.Steps) > 0 || r.Indices[0].Live == "" || r.Indices[0].Fill != "" || len(r.Indices[0].Alias) != 1 {
		t.Errorf("after it: %+v", r)
	}
	f.write(t, d.URL, search.URL, "  "+index+": {table: nothing}\n  heap: {table: heap}\n")
	r = read(exitConfig)
	if r.Works || len(r.Problems) != 2 || r.Problems[0].File != f.path || r.Problems[0].Line != 8 || !strings.Contains(r.Problems[0].Problem, "nothing") || r.Problems[1].Hint == "" || r.Postgres != nil {
		t.Errorf("what has to be fixed: %+v", r)
	}
	f.write(t, d.URL, "http://127.0.0.1:1", "  "+index+": {tabel: a}\n")
	if r = read(exitConfig); len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Problem, "unknown key") {
		t.Errorf("an unknown key: %+v", r)
	}
}
