package prepare

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"tidemark/mapping/catalog"
)

// A RefusedError is a statement, or a part of one, that Postgres does not take: somebody has
// to write it in another way.
type RefusedError struct{ Said string }

func (e *RefusedError) Error() string { return "Postgres refuses it: " + e.Said }

// CheckCondition has Postgres plan the rows of a table that a condition in SQL is true for,
// where it knows no other table. Its error is a [*RefusedError] where the condition is to
// blame.
func CheckCondition(ctx context.Context, db *sql.DB, table *catalog.Table, condition string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		pg := c.(*stdlib.Conn).Conn().PgConn()
		// Prepared, so that it can be one statement alone.
		query := "EXPLAIN SELECT FROM " + table.From() + " WHERE (" + condition + "\n)"
		prepared, err := pg.Prepare(ctx, "", query, nil)
		if err != nil {
			return refused(err)
		}
		if len(prepared.ParamOIDs) > 0 {
			return &RefusedError{"it has parameters ($1), for which there are no values"}
		}
		return refused(pg.ExecPrepared(ctx, "", nil, nil, nil).Read().Err)
	})
}

// refused makes a [*RefusedError] of an error that says that a statement is to blame.
func refused(err error) error {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch server.Code[:2] {
		case "42", "22", "0A", "21": // syntax and names; data; what is not supported; cardinality
			return &RefusedError{server.Message}
		}
	}
	return err
}
