package reindex

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"tidemark/indexer/search"
	"tidemark/mapping"
	"tidemark/reindex/control"
)

// A CountError reports that a new physical index does not have the documents that it has to
// have.
type CountError struct {
	Index, Physical string
	Rows, Documents int64
	Slack           int64 // changes and dead letters that explain a difference
}

func (e *CountError) Error() string {
	return fmt.Sprintf("index %s: %s has %d documents for %d rows, and no more than %d changes and dead letters explain that; the alias is not moved",
		e.Index, e.Physical, e.Documents, e.Rows, e.Slack)
}

// Permanent marks it for dbsync.IsPermanent.
func (e *CountError) Permanent() bool { return true }

// checkCount makes sure that the index that is being completed has about as many documents as
// the tables have rows: as far as changes, dead letters and conditions let it be told. An index
// that lost documents on the way must not get behind the alias.
func (m *Manager) checkCount(ctx context.Context, x *index, st *control.State) error {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		err := m.retry(ctx, "count the rows and documents of "+st.Building.Physical, func(ctx context.Context) error { return m.countOnce(ctx, x, st) })
		var wrong *CountError
		if !errors.As(err, &wrong) || attempt == attempts {
			return err
		}
		m.o.Logger.Warn("counting again", "error", err)
	}
}

func (m *Manager) countOnce(ctx context.Context, x *index, st *control.State) error {
	before := x.documents.Changed()
	rows, filtered, err := m.countRows(ctx, x)
	if err != nil {
		return err
	}
	// What was counted is stored when the stream has passed.
	if err := m.barrier(ctx); err != nil {
		return err
	}
	if err := m.o.Client.Refresh(ctx, st.Building.Physical); err != nil {
		return err
	}
	documents, err := m.o.Client.Count(ctx, st.Building.Physical)
	if err != nil {
		return err
	}
	counts, err := m.o.DeadLetters.Counts(ctx, control.LetterFilter{})
	if err != nil {
		return err
	}
	letters := counts[search.WriteAlias(st.Name, st.Building.Physical)]
	slack := x.documents.Changed() - before
	missing := rows - documents - letters
	if missing > slack && !filtered || -missing > slack+letters {
		now, err := readPartitions(ctx, m.o.Syncer.DB(), x.Index, m.o.Catalog.Tables(), m.o.Publication)
		if err != nil {
			return err
		}
		noted, err := control.DecodePartitions(st.Building.Partitions)
		if err != nil {
			return err
		}
		now.Unlisted = noted.Unlisted
		text, err := now.Encode()
		if err != nil {
			return err
		}
		if text != st.Building.Partitions || noted.Unlisted && missing < 0 {
			m.o.Logger.Warn("the numbers of rows and documents say nothing: a partition came or went", "index", st.Name, "rows", rows, "documents", documents)
			return nil // watchPartitions sees to it
		}
		return &CountError{Index: st.Name, Physical: st.Building.Physical, Rows: rows, Documents: documents, Slack: slack}
	}
	m.o.Logger.Info("counted", "index", st.Name, "physical", st.Building.Physical, "rows", rows, "documents", documents, "changes_meanwhile", slack)
	return nil
}

// countRows counts the rows of an index's tables, as new as the stream is at least. filtered
// says that not every one of them is a document.
func (m *Manager) countRows(ctx context.Context, x *index) (rows int64, filtered bool, err error) {
	tables := m.o.Catalog.Tables()
	for _, s := range x.Sources {
		filtered = filtered || s.Where != ""
		from := tables[s.Table].From()
		counted := s.From(tables[s.Table]) + " " + mapping.Root
		var n int64
		err := m.o.Syncer.ReadVisible(ctx, m.o.Syncer.Unseen(), []string{from}, func(conn *pgconn.PgConn) error {
			results, err := conn.Exec(ctx, "SELECT pg_catalog.count(*) FROM "+counted).ReadAll()
			if err != nil {
				return err
			}
			n, err = strconv.ParseInt(string(results[0].Rows[0][0]), 10, 64)
			return err
		})
		if err != nil {
			return 0, false, fmt.Errorf("count the rows of %s: %w", s.Table, err)
		}
		rows += n
	}
	return rows, filtered, nil
}
