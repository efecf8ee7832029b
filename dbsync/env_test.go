package dbsync

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Whatever the parts are, pgx must read them back from the connection string.
func TestConnStr(t *testing.T) {
	for _, test := range []struct {
		database, host string
		port           int
		user, password string
	}{
		{"postgres", "localhost", 5432, "postgres", "docker"},
		{"shop", "2001:db8::1", 6432, "app", ""},
		{"shop", "/var/run/postgresql", 5433, "app", "x"},
		{"a b/c?d#e", "db.example.org", 5432, "us:er@x", `p@ss:w/rd?#%&=+ '"\ äöü` + "\n"},
		{"100%", "localhost", 1, "%41", "%zz{}[]|^`"},
	} {
		s := ConnStr(test.database, test.host, test.port, test.user, test.password)
		cfg, err := pgx.ParseConfig(s)
		if err != nil {
			t.Errorf("%+v: %q: %v", test, s, err)
			continue
		}
		if cfg.Database != test.database || cfg.Host != test.host || int(cfg.Port) != test.port ||
			cfg.User != test.user || cfg.Password != test.password {
			t.Errorf("%+v: %q reads as %q, %q, %d, %q, %q", test, s, cfg.Database, cfg.Host, cfg.Port, cfg.User, cfg.Password)
		}
	}
}

func TestPGConnStringFromEnv(t *testing.T) {
	tests := []struct {
		name string
		env  map[string]string
		want string
	}{
		{"defaults", nil, "postgres://postgres:docker@localhost:5432/postgres"},
		{"all", map[string]string{"POSTGRES_NAME": "shop", "POSTGRES_HOST": "db", "POSTGRES_PORT": "6432", "POSTGRES_USER": "app", "POSTGRES_PASSWORD": "s:e@c"},
			"postgres://app:s%3Ae%40c@db:6432/shop"},
		{"POSTGRES_DB", map[string]string{"POSTGRES_DB": "shop"}, "postgres://postgres:docker@localhost:5432/shop"},
		{"POSTGRES_NAME before POSTGRES_DB", map[string]string{"POSTGRES_NAME": "a", "POSTGRES_DB": "b"}, "postgres://postgres:docker@localhost:5432/a"},
		{"POSTGRES_CONNSTR before all", map[string]string{"POSTGRES_CONNSTR": "host=x dbname=y", "POSTGRES_NAME": "a", "POSTGRES_HOST": "b"}, "host=x dbname=y"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, name := range []string{"CONNSTR", "NAME", "DB", "HOST", "PORT", "USER", "PASSWORD"} {
				t.Setenv("POSTGRES_"+name, test.env["POSTGRES_"+name])
			}
			if got := PGConnStringFromEnv(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestPGConnStringFromEnvBadPort(t *testing.T) {
	t.Setenv("POSTGRES_CONNSTR", "")
	t.Setenv("POSTGRES_PORT", "none")
	if _, err := pgx.ParseConfig(PGConnStringFromEnv()); err == nil {
		t.Error("a port that is no number was taken")
	}
}

func TestTimestampFormat(t *testing.T) {
	at := time.Date(2026, 1, 31, 12, 0, 0, 120_000_000, time.UTC)
	if got, want := at.Format(PG_TIMESTAMP_FORMAT), "2026-01-31 12:00:00.12+00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
