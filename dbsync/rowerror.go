package dbsync

import "errors"

// A RowError reports that Postgres gave up a statement because of the rows that it reads, all or
// one of them: a function raises an exception, a value is too large for its form, rows are damaged,
// memory does not suffice, or the time. Postgres does not say which row; a statement over fewer
// rows may find no fault. [Syncer.OpenWindow] returns it.
type RowError struct{ Err error }

func (e *RowError) Error() string { return e.Err.Error() }
func (e *RowError) Unwrap() error { return e.Err }

// AtRows returns err, of a statement that reads rows, as a *[RowError] if it is about them, and
// otherwise as it is: nil, the connection, what passes by itself, what the statement says.
func AtRows(err error) error {
	if IsRowError(err) || !isRowState(sqlState(err)) {
		return err
	}
	return &RowError{err}
}

// IsRowError reports whether err, or an error that it wraps, is a *[RowError].
func IsRowError(err error) bool {
	_, ok := errors.AsType[*RowError](err)
	return ok
}

// isRowState reports whether an SQLSTATE of a statement that reads rows may be about the rows. That
// is so unless it is known to be about something else: a function may raise any state, also one of
// its own.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func isRowState(code string) bool {
	if len(code) != 5 {
		return false
	}
	switch code {
	case "57014": // query canceled: by a time limit, or by somebody
		return true
	case "53100", // disk full
		"53300": // too many connections
		return false
	}
	switch code[:2] {
	case "00", "01", "02", // no errors
		"08",             // the connection
		"0A", "3F", "42", // what the statement says, see isPermanentState
		"0B", "25", "26", "2D", "34", "3B", // transactions, statements and cursors
		"28", "3D", // who may connect to what
		"40", // transaction rollback: deadlock, serialization, conflict with recovery
		"55", // not in the state for it: a lock that is not available
		"57", // operator intervention: the server ends or begins
		"72", // snapshot too old
		"F0": // the server's configuration
		return false
	}
	return true
}
