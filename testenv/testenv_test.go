package testenv

import (
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestDatabase(t *testing.T) {
	d := NewDatabase(t)
	d.Exec(t, "create table a (id int primary key)", "insert into a values (1); insert into a values (2)")
	var n int
	if err := d.DB.QueryRowContext(t.Context(), "select count(*) from a").Scan(&n); err != nil || n != 2 {
		t.Fatalf("count %d, %v", n, err)
	}
}

func TestDocuments(t *testing.T) {
	for _, e := range Engines(t) {
		t.Run(string(e), func(t *testing.T) {
			s := SharedSearch(t, e)
			index := s.NewPrefix(t) + "a"
			do(t, s, "PUT", "/"+index, `{"settings":{"number_of_shards":4}}`)
			if d := s.Documents(t, index); len(d) != 0 {
				t.Fatalf("an empty index holds %v", d)
			}
			do(t, s, "PUT", "/"+index+"/_doc/1?version=7&version_type=external_gte", `{"n":1}`)
			do(t, s, "PUT", "/"+index+"/_doc/2?routing=x", `{"n":1.50}`)
			d := s.Documents(t, index)
			if d["1"].Version != 7 || d["2"].Routing != "x" || string(d["2"].Source) != `{"n":1.50}` || len(d) != 2 {
				t.Fatalf("%+v", d)
			}
		})
	}
}

func do(t testing.TB, s *SearchServer, method, path, body string) []byte {
	t.Helper()
	status, answer, err := s.Do(t.Context(), method, path, []byte(body))
	if err != nil || status/100 != 2 {
		t.Fatalf("%s %s: %d %s %v", method, path, status, answer, err)
	}
	return answer
}
