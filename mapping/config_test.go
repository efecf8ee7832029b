package mapping

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestConnString has pgx read what the keys were made into.
func TestConnString(t *testing.T) {
	p := Postgres{Host: "/var/run/my socket", Port: 5433, Database: `it's`, User: `a\b`, Password: NewSecret(`' \ "=x`), SSLMode: "disable"}
	got, err := pgx.ParseConfig(p.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	if got.Host != p.Host || got.Port != 5433 || got.Database != p.Database || got.User != p.User || got.Password != p.Password.Reveal() || got.TLSConfig != nil {
		t.Errorf("pgx reads %q %d %q %q %q", got.Host, got.Port, got.Database, got.User, got.Password)
	}
	p = Postgres{URL: NewSecret("postgres://u:p@h/d")}
	if got := p.ConnString(); got != "postgres://u:p@h/d" {
		t.Error(got)
	}
}

// TestProblemOfAKey holds what turned out only in use against the lines of the file.
func TestProblemOfAKey(t *testing.T) {
	c, err := Parse("t.yaml", []byte("search:\n  urls: [http://h]\nindices:\n  a:\n    table: t\n"), env())
	if err != nil {
		t.Fatal(err)
	}
	for key, line := range map[string]int{"search.urls": 2, "search.user": 1, "indices.a.table": 5, "indices.a.id": 4, "postgres.url": 0} {
		if p := c.Problem(key, "do it", "no %s", "good"); p.Line != line || p.Text != key+": no good" || p.File != "t.yaml" || p.Hint != "do it" {
			t.Errorf("%s: %+v, want line %d", key, p, line)
		}
	}
	if !c.Has("search.urls") || c.Has("search.user") {
		t.Error("Has does not tell the keys of the file")
	}
}
