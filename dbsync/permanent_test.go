package dbsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// marked is an error that says of itself whether it is permanent.
type marked struct {
	permanent bool
	err       error
}

func (e *marked) Error() string   { return fmt.Sprint(e.permanent, e.err) }
func (e *marked) Unwrap() error   { return e.err }
func (e *marked) Permanent() bool { return e.permanent }

func TestIsPermanent(t *testing.T) {
	cause := errors.New("x")
	refused := &pgconn.PgError{Code: "42601"}
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{"none", nil, false},
		{"without a mark", cause, false},
		{"a broken connection", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), false},
		{"a context that ended", context.Canceled, false},
		{"PermanentError", &PermanentError{cause}, true},
		{"PermanentError, wrapped", fmt.Errorf("more: %w", &PermanentError{cause}), true},
		{"SlotLostError", fmt.Errorf("x: %w", &SlotLostError{}), true},
		{"ClusterChangedError", &ClusterChangedError{}, true},
		{"what the database lacks may be given to it", &SetupError{Text: "x"}, false},
		{"somebody else's type that says yes", fmt.Errorf("x: %w", &marked{true, cause}), true},
		{"somebody else's type that says no", fmt.Errorf("x: %w", &marked{false, cause}), false},
		{"a mark within one that says no", &marked{false, fmt.Errorf("x: %w", &marked{true, nil})}, true},
		{"a mark in the second of two errors", errors.Join(&marked{false, nil}, fmt.Errorf("x: %w", &PermanentError{cause})), true},
		{"no mark in either of two", errors.Join(cause, &marked{false, nil}), false},
		{"Postgres refuses", refused, true},
		{"Postgres refuses, wrapped", fmt.Errorf("x: %w", &marked{false, refused}), true},
		{"Postgres refuses, beside something else", errors.Join(cause, refused), true},
	} {
		if got := IsPermanent(test.err); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

// One SQLSTATE at least of every class that a server may send.
func TestIsPermanentState(t *testing.T) {
	for _, test := range []struct {
		code, what string
		want       bool
	}{
		{"0A000", "feature_not_supported", true},
		{"22P02", "invalid_text_representation", true},
		{"22003", "numeric_value_out_of_range", true},
		{"3F000", "invalid_schema_name", true},
		{"42601", "syntax_error", true},
		{"42501", "insufficient_privilege", true},
		{"42P01", "undefined_table", true},
		{"42703", "undefined_column", true},

		{"08006", "connection_failure", false},
		{"25006", "read_only_sql_transaction: a standby, not yet promoted", false},
		{"40001", "serialization_failure", false},
		{"40P01", "deadlock_detected", false},
		{"53100", "disk_full", false},
		{"53300", "too_many_connections", false},
		{"55006", "object_in_use", false},
		{"55P03", "lock_not_available", false},
		{"57014", "query_canceled", false},
		{"57P01", "admin_shutdown", false},
		{"57P03", "cannot_connect_now", false},
		{"58030", "io_error", false},
		{"58P01", "undefined_file", false},

		{"21000", "cardinality_violation: another row may be gone by then", false},
		{"23505", "unique_violation: another process makes the same", false},
		{"28P01", "invalid_password: until it is set back", false},
		{"28000", "invalid_authorization_specification: until pg_hba.conf is mended", false},
		{"3D000", "invalid_catalog_name: the database is being renamed or restored", false},
		{"54000", "program_limit_exceeded", false},
		{"72000", "snapshot_too_old", false},
		{"F0000", "config_file_error", false},
		{"HV000", "fdw_error: another server", false},
		{"P0001", "raise_exception: a trigger of somebody else's", false},
		{"XX000", "internal_error: a table that is altered at this moment", false},
		{"", "none", false},
		{"42", "cut short", false},
	} {
		if got := isPermanentState(test.code); got != test.want {
			t.Errorf("%s %s: got %v", test.code, test.what, got)
		}
	}
}
