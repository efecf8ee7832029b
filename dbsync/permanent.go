package dbsync

import (
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// A PermanentError wraps an error that repeating cannot cure. A [Batcher] or a handler
// that returns one ends the run; any other error of theirs is tried again, see [IsPermanent].
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string   { return e.Err.Error() }
func (e *PermanentError) Unwrap() error   { return e.Err }
func (e *PermanentError) Permanent() bool { return true }

// IsPermanent reports whether repeating cannot cure err. That is so in two cases:
//
//   - err, or any error that it wraps, has a method Permanent() bool that returns true.
//   - Postgres refuses what was asked for, and not the moment it was asked in.
//
// Everything else may be over by itself, or by what somebody does at the server while we
// wait, and is tried again. The rule errs on that side: what is repeated in vain is seen in
// the log and raises an alarm, what ends in vain has to be started again.
func IsPermanent(err error) bool {
	if isMarkedPermanent(err) {
		return true
	}
	var refused *pgconn.PgError
	return errors.As(err, &refused) && isPermanentState(refused.Code)
}

// isMarkedPermanent looks for the method in every error of the tree. errors.As would stop at the
// first one that has it, whatever it returns.
func isMarkedPermanent(err error) bool {
	if mark, ok := err.(interface{ Permanent() bool }); ok && mark.Permanent() {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return isMarkedPermanent(e.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), isMarkedPermanent)
	}
	return false
}

// isPermanentState reports whether an SQLSTATE means that the same statement will be refused again.
// Its first two characters are the class:
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func isPermanentState(code string) bool {
	if len(code) != 5 {
		return false
	}
	switch code[:2] {
	case "0A", // feature not supported
		"22", // data exception: a value
		"3F", // no such schema
		"42": // syntax error, or no such table, column or right
		return true
	}
	return false
}
