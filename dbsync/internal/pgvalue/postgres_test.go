package pgvalue_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"

	"tidemark/dbsync"
	"tidemark/dbsync/internal/pgvalue"
	"tidemark/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// What a server of any version sends for a sample is what the sample says.
func TestSamplesOnPostgres(t *testing.T) {
	conn := connect(t)
	for _, s := range pgvalue.Samples() {
		query := `SELECT $1::pg_catalog."` + s.Name + `"`
		read := func(format int16) []byte {
			result := conn.ExecParams(t.Context(), query, [][]byte{[]byte(s.Text)}, nil, nil, []int16{format}).Read()
			if result.Err != nil {
				t.Errorf("%s %q: %v", s.Name, s.Text, result.Err)
				return nil
			}
			return result.Rows[0][0]
		}
		if text := read(pgtype.TextFormatCode); text != nil {
			got, err := pgvalue.FromText(s.Format, text)
			if err != nil || !pgvalue.Equal(got, s.Want) {
				t.Errorf("%s text %q: got %T %v, %v, want %T %v", s.Format, text, got, got, err, s.Want, s.Want)
			}
		}
		if s.Name == "regclass" {
			continue // a number in binary form
		}
		if binary := read(pgtype.BinaryFormatCode); binary != nil {
			got, err := pgvalue.FromBinary(s.Format, binary)
			if err != nil || !pgvalue.Equal(got, s.Want) {
				t.Errorf("%s binary of %q: got %T %v, %v, want %T %v", s.Format, s.Text, got, got, err, s.Want, s.Want)
			}
		}
	}
}

// Every type that the server has built in is known by both of its names.
func TestBuiltinTypesOfPostgres(t *testing.T) {
	conn := connect(t)
	result := conn.ExecParams(t.Context(), `
		SELECT format_type(t.oid, NULL), t.typname
		FROM pg_type t LEFT JOIN pg_type elem ON elem.oid = t.typelem
		WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'r', 'm')
		AND coalesce(elem.typtype NOT IN ('c', 'p'), true) -- rows of the catalog, and internal ones`, nil, nil, nil, nil).Read()
	if result.Err != nil || len(result.Rows) < 100 {
		t.Fatalf("%d types, %v", len(result.Rows), result.Err)
	}
	withoutBinary := map[string]bool{"aclitem": true, "gtsvector": true, "pg_ndistinct": true, "pg_dependencies": true, "pg_mcv_list": true,
		"pg_brin_bloom_summary": true, "pg_brin_minmax_multi_summary": true, "_aclitem": true, "_gtsvector": true}
	for _, row := range result.Rows {
		format, name := string(row[0]), string(row[1])
		for _, n := range []string{format, name} {
			switch {
			case !pgvalue.IsSameType(n, name):
				t.Errorf("type %s (%s) is not known, or %s is another one", n, name, name)
			case !pgvalue.HasBinary(n) && !withoutBinary[name]:
				t.Errorf("the binary form of %s is not known", n)
			}
		}
	}
}

// connect has the session of a Syncer: the forms are those that come with its settings.
func connect(t *testing.T) *pgconn.PgConn {
	t.Helper()
	db, err := dbsync.OpenDB(testenv.NewDatabase(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	session, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(session.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	var conn *pgconn.PgConn
	if err := session.Raw(func(c any) error {
		conn = c.(*stdlib.Conn).Conn().PgConn()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return conn
}
