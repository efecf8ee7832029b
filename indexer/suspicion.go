package indexer

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/indexer/retry"
)

const (
	// blameAfter is how often in a row a statement of one row alone fails in the same way before the
	// row is to blame.
	blameAfter = 3

	// blamePause is the pause before the second of these attempts where the server may be to blame
	// instead; it is twice as long before the third.
	blamePause = 500 * time.Millisecond

	// widenAfter is after how many statements in a row more rows are tried than were too many.
	widenAfter = 64
)

// A Suspicion finds the row that statements over several rows fail at (see [dbsync.RowError]):
// Postgres does not name it. Halves are tried, the first one first, down to one row; when that
// fails three times in a row it is to blame. Where no row alone is, they were too many at a time,
// and statements have fewer from then on. The zero value suspects none.
//
// Who reads rows has Bound say how many, and tells with Failed and Passed what came of it.
type Suspicion struct {
	rows    int // so many, the next ones, have one among them that fails; 0: none is suspected
	failed  int // rows of the statement by which the suspicion came up
	most    int // rows that a statement may have, 0: any number
	fitting int // statements in a row that had most rows
	alone   repeated
}

// Bound returns how many rows the next statement may have, of n.
func (s *Suspicion) Bound(n int) int {
	if s.most > 0 {
		n = min(n, s.most)
	}
	if s.rows > 0 {
		n = min(n, (s.rows+1)/2)
	}
	return max(1, n)
}

// Failed takes up that a statement over the next n rows failed with err, a *[dbsync.RowError], and
// returns how many to try now; 0: there is one, and it is to blame. For one row it may wait first.
// Its error is the end of ctx.
func (s *Suspicion) Failed(ctx context.Context, n int, err error) (next int, ended error) {
	if n > 1 {
		if s.rows == 0 {
			s.failed = n
		}
		s.rows = n
		return n / 2, nil
	}
	if enough, ended := s.alone.again(ctx, err); ended != nil || !enough {
		return 1, ended
	}
	s.Clear()
	return 0, nil
}

// Passed takes up that the next n rows were read.
func (s *Suspicion) Passed(n int) {
	s.alone = repeated{}
	switch {
	case s.rows > n:
		s.rows -= n
	case s.rows > 0:
		s.rows, s.most, s.fitting = 0, max(1, s.failed/2), 0 // none of them is to blame
	case s.most > 0 && n >= s.most:
		if s.fitting++; s.fitting >= widenAfter {
			s.most, s.fitting = 2*s.most, 0
		}
	}
}

// Clear ends the suspicion: one of the rows was found to blame.
func (s *Suspicion) Clear() { s.rows, s.alone = 0, repeated{} }

// A repeated counts how often the same error came in a row. The same one is of the same SQLSTATE:
// texts may hold what is different each time.
type repeated struct {
	state string
	times int
}

// again counts err. enough is true when it came often enough not to be the moment's fault;
// otherwise it waits where it could be the server's. Its error is the end of ctx.
func (r *repeated) again(ctx context.Context, err error) (enough bool, ended error) {
	state := sqlState(err)
	if state != r.state {
		*r = repeated{state: state}
	}
	r.times++
	switch {
	case r.times >= blameAfter || IsDataError(err): // a value stays as it is
		return true, nil
	case isServersState(state):
		return false, retry.Sleep(ctx, blamePause<<(r.times-1))
	}
	return false, nil
}

// isServersState reports whether an SQLSTATE may tell of the server as well as of a row: of its
// memory, its disk, its load.
func isServersState(state string) bool {
	return strings.HasPrefix(state, "53") || strings.HasPrefix(state, "57") || strings.HasPrefix(state, "58") || strings.HasPrefix(state, "XX")
}

// IsRefusedStatement reports whether Postgres takes exception to what a statement says or to the
// rows that it reads, and not to the moment.
func IsRefusedStatement(err error) bool { return isStatementError(err) || dbsync.IsRowError(err) }

// isStatementError reports whether Postgres takes exception to a statement whatever its values
// are: to a name that is not there any more, or a type that has become another one.
func isStatementError(err error) bool { return strings.HasPrefix(sqlState(err), "42") }

// IsDataError reports whether Postgres takes exception to a value.
func IsDataError(err error) bool { return strings.HasPrefix(sqlState(err), "22") }

// sqlState returns the SQLSTATE of what Postgres said, "" if it is not Postgres that did.
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
