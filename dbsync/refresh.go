package dbsync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Refresh hands the rows of a select to the handler's HandleRefresh, those that nothing
// newer is known of. The first column of the result that belongs to a table decides
// which table the rows are of; the result must have that table's replica identity.
//
// It returns true when the select was accepted. The rows are read and handed on while
// the stream goes on, and what fails in passing is tried again. It returns false when a
// refresh is under way, the Syncer is not running, or Postgres refuses the statement;
// [Syncer.Err] then says which.
func (s *Syncer) Refresh(selectQuery string) bool {
	run, err := s.runContext()
	if err == nil && !s.refreshing.CompareAndSwap(false, true) {
		err = errors.New("refresh: one is under way")
	}
	if err != nil {
		s.setErr(err)
		return false
	}
	sel, err := s.describeSelect(run, selectQuery)
	if err != nil {
		s.refreshing.Store(false)
		s.setErr(fmt.Errorf("refresh: %w", err))
		return false
	}
	s.workers.Go(func() {
		defer s.refreshing.Store(false)
		// Nobody selects fewer rows: what it is about rows may be over by itself.
		w, err := retry(run, s, "refresh", func() (*Window, error) { return s.OpenWindow(run, sel) })
		if err != nil {
			if run.Err() == nil {
				s.stop(fmt.Errorf("refresh: %w", err)) // the statement was refused after all; said aloud
			}
			return
		}
		_ = s.awaitStored(run, w.stored) // the run has ended, and the rows come again when it is asked for again
	})
	return true
}

// describeSelect finds out whose rows a statement gives, and by which columns they are
// known.
func (s *Syncer) describeSelect(ctx context.Context, query string) (sel Select, err error) {
	sel.Query = query
	err = WithConn(ctx, s.db, func(conn *pgx.Conn) error {
		description, err := conn.PgConn().Prepare(ctx, "", query, nil)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(description.Fields, func(f pgconn.FieldDescription) bool { return f.TableOID != 0 })
		if i < 0 {
			return fmt.Errorf("no column of %q belongs to a table", query)
		}
		sel.Relation = description.Fields[i].TableOID
		names := make(map[uint16]string) // result column by table column
		for _, f := range description.Fields {
			if f.TableOID == sel.Relation {
				names[f.TableAttributeNumber] = f.Name
			}
		}
		rows, err := conn.Query(ctx, `SELECT a.attnum::int, a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
			LEFT JOIN pg_catalog.pg_index x ON x.indrelid = c.oid
				AND (c.relreplident = 'd' AND x.indisprimary OR c.relreplident = 'i' AND x.indisreplident)
			WHERE c.oid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND (c.relreplident = 'f' OR a.attnum = ANY (x.indkey))
			ORDER BY a.attnum`, sel.Relation)
		if err != nil {
			return err
		}
		var number int
		var column string
		_, err = pgx.ForEachRow(rows, []any{&number, &column}, func() error {
			if name, ok := names[uint16(number)]; !ok || name != column {
				return fmt.Errorf("%q does not give column %s of the table's replica identity under its own name", query, column)
			}
			sel.Key = append(sel.Key, column)
			return nil
		})
		if err == nil && len(sel.Key) == 0 {
			err = fmt.Errorf("the table of %q has no replica identity", query)
		}
		return err
	})
	return sel, err
}
