package dbsync

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// What passes, and what a statement says whatever the rows are, is no row's fault.
func TestAtRows(t *testing.T) {
	for code, want := range map[string]bool{
		"P0001": true, "P0004": true, "54000": true, "53200": true, "22003": true, "23514": true, "21000": true, "38000": true, "XX000": true, "XX001": true,
		"57014": true, "58030": true, "MY001": true,
		"08006": false, "40001": false, "40P01": false, "55P03": false, "57P01": false, "57P03": false, "53300": false, "53100": false, "25P03": false, "25P04": false,
		"28000": false, "3D000": false, "42P01": false, "42501": false, "0A000": false, "3F000": false, "72000": false, "": false, "1": false,
	} {
		err := fmt.Errorf("read: %w", &pgconn.PgError{Code: code})
		if got := AtRows(err); IsRowError(got) != want || !errors.Is(got, err) {
			t.Errorf("%q: %v %t", code, got, IsRowError(got))
		}
		if got := AtRows(AtRows(err)); want && got.(*RowError).Err != err {
			t.Errorf("%q twice: %#v", code, got)
		}
	}
	for _, err := range []error{nil, io.ErrUnexpectedEOF, fmt.Errorf("x: %w", io.EOF)} {
		if got := AtRows(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
