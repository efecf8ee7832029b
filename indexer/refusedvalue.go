package indexer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/dbsync"
	"tidemark/mapping/catalog"
	"tidemark/mapping/value"
)

// IsRefusedValue reports whether Postgres says that a text is no value of a type, or none of a
// domain.
func IsRefusedValue(err error) bool {
	const syntaxError = "42601" // ltree's word for it
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (IsDataError(err) || strings.HasPrefix(pg.Code, "23") || pg.Code == syntaxError)
}

// refusedKeys returns which of the keys, given as one list of texts for each of some columns, have
// a text that is no value of its column's type.
func refusedKeys(ctx context.Context, db *sql.DB, t *catalog.Table, columns []string, keys [][][]byte) (refused map[int]bool, err error) {
	refused = make(map[int]bool)
	for i, name := range columns {
		c := t.Column(name)
		if c == nil {
			return nil, &dbsync.PermanentError{Err: fmt.Errorf("table %s has no column %s", t.TableName(), catalog.QuoteIdent(name))}
		}
		texts, err := refusedTexts(ctx, db, c.Type, keys[i])
		if err != nil {
			return nil, fmt.Errorf("look for values of %s that are none of type %s: %w", catalog.QuoteIdent(name), c.Type.Name, err)
		}
		for j, v := range keys[i] {
			if v != nil && texts[string(v)] {
				refused[j] = true
			}
		}
	}
	return refused, nil
}

// refusedTexts returns which texts are no values of a type.
func refusedTexts(ctx context.Context, db *sql.DB, typ *catalog.Type, texts [][]byte) (refused map[string]bool, err error) {
	query := fmt.Sprintf("SELECT pg_catalog.count(v::%s) FROM pg_catalog.unnest($1::pg_catalog.text[]) AS k(v)", typ.Root().Name)
	err = dbsync.WithConn(ctx, db, func(conn *pgx.Conn) error {
		refused, err = findRefused(texts, func(some [][]byte) (bool, error) {
			err := conn.PgConn().ExecParams(ctx, query, [][]byte{value.TextArray(some)}, nil, nil, nil).Read().Err
			if IsRefusedValue(err) {
				return true, nil
			}
			return false, err
		})
		return err
	})
	return refused, err
}

// findRefused returns which texts are refused, where anyRefused tells only whether any of some is: as
// Postgres, which stops at the first one. They are found by halves: of n texts, that takes one call
// where none is refused, and at most 2 log2(n) more for each that is.
func findRefused(texts [][]byte, anyRefused func(some [][]byte) (bool, error)) (map[string]bool, error) {
	refused, seen := make(map[string]bool), make(map[string]bool)
	var distinct [][]byte
	for _, v := range texts {
		if v != nil && !seen[string(v)] {
			seen[string(v)] = true
			distinct = append(distinct, v)
		}
	}
	for doubtful := [][][]byte{distinct}; len(doubtful) > 0; {
		some := doubtful[len(doubtful)-1]
		doubtful = doubtful[:len(doubtful)-1]
		if len(some) == 0 {
			continue
		}
		switch there, err := anyRefused(some); {
		case err != nil:
			return nil, err
		case !there:
		case len(some) == 1:
			refused[string(some[0])] = true
		default:
			doubtful = append(doubtful, some[:len(some)/2], some[len(some)/2:])
		}
	}
	return refused, nil
}
