package dbsync

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"tidemark/testenv"
)

// What a server of any version sends for a sample is what the sample says.
func TestSamplesOnPostgres(t *testing.T) {
	conn := connectColumns(t)
	for _, s := range samples() {
		query := `SELECT $1::pg_catalog."` + s.name + `"`
		read := func(format int16) []byte {
			result := conn.ExecParams(t.Context(), query, [][]byte{[]byte(s.text)}, nil, nil, []int16{format}).Read()
			if result.Err != nil {
				t.Errorf("%s %q: %v", s.name, s.text, result.Err)
				return nil
			}
			return result.Rows[0][0]
		}
		if text := read(pgtype.TextFormatCode); text != nil {
			got, err := column(s.format).DecodeText(text)
			if err != nil || !equal(got, s.want) {
				t.Errorf("%s text %q: got %T %v, %v, want %T %v", s.format, text, got, got, err, s.want, s.want)
			}
		}
		if s.name == "regclass" {
			continue // a number in binary form
		}
		if binary := read(pgtype.BinaryFormatCode); binary != nil {
			got, err := column(s.format).DecodeBytes(binary)
			if err != nil || !equal(got, s.want) {
				t.Errorf("%s binary of %q: got %T %v, %v, want %T %v", s.format, s.text, got, got, err, s.want, s.want)
			}
		}
	}
}

// Every type that the server has built in is known by both of its names.
func TestBuiltinTypesOfPostgres(t *testing.T) {
	conn := connectColumns(t)
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
			known, ok := valueTypes[n]
			if !ok {
				t.Errorf("type %s (%s) is not known", n, name)
				continue
			}
			if known != valueTypes[name] {
				t.Errorf("%s and %s are two types", n, name)
			}
			if known.render == nil && !withoutBinary[name] {
				t.Errorf("the binary form of %s is not known", n)
			}
		}
	}
}

func connectColumns(t *testing.T) *pgconn.PgConn {
	t.Helper()
	cfg, err := connectConfig(testenv.NewDatabase(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgconn.ConnectConfig(t.Context(), &cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return conn
}
