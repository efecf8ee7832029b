package reindex

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/semaphore"

	"tidemark/dbsync"
	"tidemark/indexer"
	"tidemark/mapping/catalog"
)

// A chunk was read and handed on to be stored.
type chunk struct {
	window *dbsync.Window
	cursor [][]byte // key of its last row
}

// copyRows reads rows chunk by chunk and has them written. The next chunk is read while the
// last one is being written; note is called when one is stored. A crash before the note
// costs the chunk's being read and written again. Of one table one chunk is read at a time.
func (m *Manager) copyRows(ctx context.Context, rows *indexer.Pager, note func(*chunk) error) error {
	release, err := m.readers.acquire(ctx, rows.Plan.Source.Table)
	if err != nil {
		return err
	}
	defer release()
	limit := indexer.Limiter(rows.Plan.Source.Index.Reindex.MaxRowsPerSecond)
	advance := func(c *chunk) error {
		if c == nil {
			return nil
		}
		if err := m.o.Syncer.AwaitStored(ctx, c.window); err != nil {
			return err
		}
		if c.window.Len() == 0 {
			return nil
		}
		return note(c)
	}
	var before *chunk
	for more := true; more; {
		w, err := m.openWindow(ctx, rows)
		if err != nil {
			return err
		}
		if more, err = rows.Read(w); err != nil {
			return err
		}
		if err := advance(before); err != nil {
			return err
		}
		before = &chunk{window: w, cursor: rows.Cursor}
		if err := limit.WaitN(ctx, w.Len()); err != nil {
			return err
		}
	}
	return advance(before)
}

// openWindow reads the next chunk. A table that was altered meanwhile is read as it is now; a
// row that Postgres can make no document of becomes a dead letter.
func (m *Manager) openWindow(ctx context.Context, rows *indexer.Pager) (*dbsync.Window, error) {
	done, err := m.keysInUse.use(ctx, rows.Plan.Source.Table, rows.Key)
	if err != nil {
		return nil, err
	}
	defer done()
	sel, loaded, refusing := rows.Next(), false, false
	for {
		w, err := m.o.Syncer.OpenWindow(ctx, sel)
		_, gone := errors.AsType[*dbsync.NoTableError](err)
		switch {
		case !gone && !indexer.IsRefusedStatement(err):
			return w, err
		case !loaded:
			loaded = true
			if rows.Plan, err = m.o.Catalog.Reload(ctx, m.o.Syncer.DB(), rows.Plan); err != nil {
				return nil, err
			}
			sel = rows.Next()
		case dbsync.IsRowError(err) && !refusing:
			if sel, refusing, err = rows.Narrow(ctx, err); err != nil { // what the condition is to blame for comes again
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

// readers lets one reader at a time at each table, whatever index it reads for: the rows that
// change meanwhile are remembered by one key for each table.
type readers struct {
	mu      sync.Mutex
	byTable map[catalog.TableName]*semaphore.Weighted
}

// acquire waits until nobody else reads the table.
func (r *readers) acquire(ctx context.Context, table catalog.TableName) (release func(), err error) {
	r.mu.Lock()
	if r.byTable == nil {
		r.byTable = make(map[catalog.TableName]*semaphore.Weighted)
	}
	place := r.byTable[table]
	if place == nil {
		place = semaphore.NewWeighted(1)
		r.byTable[table] = place
	}
	r.mu.Unlock()
	return acquire(ctx, place)
}
